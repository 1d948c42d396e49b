"""Values to put in the place of any argument, and what may be accepted where an annotation says what is to be given."""

import inspect
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "a number": lambda: 0.5,
    "-1": lambda: -1,
    "0": lambda: 0,
    "3": lambda: 3,
    "huge": lambda: 10**30,
    "NaN": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "complex": lambda: 1j,
    "a string": lambda: "abc",
    "empty string": lambda: "",
    "null character": lambda: "a\0b",
    "bytes": lambda: b"abc",
    "a path": lambda: Path("/proc/nothing/there"),
    "empty list": lambda: [],
    "empty tuple": lambda: (),
    "empty dictionary": lambda: {},
    "list of strings": lambda: ["a", "b"],
    "list of None": lambda: [None],
    "ragged": lambda: [[1.0], [1.0, 2.0]],
    "dictionary": lambda: {"a": [1.0, 2.0]},
    "dictionary of None": lambda: {1: None},
    "object": object,
    "a type": lambda: int,
    "a function": lambda: lambda *_, **__: None,
    "a function of nothing": lambda: lambda: None,
    "empty array": lambda: np.zeros((0,), np.float32),
    "array of another shape": lambda: np.ones((2, 3, 4), np.float32),
    "array of NaN": lambda: np.full((15, 4), np.nan, np.float32),
    "array of strings": lambda: np.array(["a", "b"]),
    "array of objects": lambda: np.array([None, object()], object),
    "array of dates": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "a jax array": lambda: jnp.arange(3.0),
    "a key": lambda: jax.random.key(0),
    "a generator": lambda: (i for i in range(2)),
    "a set": lambda: {1, 2},
    "a range": lambda: range(3),
}
KINDS: dict[Any, tuple[type, ...]] = {
    bool: (bool, np.bool_),
    int: (int, np.integer),
    float: (int, float, np.number, np.ndarray, jax.Array),
    str: (str,),
    Path: (Path, str),
    jax.Array: (jax.Array, np.ndarray, bool, int, float, list, tuple, range),
}


def accepts(parameter: inspect.Parameter | None, value: Any) -> bool:
    """Tells whether a value is of a kind that the annotation names; where it says little, all are."""
    if parameter is None:  # a path to write at
        return isinstance(value, (str, Path))
    if parameter.default is not parameter.empty and value is None and parameter.default is None:
        return True
    kinds = _kinds(parameter.annotation)
    if kinds is None:
        return True
    if isinstance(value, bool) and bool not in kinds:
        return False
    finite = not isinstance(value, float) or np.isfinite(value)
    return isinstance(value, kinds) and finite


def _kinds(annotation: Any) -> tuple[type, ...] | None:
    """Returns what an annotation of simple types allows; None for any other."""
    if isinstance(annotation, str) and re.fullmatch(r"[\w.| ]+", annotation):
        return None
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if not all(part in KINDS or part is type(None) for part in parts):
        return None
    return tuple(kind for part in parts for kind in KINDS.get(part, (type(None),)))
