"""The outcomes of finished lanes on disk: a file for each rectangle."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal.files import DamagedError, remove
from lectopt.engine.claimed_directory import ClaimedDirectory, StoredArrays
from lectopt.engine.lanes import Outcome


class LaneNames(NamedTuple):
    """Names by which lanes are found again, whatever their numbers in the search that asks."""

    rows: np.ndarray  # bytes[rows]
    pairs: np.ndarray  # bytes[pairs]
    about: dict[str, Any]  # what else is written, for those who read the files without the search; lists have an
    # entry for each row

    def of(self, rows: np.ndarray) -> str:
        """Returns what there is about these rows."""
        lists = {"settings", "places"}
        return json.dumps({key: [v[i] for i in rows] if key in lists else v for key, v in self.about.items()})


class LaneRecords:
    """The finished lanes of one group of settings, by their names, or by their numbers if they have none."""

    def __init__(self, directory: ClaimedDirectory, names: LaneNames | None = None):
        self._directory, self._names = directory, names

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> None:
        """Keeps the outcomes [rows, pairs] of these lanes.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        name = f"lanes-{rows[0]}-{rows[-1]}-{pairs[0]}-{pairs[-1]}.npz"
        labels: dict[str, Any] = {"rows": rows, "pairs": pairs}
        if self._names is not None:
            labels = {"rows": self._names.rows[rows], "pairs": self._names.pairs[pairs]}
            digest = hashlib.sha256(b" ".join([*labels["rows"], b"on", *labels["pairs"]])).hexdigest()
            name, labels["about"] = f"lanes-{digest[:16]}.npz", np.array(self._names.of(rows).encode())
        fingerprint = np.array(self._directory.fingerprint)
        self._directory.write(name, jax.tree.leaves(outcome), **labels, fingerprint=fingerprint)

    def read(self, like: Outcome, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray, Outcome]]:
        """Returns all that was kept of so many rows and pairs, as outcomes like that of one lane.

        A file that is damaged, or of something else, is removed with a warning: its lanes are to be computed again.
        """
        wanted, structure = jax.tree.flatten(like)
        for path in sorted(self._directory.path.glob("lanes-*.npz")):
            try:
                stored = self._directory.read(path.name)
                self._check(path.name, stored, wanted, shape)
            except DamagedError as error:
                warnings.warn(f"{error}: removed, and its trainings are run again", stacklevel=2)
                remove(path)
                continue
            leaves = [leaf.view(like.dtype) for leaf, like in zip(stored.leaves, wanted, strict=True)]
            rows, pairs = stored.labels["rows"], stored.labels["pairs"]
            if self._names is not None:
                (row_at, rows), (pair_at, pairs) = _known(rows, self._names.rows), _known(pairs, self._names.pairs)
                leaves = [leaf[np.ix_(row_at, pair_at)] for leaf in leaves]
            if len(rows) and len(pairs):
                yield rows, pairs, jax.tree.unflatten(structure, leaves)

    def _check(self, name: str, stored: StoredArrays, wanted: list[Any], shape: tuple[int, ...]) -> None:
        """Raises DamagedError unless the file is of lanes of this search."""
        path, labels = self._directory.path / name, stored.labels
        fingerprint = self._directory.fingerprint
        if str(labels.get("fingerprint", fingerprint)) != fingerprint:  # earlier versions named none
            raise DamagedError(f"{path} is of another search")
        rows, pairs = (labels.get(name, np.zeros(())) for name in ("rows", "pairs"))
        named = self._names is not None and rows.ndim == pairs.ndim == 1 and rows.dtype.kind == pairs.dtype.kind == "S"
        if not named and (self._names or not (_are_within(rows, shape[0]) and _are_within(pairs, shape[1]))):
            raise DamagedError(f"{path} holds other lanes than this search has")
        lanes = rows.shape + pairs.shape
        expected = [(_stored(leaf.dtype), lanes + leaf.shape) for leaf in wanted]
        found = [(array.dtype, array.shape) for array in stored.leaves]
        if found != expected:
            raise DamagedError(f"{path} must hold {_listed(expected)}; it holds {_listed(found)}")


def _known(names: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of the names are wanted, and the places of these among the wanted ones."""
    place = {name: i for i, name in enumerate(wanted)}
    at = np.array([i for i, name in enumerate(names) if name in place], int)
    return at, np.array([place[names[i]] for i in at], int)


def _are_within(places: np.ndarray, count: int) -> bool:
    return places.ndim == 1 and bool(np.isin(places, np.arange(count)).all())


def _stored(dtype: np.dtype) -> np.dtype:
    """Returns the dtype that NumPy reads back: unknown ones, such as bfloat16, as bytes."""
    return np.dtype(f"V{dtype.itemsize}") if dtype.kind == "V" else dtype


def _listed(arrays: list[tuple[np.dtype, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for dtype, shape in arrays)
