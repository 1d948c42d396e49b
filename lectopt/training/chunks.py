"""How many steps of a training run at once: what takes a moment, by the time that those before took."""

import weakref
from typing import Any

from lectopt._internal.chunk_sizes import next_size

_SECONDS = 0.25  # between two reports of progress: often enough to watch, seldom enough to cost nothing
_GROWTH = 16  # each size that is tried costs a pause of the device

_sizes: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


class Chunks:
    """The sizes of a training's chunks, in steps; the next training by the same program begins with the last one's."""

    def __init__(self, program: Any):
        self._program = program
        self.is_measured = program in _sizes
        self.size = _sizes.get(program, 1)
        self._most: int | None = None  # steps that there was memory for

    def of(self, program: Any) -> "Chunks":
        """Returns these sizes, or, if the program is another, its own."""
        return self if program is self._program else Chunks(program)

    def update(self, steps: int, seconds: float) -> None:
        """Sets the size after a chunk that ran so many steps in so many seconds."""
        size = next_size(max(steps, 1), seconds, target=_SECONDS, growth=_GROWTH)
        self.size = _sizes[self._program] = min(size, self._most or size)
        self.is_measured = True

    def halved(self, steps: int) -> int:
        """Returns half of so many steps, for which there was no memory; no later chunk is longer."""
        self._most = max(1, steps // 2)
        return self._most
