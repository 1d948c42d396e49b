"""The way back: from what a layer puts out to what it took in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from flax import nnx

from lectopt._internal.types import Array


class LayerShapes(NamedTuple):
    """The shapes, of one example, that a layer of a network turns into each other."""

    inputs: tuple[int, ...]  # what it takes in
    outputs: tuple[int, ...]
    code: tuple[int, ...]  # what the next layer takes in: put out, after activation, norm, pooling, flattening
    window: tuple[int, ...]  # of a convolution; () for a dense layer


class Decoder(nnx.Module):
    """One linear layer back: dense for a dense layer; for a convolution the code is enlarged and convolved."""

    def __init__(self, shapes: LayerShapes, rngs: nnx.Rngs):
        self.shapes = shapes
        self.image = _code_image(shapes)
        self.layer: nnx.Module
        if self.image is None:
            self.layer = nnx.Linear(math.prod(shapes.code), math.prod(shapes.inputs), rngs=rngs)
        else:
            self.layer = nnx.Conv(self.image[-1], shapes.inputs[-1], shapes.window, rngs=rngs)

    def __call__(self, code: Array) -> jax.Array:
        """Maps [batch, *code] to [batch, *taken]."""
        count = code.shape[0]
        if self.image is None:
            return self.layer(code.reshape(count, -1)).reshape(count, *self.shapes.inputs)
        resized = (count, *self.shapes.inputs[:-1], self.image[-1])
        return self.layer(jax.image.resize(code.reshape(count, *self.image), resized, "nearest"))


class MirroredDecoder(nnx.Module):
    """The decoders of all layers of an encoder, the last first, with rectifiers between them."""

    def __init__(self, layers: Sequence[LayerShapes], shape: tuple[int, ...], rngs: nnx.Rngs):
        self.shape = shape  # of an example, which the first layer may take in flattened
        self.decoders = nnx.List([Decoder(shapes, rngs) for shapes in reversed(layers)])

    def __call__(self, code: Array) -> jax.Array:
        """Maps [batch, *code of the last layer] to [batch, *shape] if the first layer takes as many numbers."""
        last, *earlier = self.decoders
        x = last(code)
        for decoder in earlier:
            x = decoder(nnx.relu(x))
        return x.reshape(-1, *self.shape) if math.prod(x.shape[1:]) == math.prod(self.shape) else x


def _code_image(shapes: LayerShapes) -> tuple[int, ...] | None:
    """Returns the code of a convolution as [*space, channels], pooled and flattened or not; None for a dense layer."""
    *space, channels = shapes.outputs
    if not shapes.window:
        return None
    if len(shapes.code) == len(shapes.outputs):
        return shapes.code
    for factor in range(1, max(space) + 1):
        for pooled in ([size // factor for size in space], [-(-size // factor) for size in space]):
            if math.prod(pooled) * channels == math.prod(shapes.code):
                return (*pooled, channels)
    return None
