"""What each layer does on one minibatch: its outputs, flat units, and the gradients that come back to it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lectopt.plots.figures import subplots
from lectopt.plots.names import literal
from lectopt.plots.style import COLOURS, style_axes

Histogram = tuple[np.ndarray, np.ndarray]
"""Counts, and the edges of the bins."""


def plot_inspection(
    layers: Sequence[str],
    histograms: Sequence[Histogram],
    statistics: Mapping[str, Sequence[float]],
    findings: Sequence[str],
) -> Figure:
    """Draws a row for each layer, from the top down.

    Args:
        layers: their names.
        histograms: of the outputs of each layer.
        statistics: {"output_std", "dead", "saturated", "gradient_std", "weight_gradient_std": float[layers]}.
        findings: names of what was found wrong.
    """
    figure, axes = subplots(1, 4, figsize=(14, max(3.2, 0.22 * len(layers) + 1.2)), sharey=True)
    values = {name: np.array(numbers) for name, numbers in statistics.items()}
    _draw_distributions(axes[0], histograms, values["output_std"])
    _draw_sizes(axes[1], "outputs", {"sd of the outputs": values["output_std"]})
    _draw_flat_units(axes[2], values["dead"], values["saturated"])
    gradients = {
        "sd of the gradient at the outputs": values["gradient_std"],
        "sd of the gradient of the weights": values["weight_gradient_std"],
    }
    _draw_sizes(axes[3], "gradients", gradients)
    axes[0].set_yticks(range(len(layers)), list(map(literal, layers)), fontsize=8)
    axes[0].invert_yaxis()
    marks = [mark for axis in axes for mark in zip(*axis.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*marks, strict=True), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    if findings:
        figure.suptitle("Found: " + ", ".join(findings), fontsize=10)
    return figure


def _draw_distributions(axis: Axes, histograms: Sequence[Histogram], deviations: np.ndarray) -> None:
    for row, ((counts, edges), deviation) in enumerate(zip(histograms, deviations, strict=True)):
        if deviation == 0:  # all alike, and no sd to measure them by
            axis.vlines(0, row - 0.9, row, color=COLOURS[0], alpha=0.6)
            continue
        middles = (edges[1:] + edges[:-1]) / 2 / deviation
        axis.fill_between(middles, row, row - 0.9 * counts / max(counts.max(), 1), color=COLOURS[0], alpha=0.6, lw=0)
    axis.set_xlim(-4, 4)
    axis.set_xlabel("outputs, in their sd")
    axis.set_title("distribution of the outputs", fontsize=10)
    style_axes(axis)


def _draw_sizes(axis: Axes, what: str, series: Mapping[str, np.ndarray]) -> None:
    positive = False
    for i, (label, numbers) in enumerate(series.items()):
        known = np.isfinite(numbers) & (numbers > 0)
        positive |= bool(known.any())
        axis.plot(numbers[known], np.flatnonzero(known), "os"[i], color=COLOURS[i], label=label, markersize=5)
    if positive:
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, (low * high) ** 0.5 / 10), max(high, (low * high) ** 0.5 * 10))  # two decades or more
    else:
        axis.set_xticks([])
        axis.text(0.5, 0.5, "all 0, infinite or NaN", transform=axis.transAxes, ha="center")
    axis.set_title(f"size of the {what}", fontsize=10)
    style_axes(axis)


def _draw_flat_units(axis: Axes, dead: np.ndarray, saturated: np.ndarray) -> None:
    rows = np.arange(len(dead))
    axis.barh(rows - 0.2, dead, 0.4, color=COLOURS[7], label="dead units")
    axis.barh(rows + 0.2, saturated, 0.4, color=COLOURS[1], label="saturated values")
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.set_title("flat units", fontsize=10)
    style_axes(axis)
