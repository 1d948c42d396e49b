"""Scores of a search as colors, over the values of two hyperparameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lectopt.plots.figures import subplots
from lectopt.plots.names import display_name, distinct_names
from lectopt.plots.score_range import score_range
from lectopt.plots.style import COLOURS

_MOST_WRITTEN = 12
"""Cells beside each other that still have room for their numbers."""


def plot_heatmap(
    down: Sequence[Any], across: Sequence[Any], scores: np.ndarray, *, names: tuple[str, str], metric: str,
    maximizes: bool,
) -> Figure:  # fmt: skip
    """Draws a cell for each pair of values, bright where it is good; the frame is the best, and empty cells have none.

    Args:
        down: r values of the hyperparameter of the rows.
        across: c values of that of the columns.
        scores: float[r, c], NaN where there is none.
        names: those of the two hyperparameters.
        metric: the name of the score.
        maximizes: whether more of it is better.
    """
    figure, axis = subplots(figsize=(2 + 0.55 * min(len(across), 16), 1.6 + 0.38 * min(len(down), 20)))
    low, high = score_range(scores, maximizes=maximizes, room=5)
    image = axis.imshow(
        scores, cmap="viridis" if maximizes else "viridis_r", vmin=low, vmax=high, aspect="auto", origin="lower"
    )
    for place, values in ((axis.set_xticks, across), (axis.set_yticks, down)):
        shown = list(range(0, len(values), -(-len(values) // _MOST_WRITTEN)))
        place(shown, distinct_names(_written(values[i]) for i in shown))
    axis.tick_params("x", rotation=45 if len(across) > 4 else 0)
    if len(across) <= _MOST_WRITTEN:
        for (i, j), score in np.ndenumerate(scores):
            dark = (score - low) / max(high - low, 1e-30) < 0.5 if maximizes else score > (low + high) / 2
            if not np.isnan(score):
                axis.text(j, i, f"{score:.3g}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    if not np.isnan(scores).all():
        i, j = np.unravel_index((np.nanargmax if maximizes else np.nanargmin)(scores), scores.shape)
        axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.5))
    axis.set_ylabel(display_name(names[0]))
    axis.set_xlabel(display_name(names[1]))
    figure.colorbar(image, label=display_name(metric), extend="min" if maximizes else "max")
    return figure


def _written(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(getattr(value, "__name__", value))
