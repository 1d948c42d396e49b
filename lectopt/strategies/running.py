"""Runs the rounds of a search over vectors of choices, as a compiled program or with a score on the host."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.files import checked_path
from lectopt._internal.keys import as_key
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.out_of_memory import run_fitted
from lectopt._internal.progress import ProgressBar, interactive
from lectopt._internal.run_directories import fingerprint, make_directory
from lectopt.engine.claimed_directory import ClaimedDirectory
from lectopt.strategies.choices import Record
from lectopt.strategies.round_program import RoundProgram
from lectopt.strategies.rounds import Method, Rounds, RoundState, Score, checked_scores
from lectopt.strategies.snapshots import Snapshots


def run_method(
    method: Method, score: Score, total: Any, key: Any, *, host: bool, directory: Any, progress: bool
) -> Record:
    """Runs one method with a user's score: pure, unless it runs on the host, keeps a directory or shows a bar.

    Raises:
        ValueError, TypeError: if an argument or a score is not allowed.
    """
    if not callable(score):
        raise TypeError(f"score must be a function; got {type(score).__name__}")
    total = checks.check_count("rounds", total)
    host, progress = checks.check_flag("host", host), checks.check_flag("progress", progress)
    directory = None if directory is None else checked_path("directory", directory)
    rounds = Rounds({"it": method}, lambda vectors, key: score(vectors), total)
    if directory is not None:
        make_directory("directory", directory)
    if host:
        if checks.is_traced(key):
            raise ValueError("host must be False within jit and vmap; got True")
        return _on_host(rounds, score, as_key(key), directory, progress)["it"]
    program = RoundProgram(rounds, as_key(key))
    if program.is_traced:
        if directory is not None:
            raise ValueError(f"directory must be None within jit and vmap; got {directory}")
        return program.inline(total).records["it"]
    return run_program(program, directory, progress, finite=True)["it"]


def best_score(records: Mapping[str, Record], done: int) -> str:
    """Returns the best score of the rounds that are done, as a progress bar shows it."""
    scores = np.concatenate([np.asarray(record.scores[:done]).ravel() for record in records.values()])
    return f"best {np.nanmax(scores):.4g}" if np.isfinite(scores).any() else ""


def _none_smaller(program: RoundProgram, error: Exception) -> RoundProgram:
    raise error


@jit_without_nan_checks()
def run_program(
    program: RoundProgram,
    directory: Path | None,
    progress: bool,
    *,
    finite: bool = False,
    smaller: Callable[[RoundProgram, Exception], RoundProgram] = _none_smaller,
    best: Callable[[Any, int], str] = best_score,
    look: Callable[[Any, int], None] = lambda records, done: None,
) -> Any:
    """Runs all rounds of a program, from where the directory left off; returns their records.

    `finite` forbids other scores; `best` (records, rounds that are done) is what the progress bar shows, beside which
    `look` may show more.
    Where a device runs out of memory, `smaller` (program, error) says what to go on with.
    """
    snapshots = None if directory is None else Snapshots(ClaimedDirectory(directory, program.fingerprint))
    start = program.start if snapshots is None else snapshots.latest(program.start)
    if start.round < program.rounds.total:
        program.compile()

    def advance(state: RoundState) -> RoundState:
        nonlocal program
        program, state = run_fitted(program, lambda program: program.advance(state), smaller)
        return state

    return _run(advance, start, program.rounds.total, snapshots, progress, finite=finite, best=best, look=look)


def _on_host(rounds: Rounds, score: Score, key: jax.Array, directory: Path | None, progress: bool) -> dict[str, Record]:
    """Runs all rounds with a score that JAX cannot trace."""
    ask, tell = jit_without_nan_checks()(jax.jit(rounds.ask)), jit_without_nan_checks()(jax.jit(rounds.tell))

    def advance(state: RoundState) -> RoundState:
        vectors, notes = ask(state)
        scores = checked_scores(score(np.array(vectors)), len(vectors))
        return tell(state, vectors, notes, scores)

    start, snapshots = jit_without_nan_checks()(rounds.start)(key), None
    if directory is not None:
        vectors, notes = ask(start)
        with jit_without_nan_checks():
            told = jax.jit(rounds.tell).lower(start, vectors, notes, jnp.zeros(len(vectors)))
            program = jax.jit(rounds.ask).lower(start).as_text() + told.as_text()
        snapshots = Snapshots(ClaimedDirectory(directory, fingerprint(program, (start, rounds.total))))
        start = snapshots.latest(start)
    return _run(advance, start, rounds.total, snapshots, progress, finite=True)


def _run(
    advance: Callable[[RoundState], RoundState],
    state: RoundState,
    total: int,
    snapshots: Snapshots | None,
    progress: bool,
    *,
    finite: bool,
    best: Callable[[Any, int], str] = best_score,
    look: Callable[[Any, int], None] = lambda records, done: None,
) -> Any:
    """Returns the records of all rounds; after Ctrl-C in an interactive session, with a warning, of those done."""
    done = int(state.round)
    try:
        with ProgressBar("rounds", total, show=progress) as bar:
            while done < total:
                state = advance(state)
                if finite:
                    check_finite(state.records, done, int(state.round))
                done = int(state.round)
                if snapshots is not None:
                    snapshots.write(state)
                bar.update(done, best(state.records, done))
                look(state.records, done)
    except KeyboardInterrupt:
        if not interactive() or not done:
            raise
        warnings.warn(f"interrupted: the record holds {done} of {total} rounds", stacklevel=5)
    return state.records if done == total else jax.tree.map(lambda leaf: leaf[:done], state.records)


def check_finite(records: Mapping[str, Record], first: int, last: int) -> None:
    """Raises ValueError unless the scores of these rounds are finite."""
    for record in records.values():
        scores = np.asarray(record.scores[first:last])
        if not np.isfinite(scores).all():
            row, child = np.argwhere(~np.isfinite(scores))[0]
            vector = np.asarray(record.choices[first + row, child]).tolist()
            raise ValueError(
                f"score must return finite numbers, the lowest one for what cannot be scored; for {vector} in round "
                f"{first + row} it returned {scores[row, child]}"
            )
