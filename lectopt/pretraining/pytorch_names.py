"""PyTorch's names of dense layers, convolutions, norms and embeddings, turned into Flax's; what a user says of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flax import nnx

from lectopt._internal import checks
from lectopt.pretraining.renaming_rules import ModelPath, as_path

_NAMES = {
    "weight": ("kernel", "scale", "embedding"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}


def translate(path: ModelPath, known: Collection[ModelPath]) -> ModelPath:
    """Replaces PyTorch's name in the path by Flax's, if the target has it."""
    names = ((*path[:-1], name) for step in path[-1:] for name in _NAMES.get(step, ()))
    return next((new for new in names if new in known), path)


def translate_all(offered: Mapping[ModelPath, ModelPath], known: Collection[ModelPath]) -> dict[ModelPath, ModelPath]:
    """Returns {path: origin} with Flax's names.

    Raises:
        ValueError: if two paths become one.
    """
    translated: dict[ModelPath, ModelPath] = {}
    for path, origin in offered.items():
        new = translate(path, known)
        if new in translated:
            both = f"{'/'.join(translated[new])} and {'/'.join(origin)}"
            raise ValueError(f"source must have one array for {'/'.join(new)} of target; {both} both stand for it")
        translated[new] = origin
    return translated


def parse_flattened(flattened: Mapping[str, Sequence[int]] | None) -> dict[ModelPath, tuple[int, ...]]:
    """Returns {path of the layer: (channels, *spatial)}.

    Raises:
        TypeError, ValueError: if it is not like that.
    """
    if flattened is not None and not isinstance(flattened, Mapping):
        raise TypeError(f"flattened must be a dictionary {{path: shape}}; got {type(flattened).__name__}")
    images = {}
    for path, shape in (flattened or {}).items():
        if not isinstance(path, str) or not isinstance(shape, (tuple, list)):
            raise TypeError(f"flattened must hold {{path: (channels, height, width)}}; got {path!r}: {shape!r}")
        images[as_path(path)] = tuple(checks.check_count(f"flattened[{path!r}]", size) for size in shape)
    return images


def parse_transposed(transposed: Collection[str] | None, target: Any) -> list[ModelPath] | None:
    """Returns the paths of the layers.

    Raises:
        TypeError, ValueError: if they are none, or the target is an nnx.Module, whose layers say what they are.
    """
    if transposed is None:
        return None
    if isinstance(transposed, (str, Mapping)) or not isinstance(transposed, Collection):
        raise TypeError(f"transposed must be a list of paths; got {transposed!r}")
    if not all(isinstance(path, str) for path in transposed):
        raise TypeError(f"transposed must hold paths; got {transposed!r}")
    if isinstance(target, nnx.Module):
        raise ValueError("transposed is for Linen's variables; an nnx.Module says itself which convolutions are")
    return [as_path(path) for path in transposed]


def check_taken(name: str, layers: Collection[ModelPath], taken: Collection[ModelPath]) -> None:
    """Raises ValueError for layers that are named in the argument `name` without being taken."""
    for path in layers:
        if (*path, "kernel") not in taken:
            raise ValueError(f"{name} must hold layers of target that are taken; {'/'.join(path)!r} is not one")
