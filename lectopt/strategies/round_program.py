"""Rounds of a search over vectors of choices as one compiled program."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.chunk_sizes import next_size
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.run_directories import fingerprint
from lectopt.engine.program_cache import Programs, programs_of
from lectopt.engine.tracing import CompiledProgram, TracedProgram
from lectopt.strategies.rounds import RoundState

_SECONDS = 0.5
"""After about so many the program comes back, so that what is done can be shown and kept."""


class RoundProgram:
    """A search as one program, which can be looked at before it runs."""

    @jit_without_nan_checks()
    def __init__(self, rounds: Any, key: jax.Array, owner: Callable[..., Any] | None = None):
        """Traces rounds: `Rounds`, or what starts and advances a state as they do.

        What is compiled is kept for later searches, as long as there is the user's function `owner`.
        """
        self.owner = owner
        self.rounds, self.start = rounds, rounds.start(key)
        self._structure = jax.tree.structure(self.start)

        def advance(arguments: tuple[RoundState, Any]) -> list[Any]:
            return jax.tree.leaves(rounds.advance(*arguments))

        try:
            # The fingerprints of directories depend on this name, and on leaves being returned.
            self._traced = TracedProgram(advance, (self.start, jnp.int32(0)), name="_evaluate")
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            error.add_note("score and reward must be JAX functions; with host=True, score may be any Python function")
            raise
        self._size = 1  # rounds at once
        self.compile_seconds = 0.0  # of what was not there before

    @property
    def is_traced(self) -> bool:
        """Whether this happens within somebody's `jit` or `vmap`."""
        return checks.is_traced((self._traced.closed_over, self.start))

    @property
    def memory(self) -> int:
        """The bytes that the program takes on each device beside its arguments."""
        return self.compile().memory

    @property
    def fingerprint(self) -> str:
        """What tells this search from others."""
        return fingerprint(self._lowered.as_text(), (self._traced.closed_over, self.start))

    def inline(self, stop: int) -> RoundState:
        """Returns the state after `stop` rounds, as part of a program that is being traced."""
        return self._state(self._traced(self._arguments(self.start, stop)))

    @jit_without_nan_checks()
    def compile(self) -> CompiledProgram:
        """Returns the program, compiled on the first call."""
        if "rounds" not in self._programs:
            self._programs.begin("rounds", self._lowered, None)
            self.compile_seconds = self._programs.seconds("rounds")
        return self._programs.get("rounds")

    def advance(self, state: RoundState) -> RoundState:
        """Returns the state some rounds later."""
        stop = min(int(state.round) + self._size, self.rounds.total)
        began = time.perf_counter()
        leaves = jax.block_until_ready(self.compile().call(self._arguments(state, stop)))
        self._size = next_size(self._size, time.perf_counter() - began, target=_SECONDS, growth=2)
        return self._state(leaves)

    def _arguments(self, state: RoundState, stop: int) -> Any:
        return self._traced.closed_over, (state, jnp.int32(stop))

    def _state(self, leaves: list[Any]) -> RoundState:
        return jax.tree.unflatten(self._structure, leaves)

    @functools.cached_property
    def _programs(self) -> Programs:
        if self.owner is None:
            return Programs()
        return programs_of(self.owner, self._lowered.as_text, self._lowered.in_tree)

    @functools.cached_property
    def _lowered(self) -> jax.stages.Lowered:
        return self._traced.lower(self._arguments(self.start, 0))
