"""Pairs of a training and a validation part, of a fixed shape."""

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.arrays import as_numpy
from lectopt._internal.types import Array, Numeric
from lectopt.data.shuffling import check_concrete
from lectopt.data.subsets import Subset, as_subset, view


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Folds:
    """Pairs of a training and a validation part of the same examples.

    Iterating gives (train, valid) pairs of Subsets without padding, `folds[i]` one of them, and `len(folds)` their
    number.

    Attributes:
        train: the training parts as one Subset whose `indices` are int32[folds, capacity] and `size` int32[folds].
        valid: the validation parts as one Subset whose `indices` are int32[folds, capacity] and `size` int32[folds].

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> folds = lo.k_fold((jnp.arange(5.0),), 2, key=0)
        >>> [(len(train), len(valid)) for train, valid in folds], folds.train.indices.shape
        ([(2, 3), (3, 2)], (2, 3))
    """

    train: Subset  # indices int32[folds, capacity], size int32[folds]
    valid: Subset

    def __len__(self) -> int:
        return len(self.train.indices)

    def __iter__(self) -> Iterator[tuple[Subset, Subset]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> tuple[Subset, Subset]:
        if not -len(self) <= operator.index(i) < len(self):
            raise IndexError(f"fold must be one of {len(self)}; got {i}")
        train, valid = (_fold(part, i) for part in (self.train, self.valid))
        return tuple(view(p.arrays, np.asarray(p.indices)[: len(p)]) for p in (train, valid))  # type: ignore[return-value]

    def at(self, i: Numeric) -> tuple[Subset, Subset]:
        """Returns pair i, padded to the shape that all pairs share.

        Args:
            i: the number of the pair, an int or int32[] in [0, folds); it may be traced.

        Returns:
            (train, valid), two Subsets.
        """
        return _fold(self.train, i), _fold(self.valid, i)

    def __repr__(self) -> str:
        sizes = (f"{part.least} to {part.capacity}" for part in (self.train, self.valid))
        return f"Folds({len(self)} x ({' training, '.join(sizes)} validation examples))"


def from_indices(examples: Any, splits: Any, *, groups: Any = None) -> Folds:
    """Makes folds from pairs of indices, or by one of scikit-learn's splitters.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`; the indices count within it.
        splits: pairs (training indices, validation indices) of arrays of whole numbers, or an object with
            scikit-learn's method `split(X, y, groups)`, which is given the first array, the last one (None if the
            targets are a tree) and the groups.
        groups: [n], one entry per example, for a splitter that needs them; None if it does not, and for pairs of
            indices.

    Returns:
        A `Folds`, in the order of the pairs.

    Raises:
        ValueError: if there are no pairs, a part is empty, an index is outside the examples or in both parts, or the
            splitter cannot split these examples.
        TypeError: if splits is neither pairs nor a splitter, indices are not whole numbers, or the examples are being
            traced.

    Example:
        >>> import lectopt as lo
        >>> from sklearn.model_selection import TimeSeriesSplit
        >>> folds = lo.from_indices(lo.datasets.iris(), TimeSeriesSplit(4))
        >>> [len(train) for train, valid in folds]
        [30, 60, 90, 120]
    """
    whole = as_subset(examples)
    check_concrete(whole, None)
    if hasattr(splits, "split") and not isinstance(splits, str):
        splits = _split_by(splits, whole, groups)
    elif groups is not None:
        raise ValueError("groups are for a splitter; pairs of indices already say who is together")
    if not checks.is_iterable(splits) or isinstance(splits, jax.Array):
        raise TypeError(f"splits must be pairs of indices or a splitter; got {type(splits).__name__}")
    splits = [tuple(pair) if isinstance(pair, Iterable) else pair for pair in splits]
    if any(not isinstance(pair, tuple) for pair in splits):
        raise TypeError(f"splits must hold pairs of arrays of whole numbers; got {splits[0]!r}")
    pairs = [tuple(_rows(part, len(whole)) for part in pair) for pair in splits]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError("splits must be one or more pairs (training indices, validation indices)")
    for i, (train, valid) in enumerate(pairs):
        if both := set(train.tolist()) & set(valid.tolist()):
            raise ValueError(f"splits must not train and validate on the same example; pair {i} does on {min(both)}")
    return pack(whole, pairs)


def pack(whole: Subset, pairs: Sequence[tuple[np.ndarray, ...]]) -> Folds:
    """Packs pairs of positions within the part into Folds, each padded with its own rows."""
    rows = np.asarray(whole.indices)
    return Folds(*(_stack(whole.arrays, [rows[part] for part in parts]) for parts in zip(*pairs, strict=True)))


def _split_by(splitter: Any, whole: Subset, groups: Any) -> list[Any]:
    """Asks a splitter for pairs; it sees labels that are one array, but no trees of targets."""
    x, targets = jax.tree.leaves(whole.examples()[0])[0], whole.examples()[-1]
    labels = np.asarray(targets) if isinstance(targets, jax.Array) else None
    try:
        return list(splitter.split(np.asarray(x), labels, groups))
    except (TypeError, ValueError) as error:
        without = "" if labels is not None else ", which it gets without labels: the targets are no single array"
        raise ValueError(f"splits must be a splitter that can split these examples{without}; {error}") from error


def _rows(part: Any, count: int) -> np.ndarray:
    rows = as_numpy("splits", part)
    if not rows.size:
        raise ValueError("splits must not hold an empty part")
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        hint = ": give numpy.flatnonzero(mask) for a mask" if rows.dtype == bool else ""
        raise TypeError(f"splits must hold arrays of whole numbers; got {rows.dtype} of shape {rows.shape}{hint}")
    if rows.min() < 0 or rows.max() >= count:
        raise ValueError(f"splits must hold indices from 0 to {count - 1}; got {rows.min()} to {rows.max()}")
    return rows


def join(pairs: Sequence[tuple[Subset, Subset]]) -> Folds:
    """Joins pairs of parts of the same examples to Folds."""
    arrays = pairs[0][0].arrays
    rows = ([np.asarray(part.indices)[: len(part)] for part in parts] for parts in zip(*pairs, strict=True))
    return Folds(*(_stack(arrays, parts) for parts in rows))


def _stack(arrays: tuple[Any, ...], parts: list[np.ndarray]) -> Subset:
    """Stacks parts of different size, each padded with its own rows."""
    sizes = [len(part) for part in parts]
    with jax.ensure_compile_time_eval():
        indices = jnp.asarray(np.stack([np.resize(part, max(sizes)) for part in parts]), jnp.int32)
        return Subset(arrays, indices, jnp.asarray(sizes, jnp.int32), least=min(sizes))


def _fold(part: Subset, i: Numeric) -> Subset:
    index: Array = part.indices[i]
    return dataclasses.replace(part, indices=index, size=part.size[i])


def check_folds(folds: Any) -> None:
    """Raises TypeError unless these are folds."""
    if not isinstance(folds, Folds):
        raise TypeError(f"folds must be lectopt.Folds, as lectopt.k_fold returns; got {type(folds).__name__}")
