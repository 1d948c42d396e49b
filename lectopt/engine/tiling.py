"""How many lanes run at once: as many as memory allows and as the cache likes."""

import math
from typing import NamedTuple

MOST_LANES_PER_DEVICE = 128
"""At most so many pairs at once, or lanes of a chunk that the user asks for: about where lanes of small networks leave
a CPU's cache."""
FIRST_LANES_PER_DEVICE = 40
"""To begin with: enough to keep a device busy. A lane costs no more among so many than among more."""
LEAST_RECTANGLES = 4
"""Into at least so many rectangles a search is cut, so that it can show and keep something before its end."""
LONGEST_SECONDS = 5.0
"""A rectangle had better not take longer, for the same reason."""
COMPILING_PAYS_OFF = 8.0
"""Another size is tried while what is left takes so many times longer than compiling for it."""
CLEARLY_FASTER = 0.95
"""Another size is better if a lane takes less than this share of the time."""


class Rectangle(NamedTuple):
    """So many settings times so many pairs of fold and seed at once."""

    rows: int
    pairs: int

    @property
    def lanes(self) -> int:
        """How many trainings that is."""
        return self.rows * self.pairs


class Tiling:
    """Settles on the rectangle of settings x pairs that runs at once, by measuring the first ones.

    One side of it, the settings where there are enough of them, is split over the devices and a multiple of their
    number.
    """

    def __init__(self, rows: int, pairs: int, devices: int, chunk: int | None, padded: bool = False):
        """Starts with the rectangle for these settings and pairs; `padded` takes `chunk` settings always."""
        rows = chunk if padded and chunk else rows
        parts, lanes = (LEAST_RECTANGLES, FIRST_LANES_PER_DEVICE) if chunk is None else (1, MOST_LANES_PER_DEVICE)
        most = lanes * devices
        self._devices = devices
        self._by_rows = rows >= devices
        if self._by_rows:
            self._other = _even(pairs, MOST_LANES_PER_DEVICE, 1)
            first = _even(rows, min(max(most // self._other, devices), chunk or math.ceil(rows / parts)), devices)
        else:
            self._other = min(rows, chunk or rows)
            first = _even(pairs, min(max(most // self._other, devices), math.ceil(pairs / parts)), devices)
        self._size = first
        self._most = math.inf
        self._adapts = chunk is None and self._by_rows and self._other == pairs
        self._seconds: dict[int, float] = {}  # for each setting, the least seen, by size

    @property
    def shape(self) -> Rectangle:
        """The next rectangle."""
        return Rectangle(self._size, self._other) if self._by_rows else Rectangle(self._other, self._size)

    def limit(self, lanes: int) -> Rectangle | None:
        """Limits the lanes at once, as memory asks; returns the next rectangle if it is smaller now."""
        before = self.shape
        if lanes < self._other * self._devices:
            self._other = max(lanes // self._devices, 1)
        fitting = max(lanes // self._other, self._devices)
        self._most = fitting - fitting % self._devices
        self._size = min(self._size, int(self._most))
        self._seconds = {size: each for size, each in self._seconds.items() if size <= self._most}
        return self.shape if self.shape.lanes < before.lanes else None

    def report(self, seconds: float, left: int, compile_seconds: float) -> None:
        """Notes how long the last rectangle took and how many settings are left; another size may be better."""
        if not self._adapts:
            return
        each = seconds / self._size
        self._seconds[self._size] = min(each, self._seconds.get(self._size, math.inf))
        least = min(self._seconds.values())
        good = [size for size, each in self._seconds.items() if each * CLEARLY_FASTER <= least]
        short = [size for size in good if size * self._seconds[size] <= LONGEST_SECONDS]
        self._size = best = max(short) if short else min(good)
        if self._seconds[best] * left > COMPILING_PAYS_OFF * compile_seconds:
            self._size = next((size for size in self._others(best, left) if size not in self._seconds), best)

    def _others(self, best: int, left: int) -> list[int]:
        """Returns sizes that may be better: twice as many if short or few, fewer if long."""
        seconds, others = self._seconds[best], []
        if best * seconds <= LONGEST_SECONDS or 2 * best * self._other <= FIRST_LANES_PER_DEVICE * self._devices:
            others.append(2 * best)
        if best * seconds > LONGEST_SECONDS:
            fewer = int(LONGEST_SECONDS / seconds)
            others.append(max(fewer - fewer % self._devices, self._devices))
        return [size for size in others if size <= min(self._most, left)]


def _even(total: int, most: int, multiple: int) -> int:
    """Returns the size of the fewest equal chunks of `total`, none above `most`, as a multiple (of the devices)."""
    most = max(most - most % multiple, multiple)
    return math.ceil(math.ceil(total / math.ceil(total / most)) / multiple) * multiple
