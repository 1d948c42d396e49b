"""Leaves of a tree as plain arrays, by their paths, and back."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal.types import Array

LeafPath: TypeAlias = tuple[str, ...]

_MAX_LISTED = 5
"""Of more paths than these a message names the first, and counts the others."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UntypedTree:
    """The leaves of a tree whose classes were not kept, and its outline."""

    leaves: list[Array]
    """In order."""
    outline: tuple[str, ...] | None = dataclasses.field(metadata={"static": True})
    """Of the tree, see `outline`; None where it was not kept."""


def paths(tree: Any) -> list[LeafPath]:
    """The path to each leaf, as text."""
    return [tuple(map(_key_name, keys)) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)]


def leaves_with_paths(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[tuple[str, ...], Any]]:
    """The leaves and the paths to them; an `nnx.Variable` counts as the array that it holds."""
    found = jax.tree_util.tree_leaves_with_path(tree, lambda x: is_variable(x) or (is_leaf is not None and is_leaf(x)))
    return [(tuple(map(_key_name, keys)), value_of(leaf)) for keys, leaf in found]


def is_variable(x: Any) -> bool:
    """Whether it is an `nnx.Variable`."""
    return isinstance(x, nnx.Variable)


def value_of(x: Any) -> Any:
    """The array, also where an `nnx.Variable` holds it."""
    return x.get_value() if is_variable(x) else x


def leaves_by_path(tree: Any) -> dict[LeafPath, Any]:
    """{path: leaf}, in order."""
    return dict(zip(paths(tree), jax.tree.leaves(tree), strict=True))


def outline(tree: Any) -> tuple[str, ...]:
    """A line for each leaf, and each node without children: the path to it with the names of the classes on it.

    Two trees of one structure have one outline, in every process; a namedtuple's steps read `ScaleByAdamState.mu`.
    """
    if isinstance(tree, UntypedTree):
        return tree.outline or ()
    children = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: node is not tree)
    kind = "" if isinstance(tree, (dict, list)) or type(tree) is tuple else type(tree).__name__
    if not children or children[0][1] is tree:
        return (kind if not children else "",)
    lines = []
    for keys, child in children:
        step = ".".join(filter(None, (kind, "/".join(map(_key_name, keys)))))
        lines += [f"{step}/{line}" if line else step for line in outline(child)]
    return tuple(lines)


def same_structure(a: Any, b: Any) -> bool:
    """Whether two trees have one structure; of a bare one, as far as it is known."""
    if isinstance(a, UntypedTree):
        return a.outline is None or a.outline == outline(b)
    one: Any = jax.tree.structure(a)  # mypy does not know that these compare
    return one == jax.tree.structure(b)


def to_numpy(leaf: Any) -> np.ndarray:
    """A NumPy array; a random key as its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def unflatten_like(name: str, arrays: Mapping[LeafPath, Array], template: Any) -> Any:
    """The arrays in the structure of `template` (arrays, or their shapes), each at its path, in its dtype.

    Raises:
        ValueError: if they have other names, shapes, or kinds of numbers; the message calls them `name`.
    """
    wanted = dict.fromkeys(paths(template))
    if arrays.keys() != wanted.keys():
        missing, unexpected = wanted.keys() - arrays.keys(), arrays.keys() - wanted.keys()
        raise ValueError(
            f"{name} must have the same names as what is given for them; missing there: "
            f"{join_paths(sorted(missing)) or 'nothing'}; not asked for: {join_paths(sorted(unexpected)) or 'nothing'}"
        )
    return unflatten_in_order(name, [arrays[path] for path in wanted], template)


def unflatten_in_order(name: str, arrays: Sequence[Array], template: Any) -> Any:
    """The same for arrays without names, in the order of the template's leaves."""
    leaves, treedef = jax.tree.flatten(template)
    if [_shape(x) for x in arrays] != [_shape(x) for x in leaves]:
        found, wanted = ([_dtype_and_shape(x) for x in xs] for xs in (arrays, leaves))
        raise ValueError(f"{name} must be arrays of shapes {', '.join(wanted)}; got {', '.join(found)}")
    for path, array, leaf in zip(paths(template), arrays, leaves, strict=True):
        if not _is_key(leaf) and _kind_rank(array) > _kind_rank(leaf):
            raise ValueError(
                f"{name} must have {'/'.join(path)} of {_dtype_and_shape(leaf)}; got {_dtype_and_shape(array)}"
            )
    return jax.tree.unflatten(treedef, [_cast_like(x, leaf) for x, leaf in zip(arrays, leaves, strict=True)])


def join_paths(names: Iterable[LeafPath]) -> str:
    """Paths for a message: the first few, and how many there are beside them."""
    texts = ["/".join(path) or "one array" for path in names]
    return ", ".join(texts[:_MAX_LISTED]) + (
        f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    )


def _dtype_and_shape(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _kind_rank(leaf: Any) -> int:
    """Of kinds of numbers, each of which holds those before it."""
    kinds = (np.bool_, np.integer, np.floating, np.complexfloating)
    return next((i for i, kind in enumerate(kinds) if jnp.issubdtype(jnp.result_type(leaf), kind)), -1)


def _key_name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def _cast_like(array: Array, leaf: Any) -> Array:
    if not _is_key(leaf):
        return jnp.asarray(array, leaf.dtype)
    return array if _is_key(array) else jax.random.wrap_key_data(jnp.asarray(array))


def _shape(leaf: Any) -> tuple[int, ...]:
    return jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else jnp.shape(leaf)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
