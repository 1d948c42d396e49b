"""What is checked of a task: its arguments when it is made; what its functions return, before anything compiles."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.trees import paths
from lectopt._internal.types import ArrayTree
from lectopt.tasks import call_flags
from lectopt.tasks.interception import LayerCall


def check_function(name: str, function: Any, arguments: str, by_name: Sequence[str] = ()) -> None:
    """Raises TypeError unless it is None, or a function that can be called with these arguments."""
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} must be a function ({arguments}); got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin has none
        return
    try:
        signature.bind(*arguments.split(", "), **dict.fromkeys(by_name))
    except TypeError as error:
        raise TypeError(f"{name} must be a function ({arguments}); got one of {signature}") from error


def takes(function: Any, name: str) -> bool:
    """Tells whether a function, if it is one, has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin has none
        return False


def check_metrics(metrics: Any, what: str = "metrics") -> None:
    """Raises unless it is None, or a dictionary whose names can stand beside the loss."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f"{what} must be a dictionary by their names; got a {type(metrics).__name__}")
    for name in metrics or {}:
        if not isinstance(name, str):
            raise TypeError(f"{what} must have strings for names; got {name!r} ({type(name).__name__})")
    if "loss" in (metrics or {}):
        raise ValueError(f"{what} must not be called 'loss'; the loss is reported under that name")


def check_place(place: Any) -> None:
    """Raises TypeError unless it is None, or may tell where an output bias stands."""
    steps = isinstance(place, Sequence) and all(isinstance(step, (str, int)) for step in place)
    if not (place is None or callable(place) or (steps and place)):
        raise TypeError(
            "output_bias must be a path such as 'layers/2/bias', or for NNX a function module -> variable; got "
            f"{place!r} ({type(place).__name__})"
        )


def check_parameters(params: ArrayTree) -> None:
    """Raises ValueError unless all parameters are numbers that have gradients."""
    for path, leaf in zip(paths(params), jax.tree.leaves(params), strict=True):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"the model's parameters must be floating-point numbers, to have gradients; {'/'.join(path)} is "
                f"{leaf.dtype}. If it is not to be trained, keep it elsewhere: as another nnx.Variable (NNX), in a "
                "collection other than 'params' (Linen), in the state (functions)"
            )


def check_outputs(outputs: Any) -> None:
    """Raises TypeError unless it is one array."""
    if not hasattr(outputs, "shape"):
        raise TypeError(
            f"the model's outputs must be one array for this task; got {checks.type_description(outputs)}. Let the "
            "model return one array, or write a lectopt.Task, whose loss and metrics take outputs of any kind"
        )


def check_scores(name: str, values: Any, count: int) -> None:
    """Raises unless there is one real number for each of the examples."""
    shape, dtype = getattr(values, "shape", None), getattr(values, "dtype", None)
    if shape != (count,):
        got = checks.type_description(values) if shape is None else f"shape {shape}"
        raise ValueError(
            f"the {name} must be one number per example, of shape ({count},) for a batch of {count}; got {got}"
        )
    _check_real(name, dtype)


def check_scalar(name: str, value: Any) -> None:
    """Raises ValueError unless it is one real number."""
    if getattr(value, "shape", None) != ():
        raise ValueError(
            f"the metric {name!r} of the whole set must return one number; got {checks.type_description(value)}"
        )
    _check_real(f"metric {name!r}", value.dtype)


def _check_real(name: str, dtype: Any) -> None:
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"the {name} must be real numbers; got {dtype}")


def check_flags(call: LayerCall) -> Any:
    """Makes the call of a layer, if the layer is told by its caller whether it trains.

    Raises:
        ArgumentError: if a flag of training is left at its default, and so is the same in training and evaluation.
    """
    if names := call_flags.omitted_flags(call.layer_class, call.args, call.kwargs):
        layer = "/".join(call.path) or "the model"
        raise checks.ArgumentError(
            f"{layer} ({call.layer_class.__name__}) is called without its flag {names[0]!r}, which would be the same "
            f"in training and evaluation: pass it on where {layer} is called (in a module of your own rather than a "
            "Sequential, which passes none on), or give it there explicitly if one value is meant for both"
        )
    return call.layer(*call.args, **call.kwargs)
