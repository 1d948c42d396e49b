"""Paired measurement: callables timed side by side in one process, A B A B ..., so that noise meets both.

What is compared is the ratio of the two times of a pair, by its median; its quartiles tell how far to trust it.
Seconds depend on the machine and are shown, never asserted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """How much longer one callable takes than another: median and quartiles over pairs."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(call: Callable[[], Any]) -> float:
    """The wall-clock time of one call, which returns only when its work is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(calls: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2) -> dict[str, np.ndarray]:
    """Times every callable once a round: {"name": float64[repeats]}, in seconds, after `warmup` rounds unseen."""
    rounds = [[seconds(call) for call in calls.values()] for _ in range(warmup + repeats)]
    return dict(zip(calls, np.array(rounds[warmup:]).T, strict=True))


def ratio(ours: np.ndarray, theirs: np.ndarray) -> Ratio:
    """The ratio of two columns of `alternate`, pair by pair."""
    low, median, high = np.percentile(ours / theirs, [25, 50, 75])
    return Ratio(float(median), float(low), float(high))


def milliseconds(times: np.ndarray) -> str:
    """The median of a column of `alternate`."""
    return f"{1e3 * np.median(times):.1f}"


def verdict(measured: Ratio, target: float) -> str:
    """The target beside the answer; for people and tables, not for assertions on a busy machine."""
    return f"{target:.2f} {'reached' if measured.median <= target else 'MISSED'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as an aligned table that Markdown understands too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
