"""Labels at the ends of lines, moved apart where they would lie on each other."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

_DISTANCE = 1.25
"""From one label to the next, in heights of the letters."""


def draw_line_labels(axis: Axes) -> None:
    """Writes the label of each line to the right of the axis, at the height of the line's end."""
    figure: Any = axis.get_figure(root=True)
    figure.draw_without_rendering()  # only then is it known how high the axis is
    lines = [line for line in axis.get_lines() if not str(line.get_label()).startswith("_")]
    ends = [_last_finite(np.asarray(line.get_xydata(), float)) for line in lines]
    heights = axis.transAxes.inverted().transform(axis.transData.transform(ends))[:, 1]
    text = axis.text(0, 0, "")
    distance = _DISTANCE * float(text.get_fontsize()) / 72 * figure.dpi / axis.bbox.height
    text.remove()
    order = np.argsort(heights, kind="stable")
    for i, height in zip(order, move_apart(np.clip(heights[order], 0, 1), distance), strict=True):
        style = {"color": lines[i].get_color(), "transform": axis.transAxes, "va": "center"}
        axis.text(1.015, height, str(lines[i].get_label()), **style)


def move_apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Increasing numbers from 0 to 1, moved as little as needed to be that far apart, and back below 1 if they can."""
    steps = distance * np.arange(len(places))
    up = np.maximum.accumulate(places - steps) + steps
    down = np.minimum.accumulate((np.minimum(up, 1) - steps)[::-1])[::-1] + steps
    return down


def _last_finite(points: np.ndarray) -> np.ndarray:
    finite = points[np.isfinite(points).all(axis=1)]
    return finite[-1] if len(finite) else np.zeros(2)
