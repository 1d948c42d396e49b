"""The status of a search on disk, written in one stroke after some rounds."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._leaves import fill, plain


class Snapshots:
    """The last status, as a file of arrays only."""

    def __init__(self, directory: Path):
        self._path = directory / "status.npz"

    def write(self, status: Any) -> None:
        """Takes the place of the one before."""
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            arrays: dict[str, Any] = {f"leaf{i:04}": plain(leaf) for i, leaf in enumerate(jax.tree.leaves(status))}
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

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
