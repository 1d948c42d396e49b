"""How a search is run, whatever it searches."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from lectopt._internal import checks
from lectopt._internal.files import checked_path
from lectopt.engine.memory import free_memory


class SearchOptions(NamedTuple):
    """The arguments that all searches have."""

    chunk: int | None  # settings at once
    memory: int  # bytes, on all devices of this process together
    directory: Path | None
    progress: bool
    devices: tuple[Any, ...]  # of this process
    padded: bool = False  # whether a chunk is padded to its size, so that fewer settings need no program of their own

    @classmethod
    def of(cls, *, chunk: Any, memory: Any, directory: Any, progress: bool) -> "SearchOptions":
        """Checks the arguments of a search and returns them as one value."""
        show = checks.check_flag("progress", progress)
        devices = tuple(jax.local_devices())
        if memory is None:
            memory = free_memory(devices)
        else:
            checks.check_number("memory", memory, checks.POSITIVE)
            checks.check_known("memory", memory, "search")
        chunk = None if chunk is None else checks.check_count("chunk", chunk)
        path = None if directory is None else checked_path("directory", directory)
        return cls(chunk, int(memory), path, show, devices)
