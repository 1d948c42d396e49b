"""The way back: from what a layer puts out to what it took in."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from flax import nnx

from lectopt._internal.types import Array


class Passage(NamedTuple):
    """The shapes, of one example, that a layer of a network turns into each other."""

    taken: tuple[int, ...]  # what it takes in
    put_out: tuple[int, ...]
    code: tuple[int, ...]  # what the next layer takes in: put out, after activation, norm, pooling, flattening
    window: tuple[int, ...]  # of a convolution; () for a dense layer


class Decoder(nnx.Module):
    """One linear layer back: dense for a dense layer; for a convolution the code is enlarged and convolved."""

    def __init__(self, passage: Passage, rngs: nnx.Rngs):
        self.passage = passage
        self.image = _image(passage)
        self.layer: nnx.Module
        if self.image is None:
            self.layer = nnx.Linear(math.prod(passage.code), math.prod(passage.taken), rngs=rngs)
        else:
            self.layer = nnx.Conv(self.image[-1], passage.taken[-1], passage.window, rngs=rngs)

    def __call__(self, code: Array) -> jax.Array:
        """From [batch, *code] to [batch, *taken]."""
        count = code.shape[0]
        if self.image is None:
            return self.layer(code.reshape(count, -1)).reshape(count, *self.passage.taken)
        enlarged = (count, *self.passage.taken[:-1], self.image[-1])
        return self.layer(jax.image.resize(code.reshape(count, *self.image), enlarged, "nearest"))


class Mirror(nnx.Module):
    """The decoders of all layers of an encoder, the last first, with rectifiers between them."""

    def __init__(self, passages: Sequence[Passage], shape: tuple[int, ...], rngs: nnx.Rngs):
        self.shape = shape  # of an example, which the first layer may take in flattened
        self.decoders = nnx.List([Decoder(passage, rngs) for passage in reversed(passages)])

    def __call__(self, code: Array) -> jax.Array:
        """From [batch, *code of the last layer] to [batch, *shape], where the first one took as many numbers."""
        first, *rest = self.decoders
        x = first(code)
        for decoder in rest:
            x = decoder(nnx.relu(x))
        return x.reshape(-1, *self.shape) if math.prod(x.shape[1:]) == math.prod(self.shape) else x


def _image(passage: Passage) -> tuple[int, ...] | None:
    """The code of a convolution as [*space, channels], however it was pooled and flattened; None for a dense layer."""
    *space, channels = passage.put_out
    if not passage.window:
        return None
    if len(passage.code) == len(passage.put_out):
        return passage.code
    for factor in range(1, max(space) + 1):
        for smaller in ([size // factor for size in space], [-(-size // factor) for size in space]):
            if math.prod(smaller) * channels == math.prod(passage.code):
                return (*smaller, channels)
    return None
