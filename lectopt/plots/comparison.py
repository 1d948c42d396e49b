"""The curves of several trainings over each other."""

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lectopt.plots.curves import draw_curve, set_scale, smooth
from lectopt.plots.epoch_panels import Panels, add_shared_legend, draw_panels
from lectopt.plots.names import by_metric, display_name, distinct_names
from lectopt.plots.style import COLOURS, LINE_STYLES

Curve: TypeAlias = tuple[ArrayLike, ArrayLike]
"""x, in epochs, and y."""


def plot_comparison(epochs: Mapping[str, Mapping[str, Curve]], gradient_norms: Mapping[str, Curve]) -> Figure:
    """Draws a panel for each metric, of the validation part where it was recorded, and one for the gradient.

    Args:
        epochs: {training: {"train_loss", "valid_loss", "valid_<metric>": curve}}, any of them.
        gradient_norms: {training: curve}, with a point for each step; smoothed here.
    """
    overlaid: list[tuple[str, dict[str, Curve]]] = []
    for *_, name in by_metric(name for records in epochs.values() for name in records).values():
        overlaid.append((name, {run: records[name] for run, records in epochs.items() if name in records}))
    overlaid.append(
        ("gradient norm", {run: (x, smooth(np.asarray(y, float))) for run, (x, y) in gradient_norms.items()})
    )
    shown = dict(zip(epochs, distinct_names(epochs), strict=True))
    panels: Panels = [(display_name(name), partial(_draw_overlaid, curves, name, shown)) for name, curves in overlaid]
    figure = draw_panels(panels)
    add_shared_legend(figure, list(shown.values()))
    return figure


def _draw_overlaid(curves: Mapping[str, Curve], name: str, shown: Mapping[str, str], axis: Axes) -> None:
    for i, (run, label) in enumerate(shown.items()):
        if run in curves:
            x, y = curves[run]
            draw_curve(axis, x, np.asarray(y, float), COLOURS[i % 8], label, linestyle=LINE_STYLES[i // 8 % 4])
    if "loss" in name or "norm" in name:
        set_scale(axis, np.concatenate([np.asarray(y, float) for _, y in curves.values()]))
