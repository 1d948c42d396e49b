"""What greedy and end-to-end pre-training have in common: their arguments, and the training of one stage."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, shapes
from lectopt._internal.keys import as_key
from lectopt.data.batches import batch_shapes, steps_per_epoch
from lectopt.data.subsets import Subset, as_subset, check_finite
from lectopt.pretraining.corruption import Corrupt, as_corruption
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training.arguments import step_count
from lectopt.training.fitting import fit
from lectopt.training.run import Run
from lectopt.training.starting import Start, init_from_inputs
from lectopt.training.training import train


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every stage is trained."""

    task: Task
    inputs: Subset
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
        shown = checks.check_flag("progress", progress)
        if not isinstance(task, Task):
            task = Task(task, objective=_no_objective)
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                f"optimizer must be an Optax GradientTransformation, such as lo.adam(1e-3); got {optimizer!r:.60}"
            )
        subset = unlabelled_inputs(inputs, "inputs")
        options["valid"] = None if valid is None else unlabelled_inputs(valid, "valid")
        if valid is not None and _shape(options["valid"]) != _shape(subset):
            raise ValueError(
                f"valid must have examples of shape {_shape(subset)}, as inputs; got {_shape(options['valid'])}"
            )
        batch_size = checks.check_count("batch_size", options["batch_size"])
        step_count(options["epochs"], options["steps"], steps_per_epoch(subset.capacity, batch_size))
        recipe = cls(task, subset, options, as_corruption(corruption), as_key(key), shown)
        recipe.check("the network", task, task.outputs)
        return recipe

    @property
    def shapes(self) -> Any:
        """The shapes of a batch of inputs."""
        return batch_shapes(self.inputs, self.options["batch_size"])[0]

    def init(self) -> tuple[Params, ModelState]:
        """Returns the network's parameters and state that `train` would start from with this key."""
        return init_from_inputs(self.task, self.key, self.inputs)

    def check(self, what: str, task: Task, function: Callable[..., Any]) -> None:
        """Raises ValueError, before anything compiles, unless (params, state, ...) -> ... takes the inputs."""

        def call(key: jax.Array, x: Any) -> Any:
            params, state = task.init(key, (x,))
            return function(params, state, x, key, True)

        x = self.shapes
        shapes.output_shapes(f"{what} must fit the inputs, {x.dtype}{list(x.shape)}", call, jax.random.key(0), x)

    def run(
        self, stage: Task, optimizer: optax.GradientTransformation, params: Params, state: ModelState, number: int
    ) -> Run:
        """Trains a stage, its network from these parameters, its decoder from fresh ones."""
        self.check("network, corruption and decoder", stage, lambda p, s, x, *rest: stage.scores(p, s, (x,), *rest))
        key = jax.random.fold_in(self.key, number)
        initial_params, initial_state = init_from_inputs(stage, key, self.inputs)
        variables = {**initial_state.variables, "network": state.variables}
        start = Start({**initial_params, "network": params}, variables)
        options: dict[str, Any] = {**self.options, "key": key, "start": start}
        if checks.is_traced((self.key, self.inputs, jnp.zeros(()))):  # the last one is, inside of any `jit`
            return train(stage, optimizer, self.inputs, **options)
        return fit(stage, optimizer, self.inputs, progress=self.progress, **options)


def unlabelled_inputs(examples: Any, name: str) -> Subset:
    """Returns one array of inputs as a Subset.

    Raises:
        TypeError: if it is no array of real numbers.
        ValueError: if there are labels beside it, or its numbers are not finite.
    """
    if isinstance(examples, (tuple, Subset)):
        arrays = examples.arrays if isinstance(examples, Subset) else examples
        if len(arrays) != 1:
            raise ValueError(
                f"{name} must be one array without labels; got {len(arrays)} arrays: give the first alone, or "
                "subset.unlabelled() of a Subset"
            )
    else:
        arrays = (examples,)
    initial_state = type(arrays[0]).__name__
    if jax.tree_util.all_leaves(arrays):
        subset = as_subset(examples if isinstance(examples, Subset) else arrays, name)
        initial_state += f" of {subset.arrays[0].dtype}"
    if not jax.tree_util.all_leaves(arrays) or jnp.iscomplexobj(subset.arrays[0]):
        raise TypeError(f"{name} must be an array [n, ...] of real numbers, or a Subset; got {initial_state}")
    check_finite(subset, name)
    return subset


def _shape(subset: Subset) -> tuple[int, ...]:
    """Returns the shape of one example."""
    return subset.arrays[0].shape[1:]


def _no_objective(model: Any, batch: Any, key: jax.Array) -> Any:
    raise AssertionError("a network that is only pre-trained has no objective of its own")
