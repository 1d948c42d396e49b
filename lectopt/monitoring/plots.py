"""Pictures of trainings. Matplotlib is imported here and nowhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lectopt.history import History

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'lectopt[examples]'") from error

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C613C", "#5A5A5A"]
"""Okabe and Ito's, told apart by colour-blind readers too, on white and on black."""

DASHES: list[Any] = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]


def plot_history(history: History) -> Figure:
    """Loss of each step and epoch, the metrics, the gradient norm and, where it is known, the learning rate."""
    panels = _panels([history])
    figure, axes = _grid(len(panels))
    for axis, (title, (record, names)) in zip(axes, panels.items(), strict=True):
        if title == "loss":
            axis.plot(*_series(history, "steps", "loss"), color="#999999", linewidth=0.5, alpha=0.6, label="each batch")
        for i, name in enumerate(names):
            width = 0.6 if record == "steps" else 1.5
            axis.plot(*_series(history, record, name), color=COLOURS[i % 8], linewidth=width, label=_words(name))
        _finish(axis, title if len(names) > 1 or record == "steps" else _words(names[0]))
        if title == "loss":
            axis.legend(frameon=False, fontsize=9)
    return figure


def plot_comparison(histories: Mapping[str, History]) -> Figure:
    """The curves of several trainings over each other, one panel for each thing that was recorded."""
    panels = {title: panel for title, panel in _panels(list(histories.values())).items() if title != "learning rate"}
    figure, axes = _grid(len(panels))
    for axis, (record, names) in zip(axes, panels.values(), strict=True):
        name = names[-1]  # of training and validation, the validation
        for i, (label, history) in enumerate(histories.items()):
            if name in getattr(history, record):
                style = {"color": COLOURS[i % 8], "linestyle": DASHES[i // 8 % 4]}
                width = 0.6 if record == "steps" else 1.5
                axis.plot(*_series(history, record, name), label=label, linewidth=width, **style)
        _finish(axis, _words(name))
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines()}  # not all are in every panel
    named = [label for label in histories if label in lines]
    figure.legend([lines[n] for n in named], named, loc="outside lower center", ncols=min(len(histories), 6))
    return figure


def plot_optimizers(
    histories: Mapping[str, History], rates: np.ndarray, losses: Mapping[str, np.ndarray], chosen: Mapping[str, int]
) -> Figure:
    """Each algorithm at its best rate over the epochs, and each one's validation loss against the rate."""
    figure, (left, right) = _grid(2, width=5.5, height=4.4)
    for i, (name, history) in enumerate(histories.items()):
        style = {"color": COLOURS[i % 8], "linestyle": DASHES[i % 4]}
        left.plot(*_series(history, "epochs", "train_loss"), label=name, **style)
        right.plot(rates, losses[name], **style)
        right.plot(rates[chosen[name]], losses[name][chosen[name]], "o", markersize=5, color=style["color"])
    _finish(left, "training loss at each one's best rate")
    _finish(right, "validation loss at the end, by learning rate (dot: the best)", x="learning rate")
    right.set_xscale("log")
    right.set_ylim(top=10 * max(np.nanmin(loss) for loss in losses.values()))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _panels(histories: Sequence[History]) -> dict[str, tuple[str, list[str]]]:
    """{title: ("steps" or "epochs", the names that are drawn in it)}."""
    steps = {name: None for history in histories for name in history.steps if name != "loss"}
    panels: dict[str, tuple[str, list[str]]] = {}
    for name in {name: None for history in histories for name in history.epochs}:
        metric = name.removeprefix("train_").removeprefix("valid_").replace("_", " ")
        panels.setdefault(metric, ("epochs", []))[1].append(name)
    loss = {"loss": ("epochs", sorted(panels.pop("loss")[1]))}
    return loss | panels | {_words(name): ("steps", [name]) for name in steps}


def _words(name: str) -> str:
    return name.replace("train_", "training ").replace("valid_", "validation ").replace("_", " ")


def _series(history: History, record: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A curve over the epochs; what is recorded at an epoch's end stands at its end."""
    y = np.asarray(getattr(history, record)[name])
    if y.ndim != 1:
        raise ValueError(f"a plot shows one training; this history holds {y.shape[:-1]} of them")
    x = np.arange(1, len(y) + 1)
    return (x / history.steps_per_epoch, y) if record == "steps" else (x, y)


def _grid(count: int, width: float = 4, height: float = 3.2) -> tuple[Figure, Sequence[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", squeeze=False)
    plt.close(figure)  # a notebook shows what a cell returns; left open it would be shown twice
    return figure, axes[0]


def _finish(axis: Axes, title: str, x: str = "epoch") -> None:
    axis.set_xlabel(x)
    axis.set_title(title, fontsize=10)
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.get_lines()])
    if ("loss" in title or "norm" in title) and np.any(values > 0):
        axis.set_yscale("log")
    elif title == "learning rate":
        axis.set_ylim(0, 1.1 * np.nanmax(values))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
