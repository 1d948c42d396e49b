"""What an architecture search found."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.tables import as_text, pandas
from lectopt.architecture.design import Architecture
from lectopt.architecture.space import ArchitectureSpace
from lectopt.strategies.choices import Record, best_of
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Finalist:
    """The best network that one way of searching found, or one made by hand."""

    method: str
    """"reinforce", "evolve", "random" or "by hand"."""
    architecture: Architecture | None
    """None for a model of the user's own, or where all that a method tried diverged."""
    searched: float | None
    """The metric in the search: the best of many, so partly luck. None for the one by hand."""
    scores: np.ndarray
    """float32[seeds]: the same metric, trained again from several other starts; by their mean it was chosen."""
    test_metrics: dict[str, np.ndarray]
    """{name: float32[seeds]} on the test set, retrained on all other examples from several seeds; {} without one."""


@dataclasses.dataclass(frozen=True)
class ArchitectureResults:
    """The outcome of `search_architecture`."""

    space: ArchitectureSpace
    """The architectures that there were."""
    records: dict[str, Record]
    """{method: what it tried}; scores are higher for better: of a metric that is minimised, its negative."""
    metric: str
    """The metric of the scores."""
    maximizes: bool
    """Whether more of it is better."""
    finalists: tuple[Finalist, ...]
    """The best of each method, and the network by hand: how they do at equal budget."""
    winner: Architecture
    """The best architecture of all finalists, by the mean of its scores."""
    run: Run | None
    """The winner as a plain Flax NNX network (`run.model`), retrained on all examples but the test set; None if a
    person interrupted the search, whose best child then is the winner."""
    test_metrics: dict[str, float] | None
    """Of that run; None without a test set."""
    waste: float
    """The share of the masked networks' multiplications that did nothing."""
    compile_seconds: float
    """That compiling took, before the first round."""
    run_seconds: float
    """That the rounds took."""

    @property
    def children(self) -> int:
        """How many were trained, by all methods together."""
        return sum(record.scores.size for record in self.records.values())

    def best(self, n: int = 5) -> list[tuple[float, Architecture]]:
        """The n best architectures of all that were tried, with their scores (means, where tried several times)."""
        count = checks.check_count("n", n)
        sign = 1 if self.maximizes else -1
        found = best_of(list(self.records.values()), count)
        return [(sign * score, self.space.decode(vector)) for vector, score in found]

    def to_pandas(self) -> Any:
        """A DataFrame, a row for each child: method, round, metric, and what was chosen (missing beyond its depth)."""
        rows, sign = [], 1 if self.maximizes else -1
        for method, record in self.records.items():
            for number, (vectors, scores) in enumerate(zip(record.choices, record.scores, strict=True)):
                for vector, score in zip(np.asarray(vectors), np.asarray(scores), strict=True):
                    rows.append(
                        {"method": method, "round": number, self.metric: sign * float(score)} | self._row(vector)
                    )
        return pandas().DataFrame(rows)

    def plot(self) -> "Figure":
        """Scores by round, the controller's entropy and its probabilities; a matplotlib figure."""
        from lectopt.plots.architecture import plot_search  # noqa: PLC0415, matplotlib is heavy

        return plot_search(self)

    def plot_winner(self) -> "Figure":
        """The winner, drawn layer by layer; a matplotlib figure."""
        from lectopt.plots.architecture import plot_architecture  # noqa: PLC0415, matplotlib is heavy

        return plot_architecture(self.winner)

    def __repr__(self) -> str:
        rows = [("", f"{self.metric}: in the search", "again", "test")]
        for one in self.finalists:
            searched = "-" if one.searched is None else f"{one.searched:.3g}"
            tests = ", ".join(f"{name} {_spread(values)}" for name, values in one.test_metrics.items())
            rows.append((one.method, searched, _spread(one.scores), tests or "-"))
        heading = f"ArchitectureResults: {self.children} children, {self.children / self.run_seconds:.3g} per second"
        return "\n".join([heading, as_text(rows), "winner:", str(self.winner)])

    def _row(self, vector: np.ndarray) -> dict[str, Any]:
        active = np.asarray(self.space.active(jnp.asarray(vector)))
        return {
            str(decision): decision.options[choice] if matters else None
            for decision, choice, matters in zip(self.space.questions, vector, active, strict=True)
        }


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3g}" + (f" ± {values.std(ddof=1):.1g}" if len(values) > 1 else "")
