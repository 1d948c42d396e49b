"""One architecture, as data and as a plain Flax NNX module."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt.norms import BatchNorm, LayerNorm

ACTIVATIONS: dict[str, Callable[[Any], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
NORMS = {"none": None, "batch": BatchNorm, "layer": LayerNorm}


class Layer(NamedTuple):
    """One hidden layer: a linear map or convolution, a normalisation, an activation."""

    width: int
    """Units, or filters."""
    kernel_size: int | None = None
    """Taps along each spatial axis, odd; None for a dense layer."""
    activation: str = "relu"
    norm: str = "none"
    skips: tuple[int, ...] = ()
    """Earlier layers that it reads beside the one before it; 0 is the input."""

    def sources(self, number: int) -> tuple[int, ...]:
        """What it reads as layer `number` (the first is 1), in order: their outputs are concatenated."""
        return (*self.skips, number - 1)

    def __str__(self) -> str:
        what = f"{self.width} units" if self.kernel_size is None else f"{self.width} filters of {self.kernel_size}"
        norm = "" if self.norm == "none" else f", {self.norm} norm"
        skips = "".join(f", + {'input' if j == 0 else f'layer {j}'}" for j in self.skips)
        return f"{what}{norm}, {self.activation}{skips}"


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Hidden layers one after the other, and a linear output layer that reads the last of them.

    Convolutions are padded with zeros by half their kernel, so that a stride s leaves ceil(n / s) positions of n; a
    skip connection takes every s-th position. The output layer reads the mean over all positions.
    """

    layers: tuple[Layer, ...]
    strides: tuple[int, ...] = ()
    """Of the convolutions, one for each layer; 1 where there is none."""

    def stride(self, number: int) -> int:
        """The stride of layer `number`, the first being 1."""
        return self.strides[number - 1] if self.strides else 1

    def step(self, source: int, number: int) -> int:
        """Of how many positions of an earlier layer's output layer `number` reads one."""
        return math.prod(self.strides[source : number - 1])

    def network(self, inputs: Sequence[int], outputs: int, param_dtype: Any = jnp.float32) -> Callable[..., "Network"]:
        """The model for a `Task`: a function rngs -> `Network`.

        Args:
            inputs: the shape of one example, (features,) for dense layers, (length, channels) or (height, width,
                channels) for convolutions.
            outputs: how many outputs there are.
            param_dtype: of the parameters.

        Example:
            >>> import jax.numpy as jnp
            >>> from flax import nnx
            >>> from lectopt.architecture.design import Architecture, Layer
            >>> architecture = Architecture((Layer(8, norm="batch"), Layer(4, activation="tanh", skips=(0,))))
            >>> architecture.network((64,), 10)(nnx.Rngs(0))(jnp.ones((5, 64))).shape
            (5, 10)
        """
        return functools.partial(Network, self, inputs[-1], outputs, len(inputs) - 1, param_dtype)

    def check(self, name: str, dimensions: int) -> None:
        """Raises ValueError, which calls it `name`, unless it is possible in so many spatial dimensions."""
        if not self.layers:
            raise ValueError(f"{name} must have at least one layer; got none")
        for number, layer in enumerate(self.layers, 1):
            size = layer.kernel_size
            if (size is None) != (dimensions == 0) or (size is not None and (size < 1 or size % 2 == 0)):
                kind = "None for dense layers" if dimensions == 0 else "odd"
                raise ValueError(f"{name} must have kernel_size {kind}; layer {number} has {size}")
            if layer.activation not in ACTIVATIONS or layer.norm not in NORMS or layer.width < 1:
                raise ValueError(f"{name} must have known activations and norms, and widths of at least 1; got {layer}")
            if any(not 0 <= j < number - 1 for j in layer.skips):
                raise ValueError(
                    f"{name} must skip from before the layer before; layer {number} has skips {layer.skips}"
                )
        if self.strides and len(self.strides) != len(self.layers):
            raise ValueError(f"{name} must have a stride for each layer; got {self.strides}")

    def multiplications(self, inputs: Sequence[int], outputs: int) -> int:
        """How many multiplications the linear maps take for one example."""
        *size, channels = inputs
        widths, total = [channels, *(layer.width for layer in self.layers)], 0
        for number, layer in enumerate(self.layers, 1):
            size = [-(-n // self.stride(number)) for n in size]
            taps = 1 if layer.kernel_size is None else layer.kernel_size ** len(size)
            total += math.prod(size) * taps * sum(widths[j] for j in layer.sources(number)) * layer.width
        return total + widths[-1] * outputs

    def __str__(self) -> str:
        return "\n".join(f"{number}: {layer}" for number, layer in enumerate(self.layers, 1))


class Network(nnx.Module):
    """An architecture as a module: dense, or convolutional in one or two dimensions."""

    def __init__(
        self, architecture: Architecture, channels: int, outputs: int, dimensions: int, param_dtype: Any, rngs: nnx.Rngs
    ):
        widths = [channels, *(layer.width for layer in architecture.layers)]
        self.layers = nnx.List(
            [
                Hidden(
                    layer,
                    [(j, architecture.step(j, number)) for j in layer.sources(number)],
                    sum(widths[j] for j in layer.sources(number)),
                    [architecture.stride(number)] * dimensions,
                    param_dtype,
                    rngs,
                )
                for number, layer in enumerate(architecture.layers, 1)
            ]
        )
        self.output = nnx.Linear(widths[-1], outputs, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs [n, outputs] for inputs [n, ..., channels]."""
        found = [x]
        for layer in self.layers:
            found.append(layer(found))
        return self.output(jnp.mean(found[-1], axis=tuple(range(1, x.ndim - 1))))


class Hidden(nnx.Module):
    """One hidden layer."""

    def __init__(
        self,
        layer: Layer,
        sources: Sequence[tuple[int, int]],
        fan: int,
        strides: list[int],
        param_dtype: Any,
        rngs: nnx.Rngs,
    ):
        bias = layer.norm != "batch"  # which would take it away again
        options: dict[str, Any] = {"use_bias": bias, "param_dtype": param_dtype, "rngs": rngs}
        if layer.kernel_size is None:
            self.linear: nnx.Module = nnx.Linear(fan, layer.width, **options)
        else:
            size, half = [layer.kernel_size] * len(strides), layer.kernel_size // 2
            padding = [(half, half)] * len(strides)
            self.linear = nnx.Conv(fan, layer.width, size, strides=strides, padding=padding, **options)
        norm = NORMS[layer.norm]
        self.norm = nnx.data(None) if norm is None else norm(layer.width, param_dtype=param_dtype, rngs=rngs)
        self.activation = ACTIVATIONS[layer.activation]
        self.sources = tuple(sources)

    def __call__(self, found: Sequence[jax.Array]) -> jax.Array:
        """Its outputs, of the input and the outputs of all layers so far."""
        z = self.linear(jnp.concatenate([thin(found[j], step) for j, step in self.sources], axis=-1))  # type: ignore[operator]
        return self.activation(z if self.norm is None else self.norm(z))


def thin(x: jax.Array, step: int) -> jax.Array:
    """Every `step`-th position of x [n, ..., channels]."""
    return x[:, *[slice(None, None, step)] * (x.ndim - 2)]
