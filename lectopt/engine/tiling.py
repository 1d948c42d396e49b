"""How many lanes run at once: as many as memory allows and as the cache likes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax

MOST_LANES_PER_DEVICE = 128
"""At most so many pairs at once, or lanes of a chunk that the user asks for: about where lanes of small networks leave
a CPU's cache."""
LEAST_RECTANGLES = 4
"""Into at least so many rectangles a search is cut, so that it can show and keep something before its end."""
LONGEST_SECONDS = 5.0
"""A rectangle had better not take longer, for the same reason."""
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


class Pace(NamedTuple):
    """How lanes are put on a kind of device."""

    first: int  # lanes on each device to begin with: enough to keep it busy
    factor: int  # so many times as many are tried next, if the rectangle stays as short as it should
    pays_off: float  # while what is left takes so many times longer than compiling for them


CPU_PACE = Pace(40, 2, 8.0)
"""A lane costs no more among forty than among more."""
ACCELERATOR_PACE = Pace(1024, 8, 2.0)
"""With 255 lanes of a small network, the kernels of an H200 take 2 to 4 us each: hardly more than to start them."""


def pace(devices: Sequence[jax.Device]) -> Pace:
    """Returns how lanes are put on such devices."""
    return CPU_PACE if devices[0].platform == "cpu" else ACCELERATOR_PACE


class Tiling:
    """Settles on the rectangle of settings x pairs that runs at once, by measuring the first ones.

    One side of it, the settings where there are enough of them, is split over the devices and a multiple of their
    number.
    """

    def __init__(
        self, rows: int, pairs: int, devices: int, chunk: int | None, padded: bool = False, pace: Pace = CPU_PACE
    ):
        """Starts with the rectangle for these settings and pairs; `padded` takes `chunk` settings always."""
        rows = chunk if padded and chunk else rows
        parts, lanes = (LEAST_RECTANGLES, pace.first) if chunk is None else (1, MOST_LANES_PER_DEVICE)
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
        self._pace = pace
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
        if self._seconds[best] * left > self._pace.pays_off * compile_seconds:
            self._size = next((size for size in self._others(best, left) if size not in self._seconds), best)

    def _others(self, best: int, left: int) -> list[int]:
        """Returns sizes that may be better: more if short or few, fewer if long."""
        seconds, others = self._seconds[best], []
        if best * seconds <= LONGEST_SECONDS or 2 * best * self._other <= self._pace.first * self._devices:
            longest = max(int(LONGEST_SECONDS / (best * seconds)), 2)  # times, if a lane then costs as much as now
            others.append(min(self._pace.factor, longest) * best)
        if best * seconds > LONGEST_SECONDS:
            fewer = int(LONGEST_SECONDS / seconds)
            others.append(max(fewer - fewer % self._devices, self._devices))
        return [size for size in others if size <= min(self._most, left)]


def _even(total: int, most: int, multiple: int) -> int:
    """Returns the size of the fewest equal chunks of `total`, none above `most`, as a multiple (of the devices)."""
    most = max(most - most % multiple, multiple)
    return math.ceil(math.ceil(total / math.ceil(total / most)) / multiple) * multiple
