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
        if isinstance(weights, Mapping):
            _check_classes(weights, _labels(train, "train"))
        values = _values(weights, train, "train", train, task).astype(jnp.float32)
        count = jax.tree.leaves(train.arrays)[0].shape[0]
        if values.shape != (count,):
            raise ValueError(f"weights must have shape ({count},), one for each example; got {values.shape}")
        counts = _counts(train, task)
        total = jnp.sum(jnp.where(counts > 0, values[train.indices] * counts, 0))
        if not checks.is_traced((values, total)) and not (jnp.all(values >= 0) and jnp.isfinite(total) and total > 0):
            raise ValueError("weights must be finite, at least 0, and not all 0 over the training examples")
        return values * (jnp.sum(counts) / total)


def as_valid_weights(weights: Any, valid: Subset, name: str, train: Subset, task: Task) -> Array:
    """Returns weights of all examples of `valid.arrays`, as they would have in the training part."""
    by_class = isinstance(weights, (str, Mapping))
    if not by_class and [*map(id, jax.tree.leaves(valid.arrays))] != [*map(id, jax.tree.leaves(train.arrays))]:
        raise ValueError(
            f"weight_validation needs weights by class, or {name} to be a part of the arrays of train: weights of "
            "single examples are those of train"
        )
    with jax.ensure_compile_time_eval():
        values = _values(weights, valid, name, train, task).astype(jnp.float32)
        weighted = jnp.sum(jnp.where(valid.mask, values[valid.indices], 0))
        if not checks.is_traced(weighted) and not weighted > 0:
            raise ValueError(f"weight_validation must leave examples of {name} some weight; it is 0 for all of them")
        return values


def _values(weights: Any, part: Subset, name: str, train: Subset, task: Task) -> Array:
    """Returns weights of all examples of `part.arrays`, by what is known of the training part."""
    if isinstance(weights, str) and weights == BALANCED:
        return _balanced(_labels(part, name), train, task)
    if isinstance(weights, Mapping):
        return _by_class(_labels(part, name), weights)
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
    known = _labels(train, "train")
    beyond = jnp.iinfo(known.dtype).max  # sorted behind all that count
    ordered = jnp.sort(jnp.where(counted, known[train.indices], beyond))
    alike = jnp.searchsorted(ordered, labels, "right") - jnp.searchsorted(ordered, labels)
    return jnp.where(alike > 0, 1 / alike, 0)


def _check_classes(weights: Mapping[Any, Any], labels: Array) -> None:
    for label, weight in weights.items():
        if not checks.is_traced(labels) and not np.any(np.asarray(labels) == label):
            raise ValueError(f"weights must be of classes that occur in train; {label!r} does not")
        checks.check_number(f"weights[{label}]", weight, checks.NON_NEGATIVE)


def _by_class(labels: Array, weights: Mapping[Any, Any]) -> Array:
    values = jnp.ones(labels.shape)
    for label, weight in weights.items():
        values = jnp.where(labels == label, weight, values)
    return values


def _labels(part: Subset, name: str) -> Array:
    labels = part.arrays[-1]
    if not isinstance(labels, jax.Array) or not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
        raise ValueError(f"weights by class need labels: whole numbers of shape (n,) as the last array of {name}")
    return labels.astype(jnp.promote_types(labels.dtype, jnp.int32))


def _counts(train: Subset, task: Task) -> Array:
    """Counts the labels of each of the training examples: float32[capacity]."""
    mask = train.mask.astype(jnp.float32)
    counts = task.counts(train.take(train.indices)[-1]) if task.has_targets else None
    return mask if counts is None else mask * counts
