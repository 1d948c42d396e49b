"""A network layer by layer, from left to right."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from lectopt.plots.figures import subplots
from lectopt.plots.style import COLOURS, GREY

_HALF = 0.27
"""Half the breadth of a layer's box, where the next one stands 1 further."""


def plot_architecture(widths: Sequence[int], captions: Sequence[str], skips: Sequence[tuple[int, int]]) -> Figure:
    """Draws a box for each layer, the higher the wider, and skip connections as arcs.

    Args:
        widths: of the hidden layers.
        captions: what stands below each hidden layer, and below the output.
        skips: (source, layer) for each skip connection; the hidden layers are numbered from 1, the input is 0.
    """
    last = len(widths) + 1
    heights = [0.45, *(0.3 + 0.7 * width / max(widths) for width in widths), 0.45]
    low = -0.7 - 0.13 * max(text.count("\n") + 1 for text in captions)
    high = max([0.6, *(0.08 + _peak(*skip) for skip in skips)])
    figure, axis = subplots(figsize=(1.25 * (last + 1), 1.25 * (high - low) + 0.4))
    for place, (inside, below) in enumerate(zip(["input", *map(str, widths), "output"], ["", *captions], strict=True)):
        _draw_box(axis, place, heights[place], COLOURS[0] if 0 < place < last else GREY, inside, below)
    for place in range(last):
        _draw_arrow(axis, [(place + _HALF, 0), (place + 1 - _HALF, 0)], [Path.MOVETO, Path.LINETO], "flow", GREY)
    for source, number in skips:
        shift, peak = 0.25 - 0.05 * (number - source), _peak(source, number)  # the farther, the further outside
        start, end = (source + shift, heights[source] / 2), (number - shift, heights[number] / 2 + 0.02)
        control = (8 * peak - start[1] - end[1]) / 6
        points = [start, (start[0], control), (end[0], control), end]
        _draw_arrow(axis, points, [Path.MOVETO, *[Path.CURVE4] * 3], "skip", COLOURS[1])
    axis.set(xlim=(-0.5, last + 0.5), ylim=(low, high))
    axis.set_axis_off()
    what = "the higher a box, the wider the layer" + bool(skips) * ";  arcs: skip connections"
    figure.suptitle(what, fontsize=9, color=GREY)
    return figure


def _draw_box(axis: Axes, place: int, height: float, colour: str, inside: str, below: str) -> None:
    corner, size = (place - _HALF, -height / 2), (2 * _HALF, height)
    style: Any = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": colour, "edgecolor": "none"}
    axis.add_patch(FancyBboxPatch(corner, *size, **style))
    axis.text(place, 0, inside, color="white", ha="center", va="center", fontsize=9, fontweight="bold")
    axis.text(place, -0.6, below, ha="center", va="top", fontsize=8, linespacing=1.3)


def _draw_arrow(axis: Axes, points: list[tuple[float, float]], codes: list[Any], kind: str, colour: str) -> None:
    """`kind`, "flow" or "skip", is kept as the arrow's group id."""
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.3, "color": colour}
    axis.add_patch(FancyArrowPatch(path=Path(points, codes), shrinkA=0, shrinkB=0, gid=kind, **style))


def _peak(source: int, number: int) -> float:
    """How high the arc of a skip connection may reach: the farther, the higher, so that arcs do not lie together."""
    return 0.55 + 0.22 * (number - source)
