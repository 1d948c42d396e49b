"""Examples and parts of them: index sets of fixed shape over one device copy of the data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.array_checks import check_once
from lectopt._internal.arrays import as_examples, as_tree
from lectopt._internal.types import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Subset:
    """A part of some examples: a view; nothing is copied.

    `holdout`, `few_labels` and the folds make them; wherever examples are asked for, a Subset will do. The first `size`
    indices are the part; the rest is padding, so that parts of different size (folds differ by one) have one shape.
    Under `vmap` over folds the indices and sizes are mapped, the arrays never. A Subset is true, also while it is being
    traced, and `len` of it is the number of its examples where that is known.

    Attributes:
        arrays: all examples, a tuple of arrays [n, ...], or of trees of such arrays.
        indices: int32[capacity], the rows of `arrays` that are the part, then padding.
        size: int32[], how many of the indices count.
        least: a Python int: in every fold at least this many count.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> rest, held_out = lo.holdout((jnp.arange(10.0), jnp.arange(10)), 0.2, key=0)
        >>> len(held_out), held_out.capacity, held_out.examples()[0].shape
        (2, 2, (2,))
    """

    arrays: tuple[Any, ...]
    indices: Array  # int32[capacity]
    size: Array  # int32[]
    least: int = dataclasses.field(metadata={"static": True})

    @property
    def capacity(self) -> int:
        """The number of indices, including the padding: the static size that shapes are derived from."""
        return self.indices.shape[-1]

    @property
    def mask(self) -> Array:
        """bool[capacity]: which of the indices count, the others being padding."""
        return jnp.arange(self.capacity) < self.size

    def __len__(self) -> int:
        """Returns the number of examples, where it is not being traced and there is one part.

        Raises:
            TypeError: otherwise; `size` is the number as an array, `capacity` the one that shapes go by.
        """
        if checks.is_traced(self.size) or np.ndim(self.size):
            raise TypeError(
                "len() of a Subset must be known: it is traced here, or there are several parts. Take .size (an array) "
                "or .capacity (what shapes go by), or lectopt.steps_per_epoch(subset, batch_size)"
            )
        return int(self.size)

    def __bool__(self) -> bool:
        """Returns True, also while it is being traced: no part is empty."""
        return True

    def __repr__(self) -> str:
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in jax.tree.leaves(self.arrays))
        size = "?" if checks.is_traced(self.size) or np.ndim(self.size) else len(self)
        return f"Subset({size} of {len(jax.tree.leaves(self.arrays)[0])} examples: {shapes})"

    def take(self, rows: Array) -> tuple[Any, ...]:
        """Returns the examples at the given rows of `arrays`.

        Args:
            rows: int[...], any shape; each row in [0, n). They may be traced.

        Returns:
            The same tuple of arrays, or trees of arrays, each of shape [..., ...]: the shape of rows, then that of an
            example.
        """
        return jax.tree.map(lambda a: a[rows], self.arrays)

    def unlabelled(self) -> "Subset":
        """Returns the inputs alone: a Subset of the same examples with only the first of the arrays."""
        return dataclasses.replace(self, arrays=self.arrays[:1])

    def examples(self) -> tuple[Any, ...]:
        """Returns the examples of this part as arrays of their own, without padding.

        Returns:
            A tuple of arrays [size, ...], or of trees of such arrays.

        Raises:
            TypeError: if the size is being traced, or there are several parts.
        """
        return self.take(self.indices[: len(self)])


def as_subset(examples: Any, name: str = "examples", convert: Callable[[str, Any], jax.Array] = as_examples) -> Subset:
    """Converts a tuple of arrays to a Subset; a Subset stays as it is.

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
    if isinstance(examples, list) and all(isinstance(part, (tuple, list)) for part in examples):
        raise TypeError(
            f"{name} must be a tuple of arrays such as (x, y); got a list of {len(examples)} tuples. If they are "
            "batches, lectopt.fit trains on lectopt.stream(batches)"
        )
    if any(isinstance(part, list) for part in examples):
        raise TypeError(f"{name} must be a tuple of arrays such as (x, y), not of lists: use numpy.asarray")
    with jax.ensure_compile_time_eval():  # so that data closed over by a jitted function can still be checked
        arrays = as_tree(name, tuple(examples), convert)
    leaves = jax.tree.leaves(arrays)
    if any(leaf.ndim == 0 for leaf in leaves):
        raise ValueError(f"{name} must be arrays with one row per example; got shapes {[x.shape for x in leaves]}")
    lengths = [leaf.shape[0] for leaf in leaves]
    if len(set(lengths)) != 1:
        raise ValueError(f"{name} must be arrays of equal length; got lengths {lengths}")
    if lengths[0] == 0:
        raise ValueError(f"{name} must hold at least 1 example; got none")
    return view(arrays, np.arange(lengths[0], dtype=np.int32))


def view(arrays: tuple[Any, ...], indices: np.ndarray) -> Subset:
    """Returns the examples at these rows, as a part."""
    with jax.ensure_compile_time_eval():
        return Subset(arrays, jnp.asarray(indices), jnp.int32(len(indices)), least=len(indices))


def check_finite(subset: Subset, name: str) -> None:
    """Raises ValueError if any number is NaN or infinite; traced values pass."""
    for array in [] if checks.is_traced(subset.arrays) else jax.tree.leaves(subset.arrays):
        check_once(functools.partial(check_finite_array, array, name), [array], "finite")


def check_finite_array(array: Array | np.ndarray, name: str) -> None:
    """Raises ValueError if any number of a concrete array is NaN or infinite."""
    numbers = np.asarray(array)  # since JAX would trace what is computed here when it is called under `jit`
    if jnp.issubdtype(numbers.dtype, jnp.inexact) and not np.isfinite(numbers).all():
        bad = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
        raise ValueError(
            f"{name} must be finite; {bad.sum()} of {len(numbers)} examples hold NaN or infinite numbers, "
            f"the first in row {bad.argmax()}"
        )
