"""Leaves of a tree as plain arrays, and back."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._types import Array


def paths(tree: Any) -> list[tuple[str, ...]]:
    """The path to each leaf, as text."""
    return [tuple(map(_step, keys)) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)]


def leaves_with_paths(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves and the paths to them; an `nnx.Variable` counts as the array that it holds."""
    found = jax.tree_util.tree_leaves_with_path(tree, lambda x: is_variable(x) or (is_leaf is not None and is_leaf(x)))
    return [(tuple(map(_step, keys)), value_of(leaf)) for keys, leaf in found]


def is_variable(x: Any) -> bool:
    """Whether it is an `nnx.Variable`."""
    return isinstance(x, nnx.Variable)


def value_of(x: Any) -> Any:
    """The array, also where an `nnx.Variable` holds it."""
    return x.get_value() if is_variable(x) else x


def plain(leaf: Any) -> np.ndarray:
    """A NumPy array; a random key as its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def fill(name: str, arrays: list[Array], template: Any) -> Any:
    """The arrays in the structure of `template` (arrays, or their shapes), in its dtypes.

    Raises:
        ValueError: if they have other shapes; the message calls them `name`.
    """
    leaves, treedef = jax.tree.flatten(template)
    found, wanted = [_shape(x) for x in arrays], [_shape(x) for x in leaves]
    if found != wanted:
        raise ValueError(f"{name} must be arrays of shapes {wanted}; got {found}")
    return jax.tree.unflatten(treedef, [_like(x, leaf) for x, leaf in zip(arrays, leaves, strict=True)])


def _step(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def _like(array: Array, leaf: Any) -> Array:
    if not _is_key(leaf):
        return jnp.asarray(array, leaf.dtype)
    return array if _is_key(array) else jax.random.wrap_key_data(jnp.asarray(array))


def _shape(leaf: Any) -> tuple[int, ...]:
    return jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else jnp.shape(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
