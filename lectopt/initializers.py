"""Initialisers: functions `(key, shape, dtype) -> array`, for `kernel_init` and `bias_init` of Flax NNX and Linen.

The axes of a kernel are explicit, as in `jax.nn.initializers`: `in_axis` and `out_axis` (an axis or several) number
the inputs and the units, `batch_axis` numbers independent kernels, and all other axes are a convolution's receptive
field. A unit has m = in x field inputs (the fan-in) and an input feeds n = out x field outputs (the fan-out).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lectopt import _checks
from lectopt._types import Array, Numeric

Axes: TypeAlias = int | Sequence[int]
Initializer: TypeAlias = Callable[..., jax.Array]


def fan_in_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Initializer:
    r"""Weights whose size falls with the number of inputs.

    .. math:: w_{ij} \sim U\left(-\frac{1}{\sqrt{m}}, \frac{1}{\sqrt{m}}\right)

    The variance is 1/(3m): for independent inputs of variance 1, a linear unit's output has variance 1/3. (JAX's
    `lecun_uniform` is sqrt(3) wider.)

    Args:
        in_axis: the axis or axes of the inputs.
        out_axis: the axis or axes of the units.
        batch_axis: the axis or axes of independent kernels.

    Returns:
        An initialiser for shapes of at least two axes.

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.fan_in_uniform()(jax.random.key(0), (100, 1000))
        >>> print(f"{abs(weights).max():.3f}")
        0.100

    Source: the lecture, "Parameter Initialization - Heuristics", heuristic 1.
    """
    return jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis, out_axis, batch_axis)


def glorot_uniform(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Initializer:
    r"""Weights whose size falls with the numbers of inputs and outputs, so that gradients keep theirs too.

    .. math:: w_{ij} \sim U\left(-\sqrt{\frac{6}{m + n}}, \sqrt{\frac{6}{m + n}}\right)

    This is the formula of Glorot and Bengio, with the root over the 6: the variance is 2/(m + n), between the 1/m
    that keeps the size of the outputs and the 1/n that keeps that of the gradients. The lecture's slide prints
    :math:`6 / \sqrt{m + n}`, a slip: it would be sqrt(6) = 2.4 times too wide.

    Args:
        in_axis: the axis or axes of the inputs.
        out_axis: the axis or axes of the units.
        batch_axis: the axis or axes of independent kernels.

    Returns:
        An initialiser for shapes of at least two axes (JAX's own `glorot_uniform`).

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.glorot_uniform()(jax.random.key(0), (200, 400))
        >>> print(f"{abs(weights).max():.3f}")
        0.100

    Source: the lecture, "Parameter Initialization - Heuristics", heuristic 2; Glorot and Bengio (2010), equation 16.
    """
    return jax.nn.initializers.glorot_uniform(in_axis, out_axis, batch_axis)


def sparse(
    nonzeros: int, stddev: Numeric = 1.0, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> Initializer:
    r"""Units with exactly k incoming weights that are not zero.

    .. math:: w_{ij} \sim N(0, \sigma^2) \text{ for } k \text{ of the } m \text{ inputs } i \text{ of unit } j,
        \text{ drawn without replacement;} \qquad w_{ij} = 0 \text{ for the others}

    In a large layer the heuristics above make every weight very small; here their size does not depend on m.

    Args:
        nonzeros: k, at least 1 and at most the fan-in.
        stddev: sigma > 0, the standard deviation of the weights that are not zero: a number or a traced value.
        in_axis: the axis or axes of the inputs.
        out_axis: the axis or axes of the units.
        batch_axis: the axis or axes of independent kernels.

    Returns:
        An initialiser for shapes of at least two axes; it raises ValueError if k exceeds the fan-in.

    Raises:
        ValueError: if nonzeros is below 1, or a concrete stddev is not positive.
        TypeError: if nonzeros is not a whole number, or stddev not a number.

    Example:
        >>> import jax, lectopt as lo
        >>> weights = lo.initializers.sparse(15)(jax.random.key(0), (1000, 4))
        >>> print((weights != 0).sum(axis=0))
        [15 15 15 15]

    Source: the lecture, "Parameter Initialization - Heuristics"; Martens (2010), section 5.
    """
    _checks.check_count("nonzeros", nonzeros)
    _checks.check_number("stddev", stddev, _checks.POSITIVE)

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = None) -> jax.Array:
        dtype = jnp.result_type(float) if dtype is None else dtype
        inputs, units = _inputs_and_units(shape, in_axis, out_axis, batch_axis)
        fan_in = math.prod(shape[axis] for axis in inputs)
        if nonzeros > fan_in:
            raise ValueError(f"nonzeros must be at most the fan-in, {fan_in} for shape {tuple(shape)}; got {nonzeros}")
        key_places, key_weights = jax.random.split(key)
        by_unit = tuple(shape[axis] for axis in units)
        first = jnp.broadcast_to(jnp.arange(fan_in) < nonzeros, (*by_unit, fan_in))
        places = jax.random.permutation(key_places, first, axis=-1, independent=True)
        weights = jnp.where(places, _nonzero_normal(key_weights, places.shape, dtype, stddev), 0)
        axes = (*units, *inputs)
        return weights.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))

    return init


def relu_bias(value: Numeric = 0.01) -> Initializer:
    """Biases that start rectified linear units on their active side.

    Args:
        value: the bias of every unit, above 0, in units of the activation: a number or a traced value.

    Returns:
        An initialiser for any shape.

    Raises:
        ValueError: if a concrete value is not positive.
        TypeError: if it is not a number.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> layer = nnx.Linear(8, 3, bias_init=lo.initializers.relu_bias(), rngs=nnx.Rngs(0))
        >>> print(layer.bias[...])
        [0.01 0.01 0.01]

    Source: the lecture, "Parameter Initialization" (avoid saturation).
    """
    _checks.check_number("value", value, _checks.POSITIVE)
    return jax.nn.initializers.constant(value)


def output_bias(targets: Array, activation: str, weights: Array | None = None) -> Initializer:
    r"""Output biases with which a network that ignores its input predicts the mean of the targets.

    ============  =====================================================  ==============================
    activation    targets                                                bias
    ============  =====================================================  ==============================
    ``identity``  numbers [examples, ..., outputs], or [examples]        :math:`\bar t`
    ``sigmoid``   numbers in [0, 1], shaped as above                     :math:`\log \bar t/(1-\bar t)`
    ``softmax``   labels int[examples, ...], or shares float[..., K]     :math:`\log(n_k / n)`
    ============  =====================================================  ==============================

    With last weights of zero, the mean cross entropy is then the entropy of the targets' frequencies. A class that
    never occurs (or a sigmoid output that is always 0, or always 1) counts as half an example, so that the bias is
    finite; all others have their exact frequencies, relative to each other.

    Args:
        targets: of the training examples. They may be traced: a bias learned within a compiled program.
        activation: of the output layer: "identity", "sigmoid" or "softmax".
        weights: at least 0, one per example (or shaped as targets or labels begin); those with weight 0 have no
            influence, be they NaN. None weighs all alike.

    Returns:
        An initialiser for the shape of the bias, (outputs,), or (K,) with any number of classes K above every label.

    Raises:
        ValueError: if activation is another word, concrete targets are not finite, outside [0, 1] under sigmoid or
            negative under softmax, weights do not fit; and, from the initialiser, if the shape of the bias does not.

    Example:
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> bias = lo.initializers.output_bias(jnp.array([0, 1, 1, 2]), "softmax")(jax.random.key(0), (3,))
        >>> print(jax.nn.softmax(bias))
        [0.25 0.5  0.25]

    Source: the lecture, "Parameter Initialization" (one can choose biases to obtain right target means).
    """
    _checks.check_choice("activation", activation, tuple(_OUTPUT_BIASES))
    targets = jnp.asarray(targets)
    labels = activation == "softmax" and jnp.issubdtype(targets.dtype, jnp.integer)
    if not labels:
        targets = targets.astype(jnp.promote_types(targets.dtype, jnp.float32))
    weights = _per_entry(weights, targets)
    _check_targets(targets, activation, weights)

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = None) -> jax.Array:
        del key
        dtype = jnp.result_type(float) if dtype is None else dtype
        if labels:
            counts = _label_counts(targets, weights, shape[-1])
            return jnp.broadcast_to(_log_shares(counts, _half_an_example(weights.ravel())), shape).astype(dtype)
        columns = (lambda x: x[:, None]) if targets.ndim == 1 else (lambda x: x.reshape(-1, x.shape[-1]))
        if columns(targets).shape[1] != shape[-1]:
            raise ValueError(
                f"targets of shape {targets.shape} have {columns(targets).shape[1]} outputs; the bias has shape "
                f"{tuple(shape)}"
            )
        bias = _OUTPUT_BIASES[activation](columns(targets), columns(weights))
        return jnp.broadcast_to(bias, shape).astype(dtype)

    return init


def _means(targets: jax.Array, weights: jax.Array) -> jax.Array:
    total = weights.sum(0)
    return _sums(targets, weights) / jnp.where(total > 0, total, 1)


def _logits(targets: jax.Array, weights: jax.Array) -> jax.Array:
    least = _half_an_example(weights)
    ones, zeros = (_at_least(_sums(t, weights), least) for t in (targets, 1 - targets))
    return jnp.log(ones) - jnp.log(zeros)


def _log_frequencies(targets: jax.Array, weights: jax.Array) -> jax.Array:
    return _log_shares(_sums(targets, weights), _half_an_example(weights[:, 0]))


_OUTPUT_BIASES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "identity": _means,
    "sigmoid": _logits,
    "softmax": _log_frequencies,
}


def _sums(targets: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.where(weights > 0, weights * targets, 0).sum(0)


def _label_counts(labels: jax.Array, weights: jax.Array, classes: int) -> jax.Array:
    if not _checks.is_traced((labels, weights)) and np.max(labels, where=np.asarray(weights) > 0, initial=0) >= classes:
        raise ValueError(f"targets must be labels below {classes}, the size of the bias; got {np.max(labels)}")
    # bincount takes negative labels for 0.
    return jnp.bincount(labels.ravel(), jnp.where(labels >= 0, weights, 0).ravel(), length=classes)


def _log_shares(counts: jax.Array, least: jax.Array) -> jax.Array:
    counts = _at_least(counts, least)
    return jnp.log(counts) - jnp.log(counts.sum())


def _at_least(counts: jax.Array, least: jax.Array) -> jax.Array:
    return jnp.where(counts > 0, counts, least)


def _half_an_example(weights: jax.Array) -> jax.Array:
    """Half the mean weight of the examples that have any; 1 where there are none."""
    total, examples = weights.sum(0), (weights > 0).sum(0).astype(weights.dtype)
    return jnp.where(total > 0, total / jnp.where(total > 0, 2 * examples, 1), 1)


def _per_entry(weights: Array | None, targets: jax.Array) -> jax.Array:
    dtype = jnp.promote_types(
        jnp.float32, targets.dtype if jnp.issubdtype(targets.dtype, jnp.floating) else jnp.float32
    )
    given = jnp.ones(targets.shape, dtype) if weights is None else jnp.asarray(weights, dtype)
    if given.shape != targets.shape[: given.ndim]:
        raise ValueError(f"weights must be one per example, as targets of shape {targets.shape}; got {given.shape}")
    return jnp.broadcast_to(jnp.expand_dims(given, tuple(range(given.ndim, targets.ndim))), targets.shape)


def _check_targets(targets: jax.Array, activation: str, weights: jax.Array) -> None:
    if _checks.is_traced((targets, weights)):
        return
    used = np.asarray(targets)[np.asarray(weights) > 0]
    high = {"identity": math.inf, "sigmoid": 1, "softmax": math.inf}[activation]
    low = -math.inf if activation == "identity" else 0
    if not (np.isfinite(used).all() and (used >= low).all() and (used <= high).all()):
        raise ValueError(f"targets of a {activation} output must be finite and in [{low}, {high}]; others are there")


def _inputs_and_units(
    shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that a unit's incoming weights run over, and those that number the units."""
    if len(shape) < 2:
        raise ValueError(f"a kernel has an axis of inputs and one of units; got shape {tuple(shape)}")

    def positive(axes: Axes) -> tuple[int, ...]:
        wanted = (axes,) if isinstance(axes, int) else axes
        return tuple(int(np.lib.array_utils.normalize_axis_index(axis, len(shape))) for axis in wanted)

    units = (*positive(batch_axis), *positive(out_axis))
    if set(units) & set(positive(in_axis)) or len(set(units)) < len(units):
        raise ValueError(f"an axis has two roles: in_axis={in_axis}, out_axis={out_axis}, batch_axis={batch_axis}")
    return tuple(axis for axis in range(len(shape)) if axis not in units), units


def _nonzero_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any, stddev: Numeric) -> jax.Array:
    # Drawn in float32 also for halves; a draw that is exactly zero (one in 1e7, and more once rounded) becomes stddev.
    wide = jnp.promote_types(dtype, jnp.float32)
    stddev = jnp.asarray(stddev, wide)
    normal = (stddev * jax.random.normal(key, shape, wide)).astype(dtype)
    return jnp.where(normal == 0, stddev.astype(dtype), normal)
