"""The status of a search on disk, written in one stroke after some rounds."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lectopt._internal.files import DamagedError, read_arrays, write_arrays
from lectopt._internal.run_directories import claim, explained_write_errors
from lectopt._internal.trees import leaves_by_path, to_numpy, unflatten_in_order, unflatten_like


class Snapshots:
    """The last status and the one before, in a directory that belongs to the search with this fingerprint."""

    def __init__(self, directory: Path, fingerprint: str):
        claim(directory, fingerprint, "search")
        self._directory = directory
        self._last, self._before = directory / "status.npz", directory / "status-before.npz"

    def write(self, status: Any) -> None:
        """Takes the place of the one before the last.

        Raises:
            OSError: if the disk is full, say; the message says what is kept.
        """
        leaves = leaves_by_path(status)
        arrays = {f"leaf{i:04}": to_numpy(leaf) for i, leaf in enumerate(leaves.values())}
        with explained_write_errors(self._directory):
            if self._last.exists():
                self._last.replace(self._before)
            write_arrays(self._last, {"names": np.array(json.dumps(list(leaves))), **arrays})

    def latest(self, begin: Any) -> Any:
        """The last status that was written and is whole, or else `begin`.

        Raises:
            ValueError: if all are damaged.
        """
        problems = []
        for path in (self._last, self._before):
            if path.exists():
                try:
                    status = _read(path, begin)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                if problems:
                    warnings.warn(f"{problems[0]}: removed, the search goes on from the status before", stacklevel=2)
                    self._last.unlink()
                return status
        if problems:
            raise ValueError(f"directory must hold a whole status; {'; '.join(problems)}. Delete it to begin anew")
        return begin


def _read(path: Path, begin: Any) -> Any:
    arrays = read_arrays(path)
    names = arrays.pop("names", None)
    if sorted(arrays) != [f"leaf{i:04}" for i in range(len(arrays))]:
        raise DamagedError(f"{path} is no status of a search")
    leaves = [arrays[name] for name in sorted(arrays)]
    name = f"the status in {path}"
    if names is None:  # of an earlier version
        return unflatten_in_order(name, leaves, begin)
    return unflatten_like(name, dict(zip(map(tuple, json.loads(str(names))), leaves, strict=True)), begin)
