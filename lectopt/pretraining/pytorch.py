"""PyTorch's names and layouts of dense layers, convolutions, norms and embeddings, turned into Flax's."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from lectopt import _checks
from lectopt._types import Array
from lectopt.pretraining.renaming import ModelPath, as_path

_NAMES = {
    "weight": ("kernel", "scale", "embedding"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}


def translate(path: ModelPath, known: Collection[ModelPath]) -> ModelPath:
    """The path with Flax's name for PyTorch's, as far as the target has it."""
    names = ((*path[:-1], name) for step in path[-1:] for name in _NAMES.get(step, ()))
    return next((new for new in names if new in known), path)


def translate_all(offered: Mapping[ModelPath, ModelPath], known: Collection[ModelPath]) -> dict[ModelPath, ModelPath]:
    """{path: origin} with Flax's names.

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


def convert(path: ModelPath, array: Array, flattened: Mapping[ModelPath, Sequence[int]]) -> Array:
    """An array of PyTorch, [outputs, inputs, *window], as the one that Flax has at `path`, [*window, inputs, outputs].

    Raises:
        ValueError: if the layer reads a flattened image of another size.
    """
    if path[-1:] != ("kernel",) or array.ndim < 2:
        return array
    kernel = jnp.moveaxis(array, (0, 1), (-1, -2))
    image = flattened.get(path[:-1])
    return kernel if image is None else _channels_last(path, kernel, image)


def check(target: Any, flattened: Collection[ModelPath], taken: Collection[ModelPath]) -> None:
    """Raises ValueError for kernels that cannot be turned, and for flattened images that no layer reads."""
    for path in flattened:
        if (*path, "kernel") not in taken:
            raise ValueError(f"flattened must hold dense layers of target that are taken; {'/'.join(path)!r} is none")
    for steps, layer in nnx.iter_modules(target) if isinstance(target, nnx.Module) else ():
        kernel = (*map(str, steps), "kernel")
        if isinstance(layer, nnx.ConvTranspose) and not layer.transpose_kernel and kernel in taken:
            raise ValueError(
                f"target must have transpose_kernel=True in the transposed convolution {'/'.join(kernel[:-1])!r}, or "
                "leave it out with rename: PyTorch's kernel is that of the convolution it reverses"
            )


def parse_flattened(flattened: Mapping[str, Sequence[int]] | None) -> dict[ModelPath, tuple[int, ...]]:
    """{path of the layer: (channels, *spatial)}.

    Raises:
        TypeError, ValueError: if it is not like that.
    """
    if not isinstance(flattened or {}, Mapping):
        raise TypeError(f"flattened must be a dictionary {{path: shape}}; got {type(flattened).__name__}")
    images = {}
    for path, shape in (flattened or {}).items():
        if not isinstance(path, str) or not isinstance(shape, (tuple, list)):
            raise TypeError(f"flattened must hold {{path: (channels, height, width)}}; got {path!r}: {shape!r}")
        images[as_path(path)] = tuple(_checks.check_count(f"flattened[{path!r}]", size) for size in shape)
    return images


def _channels_last(path: ModelPath, kernel: Array, image: Sequence[int]) -> Array:
    if kernel.shape[0] != math.prod(image):
        raise ValueError(
            f"flattened must be the image that {'/'.join(path[:-1])} reads, of {kernel.shape[0]} numbers; got "
            f"{tuple(image)}, {math.prod(image)} numbers"
        )
    return jnp.moveaxis(kernel.reshape(*image, -1), 0, -2).reshape(kernel.shape)
