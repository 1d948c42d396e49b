"""A population round by round: what its members trained with, how good they were, and which led to the best."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lectopt.plots.figures import panel_grid
from lectopt.plots.names import display_name
from lectopt.plots.score_range import score_range, set_score_limits
from lectopt.plots.style import COLOURS, GREY, style_axes


def plot_population(
    settings: Mapping[str, np.ndarray],
    scores: np.ndarray,
    parents: np.ndarray,
    lineage: np.ndarray,
    *,
    metric: str,
    maximizes: bool,
    logarithmic: Collection[str],
) -> Figure:
    """Draws a panel for the scores and one for each hyperparameter, with a line for each member.

    Args:
        settings: {name: array[rounds, n]}.
        scores: float[rounds, n], NaN where a member has none.
        parents: int[rounds, n], from which member of the round before each one went on.
        lineage: int[rounds], the members that led to the best.
        metric: the name of the score.
        maximizes: whether more of it is better.
        logarithmic: the hyperparameters that are spread over magnitudes.
    """
    figure, axes = panel_grid(1 + len(settings), width=4.4, height=3.4)
    rows = np.arange(len(lineage))
    low, high = score_range(scores.ravel(), maximizes=maximizes)
    _draw(axes[0], np.clip(scores, low, high), parents, lineage)
    set_score_limits(axes[0], low, high)
    axes[0].set_ylabel(display_name(metric))
    axes[0].set_title(f"best in the end: {scores[rows, lineage][-1]:.3g}", fontsize=10)
    for axis, (name, values) in zip(axes[1:], settings.items(), strict=True):
        if name in logarithmic and values.min() > 0:  # a function that explores may have gone to 0
            axis.set_yscale("log")
        _draw(axis, values.astype(float), parents, lineage)
        axis.set_ylabel(display_name(name))
        found = values[rows, lineage]
        axis.set_title(f"from {found[0]:.3g} to {found[-1]:.3g}", fontsize=10)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _draw(axis: Axes, values: np.ndarray, parents: np.ndarray, lineage: np.ndarray) -> None:
    """A line from each member's parent to itself; one that was copied from another is dotted."""
    rounds = np.arange(1, len(values) + 1)
    before = np.take_along_axis(values[:-1], parents[1:], axis=1)
    same = parents[1:] == np.arange(parents.shape[1])
    for i in range(len(values) - 1):
        for kept, style in ((same[i], "-"), (~same[i], ":")):
            axis.plot(rounds[i : i + 2], [before[i][kept], values[i + 1][kept]], style, color=GREY, lw=0.7, alpha=0.6)
    axis.plot([], [], "-", color=GREY, linewidth=0.7, label="a member goes on")
    axis.plot([], [], ":", color=GREY, linewidth=0.9, label="it copies a better one")
    axis.plot(rounds, values, ".", color=GREY, markersize=3, alpha=0.6)
    best = values[np.arange(len(lineage)), lineage]
    axis.plot(rounds, best, "o-", color=COLOURS[0], markersize=3.5, linewidth=1.8, label="what led to the best")
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_xlabel("round")
    style_axes(axis)
