"""Rounds of a search over vectors of choices: ask each method, score what all of them proposed, tell each.

Several methods go on side by side.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lectopt._internal.numerics import standard_promotion
from lectopt._internal.types import Array
from lectopt.strategies.choices import Decisions, Record

Score = Callable[[Any], Any]
"""int32[children, decisions] -> float[children], in JAX or on the host; higher is better."""


class Proposal(NamedTuple):
    """What a method wants to try, and notes on how it chose."""

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
        """Returns the state before the first round."""

    def ask(self, state: Any, key: jax.Array) -> Proposal:
        """Returns what to try next."""

    def tell(self, state: Any, vectors: Array, scores: Array) -> Any:
        """Returns the state after this was tried; a missing score is minus infinity."""


class RoundState(NamedTuple):
    """All that there is between two rounds. Directories keep it by the names of its fields."""

    round: Array  # int32[], how many are done
    key: jax.Array
    states: dict[str, Any]  # of the methods
    records: dict[str, Record]  # of all rounds, those to come too


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds of methods side by side, with one score(vectors, key) -> float[children of all]."""

    methods: Mapping[str, Method]
    score: Callable[[Array, jax.Array], Any]
    total: int  # how many rounds there are

    def start(self, key: jax.Array) -> RoundState:
        """Returns the state before the first round."""
        key_states, key_rounds = jax.random.split(key)
        states = {
            name: method.init(jax.random.fold_in(key_states, i))
            for i, (name, method) in enumerate(self.methods.items())
        }
        records = {name: self._empty(method, states[name]) for name, method in self.methods.items()}
        return RoundState(jnp.int32(0), key_rounds, states, records)

    def advance(self, state: RoundState, stop: Any) -> RoundState:
        """Returns the state after `stop` rounds."""

        def once(state: RoundState) -> RoundState:
            vectors, notes = self.ask(state)
            return self.tell(state, vectors, notes, self._scored(vectors, self._keys(state)[1]))

        return jax.lax.while_loop(lambda state: state.round < stop, once, state)

    @standard_promotion()
    def ask(self, state: RoundState) -> tuple[Array, dict[str, dict[str, Array]]]:
        """Returns the vectors of all methods, one after the other, and their notes."""
        key = self._keys(state)[0]
        proposals = {
            name: method.ask(state.states[name], jax.random.fold_in(key, i))
            for i, (name, method) in enumerate(self.methods.items())
        }
        vectors = jnp.concatenate([proposal.vectors for proposal in proposals.values()])
        return vectors, {name: proposal.notes for name, proposal in proposals.items()}

    @standard_promotion()
    def tell(self, state: RoundState, vectors: Array, notes: dict[str, dict[str, Array]], scores: Array) -> RoundState:
        """Returns the state after a round with these scores."""
        told = jnp.where(jnp.isfinite(scores), scores, -jnp.inf)
        states, records, first = {}, {}, 0
        for name, method in self.methods.items():
            rows = slice(first, first := first + method.children)
            states[name] = method.tell(state.states[name], vectors[rows], told[rows])
            values = {"choices": vectors[rows], "scores": scores[rows], **notes[name]}
            old = state.records[name]
            new = {field: getattr(old, field).at[state.round].set(value) for field, value in values.items()}
            records[name] = dataclasses.replace(old, **new)
        return RoundState(state.round + 1, state.key, states, records)

    def _keys(self, state: RoundState) -> jax.Array:
        """Returns the keys for asking and for scoring."""
        return jax.random.split(jax.random.fold_in(state.key, state.round))

    def _scored(self, vectors: Array, key: jax.Array) -> Array:
        return checked_scores(self.score(vectors, key), len(vectors))

    def _empty(self, method: Method, state: Any) -> Record:
        shape = self.total, method.children, len(method.decisions.options)
        with standard_promotion():
            notes = jax.eval_shape(method.ask, state, jax.random.key(0)).notes
        return Record(
            choices=jnp.zeros(shape, jnp.int32),
            scores=jnp.full(shape[:2], jnp.nan, jnp.float32),
            **{name: jnp.full((self.total, *note.shape), jnp.nan, note.dtype) for name, note in notes.items()},
        )


def checked_scores(scores: Any, count: int) -> Array:
    """Returns the scores as float32[count].

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
