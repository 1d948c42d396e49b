"""What belongs to one layer: the leaves below one path, such as a kernel and a bias."""

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
