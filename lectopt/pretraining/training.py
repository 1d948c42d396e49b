"""What greedy and end-to-end pre-training have in common: their arguments, and the training of one stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lectopt import _checks
from lectopt._keys import as_key
from lectopt.evaluation import batch_shapes
from lectopt.fitting import fit
from lectopt.models import Params
from lectopt.pretraining.corruption import Corrupt, as_corruption
from lectopt.run import Run
from lectopt.setup import Origin, fresh
from lectopt.subsets import Subset, as_subset
from lectopt.task import ModelState, Task
from lectopt.training import train


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every stage is trained."""

    task: Task
    inputs: Subset
    optimizer: optax.GradientTransformation
    options: Mapping[str, Any]  # batch_size, epochs, steps, valid
    corrupt: Corrupt
    key: jax.Array
    progress: bool

    @classmethod
    def of(
        cls,
        task: Any,
        inputs: Any,
        optimizer: Any,
        *,
        valid: Any,
        corruption: Any,
        key: Any,
        progress: bool,
        **options: Any,
    ) -> "Recipe":
        """Checks the arguments and puts them together."""
        if not isinstance(task, Task):
            task = Task(task, objective=_nothing)
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(f"optimizer must be an Optax GradientTransformation; got {type(optimizer).__name__}")
        options["valid"] = None if valid is None else without_labels(valid, "valid")
        there = without_labels(inputs, "inputs")
        return cls(task, there, optimizer, options, as_corruption(corruption), as_key(key), progress)

    @property
    def shapes(self) -> Any:
        """The shapes of a batch of inputs."""
        return batch_shapes(self.inputs, _checks.check_count("batch_size", self.options["batch_size"]))[0]

    def begin(self) -> tuple[Params, ModelState]:
        """The network's parameters and state that `train` would start from with this key."""
        return fresh(self.task, self.key, self.inputs)

    def run(
        self, stage: Task, optimizer: optax.GradientTransformation, params: Params, state: ModelState, number: int
    ) -> Run:
        """Trains a stage, its network from these parameters, its decoder from fresh ones."""
        key = jax.random.fold_in(self.key, number)
        drawn, found = fresh(stage, key, self.inputs)
        variables = {**found.variables, "network": state.variables}
        options: dict[str, Any] = {**self.options, "key": key, "start": Origin({**drawn, "network": params}, variables)}
        if _checks.is_traced((self.key, self.inputs, jnp.zeros(()))):  # the last one is, inside of any `jit`
            return train(stage, optimizer, self.inputs, **options)
        return fit(stage, optimizer, self.inputs, progress=self.progress, **options)


def without_labels(examples: Any, name: str) -> Subset:
    """One array of inputs as a Subset.

    Raises:
        ValueError: if there are labels beside it.
    """
    if hasattr(examples, "shape"):
        return as_subset((examples,), name)
    subset = as_subset(examples, name)
    if len(subset.arrays) != 1:
        raise ValueError(
            f"{name} must be one array without labels; got {len(subset.arrays)} arrays: give the first alone, or "
            "subset.inputs() of a Subset"
        )
    return subset


def _nothing(model: Any, batch: Any, key: jax.Array) -> Any:
    raise AssertionError("a network that is only pre-trained has no objective of its own")
