"""What BatchNorm and LayerNorm have in common: scale and bias per feature, axes, dtypes, checks."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal import checks, numerics
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array, Numeric
from lectopt.norms import moments


def apply(
    deviations: Array,
    var: Array,
    scale: Array | None,
    bias: Array | None,
    features: tuple[int, ...],
    epsilon: Numeric,
) -> Array:
    """Computes gamma (x - mean) / sqrt(var + epsilon) + beta; scale and bias run along the axes `features`."""
    shape = tuple(size if axis in features else 1 for axis, size in enumerate(deviations.shape))
    dtype = functools.reduce(jnp.promote_types, (a.dtype for a in (scale, bias) if a is not None), deviations.dtype)
    # A variance that overflowed gives NaN, which is seen, and not beta whatever the input is.
    factor = (jax.lax.rsqrt(var + jnp.asarray(epsilon, var.dtype)) + 0 * var).astype(dtype)
    if scale is not None:
        factor = factor * scale.reshape(shape).astype(dtype)
    y = deviations.astype(dtype) * factor
    return y if bias is None else y + bias.reshape(shape).astype(dtype)


def parameter(
    name: str, wanted: bool, init: Any, rngs: nnx.Rngs, num_features: int, dtype: Any, metadata: Any
) -> nnx.Param[jax.Array] | None:
    """Creates a parameter per feature, or None; it takes its key from rngs as Flax does, so other layers get the same.

    Raises:
        TypeError: if init is no function, metadata no mapping, or rngs, where a key is needed, no nnx.Rngs.
        ValueError: if init returns another shape.
    """
    if not callable(init):
        raise TypeError(
            f"{name}_init must be a function (key, shape, dtype) -> array, such as jax.nn.initializers.zeros; "
            f"got {checks.value_and_type(init)}"
        )
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) for key in metadata):
        raise TypeError(f"{name}_metadata must be a dict of names and values; got {checks.value_and_type(metadata)}")
    if not wanted:
        return nnx.data(None)
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs must be an nnx.Rngs, such as nnx.Rngs(0); got {checks.value_and_type(rngs)}")
    variable = nnx.Param(init(rngs.params(), (num_features,), dtype), **metadata)
    if (shape := jnp.shape(variable.get_value())) != (num_features,):
        raise ValueError(f"{name}_init must return an array of shape {(num_features,)}; it returned {shape}")
    return variable


def value(variable: nnx.Variable[Any] | None) -> Array | None:
    """Returns the array of a variable, or None if there is no variable."""
    return None if variable is None else variable[...]


def output_dtype(x: Array, *params: Array | None, dtype: Any = None) -> Any:
    """Returns the dtype asked for, or what Flax infers: that of input and parameters together, float32 for integers."""
    if dtype is not None:
        return dtype
    common = functools.reduce(jnp.promote_types, (p.dtype for p in params if p is not None), x.dtype)
    return common if jnp.issubdtype(common, jnp.inexact) else numerics.working_dtype(x)


def check_features(layer: str, x: Array, axes: moments.Axes, num_features: int, name: str = "axis") -> tuple[int, ...]:
    """Returns the axes as sorted numbers, raising unless their sizes multiply to num_features."""
    features = moments.canonical_axes(x.ndim, axes, name)
    size = math.prod(x.shape[axis] for axis in features)
    if size != num_features:
        raise ValueError(
            f"{layer} has num_features={num_features}; got inputs of shape {x.shape} with {size} features on "
            f"axis {axes}"
        )
    return features


def as_mask(x: Array, mask: Any) -> jax.Array | None:
    """Converts the mask to an array.

    Raises:
        TypeError: if it holds neither booleans nor real numbers.
        ValueError: if it cannot be broadcast to x, aligned at the last axes, or concrete numbers in it are NaN,
            infinite or below 0.
    """
    if mask is None:
        return None
    mask = as_array("mask", mask)
    shape, full = mask.shape, x.shape
    aligned = zip(shape[::-1], full[::-1], strict=False)
    if len(shape) > len(full) or any(m not in (1, n) for m, n in aligned):
        raise ValueError(
            f"mask must be broadcastable to the inputs' shape {full}, such as {(*full[:-1], 1)}; got shape {shape}"
        )
    if mask.dtype != bool and not checks.is_real(mask):
        raise TypeError(f"mask must hold booleans, or numbers of at least 0; got {mask.dtype}")
    if not checks.is_traced(mask) and mask.dtype != bool:
        _check_weights(np.asarray(mask))
    return mask


def _check_weights(mask: np.ndarray) -> None:
    wrong = ~((mask >= 0) & (mask < np.inf))
    if wrong.any():
        raise ValueError(f"mask must hold booleans, or finite numbers of at least 0; got {mask[wrong][0]}")
