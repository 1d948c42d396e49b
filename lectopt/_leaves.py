"""Leaves of a tree as plain arrays, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._types import Array


def paths(tree: Any) -> list[tuple[str, ...]]:
    """The path to each leaf, as text."""
    return [tuple(map(_step, keys)) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)]


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
