"""Things that are made some time before they are taken."""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Returns the items one by one, each when `count` more have been made."""
    made: collections.deque[T] = collections.deque()
    for item in items:
        made.append(item)
        if len(made) > count:
            yield made.popleft()
    yield from made
