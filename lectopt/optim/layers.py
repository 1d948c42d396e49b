"""What belongs to one layer: the leaves below one path, such as a kernel and a bias."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from lectopt._internal.tree_norm import tree_norm
from lectopt._internal.trees import leaves_with_paths
from lectopt._internal.types import Array, ArrayTree


def layer_names(tree: ArrayTree) -> list[str]:
    """Returns the name of each leaf's layer; a leaf at the top is a layer of its own."""
    return ["/".join(path[:-1] or path) for path, _ in leaves_with_paths(tree)]


def norms_by_layer(tree: ArrayTree) -> dict[str, Array]:
    """Returns the norm over the leaves of each layer."""
    layers: dict[str, list[Array]] = {}
    for name, (_, leaf) in zip(layer_names(tree), leaves_with_paths(tree), strict=True):
        layers.setdefault(name, []).append(leaf)
    return {name: tree_norm(leaves) for name, leaves in layers.items()}


def first_norms(params: ArrayTree) -> Any:
    """Returns 0 for each layer, the norms of a state that has not seen a gradient.

    For what stands for parameters in `optax.tree.map_params`, a single number: none of the norms is shaped as they are.
    """
    if isinstance(params, _STANDS_FOR_PARAMETERS):
        return jnp.zeros(())
    return jax.tree.map(lambda norm: jnp.zeros((), norm.dtype), jax.eval_shape(norms_by_layer, params))


def _what_map_params_gives_init() -> type:
    given: list[type] = []
    optax.tree.map_params(lambda params: given.append(type(params)), lambda leaf: leaf, None)
    return given[0]


_STANDS_FOR_PARAMETERS = _what_map_params_gives_init()
