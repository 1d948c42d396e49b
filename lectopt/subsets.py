"""Examples and parts of them: index sets of fixed shape over one device copy of the data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt import _arrays, _checks
from lectopt._keys import as_key
from lectopt._types import Array, Numeric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Subset:
    """A part of some examples: a view, nothing is copied.

    The first `size` indices are the part; what follows fills it up, so that parts of different size (folds differ by
    one) have one shape. Under `vmap` over folds the indices and sizes are mapped, the arrays never.
    """

    arrays: tuple[Any, ...]  # all examples: arrays (or trees of arrays) [examples, ...]
    indices: Array  # int32[capacity], rows of `arrays`
    size: Array  # int32[], how many of the indices count
    least: int = dataclasses.field(metadata={"static": True})  # at least so many count, in every fold

    @property
    def capacity(self) -> int:
        """The number of indices, the ones that fill up included."""
        return self.indices.shape[-1]

    def __len__(self) -> int:
        """The number of examples, where it is not being traced and there is one part.

        Raises:
            TypeError: otherwise; `size` is the number as an array, `capacity` the one that shapes go by.
        """
        if _checks.is_traced(self.size) or np.ndim(self.size):
            raise TypeError(
                "len() of a Subset must be known: it is traced here, or there are several parts. Take .size (an array) "
                "or .capacity (what shapes go by), or lectopt.steps_per_epoch(subset, batch_size)"
            )
        return int(self.size)

    def __bool__(self) -> bool:
        """True, also while it is being traced: there is no empty part."""
        return True

    def __repr__(self) -> str:
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in jax.tree.leaves(self.arrays))
        size = "?" if _checks.is_traced(self.size) or np.ndim(self.size) else len(self)
        return f"Subset({size} of {len(jax.tree.leaves(self.arrays)[0])} examples: {shapes})"

    def take(self, rows: Array) -> tuple[Any, ...]:
        """The examples at these rows of `arrays`."""
        return jax.tree.map(lambda a: a[rows], self.arrays)

    def unlabelled(self) -> "Subset":
        """The inputs alone, the first of the arrays, of the same examples."""
        return dataclasses.replace(self, arrays=self.arrays[:1])

    def examples(self) -> tuple[Any, ...]:
        """The examples of this part as arrays of their own."""
        return self.take(self.indices[: len(self)])


class Minibatches(NamedTuple):
    """One epoch's minibatches: row i of both is batch i."""

    indices: Array  # int32[steps, batch_size], rows of the examples
    weights: Array  # float32[steps, batch_size], 1 for an example of the batch, 0 for one that only fills it up


def as_subset(
    examples: Any, name: str = "examples", convert: Callable[[str, Any], jax.Array] = _arrays.as_examples
) -> Subset:
    """A tuple of arrays, or a Subset as it is, as a Subset.

    Args:
        examples: what was given.
        name: what messages call it.
        convert: from a user's array to JAX's: `as_array` where examples are only scored, which may be few and alike.

    Raises:
        TypeError: if it is neither, or holds what is no array of numbers.
        ValueError: if the arrays differ in length, are empty, or hold numbers that JAX would cut short.
    """
    if isinstance(examples, Subset):
        return examples
    if not isinstance(examples, (tuple, list)) or not examples:
        raise TypeError(f"{name} must be a tuple of arrays such as (x, y), or a Subset; got {type(examples).__name__}")
    if any(isinstance(part, list) for part in examples):
        raise TypeError(f"{name} must be a tuple of arrays such as (x, y), not of lists: use numpy.asarray")
    with jax.ensure_compile_time_eval():  # so that data closed over by a jitted function can still be checked
        arrays = _arrays.as_tree(name, tuple(examples), convert)
    leaves = jax.tree.leaves(arrays)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} must be arrays with one row per example; got shapes {[x.shape for x in leaves]}")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) != 1:
        raise ValueError(f"{name} must be arrays of equal length; got lengths {lengths}")
    if lengths[0] == 0:
        raise ValueError(f"{name} must hold at least 1 example; got none")
    return view(arrays, np.arange(lengths[0], dtype=np.int32))


def minibatches(
    examples: Any, batch_size: int, *, key: Any = None, epoch: Numeric = 0, shuffle: bool = True
) -> Minibatches:
    """The minibatches of one epoch, every example once, shuffled anew for each epoch.

    The last, smaller batch is filled up with real examples that carry no weight: shapes are fixed, weighted means are
    right, and batch statistics stay sane. This is what `lectopt.train` loops over; take it for loops of your own.

    Args:
        examples: a tuple of arrays [n, ...], or a Subset.
        batch_size: examples in a batch, at least 1.
        key: an int or a `jax.random.key`; may be left out without shuffling.
        epoch: the number of the epoch, at least 0; may be traced.
        shuffle: False keeps the order of the examples, the lecture's fixed set B.

    Returns:
        Minibatches(indices int32[steps, batch_size], weights float32[steps, batch_size]).

    Raises:
        ValueError: if batch_size is below 1, epoch below 0, or examples hold numbers that JAX would cut short.
        TypeError: if batch_size or epoch is not a whole number, a key is missing, or examples are no arrays of numbers.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> batches = lo.minibatches((jnp.arange(5.0),), 2, shuffle=False)
        >>> print(batches.indices.tolist(), batches.weights.tolist())
        [[0, 1], [2, 3], [4, 0]] [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]

    Source: the lecture, "Recap: Stochastic Gradient Descent".
    """
    subset = as_subset(examples)
    batch_size = _checks.check_count("batch_size", batch_size)
    if not isinstance(epoch, jax.Array):
        _checks.check_count("epoch", epoch, least=0)
    shuffle = _checks.check_flag("shuffle", shuffle)
    rows = rows_of(subset, batch_size, key=as_key(key) if shuffle else None, epoch=epoch, shuffle=shuffle)
    return Minibatches(rows, weights_of(subset, batch_size))


def rows_of(subset: Subset, batch_size: int, *, key: Any, epoch: Numeric, shuffle: bool) -> Array:
    """The rows of the examples of each batch of an epoch, int32[steps, batch_size]."""
    position = _positions(subset, batch_size) % subset.size
    if not shuffle:
        return subset.indices[position]
    # Sorting uniforms, not permuting: the order of the real examples is the same whatever fills them up.
    draws = jax.random.uniform(jax.random.fold_in(key, epoch), (subset.capacity,))
    place = jnp.argsort(jnp.where(jnp.arange(subset.capacity) < subset.size, draws, jnp.inf))
    return subset.indices[place[position]]


def weights_of(subset: Subset, batch_size: int) -> Array:
    """Their weights, float32[steps, batch_size]: 1 for an example of the batch, 0 for one that only fills it up."""
    return (_positions(subset, batch_size) < subset.size).astype(jnp.float32)


def _positions(subset: Subset, batch_size: int) -> Array:
    steps = math.ceil(subset.capacity / batch_size)
    return jnp.arange(steps * batch_size).reshape(steps, batch_size)


def view(arrays: tuple[Any, ...], indices: np.ndarray) -> Subset:
    """The examples at these rows, as a part."""
    with jax.ensure_compile_time_eval():
        return Subset(arrays, jnp.asarray(indices), jnp.int32(len(indices)), least=len(indices))
