"""Networks as values: equal ones share a task, and so everything that was compiled for it."""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks, shapes
from lectopt.tasks.precision import as_compute_dtype
from lectopt.tasks.task import Task

_TASKS = 32
"""So many tasks are kept, with what was compiled for them: as many shapes a search may go through and come back to."""

_ROWS = 2  # of the batch by which a model shows its outputs


class Network(NamedTuple):
    """What tells one task from another."""

    define: Callable[..., Task]  # classification or regression
    model: Hashable
    features: int
    outputs: int
    standardize: bool
    compute_dtype: jnp.dtype | None


def as_network(
    define: Callable[..., Task], model: Any, features: int, outputs: int, standardize: Any, compute_dtype: Any
) -> Network:
    """Checks what an estimator was given, and returns it in a form that is equal for equal networks.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if one is out of range.
    """
    if isinstance(model, (tuple, list)):
        model = tuple(checks.check_count(f"model[{i}]", width) for i, width in enumerate(model))
    else:
        _check_function(model)
    model = interned("model", model)
    flag = checks.check_flag("standardize", standardize)
    return Network(define, model, features, outputs, flag, as_compute_dtype(compute_dtype))


@functools.lru_cache(maxsize=_TASKS)
def task_of(network: Network) -> Task:
    """Returns the task of a network, the same object for equal ones.

    Raises:
        ValueError: if the model does not turn as many features into as many outputs.
    """
    define, model, features, outputs, standardize, compute_dtype = network
    build: Any = functools.partial(_perceptron, model) if isinstance(model, tuple) else model
    task = define(
        lambda rngs: build(features, outputs, rngs=rngs), standardize=standardize, compute_dtype=compute_dtype
    )
    _check_outputs(task, features, outputs)
    return task


def _check_outputs(task: Task, features: int, outputs: int) -> None:
    key, x = jax.random.key(0), jax.ShapeDtypeStruct((_ROWS, features), jnp.float32)
    problem = f"model must turn inputs of shape {x.shape} into outputs of shape {(_ROWS, outputs)}"
    found = shapes.output_shapes(problem, lambda x: task.outputs(*task.init(key, (x,)), x, key, False)[0], x)
    if getattr(found, "shape", None) != (_ROWS, outputs):
        raise ValueError(f"{problem}; got {found}")


def interned(name: str, function: Any) -> Any:
    """Returns the first of equal `functools.partial`s, of which sklearn.clone makes copies; others as they are.

    Raises:
        TypeError: if it, or an argument of it, is not hashable.
    """
    try:
        hash(function)
        if isinstance(function, functools.partial):
            return _partial(function.func, function.args, tuple(sorted(function.keywords.items())))
    except TypeError as error:
        raise TypeError(f"{name} must be hashable, so that equal ones are found; got {error}") from error
    return function


@functools.lru_cache(maxsize=_TASKS)
def _partial(
    function: Callable[..., Any], args: tuple[Any, ...], keywords: tuple[tuple[str, Any], ...]
) -> functools.partial[Any]:
    return functools.partial(function, *args, **dict(keywords))


def _check_function(model: Any) -> None:
    """Raises TypeError unless it can be called with numbers of features and outputs, and rngs."""
    allowed = "the widths of the hidden layers, or a function (features, outputs, rngs) -> nnx.Module"
    if not callable(model):
        raise TypeError(f"model must be {allowed}; got {checks.value_and_type(model)}")
    signature = inspect.signature(model)
    try:
        signature.bind(0, 0, rngs=None)
    except TypeError as error:
        raise TypeError(f"model must be {allowed}; got one of {signature}") from error


def _perceptron(widths: tuple[int, ...], features: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """Returns a multilayer perceptron with rectified linear units."""
    sizes = [features, *widths]
    layers: list[Any] = []
    for inputs, width in zip(sizes, widths, strict=False):
        layers += [nnx.Linear(inputs, width, rngs=rngs), nnx.relu]
    return nnx.Sequential(*layers, nnx.Linear(sizes[-1], outputs, rngs=rngs))
