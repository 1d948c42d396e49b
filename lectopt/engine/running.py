"""Runs the lanes of a group: rectangle by rectangle, on all devices of this process."""

import dataclasses
import math
import time

import jax
import numpy as np
from rich.console import Console

from lectopt._internal.interrupts import deferred_interrupts
from lectopt._internal.progress import ProgressBar
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lanes import Outcome
from lectopt.engine.memory import fitted
from lectopt.engine.options import SearchOptions
from lectopt.engine.outcome_table import OutcomeTable
from lectopt.engine.tiling import Rectangle, Tiling


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
    compile_seconds: float = 0.0

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


def run_lanes(
    table: OutcomeTable, program: LaneProgram, group: LaneGroup, options: SearchOptions, progress: Progress
) -> None:
    """Fills the table with the outcomes of a group's lanes."""
    if restored := table.restore():
        progress.restored(restored)
    rows_in_all, pairs_in_all = table.done.shape
    tiling = Tiling(rows_in_all, pairs_in_all, len(options.devices), options.chunk, options.padded)
    while not table.done.all():
        shape = _fitting_shape(program, tiling, options, progress)
        rows, columns = table.next(shape)
        with deferred_interrupts() as interrupt:
            began = time.perf_counter()
            outcome = run_rectangle(program, shape, group, rows, columns)
            seconds = time.perf_counter() - began
            missing = table.write(rows, columns, outcome)
        if interrupt.pressed:
            raise KeyboardInterrupt
        scores = table.outcome.metrics[progress.metric][table.complete_rows]
        progress.finished(missing, seconds, np.mean(scores, axis=1))
        if len(rows) == shape.rows:
            left = int((~table.done.all(axis=1)).sum())
            tiling.report(seconds, left, program.compile(shape).seconds)


def run_rectangle(
    program: LaneProgram, shape: Rectangle, group: LaneGroup, rows: np.ndarray, columns: np.ndarray
) -> Outcome:
    """Returns the outcomes of these lanes; the rectangle is padded with some of them again."""
    padded = group.take(np.resize(rows, shape.rows), np.resize(columns, shape.pairs))
    return jax.tree.map(lambda leaf: leaf[: len(rows), : len(columns)], program.run(shape, padded))


def _fitting_shape(program: LaneProgram, tiling: Tiling, options: SearchOptions, progress: Progress) -> Rectangle:
    """Returns the largest rectangle that memory allows, whose program is compiled."""
    before = program.compile_seconds
    shape, compiled = fitted(
        tiling.shape,
        program.compile,
        lambda shape, memory: tiling.limit(int(shape.lanes * options.memory / memory)),
        options.memory,
        devices=len(options.devices),
        name=lambda shape: f"{shape.lanes} training(s) at once",
    )
    if seconds := program.compile_seconds - before:
        progress.compile_seconds += seconds
        memory = compiled.memory * len(options.devices)
        progress.print(
            f"  compiled in {seconds:.1f} s; at once {shape.rows} settings x {shape.pairs} = {shape.lanes} trainings "
            f"of {_bytes(memory / shape.lanes)}, {_bytes(memory)} of {_bytes(options.memory)}"
        )
    return shape


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
