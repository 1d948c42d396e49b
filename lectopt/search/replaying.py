"""Lanes of a search, run again: one alone, or all of a setting, whose runs are kept."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.progress import ProgressBar
from lectopt._internal.trees import unflatten_in_order
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared, Trial, outcome
from lectopt.engine.options import SearchOptions
from lectopt.engine.outcome_table import OutcomeTable
from lectopt.engine.rungs import RungLane, as_data
from lectopt.engine.running import LaneRun, Progress
from lectopt.search.settings import Settings, group_of
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True)
class Replay:
    """What a replay needs of a search: it outlives the search, whose programs go."""

    trial: Trial
    settings: Settings
    shared: Shared
    halving: list[tuple[int, int]] | None  # its rungs
    rungs: np.ndarray  # int32[settings], how many of them each setting took
    pairs: FoldAndSeed  # int32[folds * seeds] each
    options: SearchOptions
    _kept: dict[int, list[Run]] = dataclasses.field(default_factory=dict)  # of the setting that was asked for last

    def __call__(self, row: int, fold: int, seed: int) -> Any:
        """Returns what the trial returns for one lane."""
        lane = self._lane(row)
        arguments = self.settings.numbers(row), FoldAndSeed(np.int32(fold), np.int32(seed)), self.shared
        if self.halving is None:
            return jax.jit(lane.run)(*arguments)
        return lane.run(*arguments)  # each rung is a program, as in the search

    def of(self, settings: Settings, rungs: np.ndarray) -> "Replay":
        """Returns the same for other settings."""
        return dataclasses.replace(self, settings=settings, rungs=rungs, _kept={})

    def on(self, folds: slice, count: int) -> "Replay":
        """Returns the same for some of so many folds."""
        pairs = FoldAndSeed(*(column.reshape(count, -1)[folds].ravel() for column in self.pairs))
        return dataclasses.replace(self, pairs=pairs, _kept={})

    def runs(self, row: int) -> list[Run]:
        """Returns the runs of all lanes of a setting, fold by fold, all seeds of a fold beside each other."""
        if row not in self._kept:
            kept = self._run(row)
            self._kept.clear()
            self._kept[row] = kept
        return list(self._kept[row])

    def _run(self, row: int) -> list[Run]:
        """Trains a setting on all folds from all seeds, as one program of the engine."""
        lane, numbers = self._lane(row), self.settings.numbers(np.array([row]))
        count, first = len(self.pairs.fold), {name: column[0] for name, column in numbers.items()}
        options = self.options._replace(chunk=1, directory=None)
        with jit_without_nan_checks(), ProgressBar("trainings", count, show=options.progress) as bar:
            program = LaneProgram(lane, first, None, self.shared, options.devices, self.trial.function)
            table = OutcomeTable(program.outcome, 1, count, None)
            group = LaneGroup(numbers, self.pairs, None, program.place(self.shared))
            shown = Progress(bar, False, next(iter(program.outcome.metrics)), maximizes=False)
            LaneRun(table, program, group, options).run(shown)
            kept = table.gather().kept
        # A task that the trial made holds the numbers that it was traced with: in their place, those of this setting.
        pair = FoldAndSeed(np.int32(0), np.int32(0))
        like = jax.eval_shape(lambda pair, shared: lane.run(first, pair, shared), pair, self.shared)
        return [unflatten_in_order("the run", [leaf[0, i] for leaf in kept], like) for i in range(count)]

    def _lane(self, row: int) -> "RunLane":
        if not self.rungs[row]:
            raise ValueError(f"setting must have been run; the search was interrupted before setting {row}")
        rungs = None if self.halving is None else self.halving[: self.rungs[row]]
        return RunLane(self.trial, group_of(self.settings, row).static, rungs)


class RunLane:
    """A lane that keeps all of its run."""

    def __init__(self, trial: Trial, static: Mapping[str, Any], rungs: list[tuple[int, int]] | None):
        self._trial = trial
        self.static = static
        self._rungs = rungs

    def __call__(self, numbers: dict[str, Any], pair: FoldAndSeed, start: Any, shared: Shared) -> Outcome:
        """Returns the outcome of a lane, which starts from nothing."""
        run = self.run(numbers, pair, shared)
        if not isinstance(run, Run):
            raise TypeError(f"trial must return a lectopt.Run for its runs; it returned {type(run).__name__}")
        return outcome(run)._replace(kept=[as_data(leaf) for leaf in jax.tree.leaves(run)])

    def run(self, numbers: dict[str, Any], pair: FoldAndSeed, shared: Shared) -> Any:
        """Returns what the trial returns, after all rungs that it takes."""
        if self._rungs is None:
            return self._trial.call({**self.static, **numbers}, pair, shared)
        run, done = None, 0
        for rung, (epochs, _) in enumerate(self._rungs):
            lane = RungLane(self._trial, self.static, rung, epochs - done, None)
            run, done = jax.jit(lane.run)(numbers, pair, run, shared), epochs
        return run
