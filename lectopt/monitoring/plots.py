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
    panels = _panels({"": history})
    figure, axes = _grid(len(panels))
    for axis, (title, (record, names)) in zip(axes, panels.items(), strict=True):
        for i, name in enumerate(names):
            x, y = _series(history, record, name)
            if name == "loss":
                axis.plot(x, y, color=COLOURS[7], linewidth=0.5, alpha=0.4, label="of each step")
            else:
                axis.plot(x, y, color=COLOURS[i % 8], label=name.replace("_", " "))
        _finish(axis, title, legend=len(names) > 1)
    return figure


def plot_comparison(histories: Mapping[str, History]) -> Figure:
    """The curves of several trainings over each other, one panel for each thing that was recorded."""
    panels = {title: panel for title, panel in _panels(histories).items() if title != "learning rate"}
    figure, axes = _grid(len(panels))
    for axis, (title, (record, names)) in zip(axes, panels.items(), strict=True):
        name = names[-1]  # of train and validation, the validation
        for i, (label, history) in enumerate(histories.items()):
            if name in getattr(history, record):
                axis.plot(
                    *_series(history, record, name), color=COLOURS[i % 8], linestyle=DASHES[i // 8 % 4], label=label
                )
        _finish(axis, title if record == "steps" else name.replace("_", " "), legend=False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(histories), 6))
    return figure


def _panels(histories: Mapping[str, History]) -> dict[str, tuple[str, list[str]]]:
    """{title: ("steps" or "epochs", names of what is drawn in it)}."""
    steps = {name: None for history in histories.values() for name in history.steps}
    epochs = {name: None for history in histories.values() for name in history.epochs}
    panels: dict[str, tuple[str, list[str]]] = {}
    panels["loss"] = ("epochs", [name for name in ("train_loss", "valid_loss") if name in epochs])
    for name in epochs:
        metric = name.removeprefix("train_").removeprefix("valid_")
        if metric != "loss":
            panels.setdefault(metric.replace("_", " "), ("epochs", []))[1].append(name)
    for name in steps:
        if name != "loss":
            panels[name.replace("_", " ")] = ("steps", [name])
    return panels


def _series(history: History, record: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A curve over the epochs; what is recorded at an epoch's end stands at its end."""
    y = np.asarray(getattr(history, record)[name])
    if y.ndim != 1:
        raise ValueError(f"a plot shows one training; this history holds {y.shape[:-1]} of them")
    x = np.arange(1, len(y) + 1)
    return (x / history.steps_per_epoch, y) if record == "steps" else (x, y)


def _grid(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(4 * count, 3.2), layout="constrained", squeeze=False)
    plt.close(figure)  # a notebook shows what a cell returns; left open it would be shown twice
    return figure, axes[0]


def _finish(axis: Axes, title: str, *, legend: bool) -> None:
    axis.set_xlabel("epoch")
    axis.set_title(title, fontsize=10)
    if title in ("loss", "train loss", "valid loss", "gradient norm") and any(
        np.any(np.asarray(line.get_ydata()) > 0) for line in axis.get_lines()
    ):
        axis.set_yscale("log")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize=9)
