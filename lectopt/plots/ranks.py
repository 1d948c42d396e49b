"""How well several methods search: the true ranks of what they found."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from lectopt.plots.figures import subplots
from lectopt.plots.style import COLOURS, GREY, style_axes


def plot_ranks(ranks: Mapping[str, np.ndarray], count: int) -> Figure:
    """Draws a dot for each rank, and the median as a bar.

    Args:
        ranks: {method: int[seeds]}, the rank, from 1, of what it found with each seed.
        count: how many there are to rank.
    """
    figure, axis = subplots(figsize=(7, 0.75 * len(ranks) + 1.4))
    names = []
    for i, (method, found) in enumerate(ranks.items()):
        middle = float(np.median(found))
        spread = 0.5 * ((np.arange(len(found)) * 0.618) % 1 - 0.5)  # so that equal ranks are seen apart
        axis.plot(np.sort(found), i + spread, "o", color=COLOURS[i % 8], markersize=5, alpha=0.7)
        axis.vlines(middle, i - 0.38, i + 0.38, color=plt.rcParams["text.color"], linewidth=2, zorder=1.5)
        names.append(f"{method}\nmedian {middle:g}")
    axis.axvline((count + 1) / 2, color=GREY, linestyle="--", linewidth=1)
    axis.set_xscale("log")
    axis.set_xlim(0.85, 1.15 * count)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(range(len(ranks)), names)
    axis.set_ylim(len(ranks) - 0.45, -0.55)
    axis.set_xlabel(f"rank of {count} (1: the best)")
    axis.set_title("dot: what one search found;  bar: the median;  dashed: the median of all", fontsize=9, color=GREY)
    style_axes(axis)
    return figure
