"""The scores of a hyperparameter search, against each hyperparameter."""

from collections.abc import Collection
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lectopt.plots.figures import shared_panels
from lectopt.plots.hyperparameters import Columns, place_on_axis
from lectopt.plots.names import display_name
from lectopt.plots.score_range import score_range, set_score_limits
from lectopt.plots.style import COLOURS, GREY, PALE, style_axes


def plot_scores(
    settings: Columns,
    scores: np.ndarray,
    errors: np.ndarray,
    *,
    best: int,
    metric: str,
    maximizes: bool,
    logarithmic: Collection[str],
) -> Figure:
    """Draws a panel for each hyperparameter; bars are standard errors, the ring is the best.

    Args:
        settings: {hyperparameter: array of n numbers, or list of n choices}.
        scores: float[n], NaN where there is none.
        errors: float[n], their standard errors, NaN where there are none.
        best: the row of the best setting.
        metric: the name of the score.
        maximizes: whether more of it is better.
        logarithmic: the hyperparameters that are spread over magnitudes.
    """
    low, high = score_range(scores, maximizes=maximizes)
    shown = np.nan_to_num(np.clip(scores, low, high), nan=low if maximizes else high)
    inside = (scores >= low) & (scores <= high)
    lengths = np.nan_to_num(errors)
    bars: Any = {"fmt": "o", "markersize": 3.5, "color": COLOURS[0], "ecolor": PALE, "linewidth": 0.8}
    figure, axes = shared_panels(len(settings))
    for axis, (name, column) in zip(axes, settings.items(), strict=True):
        x = place_on_axis(axis, column, logarithmic=name in logarithmic)
        axis.errorbar(x[inside], shown[inside], lengths[inside], **bars)
        axis.plot(x[~inside], shown[~inside], "x", color=GREY)
        axis.plot(x[best], scores[best], "o", markersize=11, fillstyle="none", color=COLOURS[1], markeredgewidth=1.6)
        set_score_limits(axis, low, high)
        axis.set_xlabel(display_name(name))
        style_axes(axis)
    for axis in axes[::4]:
        axis.set_ylabel(display_name(metric) + " ± standard error" * bool(np.isfinite(errors).any()))
    figure.suptitle("ring: the best;  grey cross: no score, or too bad to show", fontsize=9, color=GREY)
    return figure
