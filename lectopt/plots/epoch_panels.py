"""Panels side by side whose x axis is the epoch: of the dashboard, and of the comparison of several trainings."""

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lectopt.plots.figures import panel_grid
from lectopt.plots.style import style_axes

Panels = list[tuple[str, Callable[[Axes], None]]]
"""The title of each panel, and what draws it."""


def draw_panels(panels: Panels, *, legends: bool) -> Figure:
    """Draws each panel on axes of its own, with a legend where it has several curves and `legends` are wanted."""
    figure, axes = panel_grid(len(panels))
    for axis, (title, draw) in zip(axes, panels, strict=True):
        draw(axis)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        style_axes(axis)
        if legends and len(axis.get_legend_handles_labels()[1]) > 1:
            # It lies on the axes, and is no reason to make them smaller.
            axis.legend(frameon=False, fontsize=8).set_in_layout(False)
    return figure
