"""Curves of records: smoothed, thinned where there are too many points, on a logarithmic axis where they need one."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from lectopt.plots.style import GREY

Records: TypeAlias = Mapping[str, np.ndarray]
"""{name: float[points]}, all at the same places."""

SMOOTHING = 50
"""A curve of steps is averaged over so many parts of its length."""
_MOST_POINTS = 2000
"""Of more steps than these the picture shows the range of each stretch: no screen has more."""
_DECADE = 5
"""Values within such a factor are shown on a linear axis, whose numbers are easier to read."""


def draw_curve(
    axis: Axes, x: Any, y: Any, colour: Any, label: str | None, *, width: float = 1.3, linestyle: Any = "-"
) -> None:
    """Draws a line; a single point, which has no line, as a dot."""
    y = np.where(np.isfinite(y), y, np.nan)
    marker = "o" if np.isfinite(y).sum() == 1 else ""
    axis.plot(x, y, color=colour, label=label, linewidth=width, linestyle=linestyle, marker=marker, markersize=4)


def draw_batches(axis: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    """Draws a record of steps: each one faint, and their moving mean, if there are enough for one."""
    _draw_faint(axis, x, y, "each batch")
    if len(y) >= 2 * SMOOTHING:
        draw_curve(axis, x, smooth(y), colour, label)


def smooth(y: np.ndarray) -> np.ndarray:
    """The mean over the last steps, a fiftieth of all; over fewer at the beginning. NaN stays NaN."""
    width = max(1, len(y) // SMOOTHING)
    sums = np.concatenate([np.zeros(1), np.cumsum(np.nan_to_num(y, posinf=0, neginf=0))])
    counts = np.concatenate([np.zeros(1), np.cumsum(np.isfinite(y))])
    last = np.arange(1, len(y) + 1)
    first = np.maximum(last - width, 0)
    return np.where(np.isfinite(y), (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1), np.nan)


def set_scale(axis: Axes, y: np.ndarray) -> None:
    """Makes the axis logarithmic where the values are positive and of different magnitude."""
    finite = y[np.isfinite(y) & (y != 0)]
    if finite.size and finite.min() > 0 and finite.max() > _DECADE * finite.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        narrow = finite.max() < 50 * finite.min()  # then there are too few powers of ten to read values by
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if narrow else NullFormatter())


def _draw_faint(axis: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """Every step, or the range of every stretch of steps if there are too many."""
    if len(y) <= _MOST_POINTS:
        draw_curve(axis, x, y, GREY, label, width=0.6)
        return
    size = -(-len(y) // (_MOST_POINTS // 2))
    y = np.append(y, np.full(-len(y) % size, y[-1])).reshape(-1, size)
    edges = x[np.minimum(np.arange(len(y)) * size, len(x) - 1)]
    gone = np.isnan(y).all(axis=1)
    low, high = (np.where(gone, np.nan, f(np.where(gone[:, None], 0, y), axis=1)) for f in (np.nanmin, np.nanmax))
    axis.fill_between(edges, low, high, color=GREY, alpha=0.4, linewidth=0, label=label)
