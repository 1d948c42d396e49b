"""Predictions: outputs, probabilities and classes, and batches of one size for however many rows there are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import arrays, shapes
from lectopt._internal.types import Array
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task

Function = Callable[[Any], Any]
"""A batch of inputs, a tree of arrays [batch, ...] -> a tree of arrays [batch, ...]"""


def predict(task: Task, params: Params, state: ModelState, x: Any) -> Any:
    """Computes the outputs for inputs x, in evaluation mode."""
    outputs, _ = task.outputs(params, state, x, jax.random.key(0), training=False)
    return outputs


def probabilities(task: Task, params: Params, state: ModelState, x: Any) -> Array:
    """Computes the probabilities for inputs x, in evaluation mode."""
    return task.probabilities(predict(task, params, state, x))


def classes(task: Task, params: Params, state: ModelState, x: Any) -> Array:
    """Computes the most likely labels for inputs x, in evaluation mode."""
    return task.classes(predict(task, params, state, x))


def map_batches(function: Function, x: Any, batch_size: int, *, traced: bool) -> Any:
    """Applies a function of batches to all rows of x, a tree of arrays [n, ...].

    Fewer rows than a batch are padded to a power of two, and the last batch to its size, with rows of x.

    Raises:
        TypeError: if x holds other things than numbers.
        ValueError: if its arrays differ in length, the function cannot be called with them, or what it returns has not
            one row for each.
    """
    x = arrays.as_tree("x", x) if traced else arrays.as_tree("x", x, arrays.as_numpy)
    leaf_shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    if not leaf_shapes or () in leaf_shapes or len({shape[0] for shape in leaf_shapes}) > 1:
        raise ValueError(
            f"x must be arrays with one row for each example; got shapes {', '.join(map(str, leaf_shapes))}"
        )
    rows = leaf_shapes[0][0]
    size = min(batch_size, 2 ** max(rows - 1, 0).bit_length())
    if rows == 0:
        return _empty_outputs(function, x)
    batches = np.arange(-(-rows // size) * size).reshape(-1, size) % rows
    run = _in_one_program if traced else _batch_by_batch
    return jax.tree.map(lambda a: a[:rows], run(function, x, batches))


def _batch_by_batch(function: Function, x: Any, batches: np.ndarray) -> Any:
    parts = []
    for batch in batches:
        inputs = jax.tree.map(lambda a, batch=batch: a[batch], x)
        # Fetched before the next one begins: two batches are never in memory at once.
        parts.append(jax.tree.map(np.asarray, _checked(function, arrays.as_tree("x", inputs), len(batch))))
    return jax.tree.map(lambda *rows: jnp.asarray(np.concatenate(rows)), *parts)


def _in_one_program(function: Function, x: Any, batches: np.ndarray) -> Any:
    def call(batch: Any) -> Any:
        return _checked(function, jax.tree.map(lambda a: a[batch], x), batches.shape[1])

    outputs = jax.lax.map(call, jnp.asarray(batches))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), outputs)


def _empty_outputs(function: Function, x: Any) -> Any:
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype)), x)
    outputs = shapes.output_shapes(_problem(x), function, one)
    return jax.tree.map(lambda a: jnp.zeros((0, *a.shape[1:]), a.dtype), outputs)


def _checked(function: Function, x: Any, rows: int) -> Any:
    """Returns what the function returns, checked to have so many rows."""
    try:
        outputs = function(x)
    except Exception:
        shapes.output_shapes(_problem(x), function, x)  # this raises, unless it is something else that went wrong
        raise
    for leaf in jax.tree.leaves(outputs):
        if jnp.shape(leaf)[:1] != (rows,):
            raise ValueError(
                f"the model's outputs must have one row for each of x; got shape {jnp.shape(leaf)} for {rows} rows"
            )
    return outputs


def _problem(x: Any) -> str:
    expected = ", ".join(f"(n, {', '.join(map(str, leaf.shape[1:]))})" for leaf in jax.tree.leaves(x))
    return f"x must be inputs that the model takes; of shape {expected} it does not"
