"""The dashboard of one training."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lectopt.plots.curves import Records, draw_batches, draw_curve, set_scale
from lectopt.plots.epoch_panels import Panels, add_legend_above_curves, add_shared_legend, draw_panels
from lectopt.plots.layers import layer_panels
from lectopt.plots.names import by_metric, display_name, distinct_names
from lectopt.plots.style import COLOURS, GREY

Curves: TypeAlias = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""{name: (how many epochs were done, values)}"""


_NO_ENDS = np.zeros(0)


def plot_history(
    steps: Mapping[str, ArrayLike],
    epochs: Mapping[str, ArrayLike],
    layers: Mapping[str, Mapping[str, ArrayLike]],
    *,
    step_ends: np.ndarray,
    epoch_ends: np.ndarray,
    layer_ends: np.ndarray,
    validations: Mapping[str, ArrayLike] = MappingProxyType({}),
    validation_ends: np.ndarray = _NO_ENDS,
    baseline_loss: float | None = None,
) -> Figure:
    """Draws losses, metrics, the gradient and the learning rate, and what was recorded of the layers.

    Args:
        steps: {"loss", "gradient_norm" and perhaps "learning_rate", "clipped", "clip_threshold": float[steps]}.
        epochs: {"train_loss", "valid_loss", "valid_<metric>": float[epochs]}, any of them.
        layers: {layer: {statistic: float[records]}}, in the order in which they are called.
        step_ends: float[steps]: how many epochs were done after each step.
        epoch_ends: float[epochs]: the same after each epoch, the last of which may not be whole.
        layer_ends: float[records]: the same after each step at which the layers were recorded.
        validations: {"valid_loss", "valid_<metric>": float[validations]}, any of them, where they are not in epochs.
        validation_ends: float[validations]: how many epochs were done at each of them.
        baseline_loss: the loss of the best constant outputs; None, NaN or 0 where there is none to show.
    """
    batches = {name: np.asarray(record, float) for name, record in steps.items()}
    curves = {name: (epoch_ends, np.asarray(record, float)) for name, record in epochs.items()}
    curves |= {name: (validation_ends, np.asarray(record, float)) for name, record in validations.items()}
    metrics = {metric: {name: curves[name] for name in names} for metric, names in by_metric(curves).items()}
    losses = metrics.pop("loss", {})
    panels: Panels = [("loss", partial(_draw_loss, step_ends, batches["loss"], losses, baseline_loss))]
    for metric, records in metrics.items():
        title = display_name(metric if len(records) > 1 else next(iter(records)))  # of one set of examples: of which
        panels.append((title, partial(_draw_curves, records)))
    panels.append(("gradient norm", partial(_draw_gradient, step_ends, batches)))
    if "learning_rate" in batches:
        panels.append(("learning rate", partial(_draw_learning_rate, step_ends, batches["learning_rate"])))
    figure = draw_panels(panels + layer_panels(layer_ends, layers))
    for axis in figure.axes[: len(panels)]:
        add_legend_above_curves(axis)
    add_shared_legend(figure, distinct_names(layers))
    end = float(step_ends[-1])
    for axis in figure.axes:
        axis.set_xlim(-0.02 * end, 1.02 * end)
    return figure


def _draw_loss(
    step_ends: np.ndarray,
    batches: np.ndarray,
    curves: Curves,
    baseline: float | None,
    axis: Axes,
) -> None:
    draw_batches(axis, step_ends, batches, COLOURS[7], "batches, smoothed")
    _draw_curves(curves, axis)
    if baseline is not None and np.isfinite(baseline) and baseline > 0:
        axis.axhline(baseline, color=GREY, linestyle=":", linewidth=1)
        right: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 7, "color": GREY}
        axis.text(1, baseline, "constant outputs", transform=axis.get_yaxis_transform(), **right)
    set_scale(axis, batches)


def _draw_curves(curves: Curves, axis: Axes) -> None:
    validated = [name for name in curves if not name.startswith("train_")]
    for name, (ends, record) in curves.items():
        colour = COLOURS[1 + validated.index(name) % 4] if name in validated else COLOURS[0]
        draw_curve(axis, ends, record, colour, display_name(name), width=1.6)


def _draw_gradient(step_ends: np.ndarray, steps: Records, axis: Axes) -> None:
    draw_batches(axis, step_ends, steps["gradient_norm"], COLOURS[0], "smoothed")
    if "clip_threshold" in steps:
        flags = steps["clipped"][np.isfinite(steps["clipped"])]
        label = f"clipped above: {flags.sum() / max(1, len(flags)):.0%} of the steps"
        draw_curve(axis, step_ends, steps["clip_threshold"], COLOURS[1], label, linestyle="--")
    set_scale(axis, steps["gradient_norm"])


def _draw_learning_rate(step_ends: np.ndarray, rates: np.ndarray, axis: Axes) -> None:
    draw_curve(axis, step_ends, rates, COLOURS[0], "learning rate")
    known = rates[np.isfinite(rates)]
    if len(known):
        axis.set_ylim(0, 1.1 * max(known.max(), 0) or 1)
