"""The directory of a search: what is done in it is found by the program and the setting, not by their numbers.

So a search with more settings, in another order, or with more seeds runs only what is new.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lectopt._internal.run_directories import claim, fingerprint
from lectopt.engine.claimed_directory import ClaimedDirectory
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lane_records import LaneNames, LaneRecords
from lectopt.search.settings import Settings
from lectopt.search.space import Static

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""In a text for a function: it is another one in the next process."""


class GroupKey(NamedTuple):
    """Which of a search's groups of lanes this is."""

    rung: int
    group: int  # of settings with equal static values


class SearchDirectory:
    """The records of a search, by the programs of its groups.

    Raises:
        ValueError: if the directory holds another search: none of the programs is the one that it was begun with.
    """

    def __init__(self, path: Path, context: str, programs: Iterable[tuple[LaneProgram, LaneGroup]]):
        """Claims the directory; `context` is what beside the programs decides on outcomes: when a halving halves."""
        self._path, self._context = path, context
        self._digests: dict[int, str] = {}  # of the last rung of each group
        rest = iter(programs)
        first, group = next(rest)
        former = _former_digest(first, group)
        begun = path / "fingerprint"
        held = begun.read_bytes().decode(errors="replace") if begun.is_file() else ""
        mine = self._digest(first, group, "")
        others = (self._digest(*other, "") for other in rest)
        # Earlier versions put all settings into the digest; the same ones go on there, by their numbers.
        self._is_former = held == former
        claim(path, next((one for one in itertools.chain([mine, former], others) if one == held), mine), "search")

    def records(self, key: GroupKey, program: LaneProgram, group: LaneGroup, about: dict[str, Any]) -> LaneRecords:
        """Returns the records of a group's lanes; `about` says what a reader of the files needs to know."""
        if self._is_former:
            path = self._path / f"rung{key.rung}-group{key.group}"
            return LaneRecords(ClaimedDirectory(path, _former_digest(program, group)))
        # The digest of the rung before stands for what its lanes start from.
        digest = self._digests[key.group] = self._digest(program, group, self._digests.get(key.group, ""))
        directory = ClaimedDirectory(self._path / f"rung{key.rung}-{digest[:16]}", digest)
        return LaneRecords(directory, LaneNames(_row_names(group.numbers, about), _pair_names(group), about))

    def _digest(self, program: LaneProgram, group: LaneGroup, before: str) -> str:
        return fingerprint(f"{program.text}{self._context}{before}", group.data)


def described(settings: Settings, rows: np.ndarray, **others: Any) -> dict[str, Any]:
    """Returns what tells a reader of records about these settings, as JSON has it; what it has not, as text."""
    static = [name for name, column in settings.items() if isinstance(column, Static)]
    shown = [settings.row(int(i)) for i in rows]
    plain = (type(None), str, int, float, bool)
    values = [
        {name: v if isinstance(v, plain) else _ADDRESS.sub("", repr(v)) for name, v in row.items()} for row in shown
    ]
    logarithmic = [name for name in settings if settings.is_logarithmic(name)]
    return {
        "settings": values,
        "missing": list(settings.missing),
        "static": static,
        "logarithmic": logarithmic,
        "places": rows.tolist(),
        **others,
    }


def _former_digest(program: LaneProgram, group: LaneGroup) -> str:
    return fingerprint(program.text, (group.data, group.pairs, group.numbers, group.starts))


def _row_names(numbers: dict[str, np.ndarray], about: dict[str, Any]) -> np.ndarray:
    """Returns S16[rows]: a digest of each setting; programs tell apart what has the same text."""
    found = []
    for i in range(len(about["settings"])):
        row = about["settings"][i]
        digest = hashlib.sha256(json.dumps([[name, row[name]] for name in sorted(about["static"])]).encode())
        for name in sorted(numbers):
            digest.update(json.dumps([name, str(numbers[name].dtype)]).encode() + numbers[name][i].tobytes())
        found.append(digest.hexdigest()[:16].encode())
    return np.array(found)


def _pair_names(group: LaneGroup) -> np.ndarray:
    """Returns S[pairs]: fold and seed of each."""
    return np.array([f"{fold}-{seed}".encode() for fold, seed in zip(*group.pairs, strict=True)])
