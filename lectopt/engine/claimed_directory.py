"""A directory that belongs to one search: files of arrays, each of which is written in one stroke."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lectopt._internal.files import DamagedError, read_arrays, write_arrays
from lectopt._internal.run_directories import claim, explained_write_errors


class StoredArrays(NamedTuple):
    """What is in a file."""

    leaves: list[Any]  # of a tree, in its order
    labels: dict[str, np.ndarray]  # what else there is, by name


class ClaimedDirectory:
    """A directory of the search with this fingerprint.

    Raises:
        ValueError: if it holds anything else.
    """

    def __init__(self, path: Path, fingerprint: str):
        claim(path, fingerprint, "search")
        self.path, self.fingerprint = path, fingerprint

    def write(self, name: str, leaves: Iterable[Any], *, previous: str | None = None, **labels: Any) -> None:
        """Writes a file in the place of the one with this name, which is kept as `previous` where that is given.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        path = self.path / name
        with explained_write_errors(self.path):
            if previous is not None and path.exists():
                path.replace(self.path / previous)
            write_arrays(path, labels | {_leaf(i): leaf for i, leaf in enumerate(leaves)})

    def read(self, name: str) -> StoredArrays:
        """Reads a file.

        Raises:
            DamagedError: if it is not as it was written.
        """
        arrays = read_arrays(self.path / name)
        labels = {name: array for name, array in arrays.items() if not name.startswith("leaf")}
        leaves = sorted(arrays.keys() - labels.keys())
        if leaves != [_leaf(i) for i in range(len(leaves))]:
            raise DamagedError(f"{self.path / name} is no file of a search")
        return StoredArrays([arrays[name] for name in leaves], labels)


def _leaf(number: int) -> str:
    return f"leaf{number:04}"
