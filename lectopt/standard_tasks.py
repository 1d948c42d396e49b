"""The two tasks that most people have: classification and regression."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._types import Array
from lectopt.metrics import PerExample, WholeSetMetric
from lectopt.task import Task, widen


def classification(
    model: Any,
    *,
    metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
    standardize: bool = False,
    output_bias: Any = None,
) -> Task:
    r"""Classification by cross-entropy of a softmax, scored by accuracy.

    .. math:: L = -\log \frac{\exp z_t}{\sum_c \exp z_c}

    Args:
        model: see `Task`; its outputs are logits z, float[batch, classes], or float[batch, ..., classes] where an
            example has several labels (their losses are averaged).
        metrics: more metrics beside "accuracy", the share of right labels.
        standardize: see `Task`.
        output_bias: see `Task`; it becomes the log of the label frequencies.

    Returns:
        A task for examples (x, labels); labels are whole numbers from 0, int[n] or int[n, ...].

    Raises:
        TypeError: if model is of none of the kinds that `Task` lists. When training: ValueError if labels are not
            whole numbers, lie outside the classes, or do not fit the shape of the outputs.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    """
    return Task(
        model,
        _cross_entropy,
        {"accuracy": _accuracy, **(metrics or {})},
        standardize=standardize,
        output_bias=output_bias,
        activation="softmax",
        check=_check_labels,
        chance=_entropy,
    )


def regression(
    model: Any,
    *,
    metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
    standardize: bool = False,
    output_bias: Any = None,
) -> Task:
    r"""Regression by squared error: the mean over examples of the sum over outputs.

    .. math:: L = \sum_j (\hat y_j - t_j)^2

    The lecture's E(w) sums over the examples; see `add_l2` for what that means for lambda.

    Args:
        model: see `Task`; its outputs have the shape of the targets.
        metrics: more metrics beside "absolute_error", the mean over outputs of :math:`|\hat y_j - t_j|`.
        standardize: see `Task`.
        output_bias: see `Task`; it becomes the mean of the targets.

    Returns:
        A task for examples (x, targets).

    Raises:
        TypeError: if model is of none of the kinds that `Task` lists. When training: ValueError if targets and
            outputs differ in shape; they are never broadcast.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.regression(lambda rngs: nnx.Linear(10, 1, rngs=rngs))  # for targets of shape (n, 1)

    Source: the lecture, "Validation".
    """
    return Task(
        model,
        _squared_error,
        {"absolute_error": _absolute_error, **(metrics or {})},
        standardize=standardize,
        output_bias=output_bias,
        activation="identity",
        check=_check_targets,
        chance=_variance,
    )


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return _per_example(optax.softmax_cross_entropy_with_integer_labels(widen(logits), labels), jnp.mean)


def _accuracy(logits: Array, labels: Array) -> Array:
    return _per_example((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32), jnp.mean)


def _squared_error(outputs: Array, targets: Array) -> Array:
    return _per_example((widen(outputs) - targets.astype(widen(outputs).dtype)) ** 2, jnp.sum)


def _absolute_error(outputs: Array, targets: Array) -> Array:
    return _per_example(jnp.abs(widen(outputs) - targets.astype(widen(outputs).dtype)), jnp.mean)


def _entropy(labels: Array, weights: Array) -> Array:
    """The entropy of the labels' frequencies, without knowing how many classes there are."""
    weights = jnp.broadcast_to(weights.reshape(-1, *[1] * (labels.ndim - 1)), labels.shape).ravel()
    order = jnp.argsort(labels.ravel())
    labels, weights = labels.ravel()[order], weights[order]
    below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(weights)])
    counts = below[jnp.searchsorted(labels, labels, "right")] - below[jnp.searchsorted(labels, labels)]
    total = jnp.maximum(below[-1], 1)
    return jnp.sum(weights * -jnp.log(jnp.where(weights > 0, counts / total, 1))) / total


def _variance(targets: Array, weights: Array) -> Array:
    rows = widen(targets).reshape(targets.shape[0], -1)
    centered = rows - jnp.average(rows, axis=0, weights=weights)
    return jnp.sum(jnp.average(centered**2, axis=0, weights=weights))


def _per_example(values: Array, reduce: Callable) -> Array:
    return reduce(values.reshape(values.shape[0], -1), axis=1)


def _check_labels(outputs: jax.ShapeDtypeStruct, labels: Any) -> None:
    classes = outputs.shape[-1] if outputs.shape else 0
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be whole numbers in [0, {classes}); got dtype {labels.dtype}")
    if outputs.shape[1:-1] != labels.shape[1:] or len(outputs.shape) != len(labels.shape) + 1:
        raise ValueError(
            f"the model's outputs must be one row of logits per label; got outputs {outputs.shape} for labels of shape "
            f"(batch, {', '.join(map(str, labels.shape[1:]))})"
        )
    if not isinstance(labels, jax.ShapeDtypeStruct):
        low, high = np.asarray(labels).min(), np.asarray(labels).max()
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels must be in [0, {classes}), as the model has {classes} outputs; got {low if low < 0 else high}"
            )


def _check_targets(outputs: jax.ShapeDtypeStruct, targets: Any) -> None:
    if outputs.shape[1:] != targets.shape[1:]:
        hint = "; reshape the targets: y[:, None]" if outputs.shape[1:] == (1, *targets.shape[1:]) else ""
        raise ValueError(
            f"targets must have the shape of the model's outputs, (n, {', '.join(map(str, outputs.shape[1:]))}); "
            f"got (n, {', '.join(map(str, targets.shape[1:]))}){hint}"
        )
