"""From what a user gives as `start` to the arrays that a training starts from."""

import numbers
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.trees import leaves_by_path, paths, same_structure, unflatten_in_order, unflatten_like
from lectopt.data.batches import Batch
from lectopt.tasks.models import Params
from lectopt.tasks.task import ModelState, Task
from lectopt.training.origin import Origin
from lectopt.training.run import Run


def as_origin(task: Task, start: Any, key: jax.Array, batch: Batch) -> Origin:
    """What `start` holds: a Run, its `start`, a module, or parameters. `batch` is some examples to make a model for."""
    if isinstance(start, Origin):
        return start
    if isinstance(start, Run):
        start.check_single()
        return start.start._replace(params=start.lookahead_params, opt_state=start.opt_state)
    given = _taken_apart(start)
    _check_numbers(start, given.params)
    if given.variables is None and given.known and (others := _other_variables(task, key, batch)):
        warnings.warn(
            f"start holds parameters alone: the other variables of the model ({others}) begin afresh, and so do its "
            "outputs in evaluation; start=run.start keeps them",
            stacklevel=4,
        )
    if not task.adapter.has_weights:
        return given
    params, state = task.init(key, batch)
    return Origin(
        params=given.params if given.known else params,
        variables=state.variables if given.variables is None else given.variables,
    )


def continued(origin: Origin, params: Params, state: ModelState) -> tuple[Params, ModelState]:
    """The fresh parameters and model state, with what the origin holds in its place."""
    if origin.params is not None:
        if paths(origin.params) != paths(params):
            names = " and ".join(", ".join(map("/".join, paths(tree))) for tree in (params, origin.params))
            raise ValueError(
                f"start must have the parameters of this task; they are {names}. Of a run, give start=run or run.start"
            )
        params = unflatten_in_order("start for this task", jax.tree.leaves(origin.params), params)
    if origin.variables is not None:
        kept = unflatten_like(
            "the model state of start, for this task,", leaves_by_path(origin.variables), state.variables
        )
        state = state._replace(variables=kept)
    if origin.inputs is not None:
        if _shapes_of(origin.inputs) != _shapes_of(state.inputs):
            raise ValueError(
                "start holds how inputs are standardised, which the task must do too (standardize=True), with as many "
                f"features; start has {origin.inputs.mean.shape}, the task "
                f"{'none' if state.inputs is None else state.inputs.mean.shape}"
            )
        state = state._replace(inputs=origin.inputs)
    return params, state


def resumed(origin: Origin, opt_state: optax.OptState) -> optax.OptState:
    """The optimizer's state of the origin, where it has one, in the place of the fresh one."""
    if origin.opt_state is None:
        return opt_state
    if not same_structure(origin.opt_state, opt_state):
        raise ValueError(
            "start must be a run of this optimizer, for its state; start=run.start begins with a new one, from the "
            "run's weights and the other variables of its model"
        )
    leaves = jax.tree.leaves(origin.opt_state)
    return unflatten_in_order("the optimizer state of start, for this optimizer,", leaves, opt_state)


def _taken_apart(start: Any) -> Origin:
    """Parameters, and the other variables where `start` is a module, or its state, that has some."""
    if isinstance(start, nnx.Module):
        start = nnx.state(start)
    if not isinstance(start, nnx.State) or not all(map(_is_variable, jax.tree.leaves(start, is_leaf=_is_variable))):
        return Origin(start)
    params, _, variables = nnx.split_state(start, nnx.Param, (nnx.RngState, nnx.Intermediate), ...)
    return Origin(nnx.as_pure(params), nnx.as_pure(variables) if jax.tree.leaves(variables) else None)


def _check_numbers(start: Any, params: Params) -> None:
    for leaf in jax.tree.leaves(params):
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


def _other_variables(task: Task, key: jax.Array, batch: Batch) -> str:
    """The names of the model's variables that are not trained."""
    _, state = jax.eval_shape(task.init, key, batch)
    names = ["/".join(path) for path in paths(state.variables)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shapes_of(tree: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
