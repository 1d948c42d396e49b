"""Programs that were traced before, so that another search with the same trial compiles nothing again."""

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax

from lectopt.search.program import Program

# By the trial's function, like `jax.jit`: what it closes over is taken to stay as it is. A program does not refer to
# the function, so that both go together when nobody holds the function any more.
_known: weakref.WeakKeyDictionary[Callable[..., Any], dict[Hashable, Program]] = weakref.WeakKeyDictionary()


def known(function: Callable[..., Any], static: Mapping[str, Any], arrays: Any, make: Callable[[], Program]) -> Program:
    """The program of this function for these static values and arrays of these shapes; made if there is none yet."""
    leaves, structure = jax.tree.flatten(arrays)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    values = tuple((name, type(value), value) for name, value in static.items())
    try:
        programs = _known.setdefault(function, {})
    except TypeError:  # some callables cannot be referred to weakly, or hashed
        return make()
    mark = (values, structure, shapes, jax.dtypes.canonicalize_dtype(float))
    if mark not in programs:
        programs[mark] = make()
    return programs[mark]
