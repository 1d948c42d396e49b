"""One architecture, as data and as a plain Flax NNX module."""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks
from lectopt.norms.batch_norm import BatchNorm
from lectopt.norms.layer_norm import LayerNorm

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
    """One hidden layer: a linear map or a convolution, normalization, and an activation.

    Attributes:
        width: number of units, or of filters.
        kernel_size: taps of the filters along each spatial axis, an odd number; None for a dense layer.
        activation: "relu", "tanh", "sigmoid", "elu", "gelu" or "silu".
        norm: "none", "batch" (`lo.BatchNorm`) or "layer" (`lo.LayerNorm`), before the activation.
        skips: layers whose outputs are concatenated to that of the previous layer, in increasing order; 0 is the input
            of the network.

    Example:
        >>> import lectopt as lo
        >>> print(lo.search.Layer(32, kernel_size=3, norm="batch", skips=(0,)))
        32 filters of 3, batch norm, relu, + input

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578, section 3.3.
    """

    width: int
    kernel_size: int | None = None
    activation: str = "relu"
    norm: str = "none"
    skips: tuple[int, ...] = ()

    def sources(self, number: int) -> tuple[int, ...]:
        """Returns which layers this layer reads.

        Args:
            number: the position of this layer in the network, from 1.

        Returns:
            The numbers of those layers, 0 for the input of the network; their outputs are concatenated in this order.
        """
        return (*self.skips, number - 1)

    def __str__(self) -> str:
        what = f"{self.width} units" if self.kernel_size is None else f"{self.width} filters of {self.kernel_size}"
        norm = "" if self.norm == "none" else f", {self.norm} norm"
        skips = "".join(f", + {'input' if j == 0 else f'layer {j}'}" for j in self.skips)
        return f"{what}{norm}, {self.activation}{skips}"


@dataclasses.dataclass(frozen=True)
class Architecture:
    r"""A feed-forward network: hidden layers in sequence, and a linear output layer after the last of them.

    Convolutions are padded with zeros by half their kernel, so that a stride s turns n positions into
    :math:`\lceil n / s \rceil`; a skip connection over strides takes every s-th position. The output layer reads the
    mean over all positions.

    Attributes:
        layers: the hidden layers, a tuple of `lo.search.Layer`.
        strides: the strides of the convolutions, one for each layer; () for 1 everywhere.

    Example:
        >>> import lectopt as lo
        >>> Layer = lo.search.Layer
        >>> print(lo.search.Architecture((Layer(8, norm="batch"), Layer(4, activation="tanh", skips=(0,)))))
        1: 8 units, batch norm, relu
        2: 4 units, tanh, + input

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578, section 3.3.
    """

    layers: tuple[Layer, ...]
    strides: tuple[int, ...] = ()

    def stride(self, number: int) -> int:
        """Returns the stride of a layer.

        Args:
            number: which layer, from 1.

        Returns:
            An int, 1 for a dense layer.
        """
        return self.strides[number - 1] if self.strides else 1

    def step(self, source: int, number: int) -> int:
        """Returns the step with which a layer samples the output of an earlier one.

        Args:
            source: the earlier layer, 0 for the input of the network.
            number: the layer that reads it, from 1.

        Returns:
            The product of the strides in between: of so many positions, the layer reads one.
        """
        return math.prod(self.strides[source : number - 1])

    def network(self, inputs: Sequence[int], outputs: int, param_dtype: Any = jnp.float32) -> Callable[..., "Network"]:
        """Returns the model for a `Task`: a function from `nnx.Rngs` to a Flax NNX module.

        Args:
            inputs: the shape of one example: (features,) for dense layers, (length, channels) or (height, width,
                channels) for convolutions.
            outputs: number of outputs.
            param_dtype: the dtype of the parameters, by default float32.

        Returns:
            A function `rngs -> nnx.Module`, whose module maps [n, *inputs] to [n, outputs].

        Example:
            >>> import jax, jax.numpy as jnp, lectopt as lo
            >>> from flax import nnx
            >>> model = lo.search.Architecture((lo.search.Layer(8), lo.search.Layer(4))).network((64,), 10)
            >>> jax.eval_shape(lambda: model(nnx.Rngs(0))(jnp.ones((5, 64)))).shape
            (5, 10)
        """
        return functools.partial(Network, self, inputs[-1], outputs, len(inputs) - 1, param_dtype)

    def check(self, name: str, dimensions: int) -> None:
        """Checks that the architecture is possible.

        Args:
            name: what error messages call the architecture.
            dimensions: number of spatial axes of the inputs: 0 for dense layers, 1 or 2 for convolutions.

        Raises:
            TypeError: if an activation or norm is no string.
            ValueError: if there are no layers; a kernel size is even, or does not fit `dimensions`; a width,
                activation, norm or skip is not allowed; or the number of strides differs from that of layers.
        """
        if not self.layers:
            raise ValueError(f"{name} must have at least one layer; got none")
        for number, layer in enumerate(self.layers, 1):
            size = layer.kernel_size
            if (size is None) != (dimensions == 0) or (size is not None and not (_is_size(size) and size % 2)):
                kind = "None for dense layers" if dimensions == 0 else "odd"
                raise ValueError(f"{name} must have kernel_size {kind}; layer {number} has {size}")
            if not isinstance(layer.activation, str) or not isinstance(layer.norm, str):
                raise TypeError(f"{name} must have names of activations and norms; got {tuple(layer)}")
            if layer.activation not in ACTIVATIONS or layer.norm not in NORMS or not _is_size(layer.width):
                raise ValueError(f"{name} must have known activations and norms, and widths of at least 1; got {layer}")
            if any(not 0 <= j < number - 1 for j in layer.skips):
                raise ValueError(
                    f"{name} must have skips from layers before the previous one; layer {number} has {layer.skips}"
                )
        if self.strides and len(self.strides) != len(self.layers):
            raise ValueError(f"{name} must have a stride for each layer; got {self.strides}")

    def multiplications(self, inputs: Sequence[int], outputs: int) -> int:
        """Returns the number of multiplications that the linear maps take for one example.

        Args:
            inputs: the shape of one example: (features,) for dense layers, (length, channels) or (height, width,
                channels) for convolutions.
            outputs: number of outputs.

        Returns:
            An int, the output layer included.

        Raises:
            ValueError: if a size is below 1.
            TypeError: if the inputs are not a list of whole numbers, or outputs is none.
        """
        outputs = checks.check_count("outputs", outputs)
        if not isinstance(inputs, (tuple, list)) or not inputs:
            raise TypeError(f"inputs must be an example's shape, such as (64,); got {checks.value_and_type(inputs)}")
        *size, channels = (checks.check_count("inputs", length) for length in inputs)
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
        """Returns the outputs [n, outputs] for inputs [n, ..., channels]."""
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
        """Returns the layer's outputs, given the input and the outputs of all layers so far."""
        z = self.linear(jnp.concatenate([thin(found[j], step) for j, step in self.sources], axis=-1))  # type: ignore[operator]
        return self.activation(z if self.norm is None else self.norm(z))


def thin(x: jax.Array, step: int) -> jax.Array:
    """Returns every `step`-th position of x [n, ..., channels]."""
    return x[:, *[slice(None, None, step)] * (x.ndim - 2)]


def _is_size(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= 1
