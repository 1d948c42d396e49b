"""Shapes of trees of arrays: of what a function returns, and as text, hashable and fit for JSON."""

import json
from collections.abc import Callable
from typing import Any

import jax

from lectopt._internal.checks import ArgumentError
from lectopt._internal.jit_cache import CachedJit


def output_shapes(problem: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes of what the function returns for arguments of these shapes; nothing is computed.

    A `cached_jit` is traced once for equal shapes.

    Raises:
        ValueError: if it cannot be called with them; the message begins with the problem.
        ArgumentError: as it is, from within.
    """
    try:
        return (
            function.eval_shape(*arguments) if isinstance(function, CachedJit) else jax.eval_shape(function, *arguments)
        )
    except ArgumentError:
        raise
    except Exception as error:
        raise ValueError(f"{problem}: {error}") from error


def to_json(tree: Any) -> str:
    """The shapes and dtypes of arrays in tuples, lists and dicts; "" for any other tree."""
    try:
        return json.dumps(_encode(tree))
    except TypeError:
        return ""


def from_json(text: str) -> Any:
    """The tree that `to_json` saw, with `jax.ShapeDtypeStruct`s for arrays."""
    return _decode(json.loads(text))


def _encode(tree: Any) -> Any:
    if type(tree) is dict and all(isinstance(name, str) for name in tree):
        return {"dict": {name: _encode(value) for name, value in tree.items()}}
    if type(tree) in (tuple, list):
        return {type(tree).__name__: [_encode(value) for value in tree]}
    if not hasattr(tree, "shape"):
        raise TypeError
    return {"shape": list(tree.shape), "dtype": str(tree.dtype)}


def _decode(node: Any) -> Any:
    if "dict" in node:
        return {name: _decode(value) for name, value in node["dict"].items()}
    if "tuple" in node or "list" in node:
        ((kind, values),) = node.items()
        return {"tuple": tuple, "list": list}[kind](_decode(value) for value in values)
    return jax.ShapeDtypeStruct(tuple(node["shape"]), node["dtype"])
