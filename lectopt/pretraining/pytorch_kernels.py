"""PyTorch's kernels and biases, laid out as the layers of a Flax model read them."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from lectopt._internal.types import Array
from lectopt.pretraining.renaming_rules import ModelPath


class Layout(NamedTuple):
    """What is known of the target's layers, beyond the shapes of their arrays."""

    layers: Mapping[ModelPath, nnx.Module]  # of an nnx.Module; {} of Linen variables, which do not say what they are
    images: Mapping[ModelPath, Sequence[int]]  # dense layers that read a flattened image: (channels, *spatial)
    transposed: Collection[ModelPath] | None  # Linen's transposed convolutions without transpose_kernel; None: not said

    @classmethod
    def of(cls, target: Any, images: Mapping[ModelPath, Sequence[int]], transposed: Any) -> "Layout":
        """Returns the layout of a model."""
        modules = nnx.iter_modules(target) if isinstance(target, nnx.Module) else ()
        return cls({tuple(map(str, steps)): layer for steps, layer in modules}, images, transposed)


def convert(path: ModelPath, array: Array, current: Array, layout: Layout) -> Array:
    """Converts an array of PyTorch to the one that Flax has at `path`, where the target has `own` now.

    A dense layer and a convolution have [outputs, inputs, *window] there, and [*window, inputs, outputs] here. A
    transposed convolution has [inputs, outputs, *window], the kernel of the convolution that it reverses, and so does
    Flax with transpose_kernel=True, [*window, outputs, inputs]; without it, [*window, inputs, outputs] turned around.

    Raises:
        ValueError: if the target's layer is of a kind that cannot be told or converted, or reads an image of another
            size.
    """
    layer = layout.layers.get(path[:-1])
    if isinstance(layer, nnx.LinearGeneral) and path[-1] == "bias":
        return array.reshape(current.shape) if array.size == current.size else array
    if path[-1:] != ("kernel",) or array.ndim < 2:
        return array
    _check_known(path, array, layout)
    if path[:-1] in (layout.transposed or ()) or _flips_kernel(layer):
        return jnp.flip(jnp.moveaxis(array, (0, 1), (-2, -1)), range(array.ndim - 2))
    kernel = jnp.moveaxis(array, (0, 1), (-1, -2))
    if path[:-1] in layout.images:
        kernel = _flattened_channels_last(path, kernel, layout.images[path[:-1]])
    if isinstance(layer, nnx.LinearGeneral):
        return _split_kernel_axes(path, layer, kernel, current)
    return kernel.T if isinstance(layer, nnx.Einsum) and _outputs_first(path, layer) else kernel


def _flips_kernel(layer: nnx.Module | None) -> bool:
    return isinstance(layer, nnx.ConvTranspose) and not layer.transpose_kernel


def _check_known(path: ModelPath, array: Array, layout: Layout) -> None:
    """Raises where Linen's variables leave it open which of several layouts of the same shape it is."""
    if layout.layers:
        return
    name, kind = "/".join(path[:-1]), re.sub(r"_\d+$", "", path[-2]) if len(path) > 1 else ""
    if kind == "Einsum":
        raise ValueError(
            f"layers that are taken must not include an Einsum, since Linen variables do not tell its axes; got {name}"
        )
    if layout.transposed is None and kind != "Conv" and array.ndim > 2 and array.shape[0] == array.shape[1]:
        raise ValueError(
            f"transposed must hold the paths of target's transposed convolutions with transpose_kernel=False, or be () "
            f"if there are none: {name!r} has as many inputs as outputs, so that its kernel may be of either kind"
        )


def _outputs_first(path: ModelPath, layer: nnx.Einsum) -> bool:
    inputs, kernel, output = re.split(",|->", layer.einsum_str.replace(" ", ""))
    output_axes = [axis for axis in kernel if axis in output and axis not in inputs]
    input_axes = [axis for axis in kernel if axis in inputs and axis not in output]
    if not (len(kernel) == 2 and len(output_axes) == len(input_axes) == 1):
        raise ValueError(
            f"target must have an Einsum of one axis of inputs and one of outputs, as a dense layer of PyTorch; "
            f"{'/'.join(path[:-1])!r} has {layer.einsum_str!r}. Leave it out with rename"
        )
    return kernel[0] == output_axes[0]


def _split_kernel_axes(path: ModelPath, layer: nnx.LinearGeneral, kernel: Array, current: Array) -> Array:
    """Reshapes [inputs, outputs] to the several axes that the layer has for each of them."""
    order = [axis % (len(layer.axis) + 1) for axis in layer.axis]  # the axes as they follow each other
    if layer.batch_axis or order != sorted(order):
        raise ValueError(
            f"target must have a LinearGeneral without batch_axis and with its axes in order; {'/'.join(path[:-1])!r} "
            "is not. Leave it out with rename"
        )
    wanted = math.prod(layer.in_features), math.prod(layer.out_features)
    return kernel.reshape(current.shape) if kernel.shape == wanted else kernel


def _flattened_channels_last(path: ModelPath, kernel: Array, image: Sequence[int]) -> Array:
    if kernel.shape[0] != math.prod(image):
        raise ValueError(
            f"flattened must be the image that {'/'.join(path[:-1])} reads, of {kernel.shape[0]} numbers; got "
            f"{tuple(image)}, {math.prod(image)} numbers"
        )
    return jnp.moveaxis(kernel.reshape(*image, -1), 0, -2).reshape(kernel.shape)
