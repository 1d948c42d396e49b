"""The state of a search on disk after some rounds, and the one before."""

import json
import warnings
from typing import Any

import numpy as np

from lectopt._internal.files import remove
from lectopt._internal.trees import leaves_by_path, to_numpy, unflatten_in_order, unflatten_like
from lectopt.engine.claimed_directory import ClaimedDirectory

_LAST, _BEFORE = "status.npz", "status-before.npz"


class Snapshots:
    """The last state and the one before, in a directory of this search."""

    def __init__(self, directory: ClaimedDirectory):
        self._directory = directory

    def write(self, state: Any) -> None:
        """Takes the place of the one before the last.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        leaves = leaves_by_path(state)
        self._directory.write(
            _LAST, map(to_numpy, leaves.values()), previous=_BEFORE, names=np.array(json.dumps(list(leaves)))
        )

    def latest(self, start: Any) -> Any:
        """Returns the last undamaged state that was written, or else `start`.

        Raises:
            ValueError: if all are damaged.
        """
        problems = []
        for name in (_LAST, _BEFORE):
            if (self._directory.path / name).exists():
                try:
                    state = self._read(name, start)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                if problems:
                    warnings.warn(f"{problems[0]}: removed; the search continues from the previous state", stacklevel=2)
                    remove(self._directory.path / _LAST)
                return state
        if problems:
            raise ValueError(f"directory must hold an undamaged state; {'; '.join(problems)}. Delete it to start again")
        return start

    def _read(self, file: str, start: Any) -> Any:
        leaves, labels = self._directory.read(file)
        name = f"the status in {self._directory.path / file}"
        if "names" not in labels:  # of an earlier version
            return unflatten_in_order(name, leaves, start)
        return unflatten_like(name, dict(zip(map(tuple, json.loads(str(labels["names"]))), leaves, strict=True)), start)
