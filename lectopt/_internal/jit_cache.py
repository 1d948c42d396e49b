"""Compiled functions: the same ones for equal fixed arguments, and gone when these are."""

import contextlib
import dataclasses
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax


def cached_jit(function: Callable, *fixed: Any, donate: int | None = None) -> "CachedJit":
    """`jax.jit` of `function(*fixed, ...)` as a function of the rest, of which it may use up argument `donate`.

    Asked for again with equal fixed arguments it compiles nothing again, until one of them, or a part of one, is
    collected. JAX itself would keep a static argument for ever, with the program and all that it refers to.
    """
    kept: list[tuple] = []
    programs = _programs  # held here, since Python clears a module's names when it ends

    def forget(_: Any) -> None:
        programs.pop(kept[0], None)

    mark = (donate, *_parts((function, *fixed), forget))
    if mark not in programs:
        kept.append(mark)
        programs[mark] = _Program(function, donate)
    return CachedJit(programs[mark], fixed)


class _Program:
    """A compiled function, which knows its fixed arguments only while it is called."""

    def __init__(self, function: Callable, donate: int | None):
        self._now = threading.local()
        self.jitted = jax.jit(functools.partial(_call, function, self._now), donate_argnums=donate)

    @contextlib.contextmanager
    def given(self, fixed: tuple) -> Iterator[Any]:
        """The function of the rest, to be called here."""
        before = getattr(self._now, "fixed", ())
        self._now.fixed = fixed
        try:
            yield self.jitted
        finally:
            self._now.fixed = before


_programs: dict[tuple, _Program] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class CachedJit:
    """A program with its fixed arguments."""

    program: _Program
    fixed: tuple

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        with self.program.given(self.fixed) as jitted:
            return jitted(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """As of `jax.jit`."""
        with self.program.given(self.fixed) as jitted:
            return jitted.lower(*arguments)


def _call(function: Callable, now: threading.local, *arguments: Any) -> Any:
    return function(*now.fixed, *arguments)


def _parts(value: Any, forget: Callable[[Any], None]) -> Iterator[Any]:
    """What equal values have in common, which keeps none of them alive: tuples and dataclasses are taken apart."""
    if isinstance(value, tuple):
        parts = value
    elif dataclasses.is_dataclass(value) and type(value).__eq__ is not object.__eq__:
        parts = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    else:
        yield _weak(value, forget)
        return
    yield _weak(type(value), forget)
    yield len(parts)
    for part in parts:
        yield from _parts(part, forget)


def _weak(value: Any, forget: Callable[[Any], None]) -> Any:
    """A reference that equals one to an equal value; the value itself, where there are none to it."""
    try:
        return (weakref.WeakMethod if inspect.ismethod(value) else weakref.ref)(value, forget)
    except TypeError:  # a number, a text, an object with slots
        return value
