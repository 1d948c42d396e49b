"""Runs the lanes of a group of settings: chunk by chunk, on all devices of this process."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console

from lectopt._internal import checks
from lectopt._internal.files import checked_path
from lectopt._internal.interrupts import deferred_interrupts
from lectopt._internal.progress import ProgressBar
from lectopt.engine import devices
from lectopt.engine.lane_program import Compiled, Program, Rectangle
from lectopt.engine.lane_records import Records
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared
from lectopt.engine.tiling import Tiling


class SearchOptions(NamedTuple):
    """How a search is run, whatever it runs."""

    chunk: int | None  # settings at once
    memory: int  # bytes, on all devices of this process together
    directory: Path | None
    progress: bool
    devices: tuple[Any, ...]  # of this process
    padded: bool = False  # whether a chunk is filled up, so that fewer settings need no program of their own

    @classmethod
    def of(cls, *, chunk: Any, memory: Any, directory: Any, progress: bool) -> "SearchOptions":
        """The arguments of a search, checked."""
        show = checks.check_flag("progress", progress)
        local = tuple(jax.local_devices())
        if memory is None:
            memory = devices.free_memory(local)
        else:
            checks.check_number("memory", memory, checks.POSITIVE)
        chunk = None if chunk is None else checks.check_count("chunk", chunk)
        place = None if directory is None else checked_path("directory", directory)
        return cls(chunk, int(memory), place, show, local)


class OutcomeTable:
    """The outcomes of a group's lanes, and which of them are there."""

    def __init__(self, like: Outcome, mine: np.ndarray):
        self.outcome: Outcome = jax.tree.map(lambda leaf: np.zeros((*mine.shape, *leaf.shape), leaf.dtype), like)
        self.done = ~mine  # bool[rows, pairs]; what other processes do is done
        self._mine = mine.all(axis=1)

    @property
    def whole(self) -> np.ndarray:
        """int[]: the rows of this process's own all of whose lanes are there."""
        return np.flatnonzero(self.done.all(axis=1) & self._mine)

    def next(self, shape: Rectangle) -> tuple[np.ndarray, np.ndarray]:
        """The rows and pairs of the next lanes to run, at most as many as the rectangle has."""
        rows = np.flatnonzero(~self.done.all(axis=1))[: shape.rows]
        return rows, np.flatnonzero(~self.done[rows].all(axis=0))[: shape.pairs]

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> int:
        """Puts the outcomes of these lanes in; returns how many of them were missing."""
        here = np.ix_(rows, pairs)
        for board, leaf in zip(jax.tree.leaves(self.outcome), jax.tree.leaves(outcome), strict=True):
            board[here] = leaf
        missing = int((~self.done[here]).sum())
        self.done[here] = True
        return missing


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

    def say(self, text: str) -> None:
        """Prints a line of the plan."""
        if self.show:
            Console(stderr=True).print(text, highlight=False, soft_wrap=True)

    def found(self, lanes: int) -> None:
        """So many lanes were done before."""
        self.done += lanes
        self.bar.update(self.done)

    def finished(self, lanes: int, seconds: float, scores: np.ndarray) -> None:
        """So many lanes more are done, and settings have these scores on all pairs."""
        self.done, self.computed, self.run_seconds = (
            self.done + lanes,
            self.computed + lanes,
            self.run_seconds + seconds,
        )
        pick = np.fmax if self.maximizes else np.fmin
        self.best = float(pick.reduce(scores, initial=self.best))
        best = "" if math.isnan(self.best) else f", best {self.metric} {self.best:.4g}"
        self.bar.update(self.done, f"{self.computed / self.run_seconds:.3g} trainings/s{best}")


def run_group(
    board: "OutcomeTable",
    program: Program,
    numbers: dict[str, np.ndarray],
    pairs: FoldAndSeed,
    start: Any,
    shared: Shared,
    options: SearchOptions,
    records: Records | None,
    progress: Progress,
) -> None:
    """Fills the board with the outcomes [rows, pairs] of a group's lanes."""
    for rows, columns, outcome in records.read(program.outcome, board.done.shape) if records is not None else ():
        progress.found(board.write(rows, columns, outcome))
    data = program.place(shared)
    tiling = Tiling(len(board.done), len(pairs.fold), len(options.devices), options.chunk, options.padded)
    while not board.done.all():
        compiled = _compile(program, tiling, options, progress)
        rows, columns = board.next(compiled.shape)
        with deferred_interrupts() as interrupt:
            began = time.perf_counter()
            outcome = run_rectangle(program, compiled, numbers, pairs, start, data, rows, columns)
            seconds = time.perf_counter() - began
            if records is not None:
                records.write(rows, columns, outcome)
            missing = board.write(rows, columns, outcome)
        if interrupt.pressed:
            raise KeyboardInterrupt
        scores = board.outcome.metrics[progress.metric][board.whole]
        progress.finished(missing, seconds, np.mean(scores, axis=1))
        if len(rows) == compiled.shape.rows:
            tiling.report(seconds, int((~board.done.all(axis=1)).sum()), compiled.seconds)


def share(rows: int, pairs: int) -> np.ndarray:
    """Which lanes are this process's: bool[rows, pairs]."""
    index, count = jax.process_index(), jax.process_count()
    row, pair = np.indices((rows, pairs))
    return (row if rows >= count else pair) % count == index


def gather(outcome: Outcome, mine: np.ndarray) -> Outcome:
    """The outcomes of all processes, each from the process whose it is."""
    if jax.process_count() == 1:
        return outcome
    all_outcomes, owned = multihost_utils.process_allgather((outcome, mine))
    lanes = (np.argmax(owned, axis=0), *np.indices(mine.shape))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[lanes], all_outcomes)


def _compile(program: Program, tiling: Tiling, options: SearchOptions, progress: Progress) -> Compiled:
    """The program for the largest rectangle that memory allows."""
    before = program.compile_seconds
    compiled = program.compile(tiling.shape)
    while compiled.memory > options.memory:
        if not tiling.limit(int(compiled.shape.lanes * options.memory / compiled.memory)):
            raise ValueError(
                f"memory must be enough for {compiled.shape.lanes} training(s) at once, which take {compiled.memory:,} "
                f"bytes; got {options.memory:,}"
            )
        compiled = program.compile(tiling.shape)
    seconds = program.compile_seconds - before
    progress.compile_seconds += seconds
    if seconds:
        rows, columns = compiled.shape
        progress.say(
            f"  compiled in {seconds:.1f} s; at once {rows} settings x {columns} = {rows * columns} trainings of "
            f"{_size(compiled.memory / compiled.shape.lanes)}, {_size(compiled.memory)} of {_size(options.memory)}"
        )
    return compiled


def run_rectangle(
    program: Program,
    compiled: Compiled,
    numbers: dict[str, np.ndarray],
    pairs: FoldAndSeed,
    start: Any,
    data: Any,
    rows: np.ndarray,
    columns: np.ndarray,
) -> Outcome:
    """The outcomes of these lanes; the rectangle is filled up with some of them again."""
    many, few = np.resize(rows, compiled.shape.rows), np.resize(columns, compiled.shape.pairs)
    outcome = program.run(
        compiled,
        {name: column[many] for name, column in numbers.items()},
        FoldAndSeed(pairs.fold[few], pairs.seed[few]),
        jax.tree.map(lambda leaf: leaf[np.ix_(many, few)], start),
        data,
    )
    return jax.tree.map(lambda leaf: leaf[: len(rows), : len(columns)], outcome)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
