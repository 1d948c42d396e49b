"""What a population found: the settings of each member round by round, and the schedule that led to the best."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.types import Array, Numeric
from lectopt.engine.lanes import FoldAndSeed, Shared, Trial
from lectopt.engine.rungs import RungLane, without_records
from lectopt.strategies.population import Generations, PopulationRounds
from lectopt.training.joining import history_to_join, join
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FoundSchedule:
    """The values of a hyperparameter round by round, as a schedule: a function of the step k = 0, 1, 2, ...

    Attributes:
        values: float32[rounds]: the value in each round; after the last one it stays.
        steps: the number of steps in a round.
    """

    values: Array
    steps: int = dataclasses.field(metadata={"static": True})

    def __call__(self, count: Numeric) -> Array:
        """Returns the value at step `count`."""
        return jnp.asarray(self.values)[jnp.minimum(jnp.asarray(count, jnp.int32) // self.steps, len(self.values) - 1)]


@dataclasses.dataclass(frozen=True)
class PopulationReplay:
    """What a replay needs of a population."""

    trial: Trial
    shared: Shared
    length: int  # of a round, in epochs or steps
    unit: str

    def __call__(self, settings: list[dict[str, Any]], fold: int, seed: int) -> Run:
        """Returns the run of one lane with these settings, one for each round, and all of its history."""
        pair = FoldAndSeed(np.int32(fold), np.int32(seed))
        lane = RungLane(self.trial, {}, 0, self.length, None, "a population", self.unit)
        train = jax.jit(lane.run)  # compiled at most twice
        run, history = None, None
        for index, numbers in enumerate(settings):
            key = jax.random.fold_in(self.shared.key, index) if index else self.shared.key
            run = train(numbers, pair, run and without_records(run), self.shared._replace(key=key))
            joined = join(history, run)
            history = history_to_join(joined.history)
        return joined


@dataclasses.dataclass(frozen=True)
class PopulationResults:
    """The outcome of `lo.population`: n members in so many rounds.

    Attributes:
        settings: `{"name": array[rounds, n]}`: the value that each member trained with in each round.
        parents: int32[rounds, n]: the member of the round before from which each one went on, with its weights and its
            optimizer state; itself, where it was not replaced.
        metrics: `{"name": float32[rounds, n, folds, seeds]}` at the end of each round; NaN where a lane diverged in it.
        diverged_at: int32[rounds, n, folds, seeds]: the first step of the round whose loss was not finite; -1 if there
            is none.
        metric: name of the metric that members are ranked by.
        maximizes: whether higher values of it are better.
        steps_per_round: the number of steps in a round.
        compile_seconds: seconds that XLA took to compile; 0 if the program was there from an earlier call.
        run_seconds: seconds spent on the rounds.
    """

    settings: dict[str, np.ndarray]
    parents: np.ndarray
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray
    metric: str
    maximizes: bool
    steps_per_round: int
    compile_seconds: float
    run_seconds: float
    _replay: PopulationReplay
    _logarithmic: frozenset[str]  # the hyperparameters that are spread over magnitudes

    @staticmethod
    def of(
        rounds: PopulationRounds,
        records: Generations,
        pairs: tuple[int, int],
        steps: int,
        replay: PopulationReplay,
        logarithmic: frozenset[str],
        compile_seconds: float = 0.0,
        run_seconds: float = 0.0,
    ) -> "PopulationResults":
        """Returns what the records of a population tell."""
        found: Any = jax.tree.map(np.asarray, records)
        shape = (*found.parents.shape, *pairs)
        return PopulationResults(
            settings=found.numbers,
            parents=found.parents,
            metrics={name: column.reshape(shape) for name, column in found.metrics.items()},
            diverged_at=found.diverged_at.reshape(shape),
            metric=rounds.metric,
            maximizes=rounds.maximizes,
            steps_per_round=steps,
            compile_seconds=compile_seconds,
            run_seconds=run_seconds,
            _replay=replay,
            _logarithmic=logarithmic,
        )

    @property
    def scores(self) -> np.ndarray:
        """float32[rounds, n]: what members were ranked by, the mean over folds and seeds; NaN if one diverged."""
        return self.metrics[self.metric].mean(axis=(2, 3), dtype=np.float32)

    @property
    def best_member(self) -> int:
        """The member with the best score in the last round.

        Raises:
            ValueError: if none has a score.
        """
        last = self.scores[-1] if not self.maximizes else -self.scores[-1]
        if np.isnan(last).all():
            raise ValueError(f"no member has a finite {self.metric} in the last round")
        return int(np.nanargmin(last))

    def lineage(self, member: int | None = None) -> np.ndarray:
        """Returns the members that led to one of the last round: which of them trained its weights in each round.

        Args:
            member: one of the n members in the last round; None takes the best.

        Returns:
            int32[rounds], the last of which is the member itself.

        Raises:
            ValueError: if there is no such member, or none has a score.
            TypeError: if it is not a whole number.
        """
        rounds, n = self.parents.shape
        if member is None:
            member = self.best_member
        elif checks.check_count("member", member, least=0) >= n:
            raise ValueError(f"member must be below {n}; got {member}")
        found = np.full(rounds, member, np.int32)
        for i in range(rounds - 1, 0, -1):
            found[i - 1] = self.parents[i, found[i]]
        return found

    def schedule(self, name: str, member: int | None = None) -> FoundSchedule:
        """Returns what was found for a hyperparameter, as a schedule for one plain training.

        Args:
            name: the hyperparameter.
            member: one of the n members in the last round; None takes the best.

        Returns:
            A function of the step, constant in each round: `lo.momentum(found.schedule("learning_rate"))`. Its `values`
            are float32[rounds].

        Raises:
            ValueError: if there is no such hyperparameter or member, or none has a score.
            TypeError: if the member is not a whole number.
        """
        if not isinstance(name, str) or name not in self.settings:
            raise ValueError(f"name must be one of {', '.join(self.settings)}; got {name!r}")
        return FoundSchedule(jnp.asarray(self._along(name, self.lineage(member))), self.steps_per_round)

    def replay(self, member: int | None = None, fold: int = 0, seed: int = 0) -> Run:
        """Trains along the lineage of a member once more: one training alone, whose settings change after each round.

        Args:
            member: one of the n members in the last round; None takes the best.
            fold: the fold to train on, from 0.
            seed: the seed to train from, from 0.

        Returns:
            The `Run`, with the history of all rounds.

        Raises:
            ValueError: if there is no such member, fold or seed, or no member has a score.
            TypeError: if one of them is not a whole number.
        """
        for what, value, count in zip(("fold", "seed"), (fold, seed), self.diverged_at.shape[2:], strict=True):
            if checks.check_count(what, value, least=0) >= count:
                raise ValueError(f"{what} must be below {count}; got {value}")
        members = self.lineage(member)
        columns = {name: self._along(name, members) for name in self.settings}
        rows = [{name: column[i] for name, column in columns.items()} for i in range(len(members))]
        with jit_without_nan_checks():
            return self._replay(rows, fold, seed)

    def plot(self) -> "Figure":
        """Draws the settings and scores of all members by round, with the lineage of the best.

        Returns:
            A matplotlib `Figure`.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: if no member has a score.
        """
        from lectopt.plots.population import plot_population  # noqa: PLC0415, matplotlib is heavy

        return plot_population(
            self.settings,
            self.scores,
            self.parents,
            self.lineage(),
            metric=self.metric,
            maximizes=self.maximizes,
            logarithmic=self._logarithmic,
        )

    def _along(self, name: str, members: np.ndarray) -> np.ndarray:
        return self.settings[name][np.arange(len(members)), members]

    def __repr__(self) -> str:
        rounds, n = self.parents.shape
        known = ~np.isnan(self.scores[-1]).all()
        best = f"best {self.metric} {self.scores[-1, self.best_member]:.4g}" if known else f"no finite {self.metric}"
        return f"PopulationResults({n} members, {rounds} rounds of {self.steps_per_round} steps, {best})"
