"""The settings of a hyperparameter search as lines across their hyperparameters to their scores."""

from collections.abc import Collection, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lectopt.plots.figures import subplots
from lectopt.plots.hyperparameters import Columns, heights, ticks
from lectopt.plots.names import display_name
from lectopt.plots.score_range import score_range
from lectopt.plots.style import GREY


def plot_parallel(
    settings: Columns,
    scores: np.ndarray,
    ranking: Sequence[int] | np.ndarray,
    *,
    metric: str,
    maximizes: bool,
    logarithmic: Collection[str],
) -> Figure:
    """Draws a line for each setting that has a score; the better, the stronger.

    Args:
        settings: {hyperparameter: array of n numbers, or list of n choices}.
        scores: float[n], NaN where there is none.
        ranking: the rows of the settings, from best to worst.
        metric: the name of the score.
        maximizes: whether more of it is better.
        logarithmic: the hyperparameters that are spread over magnitudes.
    """
    low, high = score_range(scores, maximizes=maximizes)
    lines = [heights(column, logarithmic=name in logarithmic) for name, column in settings.items()]
    lines.append((np.clip(scores, low, high) - low) / max(high - low, 1e-30))
    last = len(settings)
    figure, axis = subplots(figsize=(2.2 * (last + 1), 4))
    shown = [i for i in ranking if not np.isnan(scores[i])]
    quality = dict(zip(shown, np.linspace(1, 0, len(shown)), strict=True))
    for i in reversed(shown):
        axis.plot(range(last + 1), [line[i] for line in lines], **_line_style(quality[i]))
    for place, (name, column) in enumerate(settings.items()):
        axis.axvline(place, color=GREY, linewidth=0.8)
        for text, height in ticks(column, logarithmic=name in logarithmic):
            axis.text(place + 0.02, height, text, fontsize=8, va="center", bbox=_text_box())
    axis.axvline(last, color=GREY, linewidth=0.8)
    for end, height in ((low, 0), (high, 1)):
        axis.text(last + 0.02, height, f"{end:.3g}", fontsize=8, va="center", bbox=_text_box())
    axis.set_xticks(range(last + 1), [*map(display_name, settings), display_name(metric)])
    axis.set_yticks([])
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.set_title("strong: the best, faint: the worst; settings without a score are left out", fontsize=9, color=GREY)
    return figure


def _line_style(quality: float) -> dict[str, Any]:
    """Of a setting: 1 is the best, which has the end of the colour map that stands out from the background."""
    dark = sum(to_rgb(plt.rcParams["axes.facecolor"])) < 1.5
    colour = plt.get_cmap("viridis")(0.3 + 0.65 * quality if dark else 0.9 * (1 - quality))
    return {"color": colour, "alpha": 0.25 + 0.7 * quality**3, "linewidth": 0.8 + 1.5 * quality**4}


def _text_box() -> dict[str, Any]:
    """Behind a text that stands on lines."""
    return {"boxstyle": "round,pad=0.1", "facecolor": plt.rcParams["axes.facecolor"], "edgecolor": "none", "alpha": 0.8}
