"""Streams: batches of examples that are read one after the other, since all of them do not fit into memory."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.data.subsets import Subset


class Stream:
    """Batches that are read in passes, each by an iterator of its own; `lectopt.stream` makes one.

    Attributes:
        steps_per_epoch: how many batches are an epoch; None if a pass is one.
        restarts: whether there can be a second pass.
    """

    def __init__(self, batches: Any, steps_per_epoch: int | None):
        """Keeps a function that makes iterators, or an iterable."""
        self._batches = batches
        self._takes_epoch = not isinstance(batches, Iterable) and _takes_epoch(batches)
        self.steps_per_epoch = steps_per_epoch
        self.restarts = not isinstance(batches, Iterator)

    @property
    def length(self) -> int | None:
        """The number of batches in a pass, where the iterable knows it and it ends."""
        try:
            length = len(self._batches)
        except TypeError:
            return None
        return None if length >= 2**31 else length  # such as Grain says of what is repeated for ever

    def open(self, epoch: int) -> Iterator[Any]:
        """Returns the iterator of a pass that begins with this epoch."""
        if isinstance(self._batches, Iterable):
            return iter(self._batches)
        batches = self._batches(epoch=epoch) if self._takes_epoch else self._batches()
        if not isinstance(batches, Iterable):
            raise TypeError(
                "stream's function must return an iterator of batches, tuples of arrays; it returned "
                f"{checks.type_description(batches)}"
            )
        return iter(batches)

    def __repr__(self) -> str:
        return f"Stream({type(self._batches).__name__}, steps_per_epoch={self.steps_per_epoch})"


def stream(batches: Any, steps_per_epoch: int | None = None) -> Stream:
    """Makes a stream of batches, for examples that do not fit into memory, to be given to `fit` in place of arrays.

    Args:
        batches: where the batches come from, each a tuple of arrays [batch_size, ...] such as (x, y); all of the same
            shapes and dtypes, except that some may have fewer rows than the first, such as the last of a pass. One of

            - a function that returns an iterator of batches, such as a generator function, called for each pass: if it
              has a parameter `epoch`, that is passed by name, the number of the epoch, from 0, that the pass begins
              with, so that each can have an order of its own;
            - an iterable of batches, such as a Grain `DataLoader` or dataset, a PyTorch `DataLoader`, or a tf.data
              dataset, which is iterated anew for each pass;
            - an iterator, which can be read once.
        steps_per_epoch: how many batches are an epoch, at least 1. The iterator goes on from one epoch to the next; if
            it ends with one, the next begins with a new iterator. None: a pass is an epoch, and its length is found at
            the end of the first one, where the iterable does not say it.

    Returns:
        A `Stream`.

    Raises:
        TypeError: if batches is neither a function nor an iterable, or a single set of arrays, or steps_per_epoch is
            not a whole number.
        ValueError: if steps_per_epoch is below 1.

    Example:
        >>> import numpy as np, lectopt as lo
        >>> from flax import nnx
        >>> x, y = lo.datasets.iris()
        >>> def batches(epoch):
        ...     order = np.random.default_rng(epoch).permutation(len(x))
        ...     for rows in np.split(order, 5):
        ...         yield x[rows], y[rows]  # or read from files
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> run = lo.fit(task, lo.adam(0.05), lo.stream(batches), epochs=50, key=0)
        >>> run.evaluate((x, y))["accuracy"] > 0.9
        True
    """
    if isinstance(batches, (tuple, Mapping, Subset)) or hasattr(batches, "__array__"):
        raise TypeError(
            "stream takes a function that returns an iterator of batches, or an iterable of them; got "
            f"{checks.type_description(batches)}, which fit takes as it is"
        )
    if isinstance(batches, (str, bytes)) or not (isinstance(batches, Iterable) or callable(batches)):
        raise TypeError(
            "stream takes a function that returns an iterator of batches, or an iterable of them; got "
            f"{checks.value_and_type(batches)}"
        )
    return Stream(batches, None if steps_per_epoch is None else checks.check_count("steps_per_epoch", steps_per_epoch))


def is_stream(examples: Any) -> bool:
    """Tells whether examples are to be read batch by batch: iterables other than arrays and containers of arrays."""
    if isinstance(examples, Stream):
        return True
    held = isinstance(examples, (tuple, list, Mapping, Subset, str, bytes, np.ndarray)) or hasattr(
        examples, "__array__"
    )
    return isinstance(examples, Iterable) and not held


def as_stream(examples: Any) -> Stream:
    """Converts what `is_stream` accepts."""
    return examples if isinstance(examples, Stream) else Stream(examples, None)


def _takes_epoch(function: Callable[..., Any]) -> bool:
    try:
        return "epoch" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some that are built in
        return False
