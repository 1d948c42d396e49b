"""Arrays on disk, `np.memmap`: read batch by batch, in the order in which arrays in memory would be taken."""

import mmap
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt.data.streams import Stream


def is_on_disk(examples: Any) -> bool:
    """Tells whether one of the arrays is a memory map."""
    return isinstance(examples, (tuple, list)) and any(
        isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(examples)
    )


def mapped_stream(examples: Any, batch_size: int, key: jax.Array | None) -> Stream:
    """Returns the batches of these arrays in the order in which the loop takes them; without a key, as they lie."""
    lengths = [len(leaf) for leaf in jax.tree.leaves(examples)]
    if len(set(lengths)) != 1:
        raise ValueError(f"train must be arrays of equal length; got lengths {lengths}")
    wide = jnp.result_type(float) == jnp.float64  # a setting of this thread, which the one that reads has to share

    def batches(epoch: int) -> Iterator[Any]:
        return _Batches(tuple(examples), batch_size, None if key is None else _order(examples, key, epoch, wide))

    return Stream(batches, None)


def _order(examples: Any, key: jax.Array, epoch: int, wide: bool) -> np.ndarray:
    """Returns the rows in the order of `lectopt.data.batches.rows_of`."""
    count = len(jax.tree.leaves(examples)[0])
    with jax.enable_x64(wide):
        draws = np.asarray(jax.random.uniform(jax.random.fold_in(key, epoch), (count,)))
    return np.argsort(draws, kind="stable").astype(np.int32)


class _Batches:
    """An iterator over batches of rows."""

    def __init__(self, examples: tuple[Any, ...], batch_size: int, order: np.ndarray | None):
        self._examples, self._batch_size, self._order, self._place = examples, batch_size, order, 0
        self._maps = [file for leaf in jax.tree.leaves(examples) if (file := _file(leaf)) is not None]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begin = self._place * self._batch_size
        if begin >= len(jax.tree.leaves(self._examples)[0]):
            raise StopIteration
        rows: Any = slice(begin, begin + self._batch_size)
        rows = rows if self._order is None else self._order[rows]
        batch = jax.tree.map(lambda leaf: np.array(leaf[rows]), self._examples)
        for file in self._maps:  # what was read stays in the system's cache, but is no longer this process's memory
            file.madvise(mmap.MADV_DONTNEED)
        self._place += 1
        return batch

    def get_state(self) -> int:
        """Returns the number of batches that were read."""
        return self._place

    def set_state(self, place: int) -> None:
        """Goes to where so many were read."""
        self._place = place


def _file(array: Any) -> mmap.mmap | None:
    """Returns the mapping of a memory map whose pages can be dropped: not one with changes of its own."""
    if not isinstance(array, np.memmap) or array.mode == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.base if isinstance(base, np.ndarray) else getattr(base, "obj", None)
    return base
