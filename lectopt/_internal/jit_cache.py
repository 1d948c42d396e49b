"""`jax.jit` with static arguments that it does not keep alive: one program for equal ones, gone when these are."""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from lectopt._internal.weak_keys import weak_parts


def cached_jit(function: Callable[..., Any], *static: Any, donate: int | None = None) -> "CachedJit":
    """`jax.jit` of `function(*static, ...)` as a function of the other arguments, of which `donate` may be donated.

    Asked for again with equal static arguments it compiles nothing again, until one of them, or a part of one, is
    collected. JAX itself would keep a static argument for ever, with the program and all that it refers to.
    """
    cache_key: list[tuple[Any, ...]] = []  # filled below: the callbacks in the key refer to it
    programs = _programs  # held here, since Python clears a module's names when it ends

    def forget(_: Any) -> None:
        programs.pop(cache_key[0], None)

    key = (donate, *weak_parts((function, *static), forget))
    if key not in programs:
        cache_key.append(key)
        programs[key] = _Program(function, donate)
    return CachedJit(programs[key], static)


class _Program:
    """A jitted function, which knows its static arguments only while it is called."""

    def __init__(self, function: Callable[..., Any], donate: int | None):
        self._current = threading.local()
        self.jitted = jax.jit(functools.partial(_call, function, self._current), donate_argnums=donate)

    @contextlib.contextmanager
    def with_static(self, static: tuple[Any, ...]) -> Iterator[Any]:
        """The jitted function, to be called inside with the other arguments."""
        previous = getattr(self._current, "static", ())
        self._current.static = static
        try:
            yield self.jitted
        finally:
            self._current.static = previous


_programs: dict[tuple[Any, ...], _Program] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class CachedJit:
    """A program with its static arguments."""

    program: _Program
    static: tuple[Any, ...]

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        with self.program.with_static(self.static) as jitted:
            return jitted(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """As of `jax.jit`."""
        with self.program.with_static(self.static) as jitted:
            return jitted.lower(*arguments)

    def trace(self, *arguments: Any) -> jax.stages.Traced:
        """As of `jax.jit`."""
        with self.program.with_static(self.static) as jitted:
            return jitted.trace(*arguments)

    def eval_shape(self, *arguments: Any) -> Any:
        """As of `jax.jit`; for equal shapes it is traced once."""
        with self.program.with_static(self.static) as jitted:
            return jitted.eval_shape(*arguments)


def _call(function: Callable[..., Any], current: threading.local, *arguments: Any) -> Any:
    """What is jitted. Its name is in lowered programs, and so in the fingerprints of directories."""
    return function(*current.static, *arguments)
