"""What a search has finished, on disk: one file for each chunk, of arrays only, written in one stroke."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from lectopt._internal.files import DamagedError, read_arrays, write_arrays
from lectopt._internal.run_directories import explained_write_errors
from lectopt.engine.lanes import Outcome


class Records:
    """The finished chunks of one group of settings, in a directory that belongs to the search with this fingerprint."""

    def __init__(self, directory: Path, fingerprint: str):
        self._directory = directory
        self._fingerprint = fingerprint

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> None:
        """Keeps the outcomes [rows, pairs] of these lanes.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        arrays = {f"leaf{i:04}": leaf for i, leaf in enumerate(jax.tree.leaves(outcome))}
        arrays |= {"rows": rows, "pairs": pairs, "fingerprint": np.array(self._fingerprint)}
        path = self._directory / f"lanes-{rows[0]}-{rows[-1]}-{pairs[0]}-{pairs[-1]}.npz"
        with explained_write_errors(self._directory):
            write_arrays(path, arrays)

    def read(self, like: Outcome, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, np.ndarray, Outcome]]:
        """All that was kept of so many rows and pairs, as outcomes like that of one lane.

        A file that is damaged, or of something else, is removed with a warning: its lanes are to be computed again.
        """
        wanted, structure = jax.tree.flatten(like)
        for path in sorted(self._directory.glob("lanes-*.npz")):
            try:
                arrays = read_arrays(path)
                self._check(path, arrays, wanted, shape)
            except DamagedError as error:
                warnings.warn(f"{error}: removed, and its trainings are run again", stacklevel=2)
                path.unlink(missing_ok=True)
                continue
            leaves = [arrays[f"leaf{i:04}"].view(leaf.dtype) for i, leaf in enumerate(wanted)]
            yield arrays["rows"], arrays["pairs"], jax.tree.unflatten(structure, leaves)

    def _check(self, path: Path, arrays: dict[str, np.ndarray], wanted: list, shape: tuple[int, ...]) -> None:
        """Raises DamagedError unless the file is of lanes of this search."""
        if str(arrays.get("fingerprint", self._fingerprint)) != self._fingerprint:  # earlier versions named none
            raise DamagedError(f"{path} is of another search")
        rows, pairs = (arrays.get(name, np.zeros(())) for name in ("rows", "pairs"))
        if not (_are_within(rows, shape[0]) and _are_within(pairs, shape[1])):
            raise DamagedError(f"{path} holds other lanes than this search has")
        lanes = rows.shape + pairs.shape
        expected = {f"leaf{i:04}": (_stored(leaf.dtype), lanes + leaf.shape) for i, leaf in enumerate(wanted)}
        found = {name: (array.dtype, array.shape) for name, array in arrays.items() if name.startswith("leaf")}
        if found != expected:
            raise DamagedError(f"{path} must hold {_shown(expected)}; it holds {_shown(found)}")


def _are_within(places: np.ndarray, count: int) -> bool:
    return places.ndim == 1 and bool(np.isin(places, np.arange(count)).all())


def _stored(dtype: np.dtype) -> np.dtype:
    """As NumPy reads it back: dtypes that it does not know, such as bfloat16, as bytes."""
    return np.dtype(f"V{dtype.itemsize}") if dtype.kind == "V" else dtype


def _shown(arrays: dict[str, tuple[np.dtype, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for _, (dtype, shape) in sorted(arrays.items()))
