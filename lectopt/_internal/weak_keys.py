"""Keys of what is remembered about objects: equal for equal ones, without keeping any of them alive."""

import dataclasses
import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import Any


def weak_parts(value: Any, forget: Callable[[Any], None]) -> Iterator[Any]:
    """What equal values have in common, which keeps none of them alive: tuples and dataclasses are taken apart.

    When one of the parts is collected, `forget` is called.
    """
    if isinstance(value, tuple):
        parts = value
    elif dataclasses.is_dataclass(value) and type(value).__eq__ is not object.__eq__:
        parts = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    else:
        yield _weak_reference(value, forget)
        return
    yield _weak_reference(type(value), forget)
    yield len(parts)
    for part in parts:
        yield from weak_parts(part, forget)


class SameObject(weakref.ref[Any]):
    """A reference that equals only those to the very same object, for what cannot be compared, such as an array."""

    def __init__(self, value: Any, forget: Callable[[Any], None]):
        super().__init__(value, forget)  # type: ignore[call-arg]
        self._id = id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameObject) and self._id == other._id

    def __hash__(self) -> int:
        return self._id


def _weak_reference(value: Any, forget: Callable[[Any], None]) -> Any:
    """A reference that equals one to an equal value; the value itself, where there are none to it."""
    try:
        return (weakref.WeakMethod if inspect.ismethod(value) else weakref.ref)(value, forget)
    except TypeError:  # a number, a text, an object with slots
        return value
