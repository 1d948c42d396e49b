"""A child as masks of one network: the largest of its space, with all sizes fixed and everything chosen traced."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal.numerics import standard_promotion
from lectopt._internal.types import Array
from lectopt.architecture.design import ACTIVATIONS, thin
from lectopt.architecture.sizes import Size
from lectopt.architecture.space import ArchitectureSpace
from lectopt.norms.batch_norm import BatchNorm
from lectopt.norms.layer_norm import LayerNorm


class ArchitectureChoice(nnx.Variable[Any]):
    """What an architecture says about the network: not trained, and traced."""


class MaskedNetwork(nnx.Module):
    r"""Equal to the network of an architecture, in the shapes of a larger one, by default the largest of the space.

    Of the kernel of each layer only the taps, inputs and units that the architecture has are used, the others are
    multiplied by 0; they start at 0 and get no gradient, so that the optimizer leaves them there. Initial weights
    have the variance 1/m with the number m of inputs that the architecture has, as in Flax (`lecun_normal`). They are
    drawn in the shapes of the largest network and then cut, so that they are the same whatever the size.

    Args:
        space: the architectures.
        vector: int[decisions], which one; may be traced.
        inputs: the shape of one example, as for `Architecture.network`.
        outputs: how many outputs there are.
        size: at least that of the architecture; None for the largest of the space.
        param_dtype: of the parameters.
        rngs: the source of keys for the initial weights.
    """

    @standard_promotion()
    def __init__(
        self,
        space: ArchitectureSpace,
        vector: Array,
        inputs: Sequence[int],
        outputs: int,
        *,
        size: Size | None = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ):
        widest = max(space.width)
        size = size or Size(space.deepest, widest)
        depth = space.values("depth", 0, vector)
        used = [jnp.ones(inputs[-1], bool)]
        layers = []
        for number in range(1, space.deepest + 1):
            units = (jnp.arange(widest) < space.values("width", number, vector)) & (number <= depth)
            # Of the earlier layers only those that may be skipped from cost anything.
            sources = [j for j in range(number) if space.skip or j == number - 1]
            chosen = [True if j == number - 1 else space.values("skip", number, vector, j) for j in sources]
            reads = jnp.concatenate([used[j] & chosen[i] for i, j in enumerate(sources)])
            kept = np.concatenate([np.arange(len(used[j])) < (size.width if j else inputs[-1]) for j in sources])
            gathered = tuple((j, space.largest.step(j, number)) for j in sources)
            cut = Cut(np.flatnonzero(kept), size.width)
            layers.append(
                MaskedHidden(space, vector, number, gathered, reads, units, cut, len(inputs) - 1, param_dtype, rngs)
            )
            used.append(units)
        self.layers = nnx.List(layers[: size.depth])  # the others only took their keys
        last = jnp.stack(used[1:])[depth - 1]
        self.depth, self.last = ArchitectureChoice(jnp.asarray(depth)), ArchitectureChoice(last[: size.width])
        kernel = _scaled(rngs.params(), (widest, outputs), last[:, None], param_dtype)[: size.width]
        self.kernel, self.bias = nnx.Param(kernel), nnx.Param(jnp.zeros(outputs, param_dtype))

    @standard_promotion()
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the outputs [n, outputs] for inputs [n, ..., channels]."""
        found = [x]
        for layer in self.layers:
            found.append(layer(found))
        means = jnp.stack([jnp.mean(h, axis=tuple(range(1, x.ndim - 1))) for h in found[1:]])
        features = jnp.einsum("d,dnc->nc", jnp.arange(1, len(found)) == self.depth[...], means)
        return features @ (self.kernel[...] * self.last[...][:, None]) + self.bias[...]


class Cut(NamedTuple):
    """What is kept of the largest hidden layer."""

    inputs: np.ndarray  # int[], which
    width: int  # of its units, the first


class MaskedHidden(nnx.Module):
    """One hidden layer."""

    @standard_promotion()
    def __init__(
        self,
        space: ArchitectureSpace,
        vector: Array,
        number: int,
        sources: tuple[tuple[int, int], ...],
        reads: Array,
        units: Array,
        cut: Cut,
        dimensions: int,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.sources, self.stride = sources, space.strides[number - 1]
        self.sizes = () if space.kernel_size is None else (max(space.kernel_size),) * dimensions
        self.activations, self.norms = space.activation, space.norm
        self.activation = ArchitectureChoice(jnp.asarray(space.values("activation", number, vector)))
        self.norm = ArchitectureChoice(jnp.asarray(space.values("norm", number, vector)))
        taps = _taps(self.sizes, space.values("kernel_size", number, vector))
        drawn = _scaled(rngs.params(), (len(taps), len(reads), len(units)), _mask(taps, reads, units), param_dtype)
        units = units[: cut.width]
        self.reads, self.units = ArchitectureChoice(reads[cut.inputs]), ArchitectureChoice(units)
        self.taps, self.kernel = ArchitectureChoice(taps), nnx.Param(drawn[:, cut.inputs, : cut.width])
        has_bias = set(space.norm) != {"batch"}
        self.bias = nnx.Param(jnp.zeros(len(units), param_dtype)) if has_bias else nnx.data(None)
        # At most one of the two is used: the other one's scale and bias get no gradient.
        options: dict[str, Any] = {"param_dtype": param_dtype, "rngs": rngs}
        self.batch_norm = BatchNorm(len(units), **options) if "batch" in space.norm else nnx.data(None)
        self.layer_norm = LayerNorm(len(units), **options) if "layer" in space.norm else nnx.data(None)

    @standard_promotion()
    def __call__(self, found: Sequence[jax.Array]) -> jax.Array:
        """Its outputs, of the input and the outputs of all layers so far."""
        x = jnp.concatenate([thin(found[j], step) for j, step in self.sources], axis=-1)
        kernel = self.kernel[...] * _mask(self.taps[...], self.reads[...], self.units[...])
        z = _patches(x, self.sizes, self.stride) @ kernel.reshape(-1, kernel.shape[-1])
        return self._activate(self._normalise(z if self.bias is None else z + self._bias()))

    def _bias(self) -> Array:
        """Returns the bias; there is none before BatchNorm."""
        used = self.units[...]
        if "batch" in self.norms:
            used = used & (self.norm[...] != self.norms.index("batch"))
        return self.bias[...] * used  # type: ignore[index]

    def _normalise(self, z: Array) -> Array:
        kinds = {
            "none": lambda: z,
            "batch": lambda: self.batch_norm(z),  # type: ignore[misc]
            "layer": lambda: self.layer_norm(z, mask=self.units[...]),  # type: ignore[misc]
        }
        return _select(self.norm[...], [kinds[name]() for name in self.norms])

    def _activate(self, z: Array) -> Array:
        return _select(self.activation[...], [ACTIVATIONS[name](z) for name in self.activations])


def _mask(taps: Array, reads: Array, units: Array) -> Array:
    """Returns which entries of a kernel [taps, inputs, units] the architecture has."""
    return taps[:, None, None] & reads[:, None] & units


def _select(place: Array, values: list[Array]) -> Array:
    return values[0] if len(values) == 1 else jax.lax.select_n(place, *values)


def _taps(sizes: tuple[int, ...], chosen: Any) -> Array:
    """Returns bool[taps]: those around the middle of a kernel of these sizes that a smaller one has."""
    if not sizes:
        return jnp.array([True])
    away = [max(abs(t - size // 2) for t, size in zip(tap, sizes, strict=True)) for tap in _places(sizes)]
    return jnp.array(away) <= chosen // 2


def _places(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Returns the taps of a kernel, in the order of its first axis."""
    return itertools.product(*map(range, sizes))


def _patches(x: Array, sizes: tuple[int, ...], stride: int) -> Array:
    """Returns [n, ..., taps * channels] of x [n, ..., channels]; a vmapped convolution would use slow loops."""
    if not sizes:
        return x
    middle = range(1, x.ndim - 1)
    padded = jnp.pad(x, [(0, 0), *((size // 2, size // 2) for size in sizes), (0, 0)])
    spans = [(x.shape[axis] - 1) // stride * stride + 1 for axis in middle]
    slices = [
        padded[:, *(slice(t, t + span, stride) for t, span in zip(tap, spans, strict=True))] for tap in _places(sizes)
    ]
    return jnp.concatenate(slices, axis=-1)


def _scaled(key: jax.Array, shape: tuple[int, ...], mask: Array, dtype: Any) -> Array:
    """Returns Flax's default weights, `lecun_normal`, for the inputs that the mask leaves to each unit."""
    mask = jnp.broadcast_to(mask, shape)
    fan = jnp.max(jnp.sum(mask, axis=tuple(range(len(shape) - 1))))
    # A normal variable cut off at 2 sd has the variance 0.774...; JAX divides by the same root.
    draws = jax.random.truncated_normal(key, -2, 2, shape, dtype) / 0.87962566103423978
    return jnp.where(mask, draws / jnp.sqrt(jnp.maximum(fan, 1)).astype(dtype), 0)
