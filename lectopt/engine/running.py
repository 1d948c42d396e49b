"""Runs the lanes of a group: rectangle by rectangle, on all devices of this process."""

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np
from rich.console import Console

from lectopt._internal.interrupts import deferred_interrupts
from lectopt._internal.live_picture import LivePicture
from lectopt._internal.out_of_memory import run_fitted, warn_of_less
from lectopt._internal.progress import ProgressBar
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lanes import Outcome
from lectopt.engine.memory import fitted
from lectopt.engine.options import SearchOptions
from lectopt.engine.outcome_table import OutcomeTable
from lectopt.engine.tiling import Rectangle, Tiling, pace


@dataclasses.dataclass
class Progress:
    """What is shown while a search runs, and what it has cost."""

    bar: ProgressBar
    show: bool
    metric: str
    maximizes: bool
    best: float = math.nan
    done: int = 0
    computed: int = 0
    run_seconds: float = 0.0
    picture: LivePicture | None = None
    draw: Callable[[], Any] = lambda: None  # what the picture shows: a figure of what is done, or None

    def print(self, text: str) -> None:
        """Prints a line of the plan."""
        if self.show:
            Console(stderr=True).print(text, highlight=False, soft_wrap=True)

    def restored(self, lanes: int) -> None:
        """Counts lanes that were done before."""
        self.done += lanes
        self.bar.update(self.done)

    def finished(self, lanes: int, seconds: float, scores: np.ndarray) -> None:
        """Counts lanes that were run, and notes the scores of the settings they complete."""
        self.done += lanes
        self.computed += lanes
        self.run_seconds += seconds
        pick = np.fmax if self.maximizes else np.fmin
        self.best = float(pick.reduce(scores, initial=self.best))
        best = "" if math.isnan(self.best) else f", best {self.metric} {self.best:.4g}"
        self.bar.update(self.done, f"{self.computed / self.run_seconds:.3g} trainings/s{best}")
        if self.picture is not None and self.done != self.bar.total:
            self.picture.look(self.draw, is_last=False)


class LaneRun:
    """The lanes of a group, ready to run."""

    def __init__(self, table: OutcomeTable, program: LaneProgram, group: LaneGroup, options: SearchOptions):
        """Restores what was done before."""
        self.table, self.program, self.group = table, program, group
        self._options = options
        self._restored = table.restore()
        rows, pairs = table.done.shape
        self._tiling = tiling(rows, pairs, options)

    def begin(self, threads: Executor) -> None:
        """Begins to compile the program in one of the threads, if there is anything to run."""
        if not self.table.done.all():
            self.program.begin(self._tiling.shape, threads)

    def run(self, progress: Progress) -> None:
        """Fills the table with the outcomes of the lanes."""
        if self._restored:
            progress.restored(self._restored)
        while not self.table.done.all():
            run_fitted(self._tiling, lambda _: self._run_next(self._fitting_shape(progress), progress), _halved)

    def _run_next(self, shape: Rectangle, progress: Progress) -> None:
        """Runs the next rectangle."""
        table = self.table
        rows, columns = table.next(shape)
        with deferred_interrupts() as interrupt:
            began = time.perf_counter()
            outcome = run_rectangle(self.program, shape, self.group, rows, columns)
            seconds = time.perf_counter() - began
            missing = table.write(rows, columns, outcome)
        if interrupt.pressed:
            raise KeyboardInterrupt
        scores = table.outcome.metrics[progress.metric][table.complete_rows]
        progress.finished(missing, seconds, np.mean(scores, axis=1))
        if len(rows) == shape.rows:
            left = int((~table.done.all(axis=1)).sum())
            self._tiling.report(seconds, left, self.program.compile(shape).seconds)

    def _fitting_shape(self, progress: Progress) -> Rectangle:
        """Returns the largest rectangle that memory allows, whose program is compiled."""
        program, options = self.program, self._options
        shape, compiled = fitted(
            self._tiling.shape,
            program.compile,
            lambda shape, memory: self._tiling.limit(int(shape.lanes * options.memory / memory)),
            options.memory,
            devices=len(options.devices),
            name=lambda shape: f"{shape.lanes} training(s) at once",
        )
        if seconds := program.compile_seconds - program.told_seconds:
            program.told_seconds = program.compile_seconds
            memory = compiled.memory * len(options.devices)
            progress.print(
                f"  compiled in {seconds:.1f} s; at once {shape.rows} settings x {shape.pairs} = {shape.lanes} "
                f"trainings of {_bytes(memory / shape.lanes)}, {_bytes(memory)} of {_bytes(options.memory)}"
            )
        return shape


def tiling(rows: int, pairs: int, options: SearchOptions) -> Tiling:
    """Returns the rectangles in which so many settings run on so many pairs."""
    return Tiling(rows, pairs, len(options.devices), options.chunk, options.padded, pace(options.devices))


def _halved(tiling: Tiling, error: Exception) -> Tiling:
    """Limits the lanes at once to half as many, after the device had no memory for those of a rectangle."""
    shape = tiling.shape
    smaller = tiling.limit(shape.lanes // 2)
    warn_of_less(error, "trainings", shape.lanes, smaller and smaller.lanes)
    return tiling


def run_rectangle(
    program: LaneProgram, shape: Rectangle, group: LaneGroup, rows: np.ndarray, columns: np.ndarray
) -> Outcome:
    """Returns the outcomes of these lanes; the rectangle is padded with some of them again."""
    padded = group.take(np.resize(rows, shape.rows), np.resize(columns, shape.pairs))
    return jax.tree.map(lambda leaf: leaf[: len(rows), : len(columns)], program.run(shape, padded))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
