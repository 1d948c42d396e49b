"""A model's arrays by what they are: parameters, and variables that are not trained."""

import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from lectopt._internal.trees import paths
from lectopt.pretraining.renaming_rules import ModelPath
from lectopt.tasks.models import Params, State
from lectopt.tasks.nnx_parts import split

_COLLECTIONS = ("params", "batch_stats")  # of Linen, whose modules hold both under the same path


class ModelArrays(NamedTuple):
    """The arrays of a model, and how to make one of others."""

    params: Params
    variables: State
    rebuild: Callable[[Params, State], Any]  # the same kind of model, with these


def split_model(name: str, model: Any, also: str = "") -> ModelArrays:
    """Splits an nnx.Module, Linen variables {"params": ..., "batch_stats": ...}, or (params, variables) into parts.

    Raises:
        TypeError: if it is none of these, or holds something else than arrays; the message calls it `name`, and lists
            what it may be `also`.
    """
    arrays = _split(name, model, also)
    for leaf, path in zip(jax.tree.leaves(arrays[:2]), model_paths(arrays[:2]), strict=True):
        if not is_array(leaf):
            raise TypeError(f"{name} must hold arrays; got {type(leaf).__name__} at {'/'.join(path[1:])!r}")
    return arrays


def is_array(leaf: Any) -> bool:
    """Returns whether it is an array, the shape and dtype of one, or a number."""
    return hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number)


def model_paths(tree: Any) -> list[ModelPath]:
    """Returns the path to each leaf within the model."""
    return list(map(within_model, paths(tree)))


def within_model(path: ModelPath) -> ModelPath:
    """Returns the path without the collection of Linen and, from a Flax variable, without its "value"."""
    path = path[:-1] if path[-1:] == ("value",) else path
    return path[1:] if path[:1] and path[0] in _COLLECTIONS else path


def _split(name: str, model: Any, also: str) -> ModelArrays:
    if isinstance(model, nnx.Module):
        graphdef, params, rngs, variables = split(model)

        def merge(params: Params, variables: State) -> nnx.Module:
            return nnx.merge(graphdef, params, rngs, variables, copy=True)

        return ModelArrays(nnx.as_pure(params), nnx.as_pure(variables), merge)
    if isinstance(model, Mapping) and "params" in model:
        rest = {collection: variables for collection, variables in model.items() if collection != "params"}
        return ModelArrays(model["params"], rest, lambda params, variables: {"params": params, **variables})
    if isinstance(model, tuple) and len(model) == 2:
        return ModelArrays(*model, lambda params, variables: (params, variables))
    raise TypeError(
        f'{name} must be an nnx.Module, Linen variables {{"params": ..., ...}}, or (params, variables) as run.model is '
        f"for Linen modules and functions{also}; got {type(model).__name__}"
    )
