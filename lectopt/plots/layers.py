"""What was recorded of the layers while training, a panel for each statistic and a curve for each layer."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lectopt.plots.curves import SMOOTHING, Records, draw_curve, set_scale, smooth
from lectopt.plots.epoch_panels import Panels
from lectopt.plots.names import distinct_names
from lectopt.plots.style import COLOURS, GREY

HEALTHY_RATIO = (3e-4, 3e-3)
"""The band around 1e-3 that a layer's update, relative to its weights, should keep to (Bottou; Karpathy, CS231n)."""

_TITLES = {
    "update_ratio": "update / weights, by layer",
    "output_gradient_std": "gradient at the outputs (sd), by layer",
    "output_std": "outputs (sd), by layer",
    "dead": "dead units, by layer",
    "saturated": "saturated outputs, by layer",
}
_SHARES = ("dead", "saturated")


def layer_panels(layer_ends: np.ndarray, layers: Mapping[str, Mapping[str, ArrayLike]]) -> Panels:
    """A panel for each statistic that there is something to see of: shares that are always 0 need none."""
    panels: Panels = []
    for statistic, title in _TITLES.items():
        records = {name: np.asarray(layer[statistic], float) for name, layer in layers.items() if statistic in layer}
        if any(statistic not in _SHARES or (record > 0).any() for record in records.values()):
            panels.append((title, partial(_draw_statistic, layer_ends, records, statistic)))
    return panels


def _draw_statistic(layer_ends: np.ndarray, records: Records, statistic: str, axis: Axes) -> None:
    if statistic == "update_ratio":
        axis.axhspan(*HEALTHY_RATIO, color=COLOURS[2], alpha=0.15, linewidth=0)
        left: dict[str, Any] = {"va": "bottom", "fontsize": 7, "color": GREY}
        axis.text(0.02, HEALTHY_RATIO[0], "about 1e-3", transform=axis.get_yaxis_transform(), **left)
    _draw_layers(layer_ends, records, axis)
    if statistic in _SHARES:
        axis.set_yscale("linear")
        axis.set_ylim(0, 1)
        axis.yaxis.set_major_formatter("{x:.0%}")


def _draw_layers(layer_ends: np.ndarray, records: Records, axis: Axes) -> None:
    """A curve for each layer, in the order in which they are called."""
    for i, (name, record) in enumerate(zip(distinct_names(records), records.values(), strict=True)):
        few = len(records) <= len(COLOURS)
        # The middle of the map: its ends cannot be seen on black, or on white.
        colour = COLOURS[i] if few else plt.get_cmap("viridis")(0.3 + 0.55 * i / (len(records) - 1))
        label = name if few or i in (0, len(records) - 1) else None
        curve = smooth(record) if len(record) >= 2 * SMOOTHING else record
        draw_curve(axis, layer_ends, curve, colour, label, width=1.1)
    set_scale(axis, np.concatenate(list(records.values())))
