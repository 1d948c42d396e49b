"""Means and variances without cancellation, of weighted examples, over all devices, and pooled over batches."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array

Axes: TypeAlias = int | Sequence[int]


class Moments(NamedTuple):
    """The moments of some examples.

    Attributes:
        count: the number of examples, or their total weight: float32 or wider, of the shape of the reduction.
        mean: their mean, of the same dtype and shape.
        var: their variance (ddof 0), of the same dtype and shape.
    """

    count: Array
    mean: Array
    var: Array


def center(
    x: Array,
    axes: Axes,
    weights: Array | None = None,
    axis_name: Any = None,
    axis_index_groups: Any = None,
) -> tuple[Array, Moments]:
    r"""Subtracts the mean over some axes, and returns the deviations with their moments.

    .. math:: \mu = \frac{1}{n} \sum_i w_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i w_i (x_i - \mu)^2, \qquad
        n = \sum_i w_i

    It is the corrected two-pass algorithm: with c the mean as it comes out rounded and d = x - c, the moments are
    c + mean(d) and mean(d^2) - mean(d)^2, and the deviations d - mean(d). They have nearly all their digits whatever
    the mean is, where E[x^2] - E[x]^2 has none left at mean 1e4. The result does not depend on c, so no gradient
    flows through the first pass, and it takes no longer than two passes without the correction.

    Args:
        x: numbers; integers are taken as float32. Computed in float32 or wider.
        axes: the axes to reduce.
        weights: broadcastable to x, at least 0, or a mask of booleans; None weighs all alike. What has weight 0 has no
            influence on the moments and their gradients, be it NaN; where it is not finite, it counts as 0 itself. A
            weight that is invalid (negative, NaN, infinite) counts as 0.
        axis_name: the named axis or axes of `shard_map`, `vmap` or `pmap` to reduce over too. Under `jit` over a mesh
            none is needed: the moments are those of the global array.
        axis_index_groups: groups of indices within that axis, as in `jax.lax.psum`.

    Returns:
        The deviations x - mean, shaped like x, and `Moments` with the reduced axes kept at size 1. Without any weight
        (an empty or fully masked batch) count, mean and variance are 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from lectopt import norms
        >>> deviations, moments = norms.center(jnp.array([1e5, 1e5 + 1, 1e5 + 2]), axes=0)
        >>> print(deviations, moments.mean, f"{moments.var[0]:.4f}")
        [-1.  0.  1.] [100001.] 0.6667

    Source: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", equation 1.7.
    """
    x = as_float(x)
    axes = canonical_axes(x.ndim, axes)
    if weights is not None:
        weights = jnp.asarray(weights, numerics.real_dtype(x))
        weights = jnp.where((weights > 0) & (weights < jnp.inf), weights, 0)
        x = jnp.where((weights > 0) | jnp.isfinite(x), x, 0)

    def over_devices(sums: Any) -> Any:
        return sums if axis_name is None else jax.lax.psum(sums, axis_name, axis_index_groups=axis_index_groups)

    def totals(*terms: Array) -> tuple[Array, ...]:
        return over_devices(tuple(jnp.sum(_weighted(term, weights), axes, keepdims=True) for term in terms))

    count = jnp.asarray(over_devices(_total_weight(x, axes, weights)), numerics.real_dtype(x))
    divisor = jnp.where(count > 0, count, 1)
    # A bare sum: XLA may round a division of the sum anew at each use, and c has to be one number in all of them.
    (c,) = totals(jax.lax.stop_gradient(x) * (1 / divisor).astype(x.dtype))
    d = x - c
    shift, mean_of_squares = (total / divisor for total in totals(d, numerics.squared_magnitude(d)))
    # Rounding can bring the difference below 0 where all x are equal.
    var = jnp.maximum(mean_of_squares - numerics.squared_magnitude(shift), 0)
    return d - shift, Moments(jnp.broadcast_to(count, var.shape), c + shift, var)


def pool(batches: Moments) -> Moments:
    r"""Pools moments of several batches: their total count, mean and variance.

    .. math:: n = \sum_b n_b, \qquad \mu = \sum_b \frac{n_b}{n} \mu_b, \qquad
        \sigma^2 = \sum_b \frac{n_b}{n} \left( \sigma_b^2 + (\mu_b - \mu)^2 \right)

    This is the total variance: within the batches and between them. (The lecture averages the standard deviations,
    which leaves out what is between.) Of two batches it is Chan's formula.

    Args:
        batches: moments with a leading axis of batches; a batch with count 0 has no influence, be it NaN.

    Returns:
        `Moments` without the leading axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from lectopt import norms
        >>> halves = norms.Moments(jnp.array([2.0, 2.0]), mean=jnp.array([0.0, 4.0]), var=jnp.array([1.0, 1.0]))
        >>> print(*norms.pool(halves))
        4.0 2.0 5.0

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Batch Normalization" (when testing a single
    example); T. F. Chan, G. H. Golub and R. J. LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37(3), equation 2.1.
    """
    _, between = center(batches.mean, 0, batches.count)
    divisor = jnp.where(between.count > 0, between.count, 1)
    within = jnp.sum(_weighted(batches.var, batches.count), 0, keepdims=True) / divisor
    return Moments(between.count[0], between.mean[0], (between.var + within)[0])


def measure(x: Array, axes: Axes, weights: Array | None = None) -> Moments:
    """Computes the moments of inputs, as `center` does, of any size whose variance the dtype can hold.

    Squares of large numbers, and sums of them, would overflow on the way, and those of small ones vanish. So they are
    taken of x scaled by a power of two, which rounds nothing, feature by feature.
    """
    x = as_float(x)
    counts = jnp.isfinite(x)
    if weights is not None:
        counts &= jnp.asarray(weights, numerics.real_dtype(x)) > 0
    size = jnp.max(jnp.where(counts, jnp.abs(x), 0), canonical_axes(x.ndim, axes), keepdims=True, initial=0)
    edge = 2.0 ** (jnp.finfo(x.dtype).maxexp * 15 // 64)  # 2^30 in float32
    scale = jnp.where(size > edge, edge**-2, jnp.where(size < 1 / edge, edge**2, 1)).astype(size.dtype)
    found = center(x * scale.astype(x.dtype), axes, weights)[1]
    return found._replace(mean=found.mean / scale.astype(x.dtype), var=found.var / scale / scale)


def as_float(x: Array) -> Array:
    """Converts the array to the dtype that moments are computed in: float32 or wider, complex if it is complex."""
    return jnp.asarray(x, numerics.working_dtype(x))


def canonical_axes(ndim: int, axes: Axes, name: str = "axes") -> tuple[int, ...]:
    """Returns axes as sorted numbers of at least 0.

    Raises:
        TypeError: if they are not whole numbers; the message calls them `name`.
        ValueError: if the array has no such axis, or one is named twice.
    """
    wanted = _each(name, axes)
    if not all(-ndim <= axis < ndim for axis in wanted):
        raise ValueError(f"{name} must be from {-ndim} to {ndim - 1}, the axes of the inputs; got {axes!r}")
    found = sorted({int(axis) % ndim for axis in wanted})
    if len(found) < len(wanted):
        raise ValueError(f"{name} must be different axes; got {axes!r}, of inputs with {ndim} axes")
    return tuple(found)


def check_axes(**axes: Any) -> None:
    """Raises TypeError unless each is a whole number, or a sequence of them."""
    for name, given in axes.items():
        _each(name, given)


def _each(name: str, axes: Any) -> tuple[Any, ...]:
    wanted = tuple(axes) if checks.is_iterable(axes) else (axes,)
    if not all(isinstance(axis, numbers.Integral) and not isinstance(axis, bool) for axis in wanted):
        raise TypeError(f"{name} must be a whole number, or a few of them; got {axes!r}")
    return wanted


def _total_weight(x: Array, axes: tuple[int, ...], weights: Array | None) -> Any:
    """Sums the weights over axes, as broadcast to x, without broadcasting them."""
    if weights is None:
        return math.prod(x.shape[axis] for axis in axes)
    weights = jnp.expand_dims(weights, tuple(range(x.ndim - weights.ndim)))
    copies = math.prod(x.shape[axis] for axis in axes if weights.shape[axis] == 1)
    return copies * jnp.sum(weights, axes, keepdims=True)


def _weighted(x: Array, weights: Array | None) -> Array:
    # The select keeps out what is infinite at weight 0, such as the square of a large masked number.
    return x if weights is None else jnp.where(weights > 0, weights.astype(x.dtype) * x, 0)
