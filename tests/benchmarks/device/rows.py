"""The rows of the table, and the time that there is for them."""

import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks import timing


class Row(NamedTuple):
    """One measurement."""

    what: str
    measured: str
    limit: str = ""  # and whether it is kept
    note: str = ""


def at_most(what: str, measured: timing.Ratio, limit: float, note: str = "") -> Row:
    """A ratio of times."""
    return Row(what, str(measured), f"<= {timing.verdict(measured, limit)}", note)


def at_least(what: str, measured: float, limit: float, note: str = "") -> Row:
    """A share, or a factor."""
    return Row(what, f"{measured:.2f}", f">= {limit:g} {'reached' if measured >= limit else 'MISSED'}", note)


def alternate(calls: Mapping[str, Callable[[], Any]], pairs: int, seconds: float = 12) -> dict[str, np.ndarray]:
    """As `timing.alternate`, with fewer pairs where they take longer than so many seconds."""
    for call in calls.values():
        call()  # compiles
    spent = sum(map(timing.seconds, calls.values()))
    return timing.alternate(calls, max(1, min(pairs, int(seconds / spent))), warmup=0)


class Clock:
    """The seconds that all parts have together."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._end - time.monotonic()

    def collect(self, parts: Iterable[tuple[str, float, Callable[[], Iterable[Row]]]], reserve: float) -> list[Row]:
        """The rows of parts (name, seconds that it may take, function), but `reserve` seconds are left for others."""
        rows = []
        for name, seconds, part in parts:
            if self.left - reserve < seconds:
                rows.append(Row(name, "skipped", note=f"takes up to {seconds:.0f} s, and so many are not left"))
                continue
            began = time.monotonic()
            try:
                rows += part()
            except Exception as error:  # one that fails leaves the others
                traceback.print_exc()
                rows.append(Row(name, "FAILED", note=f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"))
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        return rows
