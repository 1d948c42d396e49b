"""What an architecture search found."""

import dataclasses
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.tables import as_html, as_text, import_pandas
from lectopt.architecture.design import Architecture, Layer
from lectopt.architecture.space import ArchitectureSpace
from lectopt.strategies.choices import Record, best_of
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Finalist:
    """The best network that one method of searching found, or the one made by hand.

    Attributes:
        method: "reinforce", "evolve", "random" or "by hand".
        architecture: the `lo.search.Architecture`; None for a model of the user's own, or if everything that the method
            tried diverged.
        searched: the metric in the search, which is optimistic as the best of many; None for the network made by hand.
        scores: float32[seeds]: the same metric, trained again from each seed; the winner is chosen by their mean.
        test_metrics: `{"name": float32[seeds]}`: scores on the test set after training on all other examples, from each
            seed; {} without a test set.
    """

    method: str
    architecture: Architecture | None
    searched: float | None
    scores: np.ndarray
    test_metrics: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ArchitectureResults:
    """The outcome of `lo.search_architecture`.

    Attributes:
        space: the `lo.ArchitectureSpace` that was searched.
        records: `{"method": Record}`: what each method tried. Scores are higher for better: the negative of a metric
            that is minimized.
        metric: name of the metric that the scores are of.
        maximizes: whether higher values of it are better.
        finalists: the `Finalist` of each method and the network made by hand, a tuple; () after Ctrl-C.
        winner: the best architecture of all finalists, by the mean of its `scores`; after Ctrl-C, the best of the
            rounds so far.
        run: the `Run` of the winner as a plain Flax NNX network (`run.model`), trained on all examples but the test
            set; None after Ctrl-C.
        test_metrics: `{"loss": float, "<metric>": float}`: the scores of `run` on the test set; None without one, or
            after Ctrl-C.
        waste: the share of the masked networks' multiplications that masks made useless, in [0, 1).
        compile_seconds: seconds spent on compiling before the first round.
        run_seconds: seconds spent on the rounds.
    """

    space: ArchitectureSpace
    records: dict[str, Record]
    metric: str
    maximizes: bool
    finalists: tuple[Finalist, ...]
    winner: Architecture
    run: Run | None
    test_metrics: dict[str, float] | None
    waste: float
    compile_seconds: float
    run_seconds: float

    @property
    def children(self) -> int:
        """The number of architectures that were trained, by all methods together."""
        return sum(record.scores.size for record in self.records.values())

    def best(self, n: int = 5) -> list[tuple[float, Architecture]]:
        """Returns the n best architectures that were tried, with their scores.

        An architecture that was tried several times has the mean of its scores.

        Args:
            n: number of architectures, at least 1; 5 by default.

        Returns:
            At most n pairs (float, `lo.search.Architecture`), from best to worst.

        Raises:
            ValueError: if n is below 1.
            TypeError: if n is not a whole number.
        """
        count = checks.check_count("n", n)
        sign = 1 if self.maximizes else -1
        found = best_of(list(self.records.values()), count)
        return [(sign * score, self.space.decode(vector)) for vector, score in found]

    def to_pandas(self) -> Any:
        """Returns a table with one row per child.

        Returns:
            A `pandas.DataFrame` with the columns "method", "round", the metric, and one for each decision, empty where
            it does not apply.
        """
        rows, sign = [], 1 if self.maximizes else -1
        for method, record in self.records.items():
            for number, (vectors, scores) in enumerate(zip(record.choices, record.scores, strict=True)):
                for vector, score in zip(np.asarray(vectors), np.asarray(scores), strict=True):
                    rows.append(
                        {"method": method, "round": number, self.metric: sign * float(score)} | self._row(vector)
                    )
        return import_pandas().DataFrame(rows)

    def plot(self) -> "Figure":
        """Plots the scores by round, and the entropy and probabilities of the controller.

        Returns:
            A matplotlib figure.
        """
        return plot_records(self.records, self.space, self.metric, maximizes=self.maximizes)

    def plot_winner(self) -> "Figure":
        """Plots the winner layer by layer.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.architecture import plot_architecture  # noqa: PLC0415, matplotlib is heavy

        layers = list(enumerate(self.winner.layers, 1))
        captions = [_caption(layer, self.winner.stride(number)) for number, layer in layers]
        output = "linear" if layers[-1][1].kernel_size is None else "linear in\nthe mean over\npositions"
        return plot_architecture(
            [layer.width for _, layer in layers],
            [*captions, output],
            [(source, number) for number, layer in layers for source in layer.skips],
        )

    def __repr__(self) -> str:
        return f"{self._heading()}\n{as_text(self._rows())}\n{self._found()}"

    def _repr_html_(self) -> str:
        return f"{self._heading()}{as_html(self._rows())}<pre>{escape(self._found())}</pre>"

    def _heading(self) -> str:
        return f"ArchitectureResults: {self.children} children, {self.children / self.run_seconds:.3g} per second"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for one in self.finalists:
            searched = "-" if one.searched is None else f"{one.searched:.3g}"
            tests = ", ".join(f"{name} {_spread(values)}" for name, values in one.test_metrics.items())
            rows.append((one.method, self._best_child(one.method), searched, _spread(one.scores), tests or "-"))
        return [("", f"{self.metric}: best child", "finalist, in the search", "trained again", "test"), *rows]

    def _found(self) -> str:
        found = " and ".join(one.method for one in self.finalists if one.architecture == self.winner)
        return f"winner, {found}:\n{self.winner}" if found else f"winner:\n{self.winner}"

    def _best_child(self, method: str) -> str:
        """Returns the best score of all that a method tried, which may not be that of its finalist."""
        if method not in self.records or not np.isfinite(scores := np.asarray(self.records[method].scores)).any():
            return "-"
        best = float(scores[np.isfinite(scores)].max())
        return f"{best if self.maximizes else -best:.3g}"

    def _row(self, vector: np.ndarray) -> dict[str, Any]:
        active = np.asarray(self.space.active(jnp.asarray(vector)))
        return {
            str(decision): decision.options[choice] if matters else None
            for decision, choice, matters in zip(self.space.questions, vector, active, strict=True)
        }


def plot_records(records: Mapping[str, Record], space: ArchitectureSpace, metric: str, *, maximizes: bool) -> "Figure":
    """Returns a picture of what each method tried, by round, and of what the controller learned."""
    from lectopt.plots.architecture_search import plot_search  # noqa: PLC0415, matplotlib is heavy

    sign = 1 if maximizes else -1
    scores = {method: sign * np.asarray(record.scores, float) for method, record in records.items()}
    controller = next((record for record in records.values() if record.probabilities is not None), None)
    learned = {} if controller is None else _learned(controller, space)
    return plot_search(scores, metric=metric, maximizes=maximizes, **learned)


def _learned(controller: Record, space: ArchitectureSpace) -> dict[str, Any]:
    """Returns the controller's entropy beside that of uniform choice, and the probability of each option, by round."""
    vectors, probabilities = np.asarray(controller.choices), np.asarray(controller.probabilities)
    matter = np.asarray(space.decisions.matter(jnp.asarray(vectors.reshape(-1, len(space.choices)))))
    uniform = (matter @ np.log(space.choices)).reshape(vectors.shape[:2]).mean(axis=1)
    return {
        "entropies": (np.asarray(controller.entropy), uniform),
        "probabilities": {
            str(decision): {option: probabilities[:, place, i] for i, option in enumerate(decision.options)}
            for place, decision in enumerate(space.questions)
        },
    }


def _caption(layer: Layer, stride: int) -> str:
    """Returns the text below a layer in a plot."""
    kernel = [f"kernel size {layer.kernel_size}"] if layer.kernel_size else []
    lines = ["filters" if layer.kernel_size else "units", *kernel, *([f"stride {stride}"] if stride > 1 else [])]
    return "\n".join([*lines, *([f"{layer.norm} norm"] if layer.norm != "none" else []), layer.activation])


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3g}" + (f" ± {values.std(ddof=1):.1g}" if len(values) > 1 else "")
