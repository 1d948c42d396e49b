"""The precision in which a model computes: what it is given is rounded to it, and what it returns is widened."""

from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.numerics import widen
from lectopt._internal.types import ArrayTree

_ALLOWED = ("bfloat16", "float16", "float32")


def as_compute_dtype(dtype: Any) -> jnp.dtype | None:
    """Converts what was given as `compute_dtype` to a dtype; None, for the model's own precision, stays.

    Raises:
        ValueError: if it is a dtype that models do not compute in.
        TypeError: if it is no dtype.
    """
    if dtype is None:
        return None
    try:
        converted = jnp.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"compute_dtype must be one of {', '.join(_ALLOWED)}; got {dtype!r}") from error
    if converted.name not in _ALLOWED:
        raise ValueError(f"compute_dtype must be one of {', '.join(_ALLOWED)}; got {converted.name}")
    return converted


def rounded(tree: ArrayTree, dtype: jnp.dtype | None) -> ArrayTree:
    """Returns a tree with its floating-point arrays in this dtype; None changes nothing."""
    if dtype is None:
        return tree
    if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(tree)):
        raise checks.ArgumentError(f"compute_dtype must be None for complex numbers; {dtype.name} has none")
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def widened(tree: ArrayTree, dtype: jnp.dtype | None) -> ArrayTree:
    """Returns outputs that were computed in this dtype with their floating-point arrays in float32 or wider."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda a: widen(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def kept(new: ArrayTree, old: ArrayTree, dtype: jnp.dtype | None) -> ArrayTree:
    """Returns a model's variables, after a call in this dtype, in the dtypes that they had before."""
    if dtype is None:
        return new
    return jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, old)
