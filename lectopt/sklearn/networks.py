"""Networks as values: equal ones share a task, and so everything that was compiled for it."""

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks
from lectopt.tasks import task_checks
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
    elif callable(model):
        task_checks.check_function("model", model, "features, outputs, rngs")
    else:
        allowed = "the widths of the hidden layers, or a function (features, outputs, rngs) -> nnx.Module"
        raise TypeError(f"model must be {allowed}; got {checks.value_and_type(model)}")
    if isinstance(model, functools.partial):  # of which sklearn.clone makes another one, equal to none
        model = _Partial(model.func, model.args, tuple(sorted(model.keywords.items())))
    if not _is_hashable(model):
        raise TypeError(f"model must be hashable, so that equal ones are found; got {checks.value_and_type(model)}")
    flag = checks.check_flag("standardize", standardize)
    return Network(define, model, features, outputs, flag, as_compute_dtype(compute_dtype))


@functools.lru_cache(maxsize=_TASKS)
def task_of(network: Network) -> Task:
    """Returns the task of a network, the same object for equal ones.

    Raises:
        ValueError: if a model returns something else than as many outputs as it was asked for.
    """
    define, model, features, outputs, standardize, compute_dtype = network
    build: Any = functools.partial(_perceptron, model) if isinstance(model, tuple) else model
    task = define(lambda rngs: build(features, outputs, rngs), standardize=standardize, compute_dtype=compute_dtype)
    key, x = jax.random.key(0), jax.ShapeDtypeStruct((_ROWS, features), jnp.float32)
    found = jax.eval_shape(lambda x: task.outputs(*task.init(key, (x,)), x, key, False)[0], x)
    if getattr(found, "shape", None) != (_ROWS, outputs):
        raise ValueError(f"model must return outputs of shape ({_ROWS}, {outputs}) for {_ROWS} rows; got {found}")
    return task


@dataclasses.dataclass(frozen=True)
class _Partial:
    """A `functools.partial` that equals those of the same function and arguments."""

    function: Callable[..., nnx.Module]
    args: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any) -> nnx.Module:
        return self.function(*self.args, *args, **dict(self.keywords))


def _perceptron(widths: tuple[int, ...], features: int, outputs: int, rngs: nnx.Rngs) -> nnx.Module:
    """Returns a multilayer perceptron with rectified linear units."""
    sizes = [features, *widths]
    layers: list[Any] = []
    for inputs, width in zip(sizes, widths, strict=False):
        layers += [nnx.Linear(inputs, width, rngs=rngs), nnx.relu]
    return nnx.Sequential(*layers, nnx.Linear(sizes[-1], outputs, rngs=rngs))


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
