"""Compiled programs of tasks, each kept as long as its task."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax

_PROGRAMS: weakref.WeakKeyDictionary[Any, dict[Callable, Callable]] = weakref.WeakKeyDictionary()


def compiled(function: Callable, task: Any) -> Callable:
    """`jax.jit` of `function(task, ...)` as a function of the rest, the same one whenever it is asked for.

    A static argument would be kept by JAX for ever, with the program and whatever the task holds.
    """
    programs = _PROGRAMS.setdefault(task, {})
    if function not in programs:
        programs[function] = jax.jit(functools.partial(_call, function, weakref.ref(task)))
    return programs[function]


def _call(function: Callable, task: weakref.ref, *arguments: Any) -> Any:
    return function(task(), *arguments)
