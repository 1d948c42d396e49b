"""Pictures of an architecture search and of what it found."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lectopt.plots.style import (
    COLOURS,
    QUIET,
    Axes,
    FancyArrowPatch,
    FancyBboxPatch,
    Figure,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    Path,
    StrMethodFormatter,
    as_it_is,
    plt,
    tidy,
    words,
)

if TYPE_CHECKING:
    from lectopt.architecture.design import Architecture, Layer
    from lectopt.architecture.results import ArchitectureResults
    from lectopt.architecture.space import ArchitectureSpace
    from lectopt.strategies.choices import Record

_ROWS = 60
"""Of the controller's options, so many have a label each; where there are more, only the decisions do."""
_ROOM = 3.0
"""Scores are shown up to this many times as far from the best as the median is; worse ones stand at the edge."""
_HALF = 0.27
"""Half the breadth of a layer's box, where the next one stands 1 further."""


def plot_search(results: "ArchitectureResults") -> Figure:
    """Each method's scores by round, and the controller's entropy and choice probabilities."""
    methods = list(results.records)
    controller = next((record for record in results.records.values() if record.probabilities is not None), None)
    rows = sum(results.space.choices) if controller else 0
    heat = max(1.5, rows * (0.17 if rows <= _ROWS else 0.08)) if controller else 0.0
    columns = len(methods) + bool(controller)
    figure = plt.figure(figsize=(max(3.3 * columns, 4.5), 3.7 + (heat + 0.8 if heat else 0)), layout="constrained")
    plt.close(figure)
    places = figure.add_gridspec(1 + bool(controller), columns, height_ratios=[3.2, heat + 0.6][: 1 + bool(controller)])
    limits, first = _limits(results), None
    for i, method in enumerate(methods):
        axis = figure.add_subplot(places[0, i], sharey=first)
        first = first or axis
        _scores(axis, method, results, limits, COLOURS[i % 8])
    assert first is not None  # there is a method
    first.set_ylabel(words(results.metric))
    if controller:
        _entropy(figure.add_subplot(places[0, -1]), controller, results.space)
        _choices(figure.add_subplot(places[1, :]), controller, results.space)
    told = {str(line.get_label()): line for axis in figure.axes[: len(methods)] for line in axis.get_lines()}
    style: Any = {"loc": "outside upper left", "ncols": 4, "frameon": False, "fontsize": 9}
    handles: Any = figure.legend(told.values(), told.keys(), **style).legend_handles
    plt.setp(handles, color=QUIET, alpha=1)  # of no method
    return figure


def plot_architecture(architecture: "Architecture") -> Figure:
    """The network from left to right: a box for each layer, the higher the wider, and skip connections as arcs."""
    layers = architecture.layers
    heights = [0.45, *(0.3 + 0.7 * layer.width / max(other.width for other in layers) for layer in layers), 0.45]
    skips = [(source, number) for number, layer in enumerate(layers, 1) for source in layer.skips]
    below = [_told(layer, architecture.stride(number)) for number, layer in enumerate(layers, 1)]
    below = ["", *below, "linear" if layers[-1].kernel_size is None else "linear in\nthe mean over\npositions"]
    low = -0.7 - 0.13 * max(text.count("\n") + 1 for text in below)
    high = max([0.6, *(0.08 + _peak(*skip) for skip in skips)])
    figure, axis = plt.subplots(figsize=(1.25 * (len(layers) + 2), 1.25 * (high - low) + 0.4), layout="constrained")
    plt.close(figure)
    for place, inside in enumerate(["input", *(str(layer.width) for layer in layers), "output"]):
        colour = COLOURS[0] if 0 < place <= len(layers) else QUIET
        _box(axis, place, heights[place], colour, inside, below[place])
    for number in range(len(layers) + 1):
        _arrow(axis, [(number + _HALF, 0), (number + 1 - _HALF, 0)], [Path.MOVETO, Path.LINETO], "flow", QUIET)
    for source, number in skips:
        shift, peak = 0.25 - 0.05 * (number - source), _peak(source, number)  # the farther, the further outside
        start, end = (source + shift, heights[source] / 2), (number - shift, heights[number] / 2 + 0.02)
        control = (8 * peak - start[1] - end[1]) / 6
        points = [start, (start[0], control), (end[0], control), end]
        _arrow(axis, points, [Path.MOVETO, *[Path.CURVE4] * 3], "skip", COLOURS[1])
    axis.set(xlim=(-0.5, len(layers) + 1.5), ylim=(low, high))
    axis.set_axis_off()
    what = "the higher a box, the wider the layer" + bool(skips) * ";  arcs: skip connections"
    figure.suptitle(what, fontsize=9, color=QUIET)
    return figure


def plot_ranks(ranks: Mapping[str, np.ndarray], count: int) -> Figure:
    """The true ranks of what each method found, from several seeds: a dot each, and the median as a bar."""
    figure, axis = plt.subplots(figsize=(7, 0.75 * len(ranks) + 1.4), layout="constrained")
    plt.close(figure)
    names = []
    for i, (method, found) in enumerate(ranks.items()):
        middle = float(np.median(found))
        spread = 0.5 * ((np.arange(len(found)) * 0.618) % 1 - 0.5)  # so that equal ranks are seen apart
        axis.plot(np.sort(found), i + spread, "o", color=COLOURS[i % 8], markersize=5, alpha=0.7)
        axis.vlines(middle, i - 0.38, i + 0.38, color=plt.rcParams["text.color"], linewidth=2, zorder=1.5)
        names.append(f"{method}\nmedian {middle:g}")
    axis.axvline((count + 1) / 2, color=QUIET, linestyle="--", linewidth=1)
    axis.set_xscale("log")
    axis.set_xlim(0.85, 1.15 * count)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(range(len(ranks)), names)
    axis.set_ylim(len(ranks) - 0.45, -0.55)
    axis.set_xlabel(f"rank of {count} (1: the best)")
    axis.set_title("dot: what one search found;  bar: the median;  dashed: the median of all", fontsize=9, color=QUIET)
    tidy(axis)
    return figure


def _scores(axis: Axes, method: str, results: "ArchitectureResults", limits: tuple[float, float], colour: str) -> None:
    """One method's children, the mean of each round and the best so far."""
    sign, scores = 1 if results.maximizes else -1, _finite(results.records[method].scores)
    rounds = np.arange(1, len(scores) + 1)
    best = sign * np.fmax.accumulate(np.fmax.reduce(scores, axis=1))
    mean = sign * np.ma.masked_invalid(scores).mean(axis=1).filled(np.nan)
    x, y = np.repeat(rounds, scores.shape[1])[~np.isnan(scores).ravel()], sign * scores[~np.isnan(scores)]
    low, high = limits
    inside, single = (y >= low) & (y <= high), "o" if len(rounds) == 1 else ""
    faint = float(np.clip(50 / max(len(x), 1), 0.15, 0.5))  # the more there are
    axis.plot(x[inside], y[inside], "o", color=colour, alpha=faint, markersize=3.5, linewidth=0, label="a child")
    if not inside.all():
        axis.plot(x[~inside], np.clip(y[~inside], low, high), "x", color=QUIET, markersize=4, label="too bad to show")
    axis.plot(rounds, mean, marker=single, color=colour, linewidth=1.6, label="mean of the round")
    axis.plot(rounds, best, "--", marker=single, color=plt.rcParams["text.color"], linewidth=1.3, label="best so far")
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    axis.set_ylim(low - margin, high + margin)
    axis.set_title(method if np.isnan(best[-1]) else f"{method}: best child {best[-1]:.3g}", fontsize=10)
    _by_round(axis, len(rounds))
    tidy(axis)


def _entropy(axis: Axes, controller: "Record", space: "ArchitectureSpace") -> None:
    """That of the controller, beside the most there could be: the deeper the children, the more there is to choose."""
    entropy, vectors = np.asarray(controller.entropy), np.asarray(controller.choices)
    matter = np.asarray(space.decisions.matter(jnp.asarray(vectors.reshape(-1, len(space.choices)))))
    uniform = (matter @ np.log(space.choices)).reshape(vectors.shape[:2]).mean(axis=1)
    rounds, single = np.arange(1, len(entropy) + 1), "o" if len(entropy) == 1 else ""
    axis.plot(rounds, entropy, marker=single, color=COLOURS[0], label="controller")
    axis.plot(rounds, uniform, "--", marker=single, color=QUIET, linewidth=1.2, label="uniform, at the same depths")
    axis.set_ylim(0, 1.1 * uniform.max())
    axis.set_ylabel("entropy [nats]")
    axis.set_title("entropy: falls as choices settle", fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    _by_round(axis, len(rounds))
    tidy(axis)


def _choices(axis: Axes, controller: "Record", space: "ArchitectureSpace") -> None:
    """How probable each option was, round by round: a row for each, those of a decision together."""
    probabilities = np.asarray(controller.probabilities)
    rows = np.concatenate([probabilities[:, t, :count] for t, count in enumerate(space.choices)], axis=1).T
    ends = np.cumsum(space.choices)
    edges = np.arange(len(probabilities) + 1) + 0.5
    shades = axis.pcolormesh(edges, np.arange(len(rows) + 1), rows, vmin=0, vmax=1, cmap="viridis", rasterized=True)
    axis.hlines(ends[:-1], edges[0], edges[-1], color=plt.rcParams["axes.facecolor"], linewidth=1.5)
    if len(rows) <= _ROWS:
        axis.set_yticks(np.arange(len(rows)) + 0.5, _options(space), fontsize=8)
    else:
        axis.set_yticks(ends - np.array(space.choices) / 2, [words(str(d)) for d in space.questions], fontsize=7)
    axis.set_ylim(len(rows), 0)
    axis.tick_params(axis="y", length=0)
    axis.spines[:].set_visible(False)
    axis.set_title("what the controller chose: a row for each option, the brighter the likelier", fontsize=10)
    axis.set_ylabel("decision and option" if len(rows) <= _ROWS else "decision, its options from above")
    _by_round(axis, len(probabilities))
    axis.figure.colorbar(shades, ax=axis, label="probability", pad=0.01, aspect=30, fraction=0.03)


def _options(space: "ArchitectureSpace") -> list[str]:
    """A label for each option; the first of a decision says which it is."""
    answers = {False: "no", True: "yes"}
    return [
        f"{words(str(decision))}:  {told}" if first else told
        for decision in space.questions
        for first, told in (
            (not i, answers[option] if isinstance(option, bool) else as_it_is(str(option)))
            for i, option in enumerate(decision.options)
        )
    ]


def _limits(results: "ArchitectureResults") -> tuple[float, float]:
    """The range of the metric worth looking at: bad networks can be worse by magnitudes."""
    scores = np.concatenate([_finite(record.scores).ravel() for record in results.records.values()])
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return 0, 1
    best, middle = scores.max(), np.median(scores)
    worst = max(scores.min(), best - _ROOM * (best - middle)) if middle < best else scores.min()
    return (worst, best) if results.maximizes else (-best, -worst)


def _finite(scores: Any) -> np.ndarray:
    scores = np.asarray(scores, float)
    return np.where(np.isfinite(scores), scores, np.nan)


def _by_round(axis: Axes, rounds: int) -> None:
    axis.set_xlim(0.5, rounds + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axis.set_xlabel("round")


def _box(axis: Axes, place: int, height: float, colour: str, inside: str, below: str) -> None:
    corner, size = (place - _HALF, -height / 2), (2 * _HALF, height)
    style: Any = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": colour, "edgecolor": "none"}
    axis.add_patch(FancyBboxPatch(corner, *size, **style))
    axis.text(place, 0, inside, color="white", ha="center", va="center", fontsize=9, fontweight="bold")
    axis.text(place, -0.6, below, ha="center", va="top", fontsize=8, linespacing=1.3)


def _arrow(axis: Axes, points: list[tuple[float, float]], codes: list[Any], what: str, colour: str) -> None:
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.3, "color": colour}
    axis.add_patch(FancyArrowPatch(path=Path(points, codes), shrinkA=0, shrinkB=0, gid=what, **style))


def _peak(source: int, number: int) -> float:
    """How high the arc of a skip connection may reach: the farther, the higher, so that arcs do not lie together."""
    return 0.55 + 0.22 * (number - source)


def _told(layer: "Layer", stride: int) -> str:
    """What stands below a layer."""
    kernel = [f"kernel size {layer.kernel_size}"] if layer.kernel_size else []
    lines = ["filters" if layer.kernel_size else "units", *kernel, *([f"stride {stride}"] if stride > 1 else [])]
    return "\n".join([*lines, *([f"{layer.norm} norm"] if layer.norm != "none" else []), layer.activation])
