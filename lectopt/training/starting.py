"""What a training starts from: new weights and what is learned from its examples, or what `start` gives."""

import numbers
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.trees import leaves_by_path, paths, same_structure, unflatten_in_order, unflatten_like
from lectopt.data.batches import Batch, batch_shapes
from lectopt.data.subsets import Subset
from lectopt.norms.moments import Moments
from lectopt.norms.standardize import Standardize
from lectopt.optim.step_records import renew_constants
from lectopt.tasks.model_state import ModelState, learn_inputs
from lectopt.tasks.models import Params, State
from lectopt.tasks.task import Task
from lectopt.training.history import History

_EXAMPLES_SHOWN = 8
"""So many examples show a model the shape of its inputs, when it is initialized."""


class Start(NamedTuple):
    """Where to start from; what is None is initialized, learned from the training examples, or created as always."""

    params: Params | None = None
    variables: State | None = None
    inputs: Moments | None = None  # how they are standardized
    opt_state: optax.OptState | None = None  # `UntypedTree` after `load`
    history: History | None = None  # that goes on
    targets: Subset | None = None  # all of them, where the training examples that are there are not all


def init_from_inputs(task: Task, key: jax.Array, examples: Subset) -> tuple[Params, ModelState]:
    """Returns new parameters and model state, with the moments of the inputs if the task standardizes them."""
    params, state = task.init(jax.random.fold_in(key, 2), first_examples(examples))
    return params, learn_inputs(state, examples)


def init_from_examples(
    task: Task, key: jax.Array, train: Subset, targets: Subset | None = None
) -> tuple[Params, ModelState]:
    """Returns the parameters and model state of a training with this key: the targets set the output bias.

    These are those of `train`, unless given.
    """
    params, state = init_from_inputs(task, key, train)
    return task.learn_output_bias(params, train if targets is None else targets), state


def first_examples(examples: Subset) -> Batch:
    """Returns a few examples, to initialize a model with."""
    return examples.take(examples.indices[:_EXAMPLES_SHOWN])


def as_start(task: Task, start: Any, key: jax.Array, train: Subset) -> Start:
    """Converts what was given as `start`: that of a run, a module, or parameters; `train` shows the model inputs."""
    if isinstance(start, Start):
        return start
    given = _split(start)
    _check_numbers(start, given.params)
    if given.variables is None and given.params is not None and (others := _other_variables(task, key, train)):
        warnings.warn(
            f"start holds parameters alone: the other variables of the model ({others}) begin afresh, and so do its "
            "outputs in evaluation; start=run.start keeps them",
            stacklevel=4,
        )
    if not task.adapter.has_weights:
        return given
    params, state = task.init(key, first_examples(train))
    return Start(
        params=params if given.params is None else given.params,
        variables=state.variables if given.variables is None else given.variables,
        inputs=given.inputs,
    )


def replace_model(start: Start, params: Params, state: ModelState) -> tuple[Params, ModelState]:
    """Replaces new parameters and model state by those of the start, if it has some."""
    if start.params is not None:
        if paths(start.params) != paths(params):
            names = " and ".join(", ".join(map("/".join, paths(tree))) for tree in (params, start.params))
            raise ValueError(
                f"start must have the parameters of this task; they are {names}. Of a run, give start=run or run.start"
            )
        params = unflatten_in_order("start for this task", jax.tree.leaves(start.params), params)
    if start.variables is not None:
        kept = unflatten_like(
            "the model state of start, for this task,", leaves_by_path(start.variables), state.variables
        )
        state = state._replace(variables=kept)
    if start.inputs is not None:
        if _shapes_of(start.inputs) != _shapes_of(state.inputs):
            raise ValueError(
                "start holds how inputs are standardised, which the task must do too (standardize=True), with as many "
                f"features; start has {start.inputs.mean.shape}, the task "
                f"{'none' if state.inputs is None else state.inputs.mean.shape}"
            )
        state = state._replace(inputs=start.inputs)
    return params, state


def replace_opt_state(start: Start, opt_state: optax.OptState) -> optax.OptState:
    """Replaces a new optimizer state by that of the start, if it has one."""
    if start.opt_state is None:
        return opt_state
    if not same_structure(start.opt_state, opt_state):
        raise ValueError(
            "start must be a run of this optimizer, for its state; start=run.start begins with a new one, from the "
            "run's weights and the other variables of its model"
        )
    leaves = jax.tree.leaves(start.opt_state)
    left = unflatten_in_order("the optimizer state of start, for this optimizer,", leaves, opt_state)
    return renew_constants(left, opt_state)


def _split(start: Any) -> Start:
    """Returns parameters, and the other variables if `start` is a module, or its state, that has some.

    Of a `Standardize`, what it has learned.
    """
    if isinstance(start, Standardize):
        if not np.all(np.asarray(start.count[...]) > 0):
            raise ValueError("start must be a Standardize that has learned something: by fit, or by partial_fit")
        return Start(inputs=start.statistics())
    if isinstance(start, nnx.Module):
        start = nnx.state(start)
    if not isinstance(start, nnx.State) or not all(map(_is_variable, jax.tree.leaves(start, is_leaf=_is_variable))):
        return Start(start)
    params, _, variables = nnx.split_state(start, nnx.Param, (nnx.RngState, nnx.Intermediate), ...)
    return Start(nnx.as_pure(params), nnx.as_pure(variables) if jax.tree.leaves(variables) else None)


def _check_numbers(start: Any, params: Params) -> None:
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, int) and not -(2**31) <= leaf < 2**31:
            raise ValueError(f"start must hold numbers that int32 holds; got {leaf}")
        kind = getattr(getattr(leaf, "dtype", np.dtype(object)), "kind", None)  # a key's dtype has none
        if isinstance(leaf, numbers.Number) or kind not in tuple("OSUMm"):
            continue
        place = (
            "; of a run on disk, give lectopt.load(path, task)"
            if leaf is start
            else f" in a {checks.type_description(start)}"
        )
        raise TypeError(
            "start must be a Run, its start, a module, or its parameters, a tree of arrays; got "
            f"{checks.value_and_type(leaf)}{place}"
        )


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _other_variables(task: Task, key: jax.Array, train: Subset) -> str:
    """Returns the names of the model's variables that are not trained."""
    _, state = jax.eval_shape(task.init, key, batch_shapes(train, _EXAMPLES_SHOWN))
    names = ["/".join(path) for path in paths(state.variables)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shapes_of(tree: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
