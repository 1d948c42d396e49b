"""Memory that windows of a stream are read into, used again and again: new memory takes longer to write to."""

import math
import queue
import threading
from collections.abc import Sequence

import numpy as np

_WINDOWS = 3  # that there is memory for: one the loop is in, the next, and one to read into
_ALIGNMENT = 64  # bytes
_POLL_SECONDS = 0.1  # between two looks whether all has ended


class WindowMemory:
    """Memory for some windows."""

    def __init__(self, ended: threading.Event):
        """Takes none yet; nobody waits for some any longer once all has `ended`."""
        self._ended, self._windows = ended, 0
        self._free: queue.Queue[list[np.ndarray]] = queue.Queue()

    def take(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
        """Returns arrays of these shapes, always the same, once there is memory; what they hold is not defined."""
        while not self._ended.is_set():
            is_full = self._windows == _WINDOWS
            try:
                return self._free.get(is_full, _POLL_SECONDS)
            except queue.Empty:
                if not is_full:
                    break
        self._windows += 1
        return list(map(_aligned, shapes, dtypes))

    def give_back(self, leaves: list[np.ndarray]) -> None:
        """Lets arrays be written to again, which nobody reads any more."""
        self._free.put(leaves)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an empty array that JAX takes over on a CPU, without a copy: as long as it is in use, none may write."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)
