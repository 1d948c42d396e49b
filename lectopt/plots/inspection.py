"""Pictures of one look at one minibatch."""

from typing import TYPE_CHECKING

import numpy as np

from lectopt.plots.style import COLOURS, Axes, Figure, as_it_is, plt

if TYPE_CHECKING:
    from lectopt.monitoring.inspection import Inspection
    from lectopt.monitoring.layer_reports import LayerReport


def plot_inspection(inspection: "Inspection") -> Figure:
    """Size of the outputs, their distributions, flat units, and the gradients that come back, layer by layer."""
    layers = inspection.layers
    height = max(3.2, 0.22 * len(layers) + 1.2)
    figure, axes = plt.subplots(1, 4, figsize=(14, height), layout="constrained", sharey=True)
    plt.close(figure)
    _distributions(axes[0], layers)
    _sizes(axes[1], layers, "outputs", [("sd of the outputs", [x.output_std for x in layers])])
    _shares(axes[2], layers)
    gradients = [
        ("sd of the gradient at the outputs", [x.gradient_std for x in layers]),
        ("sd of the gradient of the weights", [x.weight_gradient_std for x in layers]),
    ]
    _sizes(axes[3], layers, "gradients", gradients)
    names = [as_it_is(f"{x.name}  {x.kind}") for x in layers]
    axes[0].set_yticks(range(len(layers)), names, fontsize=8)
    axes[0].invert_yaxis()
    marks = [mark for axis in axes for mark in zip(*axis.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*marks, strict=True), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    if inspection.findings:
        figure.suptitle("Found: " + ", ".join(finding.name for finding in inspection.findings), fontsize=10)
    return figure


def _distributions(axis: Axes, layers: "list[LayerReport]") -> None:
    for row, layer in enumerate(layers):
        counts, edges = layer.histogram
        if layer.output_std == 0:  # all alike, and no sd to measure them by
            axis.vlines(0, row - 0.9, row, color=COLOURS[0], alpha=0.6)
            continue
        middles = (edges[1:] + edges[:-1]) / 2 / layer.output_std
        axis.fill_between(middles, row, row - 0.9 * counts / max(counts.max(), 1), color=COLOURS[0], alpha=0.6, lw=0)
    axis.set_xlim(-4, 4)
    axis.set_xlabel("outputs, in their sd")
    _finish(axis, "distribution of the outputs")


def _sizes(axis: Axes, layers: "list[LayerReport]", what: str, series: list[tuple[str, list[float]]]) -> None:
    rows = np.arange(len(layers))
    positive = False
    for i, (label, values) in enumerate(series):
        numbers = np.array(values)
        known = np.isfinite(numbers) & (numbers > 0)
        positive |= bool(known.any())
        axis.plot(numbers[known], rows[known], "os"[i], color=COLOURS[i], label=label, markersize=5)
    if positive:
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, (low * high) ** 0.5 / 10), max(high, (low * high) ** 0.5 * 10))  # two decades or more
    else:
        axis.set_xticks([])
        axis.text(0.5, 0.5, "all 0, infinite or NaN", transform=axis.transAxes, ha="center")
    _finish(axis, f"size of the {what}")


def _shares(axis: Axes, layers: "list[LayerReport]") -> None:
    rows = np.arange(len(layers))
    axis.barh(rows - 0.2, [x.dead for x in layers], 0.4, color=COLOURS[7], label="dead units")
    axis.barh(rows + 0.2, [x.saturated for x in layers], 0.4, color=COLOURS[1], label="saturated values")
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter("{x:.0%}")
    _finish(axis, "flat units")


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
