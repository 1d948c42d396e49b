"""Examples and parts of them: index sets of fixed shape over one device copy of the data."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt import _checks
from lectopt._keys import as_key
from lectopt._types import Array, Numeric

_SHARE = _checks.Interval(0, 1, low_open=True, high_open=True)


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
        """The number of examples, where it is not being traced."""
        return int(self.size)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in jax.tree.leaves(self.arrays))
        size = "?" if _checks.is_traced(self.size) or np.ndim(self.size) else len(self)
        return f"Subset({size} of {len(jax.tree.leaves(self.arrays)[0])} examples: {shapes})"

    def take(self, rows: Array) -> tuple[Any, ...]:
        """The examples at these rows of `arrays`."""
        return jax.tree.map(lambda a: a[rows], self.arrays)

    def examples(self) -> tuple[Any, ...]:
        """The examples of this part as arrays of their own."""
        return self.take(self.indices[: len(self)])


class Minibatches(NamedTuple):
    """One epoch's minibatches: row i of both is batch i."""

    indices: Array  # int32[steps, batch_size], rows of the examples
    weights: Array  # float32[steps, batch_size], 1 for an example of the batch, 0 for one that only fills it up


def as_subset(examples: Any, name: str = "examples") -> Subset:
    """A tuple of arrays, or a Subset as it is, as a Subset.

    Raises:
        TypeError: if it is neither.
        ValueError: if the arrays differ in length or are empty.
    """
    if isinstance(examples, Subset):
        return examples
    if not isinstance(examples, (tuple, list)) or not examples:
        raise TypeError(f"{name} must be a tuple of arrays such as (x, y), or a Subset; got {type(examples).__name__}")
    if any(isinstance(part, list) for part in examples):
        raise TypeError(f"{name} must be a tuple of arrays such as (x, y), not of lists: use numpy.asarray")
    with jax.ensure_compile_time_eval():  # so that data closed over by a jitted function can still be checked
        arrays = jax.tree.map(jnp.asarray, tuple(examples))
    leaves = jax.tree.leaves(arrays)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} must be arrays with one row per example; got shapes {[x.shape for x in leaves]}")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) != 1:
        raise ValueError(f"{name} must be arrays of equal length; got lengths {lengths}")
    if lengths[0] == 0:
        raise ValueError(f"{name} must hold at least 1 example; got none")
    return _view(arrays, np.arange(lengths[0], dtype=np.int32))


def holdout(examples: Any, fraction: float, *, key: Any, stratify: bool = False) -> tuple[Subset, Subset]:
    """Splits examples at random into the rest and a held-out part.

    Args:
        examples: a tuple of arrays [n, ...], or a Subset.
        fraction: the held-out share, in (0, 1); round(fraction n) examples are held out.
        key: an int or a `jax.random.key`.
        stratify: draw the same share from each class, to within one example. The last array must hold the labels,
            whole numbers.

    Returns:
        (rest, held_out), two Subsets over one copy of the data.

    Raises:
        ValueError: if fraction is outside (0, 1), a part would be empty, or there are no labels to stratify by.
        TypeError: if the indices, the key, or labels to stratify by are being traced.

    Example:
        >>> import lectopt as lo
        >>> rest, test = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
        >>> len(rest), len(test)
        (1438, 359)

    Source: the lecture, "Validation".
    """
    whole = as_subset(examples)
    _checks.check_number("fraction", fraction, _SHARE)
    if _checks.is_traced((whole.indices, whole.size, key)):
        raise TypeError("examples and key must not be traced here: split outside of jit and vmap")
    held = round(float(fraction) * len(whole))
    if not 0 < held < len(whole):
        raise ValueError(f"fraction must leave examples in both parts; got {fraction} of {len(whole)} examples")
    with jax.ensure_compile_time_eval():
        order = np.asarray(jax.random.permutation(as_key(key), len(whole)))
    indices = np.asarray(whole.indices)[order]
    out = _share_of_each_class(_labels(whole)[indices], held) if stratify else np.arange(len(whole)) < held
    return _view(whole.arrays, np.sort(indices[~out])), _view(whole.arrays, np.sort(indices[out]))


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
        epoch: the number of the epoch; may be traced.
        shuffle: False keeps the order of the examples, the lecture's fixed set B.

    Returns:
        Minibatches(indices int32[steps, batch_size], weights float32[steps, batch_size]).

    Raises:
        ValueError: if batch_size is below 1.
        TypeError: if batch_size is not a whole number, or a key is missing.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> batches = lo.minibatches((jnp.arange(5.0),), 2, shuffle=False)
        >>> print(batches.indices.tolist(), batches.weights.tolist())
        [[0, 1], [2, 3], [4, 0]] [[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]

    Source: the lecture, "Recap: Stochastic Gradient Descent".
    """
    subset = as_subset(examples)
    batch_size = _checks.check_count("batch_size", batch_size)
    place = jnp.arange(subset.capacity)
    if shuffle:
        # Sorting uniforms, not permuting: the order of the real examples is the same whatever fills them up.
        draws = jax.random.uniform(jax.random.fold_in(as_key(key), epoch), (subset.capacity,))
        place = jnp.argsort(jnp.where(place < subset.size, draws, jnp.inf))
    steps = math.ceil(subset.capacity / batch_size)
    position = jnp.arange(steps * batch_size)
    rows = subset.indices[place[position % subset.size]]
    weights = (position < subset.size).astype(jnp.float32)
    return Minibatches(rows.reshape(steps, batch_size), weights.reshape(steps, batch_size))


def _view(arrays: tuple[Any, ...], indices: np.ndarray) -> Subset:
    with jax.ensure_compile_time_eval():
        return Subset(arrays, jnp.asarray(indices), jnp.int32(len(indices)), least=len(indices))


def _labels(subset: Subset) -> np.ndarray:
    """The labels of all examples of `subset.arrays`."""
    labels = subset.arrays[-1]
    if not isinstance(labels, jax.Array) or labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError("stratify needs labels: the last array of the examples must be whole numbers of shape (n,)")
    if _checks.is_traced(labels):
        raise TypeError("labels must not be traced where examples are stratified: split outside of jit and vmap")
    return np.asarray(labels)


def _share_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Which `count` of the shuffled labels to take so that each class has its share, to within one example: bool[n]."""
    _, first, classes, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    shares, remainders = np.divmod(sizes * count, len(labels))
    # The largest remainders get one more; among equal ones, the class that the shuffling put first.
    shares[np.lexsort((first, -remainders))[: count - shares.sum()]] += 1
    rank = np.empty(len(labels), int)
    rank[np.argsort(classes, kind="stable")] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank < shares[classes]
