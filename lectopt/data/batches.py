"""Minibatches: which examples each step of an epoch sees, and how many steps there are."""

import math
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt._internal.types import Array, Numeric
from lectopt.data.subsets import Subset, as_subset

Batch: TypeAlias = tuple[Any, ...]
"""Examples: arrays, or trees of arrays, [batch, ...]."""


class Minibatches(NamedTuple):
    """The minibatches of one epoch: row i of both arrays is batch i.

    Attributes:
        indices: int32[steps, batch_size], rows of the examples.
        weights: float32[steps, batch_size], 1 for an example of the batch, 0 for padding.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> x = jnp.arange(5.0)
        >>> batches = lo.minibatches((x,), 2, shuffle=False)
        >>> [float((x[rows] * w).sum() / w.sum()) for rows, w in zip(*batches)]  # the mean of each batch
        [0.5, 2.5, 4.0]
    """

    indices: Array  # int32[steps, batch_size]
    weights: Array  # float32[steps, batch_size]


def minibatches(
    examples: Any, batch_size: int, *, key: Any = None, epoch: Numeric = 0, shuffle: bool = True
) -> Minibatches:
    """Draws the minibatches of one epoch: every example once, shuffled anew for each epoch.

    The last, smaller batch is padded with real examples that carry no weight: shapes are fixed, weighted means are
    right, and batch statistics stay reasonable. This is what `lectopt.train` loops over; use it for loops of your own.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`.
        batch_size: examples in a batch, a whole number of at least 1.
        key: an int or a `jax.random.key`; None only without shuffling.
        epoch: the number of the epoch, at least 0; may be traced.
        shuffle: False keeps the order of the examples in every epoch, the lecture's fixed set B of minibatches.

    Returns:
        Minibatches(indices int32[steps, batch_size], weights float32[steps, batch_size]).

    Raises:
        ValueError: if batch_size is below 1, epoch below 0, or examples hold numbers that do not fit JAX's dtypes.
        TypeError: if batch_size or epoch is not a whole number, shuffle not a boolean, a key is missing, or examples
            are not arrays of numbers.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> batches = lo.minibatches((jnp.arange(5.0),), 2, shuffle=False)
        >>> print(batches.indices.tolist(), batches.weights.tolist())
        [[0, 1], [2, 3], [4, 0]] [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 8.1.3.
    """
    subset = as_subset(examples)
    batch_size = checks.check_count("batch_size", batch_size)
    if not isinstance(epoch, jax.Array):
        checks.check_count("epoch", epoch, least=0)
    elif epoch.shape or not jnp.issubdtype(epoch.dtype, jnp.integer):
        raise TypeError(f"epoch must be a whole number; got {epoch.dtype}{list(epoch.shape)}")
    shuffle = checks.check_flag("shuffle", shuffle)
    rows = rows_of(subset, batch_size, key=as_key(key) if shuffle else None, epoch=epoch, shuffle=shuffle)
    return Minibatches(rows, weights_of(subset, batch_size))


def steps_per_epoch(examples: Any, batch_size: int) -> int:
    """Counts the minibatches in one pass: ceil(examples / batch_size).

    Args:
        examples: the number of examples, or the examples themselves: a tuple or dictionary of arrays of equal length,
            or a `Subset`, also a traced one. (Folds of different size have the steps of the largest, as in their
            training.)
        batch_size: examples in a batch, a whole number of at least 1.

    Returns:
        A whole number of at least 1; the last batch may be smaller than the others.

    Raises:
        ValueError: if there are no examples, or batch_size is below 1.
        TypeError: if batch_size is not a whole number.

    Example:
        >>> import lectopt as lo
        >>> lo.steps_per_epoch(1150, 32)
        36

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 8.1.3.
    """
    if isinstance(examples, Subset):
        examples = examples.capacity  # of folds, what the loop goes by: parts of different size share a shape
    if isinstance(examples, (tuple, list, dict)):
        examples = next(iter(jax.tree.leaves(examples)), ())
    if checks.is_iterable(examples) and hasattr(examples, "__len__"):
        examples = len(examples)
    examples = checks.check_count("examples", examples, most=2**62)
    return math.ceil(examples / checks.check_count("batch_size", batch_size))


def batch_shapes(subset: Subset, batch_size: int) -> Batch:
    """Returns the shapes of a batch of these examples, as `jax.ShapeDtypeStruct`s."""
    rows = min(batch_size, subset.capacity)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), subset.arrays)


def rows_of(subset: Subset, batch_size: int, *, key: Any, epoch: Numeric, shuffle: bool) -> Array:
    """Returns the rows of the examples of each batch of an epoch, int32[steps, batch_size]."""
    position = _positions(subset, batch_size) % subset.size
    if not shuffle:
        return subset.indices[position]
    # Sorting uniforms, not permuting: the order of the real examples is the same whatever the padding is.
    draws = jax.random.uniform(jax.random.fold_in(key, epoch), (subset.capacity,))
    place = jnp.argsort(jnp.where(subset.mask, draws, jnp.inf))
    return subset.indices[place[position]]


def weights_of(subset: Subset, batch_size: int) -> Array:
    """Returns their weights, float32[steps, batch_size]: 1 for an example of the batch, 0 for padding."""
    return (_positions(subset, batch_size) < subset.size).astype(jnp.float32)


def _positions(subset: Subset, batch_size: int) -> Array:
    steps = math.ceil(subset.capacity / batch_size)
    return jnp.arange(steps * batch_size).reshape(steps, batch_size)
