"""Rounds of a search over vectors of choices: ask each method, score what all of them asked, tell each.

Several methods go on side by side. A round is one compiled program, unless the score is a Python function.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.files import checked_path
from lectopt._internal.keys import as_key
from lectopt._internal.numerics import jit_without_nan_checks, standard_promotion
from lectopt._internal.progress import ProgressBar
from lectopt._internal.run_directories import fingerprint, make_directory
from lectopt._internal.types import Array
from lectopt.engine.lane_program import memory_of
from lectopt.strategies.choices import Decisions, Record
from lectopt.strategies.interruption import RoundsDone
from lectopt.strategies.snapshots import Snapshots

Score = Callable[[Any], Any]
"""int32[children, decisions] -> float[children], in JAX or on the host; higher is better."""

_PAUSE = 0.5
"""Seconds after which a program comes back, to show how far it is and to write that down."""


class Asked(NamedTuple):
    """What a method wants to try, and what there is to note about it."""

    vectors: Array  # int32[children, decisions]
    notes: dict[str, Array]  # fields of its Record


class Method(Protocol):
    """A way of searching, as pure functions of a state."""

    @property
    def decisions(self) -> Decisions:
        """What there is to decide."""

    @property
    def children(self) -> int:
        """How many vectors it asks for in a round."""

    def init(self, key: jax.Array) -> Any:
        """The state before the first round."""

    def ask(self, state: Any, key: jax.Array) -> Asked:
        """What to try next."""

    def tell(self, state: Any, vectors: Array, scores: Array) -> Any:
        """The state after this was tried; a score is minus infinity where there is none."""


class Status(NamedTuple):
    """All that there is between two rounds."""

    round: Array  # int32[], how many are done
    key: jax.Array
    states: dict[str, Any]  # of the methods
    records: dict[str, Record]  # of all rounds, those to come too


@dataclasses.dataclass(frozen=True)
class Search:
    """Methods that go on side by side, and their score(vectors, key) -> float[children of all]."""

    methods: Mapping[str, Method]
    score: Callable[[Array, jax.Array], Any]
    rounds: int

    def start(self, key: jax.Array) -> Status:
        """Before the first round."""
        key_states, key_rounds = jax.random.split(key)
        states = {
            name: method.init(jax.random.fold_in(key_states, i))
            for i, (name, method) in enumerate(self.methods.items())
        }
        records = {name: self._empty(method, states[name]) for name, method in self.methods.items()}
        return Status(jnp.int32(0), key_rounds, states, records)

    def advance(self, status: Status, stop: Any) -> Status:
        """The status after `stop` rounds."""

        def once(status: Status) -> Status:
            vectors, notes = self.ask(status)
            return self.tell(status, vectors, notes, self._scored(vectors, self._keys(status)[1]))

        return jax.lax.while_loop(lambda status: status.round < stop, once, status)

    @standard_promotion()
    def ask(self, status: Status) -> tuple[Array, dict[str, dict[str, Array]]]:
        """The vectors of all methods, one after the other, and their notes."""
        key = self._keys(status)[0]
        asked = {
            name: method.ask(status.states[name], jax.random.fold_in(key, i))
            for i, (name, method) in enumerate(self.methods.items())
        }
        return jnp.concatenate([one.vectors for one in asked.values()]), {n: one.notes for n, one in asked.items()}

    @standard_promotion()
    def tell(self, status: Status, vectors: Array, notes: dict[str, dict[str, Array]], scores: Array) -> Status:
        """The status after a round with these scores."""
        told = jnp.where(jnp.isfinite(scores), scores, -jnp.inf)
        states, records, first = {}, {}, 0
        for name, method in self.methods.items():
            rows = slice(first, first := first + method.children)
            states[name] = method.tell(status.states[name], vectors[rows], told[rows])
            values = {"choices": vectors[rows], "scores": scores[rows], **notes[name]}
            old = status.records[name]
            new = {field: getattr(old, field).at[status.round].set(value) for field, value in values.items()}
            records[name] = dataclasses.replace(old, **new)
        return Status(status.round + 1, status.key, states, records)

    def _keys(self, status: Status) -> jax.Array:
        """For asking and for scoring."""
        return jax.random.split(jax.random.fold_in(status.key, status.round))

    def _scored(self, vectors: Array, key: jax.Array) -> Array:
        return checked_scores(self.score(vectors, key), len(vectors))

    def _empty(self, method: Method, state: Any) -> Record:
        shape = self.rounds, method.children, len(method.decisions.options)
        with standard_promotion():
            notes = jax.eval_shape(method.ask, state, jax.random.key(0)).notes
        return Record(
            choices=jnp.zeros(shape, jnp.int32),
            scores=jnp.full(shape[:2], jnp.nan, jnp.float32),
            **{name: jnp.full((self.rounds, *note.shape), jnp.nan, note.dtype) for name, note in notes.items()},
        )


class Compiled:
    """A search as one program, which can be looked at before it runs."""

    @jit_without_nan_checks()
    def __init__(self, search: Search, key: jax.Array):
        self.search, self.begin = search, search.start(key)
        try:
            closed, shape = jax.make_jaxpr(search.advance, return_shape=True)(self.begin, jnp.int32(0))
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            error.add_note("score and reward must be JAX functions; with host=True, score may be any Python function")
            raise
        self._closed, self._structure = closed, jax.tree.structure(shape)
        self.compile_seconds = 0.0
        self._lowered: Any = None
        self._call: Any = None

    @property
    def traced(self) -> bool:
        """Whether this happens within somebody's `jit` or `vmap`."""
        return checks.is_traced((self._closed.consts, self.begin))

    def inline(self, stop: int) -> Status:
        """The status after `stop` rounds, as part of somebody's program."""
        leaves = self._evaluate(self._closed.consts, jax.tree.leaves((self.begin, jnp.int32(stop))))
        return jax.tree.unflatten(self._structure, leaves)

    @jit_without_nan_checks()
    def compile(self) -> int:
        """Compiles; returns the bytes that the program takes on each device beside its arguments."""
        if self._call is None:
            began = time.perf_counter()
            self._call = self._lower().compile()
            self.compile_seconds = time.perf_counter() - began
        return memory_of(self._call)

    @jit_without_nan_checks()
    def run(self, directory: Path | None, progress: bool, *, finite: bool = False) -> dict[str, Record]:
        """All rounds, from where the directory says; `finite` forbids scores that are not."""
        snapshots = None
        if directory is not None:
            mark = fingerprint(self._lower().as_text(), (self._closed.consts, self.begin))
            snapshots = Snapshots(directory, mark)
        status = self.begin if snapshots is None else snapshots.latest(self.begin)
        rounds, done, size = self.search.rounds, int(status.round), 1
        if done < rounds:
            self.compile()
        with ProgressBar("rounds", rounds, show=progress) as bar, RoundsDone(status, rounds) as so_far:
            while done < rounds:
                began = time.perf_counter()
                leaves = self._call(self._closed.consts, jax.tree.leaves((status, jnp.int32(min(done + size, rounds)))))
                status = jax.block_until_ready(jax.tree.unflatten(self._structure, leaves))
                each = (time.perf_counter() - began) / size
                size = max(1, min(2 * size, int(_PAUSE / each)))
                if finite:
                    check_finite(status.records, done, int(status.round))
                so_far.status, done = status, int(status.round)
                if snapshots is not None:
                    snapshots.write(status)
                bar.update(done, _news(status.records, done))
        return so_far.records()

    def _lower(self) -> Any:
        """Data that the score closes over are arguments: as constants they would be compiled into the program."""
        if self._lowered is None:
            arguments = self._closed.consts, jax.tree.leaves((self.begin, jnp.int32(0)))
            self._lowered = jax.jit(self._evaluate).lower(*arguments)
        return self._lowered

    def _evaluate(self, consts: Any, leaves: Any) -> Any:
        return jax.core.eval_jaxpr(self._closed.jaxpr, consts, *leaves)


def alone(method: Method, score: Score, rounds: Any, key: Any, *, host: bool, directory: Any, progress: bool) -> Record:
    """One method with a user's score: pure, unless it runs on the host, keeps a directory or shows a bar.

    Raises:
        ValueError, TypeError: if an argument or a score is not allowed.
    """
    if not callable(score):
        raise TypeError(f"score must be a function; got {type(score).__name__}")
    rounds = checks.check_count("rounds", rounds)
    host, progress = checks.check_flag("host", host), checks.check_flag("progress", progress)
    directory = None if directory is None else checked_path("directory", directory)
    search = Search({"it": method}, lambda vectors, key: score(vectors), rounds)
    if directory is not None:
        make_directory("directory", directory)
    if host:
        if checks.is_traced(key):
            raise ValueError("host must be False within jit and vmap; got True")
        return _on_host(search, score, as_key(key), directory, progress)
    compiled = Compiled(search, as_key(key))
    if compiled.traced:
        if directory is not None:
            raise ValueError(f"directory must be None within jit and vmap; got {directory}")
        return compiled.inline(rounds).records["it"]
    return compiled.run(directory, progress, finite=True)["it"]


def _on_host(search: Search, score: Score, key: jax.Array, directory: Path | None, progress: bool) -> Record:
    """The same with a score that JAX knows nothing of."""
    ask, tell = jit_without_nan_checks()(jax.jit(search.ask)), jit_without_nan_checks()(jax.jit(search.tell))
    status = jit_without_nan_checks()(search.start)(key)
    snapshots = None
    if directory is not None:
        vectors, notes = ask(status)
        with jit_without_nan_checks():
            told = jax.jit(search.tell).lower(status, vectors, notes, jnp.zeros(len(vectors)))
            program = jax.jit(search.ask).lower(status).as_text() + told.as_text()
        snapshots = Snapshots(directory, fingerprint(program, (status, search.rounds)))
        status = snapshots.latest(status)
    with ProgressBar("rounds", search.rounds, show=progress) as bar, RoundsDone(status, search.rounds) as so_far:
        while (done := int(status.round)) < search.rounds:
            vectors, notes = ask(status)
            scores = checked_scores(score(np.array(vectors)), len(vectors))
            status = tell(status, vectors, notes, scores)
            check_finite(status.records, done, done + 1)
            so_far.status = status
            if snapshots is not None:
                snapshots.write(status)
            bar.update(done + 1, _news(status.records, done + 1))
    return so_far.records()["it"]


def checked_scores(scores: Any, count: int) -> Array:
    """float32[count].

    Raises:
        ValueError: if there are not so many.
        TypeError: if they are not real numbers.
    """
    try:
        array = jnp.asarray(scores)
    except (TypeError, ValueError) as error:
        raise TypeError(f"score must return real numbers; got {type(scores).__name__}") from error
    if array.shape != (count,):
        raise ValueError(f"score must return one number for each of {count} vectors; got shape {array.shape}")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"score must return real numbers; got {array.dtype}")
    return array.astype(jnp.float32)


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


def _news(records: Mapping[str, Record], done: int) -> str:
    scores = np.concatenate([np.asarray(record.scores[:done]).ravel() for record in records.values()])
    return f"best {np.nanmax(scores):.4g}" if np.isfinite(scores).any() else ""
