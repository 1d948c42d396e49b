"""Pictures of the course of trainings: one as a dashboard, several over each other."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lectopt.plots.style import (
    COLOURS,
    DASHES,
    QUIET,
    Axes,
    Figure,
    LogLocator,
    NullFormatter,
    StrMethodFormatter,
    grid,
    labels,
    plt,
    tidy,
    words,
)
from lectopt.training.history import History

HEALTHY_RATIO = (3e-4, 3e-3)
"""The band around 1e-3 that a layer's update, relative to its weights, should keep to (Bottou; Karpathy, CS231n)."""
_SMOOTHING = 50
"""A curve of steps is averaged over so many parts of its length."""
_POINTS = 2000
"""Of more steps than these the picture shows the range of each stretch: no screen has more."""
_DECADE = 5
"""Values within such a factor are shown on a linear axis, whose numbers are easier to read."""

_CHARACTERS = 11
"""Of a legend in an inch."""

Panel = tuple[str, Callable[[Axes], None]]


def plot_history(history: History) -> Figure:
    """The dashboard of one training: losses, metrics, gradient and rate, and what was watched of the layers."""
    history.check_single()
    panels: list[Panel] = [("loss", functools.partial(_loss, history=history))]
    for metric, names in _metrics([history]).items():
        panels.append((words(metric), functools.partial(_epochs, history=history, names=names)))
    panels.append(("gradient norm", functools.partial(_gradient, history=history)))
    if "learning_rate" in history.steps:
        panels.append(("learning rate", functools.partial(_rate, history=history)))
    panels += [
        (title, functools.partial(draw, history=history))
        for statistic, title, draw in _OF_LAYERS
        if any(_shows(layer, statistic) for layer in history.layers.values())
    ]
    figure = _draw(panels)
    end = float(history.epochs_done[-1])
    for axis in figure.axes:
        axis.set_xlim(-0.02 * end, 1.02 * end)
    return figure


def plot_comparison(histories: Mapping[str, History]) -> Figure:
    """The curves of several trainings over each other, one panel for each thing that was recorded."""
    for history in histories.values():
        history.check_single()
    panels: list[Panel] = [
        (words(names[-1]), functools.partial(_overlaid, histories=histories, name=names[-1], of="epochs"))
        for names in _metrics(list(histories.values()), loss=True).values()  # of training and validation, the latter
    ]
    panels.append(
        ("gradient norm", functools.partial(_overlaid, histories=histories, name="gradient_norm", of="steps"))
    )
    figure = _draw(panels, legends=False)
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    named = [label for label in labels(histories) if label in lines]  # not all have a curve in every panel
    room = _CHARACTERS * figure.get_figwidth() // (max(map(len, named), default=0) + 5)
    columns = int(max(1, min(len(named), 6, room)))
    figure.legend([lines[n] for n in named], named, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw(panels: Sequence[Panel], legends: bool = True) -> Figure:
    figure, axes = grid(len(panels))
    for axis, (title, draw) in zip(axes, panels, strict=True):
        draw(axis)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        tidy(axis)
        if legends and len(axis.get_legend_handles_labels()[1]) > 1:
            # It lies on the axes, and is no reason to make them smaller.
            axis.legend(frameon=False, fontsize=8).set_in_layout(False)
    return figure


def _loss(axis: Axes, history: History) -> None:
    x, losses = history.epochs_done, np.asarray(history.steps["loss"], float)
    _batches(axis, x, losses, COLOURS[5], "batches, smoothed")
    _epochs(axis, history, [name for name in ("train_loss", "valid_loss") if name in history.epochs])
    baseline = 0.0 if history.baseline_loss is None else float(history.baseline_loss)
    if np.isfinite(baseline) and baseline > 0:
        axis.axhline(baseline, color=QUIET, linestyle=":", linewidth=1)
        right: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 7, "color": QUIET}
        axis.text(1, baseline, "constant outputs", transform=axis.get_yaxis_transform(), **right)
    _logarithmic(axis, losses)


def _epochs(axis: Axes, history: History, names: Sequence[str]) -> None:
    for name in names:
        record = np.asarray(history.epochs[name], float)
        colour = COLOURS[name.startswith("valid_")]
        _line(axis, history.epoch_ends / history.steps_per_epoch, record, colour, words(name), width=1.6)


def _gradient(axis: Axes, history: History) -> None:
    x, norms = history.epochs_done, np.asarray(history.steps["gradient_norm"], float)
    _batches(axis, x, norms, COLOURS[0], "smoothed")
    if "clip_threshold" in history.steps:
        flags = np.asarray(history.steps["clipped"], float)
        share = flags[np.isfinite(flags)].sum() / max(1, np.isfinite(flags).sum())
        label = f"clipped above: {share:.0%} of the steps"
        _line(axis, x, np.asarray(history.steps["clip_threshold"], float), COLOURS[1], label, linestyle="--")
    _logarithmic(axis, norms)


def _rate(axis: Axes, history: History) -> None:
    rates = np.asarray(history.steps["learning_rate"], float)
    _line(axis, history.epochs_done, rates, COLOURS[0], "learning rate")
    known = rates[np.isfinite(rates)]
    if len(known):
        axis.set_ylim(0, 1.1 * max(known.max(), 0) or 1)


def _ratios(axis: Axes, history: History) -> None:
    axis.axhspan(*HEALTHY_RATIO, color=COLOURS[2], alpha=0.15, linewidth=0, label="about 1e-3")
    _layers(axis, history, "update_ratio")


def _backward(axis: Axes, history: History) -> None:
    _layers(axis, history, "output_gradient_std")


def _outputs(axis: Axes, history: History) -> None:
    _layers(axis, history, "output_std")


def _flat(axis: Axes, history: History, statistic: str) -> None:
    _layers(axis, history, statistic)
    axis.set_yscale("linear")
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_formatter("{x:.0%}")


_OF_LAYERS: list[tuple[str, str, Callable]] = [
    ("update_ratio", "update / weights, by layer", _ratios),
    ("output_gradient_std", "gradient at the outputs (sd), by layer", _backward),
    ("output_std", "outputs (sd), by layer", _outputs),
    ("dead", "dead units, by layer", functools.partial(_flat, statistic="dead")),
    ("saturated", "saturated outputs, by layer", functools.partial(_flat, statistic="saturated")),
]


def _shows(layer: Mapping[str, Any], statistic: str) -> bool:
    """Whether there is something to see: shares that are always 0 need no panel."""
    return statistic in layer and (
        statistic not in ("dead", "saturated") or bool(np.nanmax([0, *layer[statistic]]) > 0)
    )


def _layers(axis: Axes, history: History, statistic: str) -> None:
    """A line for each layer, in the order in which they are called."""
    names = [name for name, layer in history.layers.items() if statistic in layer]
    x = (history.watched_steps + 1) / history.steps_per_epoch
    records = [np.asarray(history.layers[name][statistic], float) for name in names]
    for i, (name, record) in enumerate(zip(labels(names), records, strict=True)):
        few = len(names) <= len(COLOURS)
        # The middle of the map: its ends cannot be seen on black, or on white.
        colour = COLOURS[i] if few else plt.get_cmap("viridis")(0.3 + 0.55 * i / (len(names) - 1))
        label = name if few or i in (0, len(names) - 1) else None
        _line(axis, x, _smooth(record) if len(record) >= 2 * _SMOOTHING else record, colour, label, width=1.1)
    _logarithmic(axis, np.concatenate(records) if records else np.empty(0))


def _overlaid(axis: Axes, histories: Mapping[str, History], name: str, of: str) -> None:
    drawn = []
    for i, (label, history) in enumerate(zip(labels(histories), histories.values(), strict=True)):
        if name in (records := getattr(history, of)):
            y = np.asarray(records[name], float)
            x = history.epochs_done if of == "steps" else history.epoch_ends / history.steps_per_epoch
            drawn.append(_smooth(y) if of == "steps" else y)
            _line(axis, x, drawn[-1], COLOURS[i % 8], label, linestyle=DASHES[i // 8 % 4])
    if "loss" in name or "norm" in name:
        _logarithmic(axis, np.concatenate(drawn))


def _line(
    axis: Axes, x: Any, y: Any, colour: Any, label: str | None, *, width: float = 1.3, linestyle: Any = "-"
) -> None:
    """A curve; a single point, which has no line, as a dot."""
    y = np.where(np.isfinite(y), y, np.nan)
    marker = "o" if np.isfinite(y).sum() == 1 else ""
    axis.plot(x, y, color=colour, label=label, linewidth=width, linestyle=linestyle, marker=marker, markersize=4)


def _batches(axis: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str) -> None:
    """A record of steps: each one faint, and their moving mean, if there are enough for one."""
    _faint(axis, x, y, "each batch")
    if len(y) >= 2 * _SMOOTHING:
        _line(axis, x, _smooth(y), colour, label)


def _faint(axis: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    """Every step, or the range of every stretch of steps if there are too many."""
    if len(y) <= _POINTS:
        _line(axis, x, y, QUIET, label, width=0.6)
        return
    size = -(-len(y) // (_POINTS // 2))
    y = np.append(y, np.full(-len(y) % size, y[-1])).reshape(-1, size)
    edges = x[np.minimum(np.arange(len(y)) * size, len(x) - 1)]
    gone = np.isnan(y).all(axis=1)
    low, high = (np.where(gone, np.nan, f(np.where(gone[:, None], 0, y), axis=1)) for f in (np.nanmin, np.nanmax))
    axis.fill_between(edges, low, high, color=QUIET, alpha=0.4, linewidth=0, label=label)


def _smooth(y: np.ndarray) -> np.ndarray:
    """The mean over the last steps, a fiftieth of all; over fewer at the beginning. NaN stays NaN."""
    width = max(1, len(y) // _SMOOTHING)
    sums = np.concatenate([np.zeros(1), np.cumsum(np.nan_to_num(y, posinf=0, neginf=0))])
    counts = np.concatenate([np.zeros(1), np.cumsum(np.isfinite(y))])
    last = np.arange(1, len(y) + 1)
    first = np.maximum(last - width, 0)
    return np.where(np.isfinite(y), (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1), np.nan)


def _logarithmic(axis: Axes, y: np.ndarray) -> None:
    """A logarithmic axis, where the values are positive and of different magnitude."""
    finite = y[np.isfinite(y) & (y != 0)]
    if finite.size and finite.min() > 0 and finite.max() > _DECADE * finite.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        narrow = finite.max() < 50 * finite.min()  # then there are too few powers of ten to read values by
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if narrow else NullFormatter())


def _metrics(histories: Sequence[History], loss: bool = False) -> dict[str, list[str]]:
    """{metric: the names of its records of epochs, training first}; with the loss or without it."""
    found: dict[str, list[str]] = {}
    for name in sorted({name: None for history in histories for name in history.epochs}):
        metric = name.removeprefix("train_" if name.startswith("train_") else "valid_")
        if loss or metric != "loss":
            found.setdefault(metric, []).append(name)
    return dict(sorted(found.items(), key=lambda item: item[0] != "loss"))
