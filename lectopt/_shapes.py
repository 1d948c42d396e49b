"""Shapes of a tree of arrays as text: hashable, and fit for JSON."""

import json
from typing import Any

import jax


def describe(tree: Any) -> str:
    """The shapes and dtypes of arrays in tuples, lists and dicts."""
    return json.dumps(_encode(tree))


def blank(text: str) -> Any:
    """The tree that `describe` saw, with `jax.ShapeDtypeStruct`s for arrays."""
    return _decode(json.loads(text))


def _encode(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {"dict": {name: _encode(value) for name, value in tree.items()}}
    if isinstance(tree, (tuple, list)):
        return {type(tree).__name__: [_encode(value) for value in tree]}
    return {"shape": list(tree.shape), "dtype": str(tree.dtype)}


def _decode(node: Any) -> Any:
    if "dict" in node:
        return {name: _decode(value) for name, value in node["dict"].items()}
    if "tuple" in node or "list" in node:
        ((kind, values),) = node.items()
        return {"tuple": tuple, "list": list}[kind](_decode(value) for value in values)
    return jax.ShapeDtypeStruct(tuple(node["shape"]), node["dtype"])
