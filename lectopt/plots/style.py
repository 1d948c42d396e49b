"""What the pictures have in common, and the one of the main job. Matplotlib is imported here first."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lectopt._internal.tables import unique_names
from lectopt.training.history import History

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    from matplotlib.path import Path
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'lectopt[examples]'") from error

__all__ = [  # for the others
    "Axes", "FancyArrowPatch", "FancyBboxPatch", "Figure", "LogLocator", "MaxNLocator", "NullFormatter", "Path",
    "StrMethodFormatter", "plt", "to_rgb",
]  # fmt: skip

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C613C", "#5A5A5A"]
"""Okabe and Ito's, told apart by colour-blind readers too, on white and on black."""

QUIET = "#8A8A8A"
"""For what is not to catch the eye."""

_LONGEST = 30
"""Characters of a name that are shown."""
_NOTHING = "\u200b"
"""A space of no width."""

DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]


def plot_optimizers(
    histories: Mapping[str, History], rates: np.ndarray, losses: Mapping[str, np.ndarray], chosen: Mapping[str, int]
) -> Figure:
    """Each algorithm at its best rate over the epochs, and each one's validation loss against the rate."""
    figure, (left, right) = grid(2, width=5.5, height=4.4)
    for i, (name, history) in enumerate(histories.items()):
        style = {"color": COLOURS[i % 8], "linestyle": DASHES[i % 4]}
        losses_met = np.asarray(history.epochs["train_loss"])
        left.plot(np.arange(1, len(losses_met) + 1), losses_met, label=name, **style)
        right.plot(rates, losses[name], **style)
        right.plot(rates[chosen[name]], losses[name][chosen[name]], "o", markersize=5, color=style["color"])
    left.set_xlabel("epoch")
    left.set_title("training loss at each one's best rate", fontsize=10)
    right.set_xlabel("learning rate")
    right.set_title("validation loss at the end, by learning rate (dot: the best)", fontsize=10)
    for axis in (left, right):
        axis.set_yscale("log")
        tidy(axis)
    right.set_xscale("log")
    right.set_ylim(top=10 * max(np.nanmin(loss) for loss in losses.values()))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def grid(count: int, width: float = 4, height: float = 3) -> tuple[Figure, Sequence[Axes]]:
    """That many axes, at most three in a row."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
    )
    plt.close(figure)  # a notebook shows what a cell returns; left open it would be shown twice
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def words(name: str) -> str:
    """The name of a metric or decision, for people."""
    for short, long in (("valid_", "validation "), ("train_", "training ")):
        if name.startswith(short):
            name = long + name.removeprefix(short)
    return as_it_is(name.replace("_", " "))


def as_it_is(name: str) -> str:
    """A name that Matplotlib shows as it is, and in the room that there is: no formula, not hidden, not too long."""
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"
    # Matplotlib takes what is between two dollars for a formula, and hides what begins with an underscore.
    return (_NOTHING if name.startswith("_") else "") + name.replace("$", r"\$")


def labels(names: Iterable[str]) -> list[str]:
    """The names as they are to be shown, each one other than all others."""
    return unique_names([as_it_is(name) for name in names])


def tidy(axis: Axes) -> None:
    """What all axes have in common."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
