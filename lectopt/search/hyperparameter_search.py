"""A whole search: its groups of settings and its rungs, one after the other."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.ahead import ahead
from lectopt._internal.keys import as_key
from lectopt._internal.live_picture import LivePicture
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.progress import ProgressBar
from lectopt.data.folds import Folds
from lectopt.engine import devices
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lane_records import LaneRecords
from lectopt.engine.lanes import FoldAndSeed, Shared, Trial, TrialLane
from lectopt.engine.objective import check_metrics, checked_metric
from lectopt.engine.options import SearchOptions
from lectopt.engine.outcome_table import OutcomeTable
from lectopt.engine.program_cache import compile_threads
from lectopt.engine.rungs import RungLane
from lectopt.engine.running import LaneRun, Progress, tiling
from lectopt.search.halving import FinishedRung, GoingOn, Halving, RungEnd, best_on_rung
from lectopt.search.plan import costs, plan
from lectopt.search.prepared_groups import PreparedGroup
from lectopt.search.replaying import Replay
from lectopt.search.result_parts import drawn
from lectopt.search.results import Results
from lectopt.search.scores import Scores
from lectopt.search.search_directory import GroupKey, SearchDirectory, described
from lectopt.search.settings import Group, Settings, as_settings, groups
from lectopt.search.significance import valid_per_train


@dataclasses.dataclass
class Search:
    """What is searched, checked and ready to run."""

    trial: Trial
    settings: Settings
    shared: Shared
    pairs: FoldAndSeed
    shape: tuple[int, int, int]  # settings, folds, seeds
    metric: str
    maximizes: bool
    halving: Halving | None
    options: SearchOptions
    programs: dict[Any, LaneProgram]  # by rung and static values
    scores: Scores | None = None  # of what has run so far
    progress: Progress | None = None
    spent_before: tuple[float, float] = (0.0, 0.0)  # on programs that an earlier search traced
    placed: Shared | None = None  # on the devices, once for all programs
    finished: bool = False
    kept: SearchDirectory | None = None  # what keeps the outcomes, once it is claimed
    retraining: int = 0  # how many programs retrain what is found: those of a `Refit`
    going_on: GoingOn = best_on_rung
    also: tuple[str, ...] = ()  # other metrics that a trial has to return

    @classmethod
    def of(
        cls,
        function: Any,
        settings: Any,
        folds: Folds | None,
        *,
        minimize: Any = None,
        maximize: Any = None,
        seeds: Any = 1,
        key: Any,
        halving: Any = None,
        chunk: Any = None,
        memory: Any = None,
        directory: Any = None,
        progress: bool = True,
    ) -> "Search":
        """Checks the arguments of `sweep` and `cross_validate` and assembles the search."""
        if not callable(function):
            raise TypeError(f"trial must be a function; got {type(function).__name__}")
        metric = checked_metric(minimize, maximize)
        settings = as_settings(settings)
        if halving is not None and not isinstance(halving, Halving):
            raise TypeError(f"halving must be a lectopt.Halving; got {type(halving).__name__}")
        Trial(function).check(folds=folds is not None, halving=halving is not None)
        count = checks.check_count("seeds", seeds)
        shape = (settings.count, 1 if folds is None else len(folds), count)
        fold, seed = np.divmod(np.arange(shape[1] * count), count)
        return cls(
            trial=Trial(function),
            settings=settings,
            shared=Shared(folds, as_key(key)),
            pairs=FoldAndSeed(fold.astype(np.int32), seed.astype(np.int32)),
            shape=shape,
            metric=metric,
            maximizes=maximize is not None,
            halving=None if halving is None else halving.checked(),
            options=SearchOptions.of(chunk=chunk, memory=memory, directory=directory, progress=progress),
            programs={},
        )

    def of_other(self, settings: Any) -> "Search":
        """Returns the same search for other settings, without tracing the trial again."""
        settings = as_settings(settings)
        return dataclasses.replace(self, settings=settings, shape=(settings.count, *self.shape[1:]), finished=False)

    def run(self, picture: LivePicture | None = None) -> Results:
        """Runs all lanes, which a picture may show while they run."""
        self.kept, setting_groups = None, groups(self.settings)
        rungs = [(0, self.shape[0])] if self.halving is None else self.halving.rungs(self.shape[0])
        lanes = sum(count for _, count in rungs) * len(self.pairs.fold)
        with ProgressBar("trainings", lanes, show=self.options.progress) as bar:
            self.progress = Progress(bar, self.options.progress, self.metric, self.maximizes, picture=picture)
            self.scores = Scores(self.shape[0], len(self.pairs.fold))
            programs = len(setting_groups), len(rungs), self.retraining
            self.progress.print(plan(self.shape, lanes, *programs, self.options))
            with jit_without_nan_checks(), compile_threads() as threads:
                self._run_rungs(setting_groups, rungs, self.scores, self.progress, threads)
        self.finished = True
        results = self.results(self.scores, self.progress.run_seconds)
        self.progress.print(costs(results))
        if picture is not None:
            picture.look(lambda: drawn(results), is_last=True)
        return results

    @property
    def spent(self) -> tuple[float, float]:
        """Seconds of tracing, in Python, and of compiling, in all threads together."""
        programs = self.programs.values()
        return sum(p.trace_seconds for p in programs), sum(p.compile_seconds for p in programs)

    def trace_first(self) -> LaneProgram:
        """Traces the trial for the first setting, which raises what a run would raise."""
        group = groups(self.settings)[0]
        with jit_without_nan_checks():
            return self._program(0, group.static, self.settings.numbers(group.rows))

    def so_far(self) -> Results | None:
        """Returns what an interrupted search has run on all folds from all seeds; None if nothing."""
        if self.scores is None or self.progress is None or not self.scores.rungs.any():
            return None
        return self.results(self.scores, self.progress.run_seconds)

    def _run_rungs(
        self,
        setting_groups: list[Group],
        rungs: list[tuple[int, int]],
        scores: Scores,
        progress: Progress,
        threads: Executor,
    ) -> None:
        """Runs all rungs; a search without halving has one."""
        alive, finished = np.ones(self.settings.count, bool), [FinishedRung(None, None)] * len(setting_groups)
        for rung, (_, count) in enumerate(rungs):
            if rung:
                so_far = self.results(scores, progress.run_seconds)
                alive = self.going_on(so_far, alive, RungEnd(rungs[rung - 1][0], count))
            places = [np.flatnonzero(alive[group.rows]) for group in setting_groups]
            prepared = (
                self._prepare(GroupKey(rung, number), group, places[number], finished[number], threads)
                for number, group in enumerate(setting_groups)
                if len(places[number])
            )
            # While one group runs, the programs of the next ones compile.
            for one in ahead(prepared, devices.cores()):
                kept = self._run_group(one, scores, progress)
                finished[one.number] = FinishedRung(one.places, kept)

    def _prepare(
        self, key: GroupKey, group: Group, places: np.ndarray, finished: FinishedRung, threads: Executor
    ) -> PreparedGroup:
        """Traces the lanes of rows that share a program, which begins to compile in one of the threads."""
        before, rows = finished.at(places), group.rows[places]
        numbers = self.settings.numbers(rows)
        program = self._program(key.rung, group.static, numbers)
        first = next(iter(self.programs.values())).outcome
        check_metrics(self.metric, self.maximizes, first.metrics, program.outcome.metrics, self.also)
        lanes = LaneGroup(numbers, self.pairs, before.kept, program.place(self.placed or self.shared))
        self.placed = lanes.data[1]
        table = OutcomeTable(program.outcome, len(rows), len(self.pairs.fold), self._records(key, program, lanes, rows))
        run = LaneRun(table, program, lanes, self._options_on(key.rung))
        run.begin(threads)
        if len(group.rows) == self.settings.count and not table.done.all():
            self._begin_later(key.rung, group, len(rows), threads)
        return PreparedGroup(key.group, places, rows, run)

    def _begin_later(self, rung: int, group: Group, most: int, threads: Executor) -> None:
        """Begins to compile the programs of the rungs to come, while this one compiles and runs.

        For settings that share a program on each, since of others it is not known how many will be there.
        """
        rungs = [] if self.halving is None else self.halving.rungs(self.shape[0])
        for later, (_, count) in list(enumerate(rungs))[rung + 1 :]:
            program = self._program(later, group.static, self.settings.numbers(group.rows))
            lanes = min(count, most), len(self.pairs.fold)
            program.begin(tiling(*lanes, self._options_on(later)).shape, threads)

    def _options_on(self, rung: int) -> SearchOptions:
        """Returns how a rung is run: where rectangles are padded to a size, to what a halving leaves of that."""
        if not self.options.padded or self.halving is None or self.options.chunk is None:
            return self.options
        return self.options._replace(chunk=self.halving.rungs(self.options.chunk)[rung][1])

    def _run_group(self, group: PreparedGroup, scores: Scores, progress: Progress) -> Any:
        """Runs the lanes of a group, writes their scores, and returns what they keep."""
        progress.draw = lambda: drawn(self.results(group.so_far(scores), progress.run_seconds))
        kept = group.finish(scores, progress)
        progress.draw = Progress.draw  # so that no circle holds the search and its programs
        return kept

    def _program(self, rung: int, static: dict[str, Any], numbers: dict[str, np.ndarray]) -> LaneProgram:
        """Returns the program of the lanes with these static values on a rung, traced once per search."""
        cache_key = (rung, *numbers, *((name, type(value), value) for name, value in static.items()))
        if cache_key not in self.programs:
            lane, start = self._lane(rung, static, numbers)
            first = {name: column[0] for name, column in numbers.items()}
            program = LaneProgram(lane, first, start, self.shared, self.options.devices, self.trial.function)
            if not program.reads_start():
                raise ValueError("trial must pass start on to lectopt.train for halving; its run does not depend on it")
            self.programs[cache_key] = program
        return self.programs[cache_key]

    def _lane(self, rung: int, static: dict[str, Any], numbers: dict[str, np.ndarray]) -> tuple[Any, Any]:
        """Returns a lane on a rung, and the shapes of what it starts from: what the rung before keeps."""
        if self.halving is None:
            return TrialLane(self.trial, static), None
        ends = [0, *(epochs for epochs, _ in self.halving.rungs(1))]
        before = self._program(rung - 1, static, numbers) if rung else None
        lane_before: Any = before and before.lane
        lane = RungLane(self.trial, static, rung, ends[rung + 1] - ends[rung], lane_before)
        start = before and jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), before.outcome.kept)
        return lane, start

    def _records(self, key: GroupKey, program: LaneProgram, group: LaneGroup, rows: np.ndarray) -> LaneRecords | None:
        if self.options.directory is None:
            return None
        if self.kept is None:
            halving = "" if self.halving is None else str([epochs for epochs, _ in self.halving.rungs(1)])
            self.kept = SearchDirectory(self.options.directory, halving, self._programs((program, group)))
        ranked = {"metric": self.metric, "maximizes": self.maximizes, "shape": self.shape[1:]}
        about = described(self.settings, rows, metrics=sorted(program.outcome.metrics), **ranked)
        return self.kept.records(key, program, group, about)

    def _programs(self, first: tuple[LaneProgram, LaneGroup]) -> Iterator[tuple[LaneProgram, LaneGroup]]:
        """Yields the programs of the first rung, with their lanes; those that nobody asks for are not traced."""
        yield first
        for group in groups(self.settings)[1:] if self.halving is None else ():
            numbers = self.settings.numbers(group.rows)
            program = self._program(0, group.static, numbers)
            yield program, LaneGroup(numbers, self.pairs, None, program.place(self.shared))

    def results(self, scores: Scores, run_seconds: float) -> Results:
        """Returns these scores of the settings, with what it took to get them."""
        trace_seconds, compile_seconds = (
            after - before for after, before in zip(self.spent, self.spent_before, strict=True)
        )
        return Results(
            settings=self.settings,
            metrics={name: values.reshape(self.shape) for name, values in scores.metrics.items()},
            diverged_at=scores.diverged_at.reshape(self.shape),
            metric=self.metric,
            maximizes=self.maximizes,
            rungs=scores.rungs,
            compile_seconds=compile_seconds,
            run_seconds=run_seconds,
            trace_seconds=trace_seconds,
            valid_per_train=valid_per_train(self.shared.folds),
            _replay=Replay(
                self.trial,
                self.settings,
                self.shared,
                None if self.halving is None else self.halving.rungs(self.shape[0]),
                scores.rungs,
                self.pairs,
                self.options,
            ),
        )
