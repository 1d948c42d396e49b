"""A population that learns while it trains: rounds of training, then the worst go on from the best."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.numerics import standard_promotion
from lectopt._internal.types import Array
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared
from lectopt.engine.splitting import DeviceRow
from lectopt.strategies.truncation import Truncation

Lane = Callable[[Any, FoldAndSeed, Any, Shared], Outcome]
Explore = Callable[[dict[str, Array], Array], dict[str, Array]]
"""(numbers of the parents, round) -> those of their copies, [n] each."""


class Generations(NamedTuple):
    """What was trained, round by round: rounds come first, then members, then pairs of fold and seed."""

    numbers: dict[str, Array]  # [rounds, n]
    parents: Array  # int32[rounds, n], from which member of the round before each went on
    metrics: dict[str, Array]  # float32[rounds, n, pairs]
    diverged_at: Array  # int32[rounds, n, pairs]


class PopulationState(NamedTuple):
    """All that there is between two rounds. Directories keep it by the names of its fields."""

    round: Array  # int32[], how many are done
    key: jax.Array  # data of that of the search
    numbers: dict[str, Array]  # [n], of the next round
    parents: Array  # int32[n], of the next round
    kept: Any  # arrays [n, pairs, ...], what lanes go on from
    records: Generations  # of all rounds, those to come too


@dataclasses.dataclass(frozen=True)
class PopulationRounds:
    """Rounds of a population, as `RoundProgram` runs them."""

    first: Lane
    later: Lane
    numbers: Mapping[str, np.ndarray]
    pairs: FoldAndSeed
    shared: Shared  # its key is the state's
    metric: str
    maximizes: bool
    truncation: Truncation
    uniforms: np.ndarray  # float32[rounds, n], which choose parents
    explore: Explore
    devices: tuple[Any, ...]
    at_once: int  # members side by side on a device
    outcome: Outcome  # the shapes of a lane's
    total: int

    def start(self, key: jax.Array) -> PopulationState:
        """Returns the state before the first round."""
        n, pairs = len(self.uniforms[0]), len(self.pairs.fold)
        shape = self.total, n, pairs
        records: Any = (
            {name: np.zeros((self.total, n), column.dtype) for name, column in self.numbers.items()},
            np.zeros((self.total, n), np.int32),
            {name: np.full(shape, np.nan, np.float32) for name in self.outcome.metrics},
            np.full(shape, -1, np.int32),
        )
        kept = jax.tree.map(lambda leaf: np.zeros((n, pairs, *leaf.shape), leaf.dtype), self.outcome.kept)
        # In NumPy, of which nothing compiles.
        begin: Any = np.int32(0), np.asarray(jax.random.key_data(key))
        following: Any = dict(self.numbers), np.arange(n, dtype=np.int32)
        return PopulationState(begin[0], begin[1], following[0], following[1], kept, Generations(*records))

    def advance(self, state: PopulationState, stop: Any) -> PopulationState:
        """Returns the state after `stop` rounds."""
        fresh = (state.round == 0) & (stop > 0)
        state = jax.lax.cond(fresh, lambda s: self._round(s, self.first), lambda s: s, state)
        return jax.lax.while_loop(lambda s: s.round < stop, lambda s: self._round(s, self.later), state)

    def losses(self, metrics: Mapping[str, Array]) -> Array:
        """Returns what the members are ranked by, lower is better: the mean over folds and seeds."""
        scores = jnp.mean(metrics[self.metric], axis=-1)
        return -scores if self.maximizes else scores

    def best(self, records: Generations, done: int) -> str:
        """Returns the best score of the last round that is done, as a progress bar shows it."""
        losses = np.mean(np.asarray(records.metrics[self.metric])[done - 1], axis=-1)
        known = losses[np.isfinite(losses)]
        best = (np.max if self.maximizes else np.min)(known) if known.size else np.nan
        return f"best {self.metric} {best:.4g}" if known.size else ""

    def _round(self, state: PopulationState, lane: Lane) -> PopulationState:
        outcome = self._trained(state, lane)
        old, now = state.records, state.round
        records = Generations(
            {name: column.at[now].set(state.numbers[name]) for name, column in old.numbers.items()},
            old.parents.at[now].set(state.parents),
            {name: column.at[now].set(outcome.metrics[name]) for name, column in old.metrics.items()},
            old.diverged_at.at[now].set(outcome.diverged_at),
        )
        with standard_promotion():
            parents = self.truncation.parents(self.losses(outcome.metrics), jnp.asarray(self.uniforms)[now])
            copied = parents != jnp.arange(len(parents))
            taken = {name: column[parents] for name, column in state.numbers.items()}
            explored = self.explore(taken, now)
            numbers = {name: jnp.where(copied, explored[name], column) for name, column in state.numbers.items()}
        return PopulationState(now + 1, state.key, numbers, parents, outcome.kept, records)

    def _trained(self, state: PopulationState, lane: Lane) -> Outcome:
        """Trains all members for a round, split over the devices."""
        key = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(self.shared.key))
        key = jnp.where(state.round == 0, key, jax.random.fold_in(key, state.round))  # another shuffling in each
        n, devices = len(state.parents), len(self.devices)
        each = -(-n // devices)
        rows = np.resize(np.arange(n), each * devices)  # padded with the first ones again
        kept = jax.tree.map(lambda leaf: leaf[state.parents[rows]], state.kept)

        def one(member: tuple[dict[str, Array], Any], key: jax.Array) -> Outcome:
            shared = self.shared._replace(key=key)
            return jax.vmap(lambda pair, start: lane(member[0], pair, start, shared))(self.pairs, member[1])

        def part(members: tuple[dict[str, Array], Any], key: jax.Array) -> Outcome:
            if self.at_once >= each:
                return jax.vmap(one, in_axes=(0, None))(members, key)
            return jax.lax.map(lambda member: one(member, key), members, batch_size=self.at_once)

        members = {name: column[rows] for name, column in state.numbers.items()}, kept
        split = DeviceRow(self.devices, "members").split(part, in_axes=(0, None), out_axes=0)
        return jax.tree.map(lambda leaf: leaf[:n], split(members, key))
