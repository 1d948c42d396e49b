"""The loss after the first steps against the learning rate, of one optimizer or of several."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lectopt.plots.figures import shared_panels
from lectopt.plots.style import COLOURS, GREY, PALE, style_axes

RateCurves: TypeAlias = tuple[np.ndarray, np.ndarray, float, Mapping[str, float]]
"""float[rates]; float[rates, seeds], the losses, NaN where they diverged; the loss before the first step; and
{label: rate} of up to three rates to mark."""

_MARKS = [(COLOURS[2], "--"), (COLOURS[1], "-"), (COLOURS[3], "-.")]


def plot_rates(curves: RateCurves, steps: int) -> Figure:
    """Draws the loss after that many steps, each seed thin, and marks some rates."""
    figure, (axis,) = shared_panels(1)
    figure.set_size_inches(7, 3.6)
    _draw_rates(axis, *curves)
    axis.set_ylabel(f"training loss after {steps} steps")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_suggestions(optimizers: Mapping[str, RateCurves]) -> Figure:
    """Draws the same for several optimizers, {name: curves}, a panel each."""
    figure, axes = shared_panels(len(optimizers))
    for axis, (name, curves) in zip(axes, optimizers.items(), strict=True):
        _draw_rates(axis, *curves)
        axis.set_title(name, fontsize=10)
        axis.legend(frameon=False, fontsize=7)
    for axis in axes[::4]:
        axis.set_ylabel("training loss after the first steps")
    return figure


def _draw_rates(
    axis: Axes, rates: np.ndarray, losses: np.ndarray, initial_loss: float, marks: Mapping[str, float]
) -> None:
    top = 1.5 * initial_loss
    axis.plot(rates, np.minimum(losses, top), color=PALE, linewidth=0.8)
    mean = losses.mean(axis=1)
    axis.plot(rates, np.minimum(mean, top), color=COLOURS[0], linewidth=2, label="mean over seeds")
    gone = np.isnan(mean)
    axis.plot(rates[gone], np.full(gone.sum(), top), "x", color=GREY, label="diverged" if gone.any() else None)
    axis.axhline(initial_loss, color=GREY, linewidth=0.8, linestyle=":", label="at the start")
    for (label, rate), (colour, linestyle) in zip(marks.items(), _MARKS, strict=False):
        axis.axvline(rate, color=colour, linestyle=linestyle, linewidth=1.5, label=f"{label} {rate:.2g}")
    axis.set_xscale("log")
    if np.nanmin(losses) >= 0 and np.nanmin(mean) > 0:
        axis.set_yscale("log")
        axis.set_ylim(bottom=np.nanmin(mean) / 5)  # single seeds may have had the luck to reach 0
    axis.set_xlabel("learning rate")
    style_axes(axis)
