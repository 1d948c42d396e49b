"""The outcomes of finished lanes on disk: a file for each rectangle."""

import warnings
from collections.abc import Iterator

import jax
import numpy as np

from lectopt._internal.files import DamagedError
from lectopt.engine.claimed_directory import ClaimedDirectory, StoredArrays
from lectopt.engine.lanes import Outcome


class LaneRecords:
    """The finished lanes of one group of settings."""

    def __init__(self, directory: ClaimedDirectory):
        self._directory = directory

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> None:
        """Keeps the outcomes [rows, pairs] of these lanes.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        self._directory.write(
            f"lanes-{rows[0]}-{rows[-1]}-{pairs[0]}-{pairs[-1]}.npz",
            jax.tree.leaves(outcome),
            rows=rows,
            pairs=pairs,
            fingerprint=np.array(self._directory.fingerprint),
        )

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
                path.unlink(missing_ok=True)
                continue
            leaves = [leaf.view(like.dtype) for leaf, like in zip(stored.leaves, wanted, strict=True)]
            yield stored.labels["rows"], stored.labels["pairs"], jax.tree.unflatten(structure, leaves)

    def _check(self, name: str, stored: StoredArrays, wanted: list, shape: tuple[int, ...]) -> None:
        """Raises DamagedError unless the file is of lanes of this search."""
        path, labels = self._directory.path / name, stored.labels
        fingerprint = self._directory.fingerprint
        if str(labels.get("fingerprint", fingerprint)) != fingerprint:  # earlier versions named none
            raise DamagedError(f"{path} is of another search")
        rows, pairs = (labels.get(name, np.zeros(())) for name in ("rows", "pairs"))
        if not (_are_within(rows, shape[0]) and _are_within(pairs, shape[1])):
            raise DamagedError(f"{path} holds other lanes than this search has")
        lanes = rows.shape + pairs.shape
        expected = [(_stored(leaf.dtype), lanes + leaf.shape) for leaf in wanted]
        found = [(array.dtype, array.shape) for array in stored.leaves]
        if found != expected:
            raise DamagedError(f"{path} must hold {_listed(expected)}; it holds {_listed(found)}")


def _are_within(places: np.ndarray, count: int) -> bool:
    return places.ndim == 1 and bool(np.isin(places, np.arange(count)).all())


def _stored(dtype: np.dtype) -> np.dtype:
    """Returns the dtype that NumPy reads back: unknown ones, such as bfloat16, as bytes."""
    return np.dtype(f"V{dtype.itemsize}") if dtype.kind == "V" else dtype


def _listed(arrays: list[tuple[np.dtype, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for dtype, shape in arrays)
