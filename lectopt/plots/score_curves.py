"""Scores of the training and of the validation part against one number."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lectopt.plots.figures import subplots
from lectopt.plots.hyperparameters import Column, place_on_axis
from lectopt.plots.names import display_name, literal
from lectopt.plots.score_range import score_range, set_score_limits
from lectopt.plots.style import COLOURS, GREY, LINE_STYLES, style_axes

_ROOM = 5
"""Times as far from the best score as the median is; beyond that nothing is shown."""


def plot_score_curves(
    column: Column,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    name: str,
    logarithmic: bool,
    maximizes: bool | None,
) -> Figure:
    """Draws a line for each metric; bands are standard deviations, crosses at the edge what is too bad to show.

    Args:
        column: array of n numbers, or list of n choices, of what is varied.
        curves: {metric: (float[n] means, float[n] standard deviations)}, NaN where there are none.
        name: what is varied.
        logarithmic: whether it is spread over magnitudes.
        maximizes: whether more of the metrics is better; None if that is not known.
    """
    figure, axis = subplots(figsize=(5.6, 3.8))
    x = place_on_axis(axis, column, logarithmic=logarithmic)
    order = np.argsort(x, kind="stable")
    means = np.array([mean for mean, _ in curves.values()])
    shown = ~np.isnan(means)
    if maximizes is not None:
        low, high = score_range(means, maximizes=maximizes, room=_ROOM)
        set_score_limits(axis, low, high)
        shown &= (means >= low) & (means <= high)
    for i, (metric, (mean, std)) in enumerate(curves.items()):
        inside = np.where(shown[i], mean, np.nan)[order]
        width = np.nan_to_num(std)[order]
        axis.fill_between(x[order], inside - width, inside + width, color=COLOURS[i], alpha=0.15, linewidth=0)
        style: Any = {"linestyle": LINE_STYLES[i], "markersize": 4, "color": COLOURS[i]}
        axis.plot(x[order], inside, "o", label=display_name(metric), **style)
    bad = ~shown.all(axis=0)
    if bad.any():
        edge = 1.0 if maximizes is False else 0.0
        axis.plot(
            x[bad], np.full(bad.sum(), edge), "x", color=GREY, transform=axis.get_xaxis_transform(), clip_on=False,
            label="no score, or too bad to show",
        )  # fmt: skip
    axis.set_xlabel(literal(name.replace("_", " ")))
    axis.legend(frameon=False, fontsize=9)
    style_axes(axis)
    return figure
