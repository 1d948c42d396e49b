"""Checks of arguments: whatever is concrete and wrong raises here, before anything compiles.

Values that are being traced (under `jit`, `vmap`, `grad`) have no number to look at yet and pass.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np


class Interval(NamedTuple):
    """The numbers that an argument may be."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, numbers.Real):
            return False
        number = float(value)
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(["[not self.low_open], ")]"[not self.high_open]
        return f"{left}{self.low:g}, {self.high:g}{right}"


class ArgumentError(TypeError):
    """Says all that there is to say about what was given, whatever was tried with it."""


NON_NEGATIVE = Interval(0, math.inf, high_open=True)
POSITIVE = Interval(0, math.inf, low_open=True, high_open=True)
FRACTION = Interval(0, 1, high_open=True)


def is_traced(value: Any) -> bool:
    """Whether any leaf of `value` is known only to a trace."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def check_number(name: str, value: Any, allowed: Interval) -> None:
    """Raises unless `value` is one real number within `allowed`, or is traced."""
    is_number = isinstance(value, (numbers.Real, np.ndarray, jax.Array))
    if not is_number or not is_real(value):
        raise TypeError(f"{name} must be a number in {allowed}; got {value_and_type(value)}")
    if np.shape(value) != ():
        raise ValueError(f"{name} must be one number in {allowed}; got an array of shape {np.shape(value)}")
    if is_traced(value):
        return
    dtype = jax.dtypes.canonicalize_dtype(float)
    with np.errstate(over="ignore"):
        number = np.asarray(value).astype(dtype)  # 1 - 1e-9 becomes 1 in float32, and 1e39 infinite
    if float(number) not in allowed:
        rounded = f", which {dtype} rounds to {number:g}" if float(value) in allowed else ""
        raise ValueError(f"{name} must be in {allowed}; got {float(value):.10g}{rounded}")


def check_hyperparameter(name: str, value: Any, allowed: Interval) -> None:
    """As `check_number`, and lets a schedule (a function of the step) pass."""
    if not callable(value):
        check_number(name, value, allowed)


def check_count(name: str, value: Any, least: int = 1, most: int = 2**31 - 1) -> int:
    """Returns `value` as an int, raising unless it is a whole number from `least` to `most`: devices count in int32."""
    if isinstance(value, bool) or not isinstance(value, (numbers.Integral, np.integer)):
        raise TypeError(f"{name} must be a whole number of at least {least}; got {value_and_type(value)}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    count = int(value)
    if count > most:
        raise ValueError(f"{name} must be at most {most}; got {count}")
    return count


def is_iterable(value: Any) -> bool:
    """Whether it holds several things to go through: a string is one thing, and an array without an axis too."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def check_optimizer(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is a transformation of Optax, or like one."""
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(f"{name} must be an Optax optimizer; got {type_description(value)}")


def check_known(name: str, value: Any, what: str = "split") -> None:
    """Raises TypeError if any part of `value` is traced; the message says what to do outside of jit and vmap."""
    if is_traced(value):
        raise TypeError(f"{name} must not be traced here: {what} outside of jit and vmap")


def check_traceable_count(name: str, value: Any) -> Any:
    """Returns `value`, a whole number of at least 1, as an int; one that is traced passes, and has to be int32[]."""
    if not is_traced(value):
        return check_count(name, value)
    if value.shape or not jax.dtypes.issubdtype(value.dtype, np.integer):
        raise TypeError(f"{name} must be a whole number; got {value.dtype}{list(value.shape)}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Returns `value` as a bool, raising unless it is one: "no" and 0.0 are taken neither for True nor for False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value_and_type(value)}")
    return bool(value)


def check_dtypes(**dtypes: Any) -> None:
    """Raises TypeError unless these are dtypes of numbers with a fraction, or None."""
    for name, dtype in dtypes.items():
        try:
            named = not isinstance(dtype, (np.ndarray, jax.Array))  # NumPy would take the dtype of an array
            known = dtype is None or (named and jax.dtypes.issubdtype(np.dtype(dtype), np.inexact))
        except (TypeError, ValueError):
            known = False
        if not known:
            raise TypeError(f"{name} must be a dtype of floating-point numbers, such as jnp.float32; got {dtype!r}")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises unless `value` is one of the strings in `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def check_pair(name: str, what: str, result: Any) -> tuple[Any, Any]:
    """Returns the two parts of what the function called `name` returned, raising unless there are two."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ArgumentError(f"{name} must return a pair {what}; it returned {type_description(result)}")
    first, second = result
    return first, second


def type_description(value: Any) -> str:
    """What a value is that was to be something else."""
    if hasattr(value, "shape"):
        return f"an array of shape {value.shape}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"dict with {', '.join(map(repr, value)) or 'nothing'}"
    return "None" if value is None else type(value).__name__


def is_real(value: Any) -> bool:
    """Whether these are real numbers, floating-point or whole; flags are not."""
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return jax.dtypes.issubdtype(dtype, np.floating) or jax.dtypes.issubdtype(dtype, np.integer)


def value_and_type(value: Any) -> str:
    """The value and its type, for a message."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
