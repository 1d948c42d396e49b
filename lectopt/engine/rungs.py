"""A rung as a lane: a training that goes on where the one of the rung before has ended."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal.trees import unflatten_in_order
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared, Trial, outcome
from lectopt.training.run import Run


class RungLane:
    """One rung as a lane: some epochs or steps more, and what the next one starts from."""

    def __init__(
        self,
        trial: Trial,
        static: Mapping[str, Any],
        index: int,
        length: int,
        before: "RungLane | None",
        what: str = "halving",
        unit: str = "epochs",
    ):
        self._trial = trial
        self._what = what  # asks for it
        self.static = static
        self._index = index
        self._length, self._unit = length, unit  # how long it is, in epochs or steps
        self._before = before
        self.steps = 0  # of this rung alone, known once it has been traced
        self._run: Any = None  # the shapes of a run at the end of this rung, known once it has been traced

    def __call__(self, numbers: dict[str, Any], pair: FoldAndSeed, start: Any, shared: Shared) -> Outcome:
        """Returns the outcome of a lane; `start` is what the previous rung kept."""
        run = self.run(numbers, pair, None if self._before is None else self._before.ended(start), shared)
        self.steps = run.history.length
        bare = without_records(run)
        self._run = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), bare)
        return outcome(run)._replace(kept=[as_data(leaf) for leaf in jax.tree.leaves(bare)])

    def ended(self, kept: list[Any]) -> Run:
        """Returns the run, without its records, of which a lane at this rung kept so much."""
        return unflatten_in_order("start", kept, self._run)

    def run(self, numbers: Mapping[str, Any], pair: FoldAndSeed, start: Run | None, shared: Shared) -> Run:
        """Returns the run at the end of this rung."""
        if self._index:  # another shuffling than in the epochs before
            shared = shared._replace(key=jax.random.fold_in(shared.key, self._index))
        start = None if start is None else without_records(start)  # each rung has a history of its own
        run = self._trial.call({**self.static, **numbers}, pair, shared, start=start, **{self._unit: self._length})
        if not isinstance(run, Run):
            raise TypeError(f"trial must return a lectopt.Run for {self._what}; it returned {type(run).__name__}")
        epochs = max(len(record) for record in run.history.epochs.values())
        if (found := epochs if self._unit == "epochs" else run.history.length) != self._length:
            raise ValueError(
                f"trial must pass {self._unit} on to lectopt.train for {self._what}; given {self._length}, its run has "
                f"{found}"
            )
        return run


def without_records(run: Run) -> Run:
    """Returns the run as a training starts from it whose history is its own."""
    records: dict[str, Any] = {"steps": {}, "epochs": {}, "layers": OrderedDict(), "validations": {}}
    history = dataclasses.replace(run.history, **records, diverged_at=jnp.int32(-1))
    return dataclasses.replace(run, metrics={}, history=history, diverged_at=jnp.int32(-1))


def as_data(leaf: jax.Array) -> jax.Array:
    """Returns a leaf as an array of numbers: of a random key, its data."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
