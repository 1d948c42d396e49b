"""The status of a search on disk, written in one stroke after some rounds."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._leaves import fill, plain
from lectopt.claims import claim
from lectopt.search.records import write_arrays


class Snapshots:
    """The last status, as a file of arrays only, in a directory that belongs to the search with this fingerprint."""

    def __init__(self, directory: Path, fingerprint: str):
        claim(directory, fingerprint, "search")
        self._path = directory / "status.npz"

    def write(self, status: Any) -> None:
        """Takes the place of the one before."""
        write_arrays(self._path, {f"leaf{i:04}": plain(leaf) for i, leaf in enumerate(jax.tree.leaves(status))})

    def latest(self, begin: Any) -> Any:
        """The last status that was written, or else `begin`.

        Raises:
            ValueError: if the file is damaged.
        """
        if not self._path.exists():
            return begin
        try:
            with np.load(self._path, allow_pickle=False) as file:
                arrays = [file[f"leaf{i:04}"] for i in range(len(file.files))]
        except Exception as error:
            raise ValueError(f"directory must hold a whole status; {self._path} is damaged: {error}") from error
        return fill("the status in directory", arrays, begin)
