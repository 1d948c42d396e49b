"""Panels side by side whose x axis is the epoch: of the dashboard, and of the comparison of several trainings."""

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lectopt.plots.figures import panel_grid
from lectopt.plots.style import style_axes

Panels = list[tuple[str, Callable[[Axes], None]]]
"""The title of each panel, and what draws it."""

_WIDTH = 12
"""Of all panels of a row together, in inches."""
_CHARACTERS = 11
"""Of a legend in an inch."""
_LONG_LABEL = 20
"""Characters: of longer ones two do not fit beside each other."""
_MARGIN, _ROW = 0.03, 0.08
"""Of a panel's height: around a legend, and of each of its rows."""


def draw_panels(panels: Panels) -> Figure:
    """Draws each panel on axes of its own, three or four in a row, whichever leaves fewer places empty."""
    columns = min((3, 4), key=lambda columns: -len(panels) % columns)
    figure, axes = panel_grid(len(panels), columns=columns, width=_WIDTH / columns)
    for axis, (title, draw) in zip(axes, panels, strict=True):
        draw(axis)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        style_axes(axis)
    return figure


def add_legend_above_curves(axis: Axes) -> None:
    """Adds a legend where there are several curves, and makes the axis so much higher that it lies on none of them."""
    labels = axis.get_legend_handles_labels()[1]
    if len(labels) < 2:
        return
    columns = 1 if max(map(len, labels)) > _LONG_LABEL else 2
    # It lies on the axes, and is no reason to make them smaller.
    legend = axis.legend(
        frameon=False, fontsize=8, loc="upper center", ncols=columns, columnspacing=1, handlelength=1.2
    )
    legend.set_in_layout(False)
    share = _MARGIN + _ROW * math.ceil(len(labels) / columns)
    scale = axis.yaxis.get_transform()
    bottom, top = axis.get_ylim()
    low, high = scale.transform([bottom, top])
    axis.set_ylim(bottom, scale.inverted().transform([low + (high - low) / (1 - share)])[0])


def add_shared_legend(figure: Figure, names: Sequence[str]) -> None:
    """Adds a legend below all panels, for the curves of these names that are in any of them."""
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    named = [name for name in names if name in lines]  # not all have a curve in every panel
    room = _CHARACTERS * figure.get_figwidth() // (max(map(len, named), default=0) + 5)
    columns = int(max(1, min(len(named), 6, room)))
    figure.legend([lines[n] for n in named], named, loc="outside lower center", ncols=columns, frameon=False)
