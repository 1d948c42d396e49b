"""What a pre-trained start is worth, by how many labels there are."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lectopt.plots.figures import subplots
from lectopt.plots.style import COLOURS, GREY, LINE_STYLES, style_axes


def plot_label_efficiency(experiments: Mapping[str, Mapping[str, np.ndarray]], counts: Sequence[int]) -> Figure:
    """Test accuracy by labels per class, and below it what each start gains over the first one.

    Args:
        experiments: {title: {start: float[counts, seeds]}}, the share of right answers; the first start is compared
            with, seed by seed.
        counts: labels per class.
    """
    figure, axes = subplots(
        2, len(experiments), figsize=(5.2 * len(experiments), 6.2), squeeze=False, sharex=True, sharey="row",
        height_ratios=(3, 2),
    )  # fmt: skip
    for (above, below), (title, starts) in zip(axes.T, experiments.items(), strict=True):
        base = next(iter(starts.values()))
        for i, (start, accuracy) in enumerate(starts.items()):
            _draw_accuracy(above, counts, 100 * accuracy, start, i)
            if i:
                _draw_gain(below, counts, 100 * (accuracy - base), i)
        above.set_title(title, fontsize=10)
        above.legend(frameon=False, fontsize=9, loc="lower right")
        below.axhline(0, color=GREY, linewidth=1)
        below.set_xlabel("labels per class")
        for axis in (above, below):
            axis.set_xscale("log")
            axis.set_xticks(counts, map(str, counts))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.minorticks_off()
            style_axes(axis)
    axes[0, 0].set_ylabel("test accuracy in %")
    axes[1, 0].set_ylabel(f"gain over {next(iter(next(iter(experiments.values()))))},\npercentage points")
    seeds = np.shape(next(iter(next(iter(experiments.values())).values())))[1]
    figure.suptitle(
        f"{seeds} seeds.  Above: mean and standard deviation;  below: mean gain, seed by seed, and two standard errors",
        fontsize=9,
        color=GREY,
    )
    return figure


def _draw_accuracy(axis: Axes, counts: Sequence[int], values: np.ndarray, start: str, i: int) -> None:
    mean, std = values.mean(axis=1), values.std(axis=1, ddof=1)
    axis.fill_between(counts, mean - std, mean + std, color=COLOURS[i], alpha=0.15, linewidth=0)
    axis.plot(counts, mean, "o", linestyle=LINE_STYLES[i % 4], markersize=4, color=COLOURS[i], label=start)


def _draw_gain(axis: Axes, counts: Sequence[int], values: np.ndarray, i: int) -> None:
    error = 2 * values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    apart = np.array(counts) * 1.06 ** (i - 1)  # so that bars do not hide each other
    axis.errorbar(
        apart,
        values.mean(axis=1),
        error,
        fmt="o",
        linestyle=LINE_STYLES[i % 4],
        markersize=4,
        capsize=3,
        color=COLOURS[i],
    )
