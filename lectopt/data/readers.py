"""Reading a stream: in order, epoch by epoch, each batch checked against the first, and from a place that was kept."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal.arrays import as_numpy, as_tree, check_narrowing
from lectopt._internal.trees import same_structure
from lectopt.data.streams import Stream
from lectopt.data.subsets import as_subset, check_finite_array

_END = object()
"""What comes after the last batch of an iterator."""


class Place(NamedTuple):
    """Where a reader stands: what it needs to go on from there. JSON can hold it."""

    epoch: int  # of the next batch, from 0
    batch: int  # in the epoch, from 0
    length: int | None  # how many batches an epoch has, where it is known
    opened: int  # the epoch in which the iterator was made
    read: int  # batches that were read from it
    state: Any = None  # the iterator's own, if it has one
    epoch_state: Any = None  # the same, at the start of the epoch

    @property
    def step(self) -> int:
        """The number of batches before it, in all epochs."""
        return self.batch + (self.epoch * self.length if self.epoch and self.length else 0)


class Reader:
    """Reads the batches of a stream.

    Attributes:
        first: the first batch, a tuple of arrays [batch_size, ...] as JAX will hold them.
        batch_size: how many rows a batch has at most.
        length: how many batches an epoch has; None until it is known.
        check: a function that raises ValueError for a batch that cannot be trained on; None at first.
    """

    def __init__(self, name: str, stream: Stream, length: int | None):
        """Reads the first batch of `stream`; messages call it `name`."""
        self._name, self._stream, self.length = name, stream, length
        self.check: Callable[[Any], None] | None = None
        self._epoch = self._batch = self._opened = self._read = 0
        self._iterator: Iterator[Any] | None = None
        self._head: list[np.ndarray] = []  # the first batch of the epoch
        self._epoch_state: Any = None
        self._begin_epoch()
        batch = self._next()
        if batch is _END:
            raise ValueError(f"{name} must hold at least 1 batch; it ended at once")
        called = f"the first batch of {name}"
        if isinstance(batch, (tuple, list)):  # copied, since its buffer may be used again
            batch = as_tree(called, tuple(batch), lambda name, leaf: as_numpy(name, leaf).copy())
        subset = as_subset(batch, called)
        self.first, self.batch_size = subset.arrays, subset.capacity
        self._given = [as_numpy(name, leaf).dtype for leaf in jax.tree.leaves(tuple(batch))]
        self._pending: Any = batch

    def read(self) -> list[np.ndarray] | None:
        """Returns the leaves of the next batch; None at the end of an epoch, once.

        Raises:
            ValueError: if the stream ends within an epoch, or a batch is not as the first one; the message says which.
        """
        if self._batch == self.length:
            self._end_epoch()
            return None
        if self._batch == 0 and self._pending is None:
            self._begin_epoch()
        batch, self._pending = self._next() if self._pending is None else self._pending, None
        if batch is _END and self._batch == 0:  # the last pass ended with the last epoch
            self._iterator = None
            self._begin_epoch()
            batch = self._next()
        if batch is _END:
            self._end_pass()
            return None
        leaves = self._checked(batch)
        if self._batch == 0:
            self._head = [leaf.copy() for leaf in leaves]
        self._batch += 1
        return leaves

    @property
    def restarts(self) -> bool:
        """Whether the stream can be read anew."""
        return self._stream.restarts

    @property
    def steps(self) -> int:
        """How many batches were handed out, in all epochs."""
        return self._batch + (self._epoch * self.length if self._epoch and self.length else 0)

    def pad(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """Fills a smaller batch up, as the loop does: with the first examples of the epoch."""
        missing = self.batch_size - len(leaves[0])
        if not missing:
            return leaves
        # These are fewer where the first batch of the epoch is a smaller one.
        rows = np.arange(missing) % len(self._head[0])
        return [np.concatenate([leaf, head[rows]]) for leaf, head in zip(leaves, self._head, strict=True)]

    def place(self) -> Place:
        """Returns where it stands."""
        pending = self._pending is not None  # read already, but not handed out
        state = self._epoch_state if pending else _state(self._iterator)
        return Place(
            self._epoch, self._batch, self.length, self._opened, self._read - pending, state, self._epoch_state
        )

    def seek(self, place: Place) -> None:
        """Goes to a place, by the iterator's own state or by reading what comes before."""
        self._epoch, self._batch, self.length = place.epoch, place.batch, place.length
        self._epoch_state = place.epoch_state
        if place.opened != self._opened:
            self._open(place.opened)
        if place.state is not None:
            self._pending = None
            _set_state(self._iterator, place.epoch_state)
            if place.batch:
                self._head = [leaf.copy() for leaf in self._checked(self._skipped())]
            _set_state(self._iterator, place.state)
            self._read = place.read
        else:
            self._skip_to(place)

    def _skip_to(self, place: Place) -> None:
        """Reads and drops the batches before a place."""
        for i in range(place.read):
            batch, self._pending = self._skipped() if self._pending is None else self._pending, None
            if i == place.read - place.batch:
                self._head = [leaf.copy() for leaf in self._checked(batch)]

    def _skipped(self) -> Any:
        batch = self._next()
        if batch is _END:
            raise ValueError(f"{self._name} must hold the batches that it held before; it ended after {self._read}")
        return batch

    def _begin_epoch(self) -> None:
        if self._iterator is None:
            self._open(self._epoch)
        self._epoch_state = _state(self._iterator)

    def _open(self, epoch: int) -> None:
        if self._read and not self._stream.restarts:
            raise ValueError(
                f"{self._name} must be read in several passes, which an iterator cannot be; it ended after "
                f"{self._read} batches. Give a function that makes one: lectopt.stream(function)"
            )
        self._iterator, self._opened, self._read, self._pending = self._stream.open(epoch), epoch, 0, None

    def _next(self) -> Any:
        """Returns the next batch of the iterator, `_END` if it has ended."""
        try:
            batch = next(self._iterator)  # type: ignore[arg-type]
        except StopIteration:
            return _END
        except Exception as error:
            error.add_note(f"It was raised by {self._name}, where {self._where()} was to be read")
            raise
        self._read += 1
        return batch

    def _end_epoch(self) -> None:
        """Goes to the next epoch; where a pass is one, the iterator must have ended."""
        if self._stream.steps_per_epoch is None and self._iterator is not None:
            if self._next() is not _END:
                raise ValueError(
                    f"{self._name} must hold as many batches in each pass; the one of epoch {self._epoch + 1} goes on "
                    f"after {self.length}. Give lectopt.stream a number of steps_per_epoch"
                )
            self._iterator = None
        self._epoch, self._batch = self._epoch + 1, 0

    def _end_pass(self) -> None:
        """Finds the length of an epoch at the end of the first pass."""
        if self.length is not None or self._batch == 0:
            wanted = "at least 1" if self.length is None else f"{self.length}"
            raise ValueError(
                f"{self._name} must hold {wanted} batches in each epoch; in epoch {self._epoch + 1} it ended after "
                f"{self._batch}"
            )
        self.length, self._iterator = self._batch, None
        self._end_epoch()

    def _where(self) -> str:
        return f"batch {self._batch + 1} of epoch {self._epoch + 1}"

    def _checked(self, batch: Any) -> list[np.ndarray]:
        """Returns the leaves of a batch, in the dtypes of JAX's."""
        name, like = f"{self._where()} of {self._name}", jax.tree.leaves(self.first)
        if not isinstance(batch, (tuple, list)) or not same_structure(tuple(batch), self.first):
            raise ValueError(f"{name} must be a tuple of as many arrays as the first batch; got {_outline(batch)}")
        leaves = [as_numpy(name, leaf) for leaf in jax.tree.leaves(tuple(batch))]
        for i, (leaf, first, given) in enumerate(zip(leaves, like, self._given, strict=True)):
            if leaf.shape[1:] != first.shape[1:] or leaf.ndim == 0 or leaf.dtype != given:
                raise ValueError(
                    f"{name} must be as the first batch, {given}[..., {', '.join(map(str, first.shape[1:]))}] in array "
                    f"{i}; got {leaf.dtype}{list(leaf.shape)}"
                )
            if not 1 <= len(leaf) <= self.batch_size or len(leaf) != len(leaves[0]):
                raise ValueError(
                    f"{name} must hold as many examples in each array, from 1 to the {self.batch_size} of the first "
                    f"batch; got {[len(leaf) for leaf in leaves]}"
                )
            check_narrowing(name, leaf, np.dtype(first.dtype))
            check_finite_array(leaf, name)
        leaves = [leaf.astype(first.dtype, copy=False) for leaf, first in zip(leaves, like, strict=True)]
        if self.check is not None:
            try:
                self.check(jax.tree.unflatten(jax.tree.structure(self.first), leaves))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return leaves


def read_all(name: str, stream: Stream) -> tuple[Any, ...]:
    """Reads one epoch of a stream that ends into memory: a tuple of arrays."""
    reader, batches = Reader(name, stream, stream.steps_per_epoch or stream.length), list[Any]()
    while (batch := reader.read()) is not None:
        batches.append([leaf.copy() for leaf in batch])
    leaves = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(reader.first), leaves)


def _state(iterator: Any) -> Any:
    """Returns the state of an iterator that has one, as Grain's, in a form that JSON can hold; None of others."""
    if not (hasattr(iterator, "get_state") and hasattr(iterator, "set_state")):
        return None
    state = iterator.get_state()
    if isinstance(state, bytes):
        return {"bytes": base64.b64encode(state).decode()}
    return {"json": json.loads(json.dumps(state))}


def _set_state(iterator: Any, state: dict[str, Any]) -> None:
    iterator.set_state(base64.b64decode(state["bytes"]) if "bytes" in state else state["json"])


def _outline(batch: Any) -> str:
    return str(jax.tree.map(lambda leaf: type(leaf).__name__, batch))
