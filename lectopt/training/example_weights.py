"""The weight of each training example: its own, by its class, or such that all classes count alike."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array
from lectopt.data.subsets import Subset
from lectopt.tasks.task import Task

BALANCED = "balanced"
_ALLOWED = f'"{BALANCED}", {{class: weight}}, or an array of numbers, one for each example'


def as_weights(weights: Any, train: Subset, task: Task) -> Array:
    """Returns weights of all examples of `train.arrays`, of mean 1 over the training part (its labels that count)."""
    with jax.ensure_compile_time_eval():  # so that concrete weights can be checked under `jit` too
        values = _values(weights, train, task).astype(jnp.float32)
        count = jax.tree.leaves(train.arrays)[0].shape[0]
        if values.shape != (count,):
            raise ValueError(f"weights must have shape ({count},), one for each example; got {values.shape}")
        counts = _counts(train, task)
        total = jnp.sum(jnp.where(counts > 0, values[train.indices] * counts, 0))
        if not checks.is_traced((values, total)) and not (jnp.all(values >= 0) and jnp.isfinite(total) and total > 0):
            raise ValueError("weights must be finite, at least 0, and not all 0 over the training examples")
        return values * (jnp.sum(counts) / total)


def _values(weights: Any, train: Subset, task: Task) -> Array:
    if isinstance(weights, str) and weights == BALANCED:
        return _balanced(_labels(train), train, task)
    if isinstance(weights, Mapping):
        return _by_class(_labels(train), weights)
    if isinstance(weights, str):
        raise ValueError(f"weights must be {_ALLOWED}; got {checks.value_and_type(weights)}")
    try:
        values = weights if isinstance(weights, jax.Array) else np.asarray(weights)
    except ValueError as error:  # rows of different lengths
        raise TypeError(f"weights must be {_ALLOWED}; got {checks.value_and_type(weights)}") from error
    if not (values.dtype == bool or checks.is_real(values)):
        raise TypeError(f"weights must be {_ALLOWED}; got dtype {values.dtype}")
    return as_array("weights", values)


def _balanced(labels: Array, train: Subset, task: Task) -> Array:
    """Returns 1 / (the training examples of the same class); 0 for a class without any."""
    counted = _counts(train, task) > 0
    beyond = jnp.iinfo(labels.dtype).max  # sorted behind all that count
    ordered = jnp.sort(jnp.where(counted, labels[train.indices], beyond))
    alike = jnp.searchsorted(ordered, labels, "right") - jnp.searchsorted(ordered, labels)
    return jnp.where(alike > 0, 1 / alike, 0)


def _by_class(labels: Array, weights: Mapping) -> Array:
    values = jnp.ones(labels.shape)
    for label, weight in weights.items():
        if not checks.is_traced(labels) and not np.any(np.asarray(labels) == label):
            raise ValueError(f"weights must be of classes that occur in train; {label!r} does not")
        checks.check_number(f"weights[{label}]", weight, checks.NON_NEGATIVE)
        values = jnp.where(labels == label, weight, values)
    return values


def _labels(train: Subset) -> Array:
    labels = train.arrays[-1]
    if not isinstance(labels, jax.Array) or not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
        raise ValueError("weights by class need labels: whole numbers of shape (n,) as the last array of train")
    return labels.astype(jnp.promote_types(labels.dtype, jnp.int32))


def _counts(train: Subset, task: Task) -> Array:
    """Counts the labels of each of the training examples: float32[capacity]."""
    mask = train.mask.astype(jnp.float32)
    counts = task.counts(train.take(train.indices)[-1]) if task.has_targets else None
    return mask if counts is None else mask * counts
