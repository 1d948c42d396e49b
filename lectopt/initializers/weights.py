"""Initial weights: random, to break the symmetry, and of a size that preserves the signal."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks, numerics
from lectopt._internal.keys import as_key
from lectopt._internal.types import Numeric
from lectopt.initializers.protocol import Initializer, initializer

Axes: TypeAlias = int | Sequence[int]


def fan_in_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Initializer:
    r"""Draws weights whose size decreases with the number of inputs.

    .. math:: w_{ij} \sim U\left(-\frac{1}{\sqrt{m}}, \frac{1}{\sqrt{m}}\right)

    The variance is 1/(3m): for independent inputs of variance 1, the output of a linear unit has variance 1/3. (JAX's
    `lecun_uniform` is sqrt(3) wider.)

    Args:
        in_axis: the axis or axes of the inputs, whole numbers; negative ones count from the end.
        out_axis: the axis or axes of the units, whole numbers; negative ones count from the end.
        batch_axis: the axis or axes of independent kernels, whole numbers; () for none.

    Returns:
        An initializer (key, shape, dtype) -> array for shapes of at least two axes; it raises ValueError if an axis
        does not exist or has two roles.

    Raises:
        TypeError: if an axis is not a whole number.

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.fan_in_uniform()(jax.random.key(0), (100, 1000))
        >>> print(f"{abs(weights).max():.3f}")
        0.100

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics",
    heuristic 1; X. Glorot and Y. Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS, equation 1.
    """
    scaled = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis, out_axis, batch_axis)
    return _with_axes(scaled, in_axis, out_axis, batch_axis)


def glorot_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Initializer:
    r"""Draws weights whose size decreases with both inputs and outputs, so that gradients keep their size too.

    .. math:: w_{ij} \sim U\left(-\sqrt{\frac{6}{m + n}}, \sqrt{\frac{6}{m + n}}\right)

    This is the formula of Glorot and Bengio, with the 6 under the root: the variance is 2/(m + n), between the 1/m that
    preserves the size of the outputs and the 1/n that preserves that of the gradients. The lecture's slide prints
    :math:`6 / \sqrt{m + n}`, a slip: it would be sqrt(6) = 2.4 times too wide.

    Args:
        in_axis: the axis or axes of the inputs, whole numbers; negative ones count from the end.
        out_axis: the axis or axes of the units, whole numbers; negative ones count from the end.
        batch_axis: the axis or axes of independent kernels, whole numbers; () for none.

    Returns:
        An initializer (key, shape, dtype) -> array for shapes of at least two axes (JAX's own `glorot_uniform`); it
        raises ValueError if an axis does not exist or has two roles.

    Raises:
        TypeError: if an axis is not a whole number.

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.glorot_uniform()(jax.random.key(0), (200, 400))
        >>> print(f"{abs(weights).max():.3f}")
        0.100

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics",
    heuristic 2; X. Glorot and Y. Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS, equation 16.
    """
    return _with_axes(jax.nn.initializers.glorot_uniform(in_axis, out_axis, batch_axis), in_axis, out_axis, batch_axis)


def sparse(
    nonzeros: int, stddev: Numeric = 1.0, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> Initializer:
    r"""Gives each unit exactly k incoming weights that are not zero.

    .. math::
        w_{ij} \sim N(0, \sigma^2) \text{ for } k \text{ of the } m \text{ inputs } i \text{ of unit } j,
        \text{ drawn without replacement;} \qquad w_{ij} = 0 \text{ for the others}

    In a large layer the other heuristics make every weight very small; here their size does not depend on m.

    Args:
        nonzeros: k, a whole number of at least 1 and at most the fan-in.
        stddev: sigma, above 0, the standard deviation of the weights that are not zero: a number or a traced value.
        in_axis: the axis or axes of the inputs, whole numbers; negative ones count from the end.
        out_axis: the axis or axes of the units, whole numbers; negative ones count from the end.
        batch_axis: the axis or axes of independent kernels, whole numbers; () for none.

    Returns:
        An initializer (key, shape, dtype) -> array for shapes of at least two axes; it raises ValueError if k exceeds
        the fan-in, or an axis does not exist or has two roles.

    Raises:
        ValueError: if nonzeros is below 1, or a concrete stddev is not positive.
        TypeError: if nonzeros or an axis is not a whole number, or stddev not a number.

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.sparse(15)(jax.random.key(0), (1000, 4))
        >>> print((weights != 0).sum(axis=0))
        [15 15 15 15]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics"; J.
    Martens (2010), "Deep learning via Hessian-free optimization", ICML, section 5.
    """
    checks.check_count("nonzeros", nonzeros)
    checks.check_number("stddev", stddev, checks.POSITIVE)
    _check_axes(in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)

    @initializer
    def init(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        inputs, units = _inputs_and_units(shape, in_axis, out_axis, batch_axis)
        fan_in = math.prod(shape[axis] for axis in inputs)
        if nonzeros > fan_in:
            raise ValueError(f"nonzeros must be at most the fan-in, {fan_in} for shape {shape}; got {nonzeros}")
        key_nonzero, key_weights = jax.random.split(as_key(key))
        by_unit = tuple(shape[axis] for axis in units)
        first_inputs = jnp.broadcast_to(jnp.arange(fan_in) < nonzeros, (*by_unit, fan_in))
        nonzero = jax.random.permutation(key_nonzero, first_inputs, axis=-1, independent=True)
        weights = jnp.where(nonzero, _nonzero_normal(key_weights, nonzero.shape, dtype, stddev), 0)
        axes = (*units, *inputs)
        return weights.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))

    return init


def _with_axes(init: Initializer, in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> Initializer:
    """Wraps an initializer: shapes are checked to have these axes."""
    _check_axes(in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)

    @initializer
    def checked(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        _inputs_and_units(shape, in_axis, out_axis, batch_axis)
        return init(as_key(key), shape, dtype)

    return checked


def _check_axes(**axes: Any) -> None:
    for name, wanted in axes.items():
        each = wanted if isinstance(wanted, (tuple, list)) else [wanted]
        if not all(isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) for axis in each):
            raise TypeError(f"{name} must be an axis or several, whole numbers; got {wanted!r}")


def _inputs_and_units(
    shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the axes that a unit's incoming weights run over, and those that number the units."""
    if len(shape) < 2:
        raise ValueError(f"a kernel has an axis of inputs and one of units; got shape {shape}")

    def positive(name: str, axes: Axes) -> tuple[int, ...]:
        wanted = axes if isinstance(axes, Sequence) else (axes,)
        if any(not -len(shape) <= axis < len(shape) for axis in wanted):
            raise ValueError(f"{name} must be among the {len(shape)} axes of shape {shape}; got {axes}")
        return tuple(int(axis) % len(shape) for axis in wanted)

    units = (*positive("batch_axis", batch_axis), *positive("out_axis", out_axis))
    if set(units) & set(positive("in_axis", in_axis)) or len(set(units)) < len(units):
        raise ValueError(f"an axis has two roles: in_axis={in_axis}, out_axis={out_axis}, batch_axis={batch_axis}")
    return tuple(axis for axis in range(len(shape)) if axis not in units), units


def _nonzero_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any, stddev: Numeric) -> jax.Array:
    # Drawn in float32 also for halves; a draw that is exactly zero (one in 1e7, and more once rounded) becomes stddev.
    wide = numerics.working_dtype(dtype)
    stddev = jnp.asarray(stddev, wide)
    normal = (stddev * jax.random.normal(key, shape, wide)).astype(dtype)
    return jnp.where(normal == 0, stddev.astype(dtype), normal)
