"""Several optimizers over a grid of learning rates."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from lectopt.plots.figures import panel_grid
from lectopt.plots.style import COLOURS, LINE_STYLES, style_axes


def plot_optimizers(
    train_losses: Mapping[str, np.ndarray],
    rates: np.ndarray,
    valid_losses: Mapping[str, np.ndarray],
    chosen: Mapping[str, int],
) -> Figure:
    """Draws each one's training loss by epoch at its best rate, and its validation loss by rate.

    Args:
        train_losses: {optimizer: float[epochs]}, at the best rate.
        rates: float[rates].
        valid_losses: {optimizer: float[rates]}, at the end.
        chosen: {optimizer: the place of its best rate}.
    """
    figure, (left, right) = panel_grid(2, width=5.5, height=4.4)
    for i, (name, losses) in enumerate(train_losses.items()):
        style = {"color": COLOURS[i % 8], "linestyle": LINE_STYLES[i % 4]}
        left.plot(np.arange(1, len(losses) + 1), losses, label=name, **style)
        right.plot(rates, valid_losses[name], **style)
        right.plot(rates[chosen[name]], valid_losses[name][chosen[name]], "o", markersize=5, color=style["color"])
    left.set_xlabel("epoch")
    left.set_title("training loss at each one's best rate", fontsize=10)
    right.set_xlabel("learning rate")
    right.set_title("validation loss at the end, by learning rate (dot: the best)", fontsize=10)
    for axis in (left, right):
        axis.set_yscale("log")
        style_axes(axis)
    right.set_xscale("log")
    right.set_ylim(top=10 * max(np.nanmin(loss) for loss in valid_losses.values()))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
