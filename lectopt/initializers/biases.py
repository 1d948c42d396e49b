"""Initial biases: off the flat side of ReLU, and outputs with the right means."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks, numerics
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array, Numeric
from lectopt.initializers.protocol import Initializer, initializer


def relu_bias(value: Numeric = 0.01) -> Initializer:
    """Sets biases that start rectified linear units on their active side.

    Args:
        value: the bias of every unit, above 0, in units of the activation: a number or a traced value. The default is
            the lecture's.

    Returns:
        An initializer (key, shape, dtype) -> array for any shape.

    Raises:
        ValueError: if a concrete value is not positive.
        TypeError: if value is not a number.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> layer = nnx.Linear(8, 3, bias_init=lo.initializers.relu_bias(), rngs=nnx.Rngs(0))
        >>> print(layer.bias[...])
        [0.01 0.01 0.01]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (avoid
    saturation); I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 8.4.
    """
    checks.check_number("value", value, checks.POSITIVE)
    return initializer(jax.nn.initializers.constant(value))


def output_bias(targets: Array, activation: str, weights: Array | None = None) -> Initializer:
    r"""Sets output biases with which a network that ignores its input predicts the mean of the targets.

    | activation | targets                                            | bias                           |
    | ---------- | -------------------------------------------------- | ------------------------------ |
    | identity   | numbers [examples, ..., outputs], or [examples]    | :math:`\bar t`                 |
    | sigmoid    | numbers in [0, 1], shaped as above                 | :math:`\log \bar t/(1-\bar t)` |
    | softmax    | labels int[examples, ...], or shares float[..., K] | :math:`\log(n_k / n)`          |

    If the last weights are zero, the mean cross-entropy is then the entropy of the targets' frequencies. A class that
    never occurs (or a sigmoid output that is always 0, or always 1) counts as half an example, so that the bias is
    finite; all others have their exact frequencies, relative to each other.

    Args:
        targets: those of the training examples, shaped as in the table. They may be traced: a bias learned inside a
            compiled program.
        activation: the activation of the output layer: "identity", "sigmoid" or "softmax".
        weights: numbers of at least 0, one per example (or with the leading axes of the targets or labels); entries of
            weight 0 have no influence, even if NaN. None weights all alike.

    Returns:
        An initializer (key, shape, dtype) -> array for the shape of the bias: (outputs,), or (K,) with any number of
        classes K above every label. It raises ValueError if the shape does not fit the targets.

    Raises:
        ValueError: if activation is none of the three, concrete targets are not finite, outside [0, 1] under sigmoid or
            negative under softmax, or weights do not fit or are negative.

    Example:
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> bias = lo.initializers.output_bias(jnp.array([0, 1, 1, 2]), "softmax")(jax.random.key(0), (3,))
        >>> print(jax.nn.softmax(bias))
        [0.25 0.5  0.25]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (choose biases to
    obtain right target means); I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section
    8.4.
    """
    checks.check_choice("activation", activation, tuple(_OUTPUT_BIASES))
    targets = as_array("targets", targets)
    if targets.dtype != bool and not checks.is_real(targets):
        raise TypeError(f"targets must be real numbers; got {targets.dtype}")
    labels = activation == "softmax" and jnp.issubdtype(targets.dtype, jnp.integer)
    if not labels:
        targets = targets.astype(numerics.working_dtype(targets))
    weights = _per_entry(weights, targets)
    _check_targets(targets, activation, weights)

    @initializer
    def init(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        del key
        if labels:
            counts = _label_counts(targets, weights, shape[-1])
            return jnp.broadcast_to(_log_shares(counts, _half_an_example(weights.ravel())), shape).astype(dtype)
        columns = (lambda x: x[:, None]) if targets.ndim == 1 else (lambda x: x.reshape(-1, x.shape[-1]))
        if columns(targets).shape[1] != shape[-1]:
            raise ValueError(
                f"targets of shape {targets.shape} have {columns(targets).shape[1]} outputs; the bias has shape {shape}"
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
    if not checks.is_traced((labels, weights)) and np.max(labels, where=np.asarray(weights) > 0, initial=0) >= classes:
        raise ValueError(f"targets must be labels below {classes}, the size of the bias; got {np.max(labels)}")
    # bincount takes negative labels for 0.
    return jnp.bincount(labels.ravel(), jnp.where(labels >= 0, weights, 0).ravel(), length=classes)


def _log_shares(counts: jax.Array, least: jax.Array) -> jax.Array:
    counts = _at_least(counts, least)
    return jnp.log(counts) - jnp.log(counts.sum())


def _at_least(counts: jax.Array, least: jax.Array) -> jax.Array:
    return jnp.where(counts > 0, counts, least)


def _half_an_example(weights: jax.Array) -> jax.Array:
    """Returns half the mean weight of the examples that have any; 1 if there are none."""
    total, examples = weights.sum(0), (weights > 0).sum(0).astype(weights.dtype)
    return jnp.where(total > 0, total / jnp.where(total > 0, 2 * examples, 1), 1)


def _per_entry(weights: Array | None, targets: jax.Array) -> jax.Array:
    dtype = jnp.promote_types(
        jnp.float32, targets.dtype if jnp.issubdtype(targets.dtype, jnp.floating) else jnp.float32
    )
    if weights is not None and not checks.is_real(weights := as_array("weights", weights)) and weights.dtype != bool:
        raise TypeError(f"weights must be real numbers; got {weights.dtype}")
    full = jnp.ones(targets.shape, dtype) if weights is None else weights.astype(dtype)
    if full.shape != targets.shape[: full.ndim]:
        raise ValueError(f"weights must be one per example, as targets of shape {targets.shape}; got {full.shape}")
    return jnp.broadcast_to(jnp.expand_dims(full, tuple(range(full.ndim, targets.ndim))), targets.shape)


def _check_targets(targets: jax.Array, activation: str, weights: jax.Array) -> None:
    if checks.is_traced((targets, weights)):
        return
    used = np.asarray(targets)[np.asarray(weights) > 0]
    high = {"identity": math.inf, "sigmoid": 1, "softmax": math.inf}[activation]
    low = -math.inf if activation == "identity" else 0
    if not (np.asarray(weights) >= 0).all():
        raise ValueError(f"weights must be at least 0; the smallest is {np.min(weights)}")
    if not np.isfinite(weights).all():
        raise ValueError("weights must be finite; others are there")
    if not (np.isfinite(used).all() and (used >= low).all() and (used <= high).all()):
        raise ValueError(f"targets of a {activation} output must be finite and in [{low}, {high}]; others are there")
