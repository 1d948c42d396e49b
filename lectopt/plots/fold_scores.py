"""The scores of several settings of a hyperparameter search, fold by fold."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lectopt.plots.figures import subplots
from lectopt.plots.names import display_name
from lectopt.plots.style import COLOURS, style_axes

_MOST_NAMED = 10
"""More folds than these have no legend."""


def plot_folds(scores: np.ndarray, settings: Sequence[int], *, metric: str, part: str) -> Figure:
    """Draws a dot for each score, joined by lines along a fold; the bars are the means.

    Args:
        scores: float[settings, folds], the best setting first.
        settings: the numbers of the settings.
        metric: the name of the score.
        part: "fold", or "seed" where the scores are from several seeds on one fold.
    """
    count, folds = scores.shape
    figure, axis = subplots(figsize=(max(4.5, 0.75 * count + 1.5), 3.6))
    for fold in range(folds):
        style: Any = {"color": COLOURS[fold % 8], "label": f"{part} {fold}" if folds <= _MOST_NAMED else None}
        axis.plot(range(count), scores[:, fold], "o-", markersize=4, linewidth=0.6, alpha=0.8, **style)
    places = np.arange(count)
    axis.hlines(scores.mean(axis=1), places - 0.3, places + 0.3, color=plt.rcParams["text.color"], linewidth=2)
    axis.set_xticks(range(count), list(map(str, settings)))
    axis.set_xlabel("setting (row), the best first")
    axis.set_ylabel(display_name(metric))
    if folds <= _MOST_NAMED:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    style_axes(axis)
    return figure
