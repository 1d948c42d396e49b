"""Colours, line styles and axes that all pictures have in common."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C613C", "#5A5A5A"]
"""Okabe and Ito's, told apart by colour-blind readers too, on white and on black."""

GREY = "#8A8A8A"
"""For what is not to catch the eye."""

PALE = "#9BB8CC"
"""The first colour, for error bars and single seeds behind it."""

LINE_STYLES: list[Any] = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]
"""Solid, dashed, dotted, dash-dotted: where there are more curves than colours, or no colours."""


def style_axes(axis: Axes) -> None:
    """Draws a faint grid, and no lines above and to the right."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def set_defaults() -> list[str]:
    """Sets Matplotlib's defaults to this style, for a page about 800 pixels wide, and returns the colours."""
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS),
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
            "axes.titlesize": 10, "axes.titlelocation": "left", "axes.labelsize": 10, "font.size": 10,
            "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
            "lines.linewidth": 1.6, "figure.dpi": 110, "figure.constrained_layout.use": True, "image.cmap": "cividis",
        }
    )  # fmt: skip
    return list(COLOURS)
