"""An architecture search round by round: the scores of each method, and what its controller learned."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lectopt.plots.names import display_name, literal
from lectopt.plots.score_range import score_range, set_score_limits
from lectopt.plots.style import COLOURS, GREY, style_axes

_ROWS = 60
"""Of the controller's options, so many have a label each; where there are more, only the decisions do."""
_ROOM = 3.0
"""Scores are shown up to this many times as far from the best as the median is; worse ones stand at the edge."""


def plot_search(
    scores: Mapping[str, np.ndarray],
    *,
    metric: str,
    maximizes: bool,
    entropies: tuple[np.ndarray, np.ndarray] | None = None,
    probabilities: Mapping[str, Mapping[Any, np.ndarray]] | None = None,
) -> Figure:
    """Draws each method's scores by round, and the entropy and the choice probabilities of a controller.

    Args:
        scores: {method: float[rounds, children]}, NaN or infinite where a child has none.
        metric: the name of the score.
        maximizes: whether more of it is better.
        entropies: float[rounds], of the controller's choices, and float[rounds], of uniform choice at the same depths;
            None without a controller.
        probabilities: {decision: {option: float[rounds]}} of the controller; None without one.
    """
    options = 0 if probabilities is None else sum(map(len, probabilities.values()))
    heat = max(1.5, options * (0.17 if options <= _ROWS else 0.08)) if options else 0.0
    rows, columns = 1 + bool(options), len(scores) + bool(options)
    figure = plt.figure(figsize=(max(3.3 * columns, 4.5), 3.7 + (heat + 0.8 if heat else 0)), layout="constrained")
    plt.close(figure)
    places = figure.add_gridspec(rows, columns, height_ratios=[3.2, heat + 0.6][:rows])
    methods: list[Axes] = []
    finite = {
        method: np.where(np.isfinite(found), np.asarray(found, float), np.nan) for method, found in scores.items()
    }
    limits = score_range(np.concatenate([f.ravel() for f in finite.values()]), maximizes=maximizes, room=_ROOM)
    for i, (method, found) in enumerate(finite.items()):
        methods.append(figure.add_subplot(places[0, i], sharey=methods[0] if methods else None))
        _draw_scores(methods[-1], method, found, limits, COLOURS[i % 8], maximizes=maximizes)
    methods[0].set_ylabel(display_name(metric))
    if entropies is not None and probabilities is not None:
        _draw_entropy(figure.add_subplot(places[0, -1]), *entropies)
        _draw_probabilities(figure.add_subplot(places[1, :]), probabilities)
    told = {str(line.get_label()): line for axis in methods for line in axis.get_lines()}
    style: Any = {"loc": "outside upper left", "ncols": 4, "frameon": False, "fontsize": 9}
    handles: Any = figure.legend(told.values(), told.keys(), **style).legend_handles
    plt.setp(handles, color=GREY, alpha=1)  # of no method
    return figure


def _draw_scores(
    axis: Axes, method: str, scores: np.ndarray, limits: tuple[float, float], colour: str, *, maximizes: bool
) -> None:
    """One method's children, the mean of each round and the best so far."""
    low, high = limits
    best_of = np.fmax if maximizes else np.fmin
    rounds = np.arange(1, len(scores) + 1)
    best = best_of.accumulate(best_of.reduce(scores, axis=1))
    mean = np.ma.masked_invalid(scores).mean(axis=1).filled(np.nan)
    known = ~np.isnan(scores)
    x, y = np.repeat(rounds, scores.shape[1])[known.ravel()], scores[known]
    inside, single = (y >= low) & (y <= high), "o" if len(rounds) == 1 else ""
    faint = float(np.clip(50 / max(len(x), 1), 0.15, 0.5))  # the more there are
    axis.plot(x[inside], y[inside], "o", color=colour, alpha=faint, markersize=3.5, linewidth=0, label="a child")
    if not inside.all():
        axis.plot(x[~inside], np.clip(y[~inside], low, high), "x", color=GREY, markersize=4, label="too bad to show")
    shown = np.clip(mean, low, high)  # along the edge where it is beyond
    axis.plot(rounds, shown, marker=single, color=colour, linewidth=1.6, label="mean of the round")
    axis.plot(rounds, best, "--", marker=single, color=plt.rcParams["text.color"], linewidth=1.3, label="best so far")
    set_score_limits(axis, low, high)
    axis.set_title(method if np.isnan(best[-1]) else f"{method}: best child {best[-1]:.3g}", fontsize=10)
    _number_rounds(axis, len(rounds))
    style_axes(axis)


def _draw_entropy(axis: Axes, entropy: np.ndarray, uniform: np.ndarray) -> None:
    """That of the controller, beside the most there could be: the deeper the children, the more there is to choose."""
    rounds, single = np.arange(1, len(entropy) + 1), "o" if len(entropy) == 1 else ""
    axis.plot(rounds, entropy, marker=single, color=COLOURS[0], label="controller")
    axis.plot(rounds, uniform, "--", marker=single, color=GREY, linewidth=1.2, label="uniform, at the same depths")
    axis.set_ylim(0, 1.1 * uniform.max())
    axis.set_ylabel("entropy [nats]")
    axis.set_title("entropy: falls as choices settle", fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    _number_rounds(axis, len(rounds))
    style_axes(axis)


def _draw_probabilities(axis: Axes, probabilities: Mapping[str, Mapping[Any, np.ndarray]]) -> None:
    """How probable each option was, round by round: a row for each, those of a decision together."""
    rows = np.stack([row for options in probabilities.values() for row in options.values()])
    counts = np.array([len(options) for options in probabilities.values()])
    ends, edges = np.cumsum(counts), np.arange(rows.shape[1] + 1) + 0.5
    shades = axis.pcolormesh(edges, np.arange(len(rows) + 1), rows, vmin=0, vmax=1, cmap="viridis", rasterized=True)
    axis.hlines(ends[:-1], edges[0], edges[-1], color=plt.rcParams["axes.facecolor"], linewidth=1.5)
    if len(rows) <= _ROWS:
        axis.set_yticks(np.arange(len(rows)) + 0.5, _option_labels(probabilities), fontsize=8)
    else:
        axis.set_yticks(ends - counts / 2, [display_name(decision) for decision in probabilities], fontsize=7)
    axis.set_ylim(len(rows), 0)
    axis.tick_params(axis="y", length=0)
    axis.spines[:].set_visible(False)
    axis.set_title("what the controller chose: a row for each option, the brighter the likelier", fontsize=10)
    axis.set_ylabel("decision and option" if len(rows) <= _ROWS else "decision, its options from above")
    _number_rounds(axis, rows.shape[1])
    axis.figure.colorbar(shades, ax=axis, label="probability", pad=0.01, aspect=30, fraction=0.03)


def _option_labels(probabilities: Mapping[str, Mapping[Any, np.ndarray]]) -> list[str]:
    """A label for each option; the first of a decision says which it is."""
    labels = []
    for decision, options in probabilities.items():
        first, *others = (_option_label(option) for option in options)
        labels += [f"{display_name(decision)}:  {first}", *others]
    return labels


def _option_label(option: Any) -> str:
    return ("no", "yes")[option] if isinstance(option, bool) else literal(str(option))


def _number_rounds(axis: Axes, rounds: int) -> None:
    axis.set_xlim(0.5, rounds + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_xlabel("round")
