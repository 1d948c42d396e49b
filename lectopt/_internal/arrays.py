"""Users' arrays as JAX's: the one place where they are converted, and where what JAX would cut short is refused."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_X64 = "turn on 64 bits with jax.config.update('jax_enable_x64', True)"
_MOST_STEPS = 256
"""A feature must span so many steps of the narrower dtype: what is left then is as fine as bfloat16."""
_LEAST_STEPS = 64
"""What spans fewer steps of its own dtype is the noise of a constant."""
_REMEDY_BY_KIND = {
    "M": "give numbers, such as (dates - dates.min()) / numpy.timedelta64(1, 'D')",
    "m": "give numbers, such as durations / numpy.timedelta64(1, 's')",
    "U": "number the classes: numpy.unique(labels, return_inverse=True)[1]",
    "S": "number the classes: numpy.unique(labels, return_inverse=True)[1]",
    "O": "rows must be numbers of one length: number classes, fill in what is missing, pad what is ragged",
    "V": "give each field as an array of its own, in a dictionary",
}


def as_tree(name: str, tree: Any, convert: Callable[[str, Any], Any] | None = None) -> Any:
    """A tree of what `as_array` (or `convert`) takes, as a tree of JAX arrays; messages say where in the tree."""
    convert = convert or as_array
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: convert(name + jax.tree_util.keystr(path), leaf), tree, is_leaf=lambda leaf: leaf is None
    )


def as_array(name: str, value: Any) -> jax.Array:
    """A JAX array of what is numbers or booleans: a NumPy array, a number, a list, a pandas frame, a tensor on the CPU.

    Raises:
        TypeError: if it is something else, such as strings, objects, dates, sparse or masked; the message calls it
            `name`, and says what to do.
        ValueError: if whole numbers, or finite ones, do not fit the dtype that JAX will use.
    """
    if isinstance(value, jax.Array):
        return value
    array = as_numpy(name, value)
    check_narrowing(name, array, jax.dtypes.canonicalize_dtype(array.dtype))
    return jnp.asarray(array)


def check_narrowing(name: str, array: np.ndarray, dtype: Any) -> None:
    """Raises ValueError if whole numbers, or finite ones, do not fit the dtype that JAX will use."""
    if array.size and array.dtype.itemsize > dtype.itemsize:
        if jnp.issubdtype(dtype, np.integer):
            _check_fits(name, array, dtype)
        for part in _real_parts(array):
            _check_stays_finite(name, part, jnp.finfo(dtype))


def as_examples(name: str, value: Any) -> jax.Array:
    """As `as_array`, for what is learned from.

    Raises:
        ValueError: also if rounding to the dtype that JAX will use takes away what tells the rows of a feature apart.
            (That is not asked of a few rows on their own, such as those to predict, which may be alike.)
    """
    if isinstance(value, jax.Array):
        return value
    array = as_numpy(name, value)
    converted = as_array(name, array)
    for part, narrowed in zip(_real_parts(array), _real_parts(converted), strict=True):
        if part.size and part.dtype.itemsize > narrowed.dtype.itemsize:
            check_distinguishable(name, part, narrowed.dtype)
    return converted


def as_numpy(name: str, value: Any) -> np.ndarray:
    """The numbers that a value is, as wide as it was given; raises TypeError if they are none."""
    if np.ma.isMaskedArray(value):
        raise TypeError(f"{name} must be numbers without a mask; got a masked array. Fill it with .filled(value)")
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(f"{name} must be a dense array; got {_type_name(value)}. Convert it with .toarray()")
    try:
        array = np.asarray(value.to_numpy(np.result_type(*_dtypes(value))) if _is_frame_of_numbers(value) else value)
    except Exception as error:  # what a foreign type raises: ragged lists ValueError, tensors RuntimeError or TypeError
        raise TypeError(f"{name} must be an array of numbers; got {_type_name(value)}: {error}") from error
    if array.dtype.kind == "m" or not (jnp.issubdtype(array.dtype, np.number) or array.dtype == bool):
        remedy = _REMEDY_BY_KIND.get(array.dtype.kind, "convert it with numpy.asarray")
        raise TypeError(
            f"{name} must be an array of numbers; got {_type_name(value)} of {_dtype_text(value, array)}: {remedy}"
        )
    return array.astype(np.float64) if array.dtype == np.longdouble else array


def check_distinguishable(name: str, array: np.ndarray, dtype: Any) -> None:
    """Raises ValueError where different values of a feature (of the last axis) become the same in a narrower dtype.

    That is of features that span few of its steps (of others it takes no more than the last digits), or if all vanish.
    """
    features = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
    low, high = np.fmin.reduce(features, axis=0), np.fmax.reduce(features, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are not of concern here
        span, largest = np.float64(high) - low, np.fmax(np.abs(np.float64(low)), np.abs(np.float64(high)))
        fine = np.finfo(array.dtype).eps if np.issubdtype(array.dtype, np.inexact) else 0
        coarse = (span < _MOST_STEPS * jnp.finfo(dtype).eps * largest) & (span > _LEAST_STEPS * fine * largest)
    if 0 < (most := np.fmax.reduce(largest)) < jnp.finfo(dtype).tiny:
        raise ValueError(
            f"{name} must hold numbers that {np.dtype(dtype)} tells from 0, of at least {jnp.finfo(dtype).tiny:.2g}; "
            f"the largest is {most:.3g}. Rescale them, or {_X64}"
        )
    for feature in np.flatnonzero(coarse):
        column = features[:, feature]
        column = column[~np.isnan(column)]
        before, after = (len(np.unique(numbers)) for numbers in (column, column.astype(dtype)))
        if after < before:
            raise ValueError(
                f"{name} must differ by more than {np.dtype(dtype)} can tell apart; feature {feature} goes from "
                f"{low[feature]:.12g} to {high[feature]:.12g}, and of {before} different values {after} are left. "
                f"Subtract its mean first, in {array.dtype}, or {_X64}"
            )


def _real_parts(array: Any) -> tuple[Any, ...]:
    """The real numbers that an array of floats consists of; none of whole numbers."""
    if not jnp.issubdtype(array.dtype, np.inexact):
        return ()
    return (array.real, array.imag) if jnp.issubdtype(array.dtype, np.complexfloating) else (array,)


def _is_frame_of_numbers(value: Any) -> bool:
    return hasattr(value, "columns") and all(isinstance(t, np.dtype) and t.kind in "biuf" for t in _dtypes(value))


def _dtypes(frame: Any) -> list[Any]:
    """Of each column; NumPy's for pandas' own, such as Int64, that stand for one."""
    return [getattr(dtype, "numpy_dtype", dtype) for dtype in getattr(frame, "dtypes", [])]


def _type_name(value: Any) -> str:
    return type(value).__name__


def _dtype_text(value: Any, array: np.ndarray) -> str:
    """What is there instead of numbers, by column where it is a frame."""
    if not hasattr(value, "columns"):
        return str(getattr(value, "dtype", array.dtype))
    columns = zip(value.columns, _dtypes(value), strict=True)
    return ", ".join(f"{dtype} in column {c!r}" for c, dtype in columns if getattr(dtype, "kind", "O") not in "biuf")


def _check_fits(name: str, array: np.ndarray, dtype: Any) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if array.min() < low or array.max() > high:
        row, number = _first_where(array, (array < low) | (array > high))
        raise ValueError(
            f"{name} must be whole numbers that fit {dtype}, in which JAX keeps {array.dtype}; got {number} in row "
            f"{row}. Number what they stand for anew (numpy.unique(..., return_inverse=True)[1]), or {_X64}"
        )


def _check_stays_finite(name: str, array: np.ndarray, info: Any) -> None:
    with np.errstate(invalid="ignore"):
        if not (np.abs(array) > info.max).any():
            return
        lost = np.isfinite(array) & (np.abs(array) > info.max)
    if lost.any():
        row, number = _first_where(array, lost)
        raise ValueError(
            f"{name} must be numbers of at most {info.max:.3g}, the largest of {info.dtype}, in which JAX keeps "
            f"{array.dtype}; got {number:g} in row {row}. Rescale them, or {_X64}"
        )


def _first_where(array: np.ndarray, where: np.ndarray) -> tuple[int, Any]:
    """The row and the value of the first entry where it holds."""
    index = np.unravel_index(where.argmax(), where.shape)
    return (int(index[0]) if index else 0), array[index]
