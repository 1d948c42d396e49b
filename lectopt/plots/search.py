"""Pictures of a search."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lectopt.plots.style import COLOURS, QUIET, Axes, Figure, as_it_is, labels, plt, tidy, to_rgb, words

if TYPE_CHECKING:
    from lectopt.search.learning_rate import RateSuggestion
    from lectopt.search.results import Results

_ROOM = 1.5
"""Scores are shown up to this many times as far from the best as the median is; worse ones stand at the edge."""


def plot_scores(results: "Results") -> Figure:
    """The mean score against each hyperparameter, one panel each; bars are standard errors, the ring is the best."""
    names = list(results.settings)
    mean, error, best = results.mean(), np.nan_to_num(results.sem()), results.best_index
    figure, axes = _panels(len(names))
    low, high = _limits(results)
    shown = np.nan_to_num(np.clip(mean, low, high), nan=low if results.maximizes else high)
    inside = (mean >= low) & (mean <= high)
    bars: Any = {"fmt": "o", "markersize": 3.5, "color": COLOURS[0], "ecolor": "#9BB8CC", "linewidth": 0.8}
    for axis, name in zip(axes, names, strict=True):
        x = _places(axis, results, name)
        axis.errorbar(x[inside], shown[inside], error[inside], **bars)
        axis.plot(x[~inside], shown[~inside], "x", color=QUIET)
        axis.plot(x[best], mean[best], "o", markersize=11, fillstyle="none", color=COLOURS[1], markeredgewidth=1.6)
        margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
        axis.set_ylim(low - margin, high + margin)
        axis.set_xlabel(words(name))
        tidy(axis)
    for axis in axes[::4]:
        axis.set_ylabel(_score_label(results))
    figure.suptitle("ring: the best;  grey cross: no score, or too bad to show", fontsize=9, color=QUIET)
    return figure


def plot_parallel(results: "Results") -> Figure:
    """A line for each setting across its hyperparameters to its mean score; the better, the stronger."""
    names = list(results.settings)
    mean, ranking = results.mean(), results.ranking()
    low, high = _limits(results)
    heights = [_unit(results, name) for name in names] + [(np.clip(mean, low, high) - low) / max(high - low, 1e-30)]
    figure, axis = plt.subplots(figsize=(2.2 * (len(names) + 1), 4), layout="constrained")
    plt.close(figure)
    shown = [i for i in ranking if not np.isnan(mean[i])]
    quality = dict(zip(shown, np.linspace(1, 0, len(shown)), strict=True))
    for i in reversed(shown):
        # The end of the colour map that stands out from the paper is for the best.
        shade = 0.3 + 0.65 * quality[i] if _on_dark_paper() else 0.9 * (1 - quality[i])
        style = {"color": plt.get_cmap("viridis")(shade), "alpha": 0.25 + 0.7 * quality[i] ** 3}
        axis.plot(range(len(names) + 1), [h[i] for h in heights], linewidth=0.8 + 1.5 * quality[i] ** 4, **style)
    for place, name in enumerate(names):
        axis.axvline(place, color=QUIET, linewidth=0.8)
        for value, height in _ends(results, name):
            axis.text(place + 0.02, height, value, fontsize=8, va="center", bbox=_paper())
    axis.axvline(len(names), color=QUIET, linewidth=0.8)
    for end, height in ((low, 0), (high, 1)):
        axis.text(len(names) + 0.02, height, f"{end:.3g}", fontsize=8, va="center", bbox=_paper())
    axis.set_xticks(range(len(names) + 1), [*map(words, names), words(results.metric)])
    axis.set_yticks([])
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.set_title("strong: the best, faint: the worst; settings without a score are left out", fontsize=9, color=QUIET)
    return figure


def plot_folds(results: "Results", settings: int) -> Figure:
    """The scores of the best settings on each fold (or from each seed); the bar is the mean, lines join a fold."""
    results.best_index  # noqa: B018, raises where none has a score
    values = results.metrics[results.metric]
    values = values.mean(axis=2) if values.shape[1] > 1 else values[:, 0]
    top = [i for i in results.ranking() if not np.isnan(values[i]).any()][:settings]
    figure, axis = plt.subplots(figsize=(max(4.5, 0.75 * len(top) + 1.5), 3.6), layout="constrained")
    plt.close(figure)
    for fold in range(values.shape[1]):
        what = "fold" if results.diverged_at.shape[1] > 1 else "seed"
        style: Any = {"color": COLOURS[fold % 8], "label": f"{what} {fold}" if values.shape[1] <= 10 else None}
        axis.plot(range(len(top)), values[top, fold], "o-", markersize=4, linewidth=0.6, alpha=0.8, **style)
    places, mean = np.arange(len(top)), values[top].mean(axis=1)
    axis.hlines(mean, places - 0.3, places + 0.3, color=plt.rcParams["text.color"], linewidth=2)
    axis.set_xticks(range(len(top)), [str(i) for i in top])
    axis.set_xlabel("setting (row), the best first")
    axis.set_ylabel(words(results.metric))
    if values.shape[1] <= 10:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    tidy(axis)
    return figure


def plot_rates(found: "RateSuggestion") -> Figure:
    """The loss after the first iterations against the rate, each seed thin; the three rates are marked."""
    figure, (axis,) = _panels(1)
    _rates(axis, found)
    axis.set_ylabel(f"training loss after {found.steps} steps")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.set_size_inches(7, 3.6)
    return figure


def plot_suggestions(found: Mapping[str, "RateSuggestion"]) -> Figure:
    """The same for several optimizers, a panel each."""
    figure, axes = _panels(len(found))
    for axis, (name, suggestion) in zip(axes, found.items(), strict=True):
        _rates(axis, suggestion)
        axis.set_title(name, fontsize=10)
        axis.legend(frameon=False, fontsize=7)
    for axis in axes[::4]:
        axis.set_ylabel("training loss after the first steps")
    return figure


def _rates(axis: Axes, found: "RateSuggestion") -> None:
    top = 1.5 * found.initial_loss
    axis.plot(found.rates, np.minimum(found.losses, top), color="#9BB8CC", linewidth=0.8)
    mean = found.losses.mean(axis=1)
    axis.plot(found.rates, np.minimum(mean, top), color=COLOURS[0], linewidth=2, label="mean over seeds")
    gone = np.isnan(mean)
    axis.plot(found.rates[gone], np.full(gone.sum(), top), "x", color=QUIET, label="diverged" if gone.any() else None)
    axis.axhline(found.initial_loss, color=QUIET, linewidth=0.8, linestyle=":", label="at the start")
    marks = {"best": (found.best, COLOURS[2]), "suggestion": (found.suggestion, COLOURS[1])}
    marks |= {"stable up to": (found.stable, COLOURS[3])}
    for i, (name, (rate, colour)) in enumerate(marks.items()):
        axis.axvline(rate, color=colour, linestyle=["--", "-", "-."][i], linewidth=1.5, label=f"{name} {rate:.2g}")
    axis.set_xscale("log")
    if np.nanmin(found.losses) >= 0 and np.nanmin(mean) > 0:
        axis.set_yscale("log")
        axis.set_ylim(bottom=np.nanmin(mean) / 5)  # single seeds may have had the luck to reach 0
    axis.set_xlabel("learning rate")
    tidy(axis)


def _on_dark_paper() -> bool:
    return sum(to_rgb(plt.rcParams["axes.facecolor"])) < 1.5


def _paper() -> dict[str, Any]:
    """Behind a text that stands on lines."""
    return {"boxstyle": "round,pad=0.1", "facecolor": plt.rcParams["axes.facecolor"], "edgecolor": "none", "alpha": 0.8}


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Axes side by side, at most four in a row, with one scale of scores."""
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(3.3 * columns, 4.5), 3.2 * rows + 0.2),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    plt.close(figure)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, list(axes.flat[:count])


def _limits(results: "Results") -> tuple[float, float]:
    """The range of scores worth looking at: bad settings can be worse by magnitudes."""
    results.best_index  # noqa: B018, raises where none has a score
    mean = results.mean()
    mean = mean[~np.isnan(mean)]
    low, high, middle = float(mean.min()), float(mean.max()), float(np.median(mean))
    if middle == (high if results.maximizes else low):  # where half of them tie, the others are what there is to see
        return low, high
    return (
        (max(low, high - _ROOM * (high - middle)), high)
        if results.maximizes
        else (low, min(high, low + _ROOM * (middle - low)))
    )


def _places(axis: Axes, results: "Results", name: str) -> np.ndarray:
    """Where the values of a hyperparameter stand on the x axis, which is made to fit."""
    column = results.settings[name]
    if isinstance(column, np.ndarray):
        if results.settings.is_logarithmic(name):
            axis.set_xscale("log")
        return column
    values = _choices(column)
    names = labels(str(getattr(value, "__name__", value)) for value in values)
    slant: Any = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > 24 else {}
    axis.set_xticks(range(len(values)), names, **slant)
    return np.array([values.index(value) for value in column], float)


def _choices(column: Sequence[Any]) -> list[Any]:
    """The different values: numbers in their order, others as they come."""
    values = list(dict.fromkeys(column))
    return sorted(values) if all(isinstance(value, (int, float)) for value in values) else values


def _unit(results: "Results", name: str) -> np.ndarray:
    """The values of a hyperparameter, from 0 to 1."""
    column = results.settings[name]
    if not isinstance(column, np.ndarray):
        choices = _choices(column)
        return np.array([choices.index(value) for value in column]) / max(len(choices) - 1, 1)
    values = np.log(column) if results.settings.is_logarithmic(name) else column.astype(float)
    return (values - values.min()) / max(values.max() - values.min(), 1e-30)


def _ends(results: "Results", name: str) -> list[tuple[str, float]]:
    """What to write beside the axis of a hyperparameter, and how high."""
    column, heights = results.settings[name], _unit(results, name)
    if isinstance(column, np.ndarray) and len(np.unique(column)) > 6:
        return [(f"{column[i]:.3g}", float(heights[i])) for i in (int(np.argmin(column)), int(np.argmax(column)))]
    shown = {
        (f"{v:.3g}" if isinstance(v, np.number) else as_it_is(str(v))): float(h)
        for v, h in zip(column, heights, strict=True)
    }
    return list(shown.items())


def _score_label(results: "Results") -> str:
    spread = " ± standard error" if np.isfinite(results.sem()).any() else ""
    return f"{words(results.metric)}{spread}"
