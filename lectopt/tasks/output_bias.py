"""The output bias of a model: where it is, what it must be, and how it is set from targets."""

from collections.abc import Callable
from typing import Any

import jax

from lectopt._internal.trees import LeafPath, paths
from lectopt._internal.types import Array
from lectopt.tasks.models import Params


def locate_bias(params: Params, path: LeafPath) -> int:
    """Finds the place of a parameter among the leaves of `params`.

    Raises:
        ValueError: if there is no parameter at this path.
    """
    found = paths(params)
    if found.count(path) != 1:
        known = ", ".join("/".join(path) for path in found)
        raise ValueError(f"output_bias must be one of the parameters {known}; got {'/'.join(path)}")
    return found.index(path)


def check_bias(params: Params, path: LeafPath, outputs: Any) -> None:
    """Raises ValueError unless the parameter at this path can be the bias of these outputs."""
    leaf = jax.tree.leaves(params)[locate_bias(params, path)]
    wanted = (1,) if len(outputs.shape) < 2 else outputs.shape[-1:]
    if leaf.shape != wanted:
        raise ValueError(
            f"output_bias must be a bias with one number for each of the outputs, of shape {wanted}; {'/'.join(path)} "
            f"has shape {leaf.shape}"
        )


def replace_bias(params: Params, place: int, initializer: Callable[..., Array]) -> Params:
    """Returns the parameters with the bias at this place set by the initializer."""
    leaves, treedef = jax.tree.flatten(params)
    leaves[place] = initializer(jax.random.key(0), leaves[place].shape, leaves[place].dtype)
    return jax.tree.unflatten(treedef, leaves)
