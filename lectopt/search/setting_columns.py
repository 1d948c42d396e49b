"""Settings as users give them, as columns: numbers as arrays of one dtype, everything else as Python values."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt.search.space import Static


def columns_of(settings: Any) -> dict[str, Any]:
    """Returns a column for each name, from a dictionary of columns, a list of dictionaries, or a DataFrame.

    Raises:
        TypeError, ValueError: as `as_settings`.
    """
    given = by_name(settings)
    if not given:
        raise ValueError("settings must hold at least 1 hyperparameter; got none")
    if odd := [name for name in given if not isinstance(name, str)]:
        raise TypeError(f"settings must have strings for names; got {odd[0]!r}")
    if checks.is_traced(list(given.values())):
        raise TypeError("settings must not be traced: call the search outside of jit and vmap")
    return {name: _column(name, values) for name, values in given.items()}


def canonical(name: str, column: Any) -> Any:
    """Numbers in the dtype that JAX computes with; a Static column as it is.

    Raises:
        ValueError: if one is too large for that.
    """
    if isinstance(column, Static):
        return column
    array = np.asarray(column)
    dtype = jax.dtypes.canonicalize_dtype(float if array.dtype.kind == "f" else int)
    most = (np.finfo if array.dtype.kind == "f" else np.iinfo)(dtype).max
    if array.size and (array.max() > most or array.min() < -most):
        raise ValueError(f"settings[{name!r}] must be numbers that fit into {dtype}; got {array[abs(array).argmax()]}")
    return array.astype(dtype)


def python_value(value: Any) -> Any:
    """Converts a NumPy number to Python's; float32's 0.1 becomes 0.1, the shortest that rounds to the same number."""
    if isinstance(value, np.float32):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def checked_values(name: str, column: Any, count: int | None = None) -> Any:
    """Returns the values that a distribution gave, as a column of finite numbers or a Static one.

    Raises:
        ValueError, TypeError: if they are no such column, or not so many.
    """
    found = _column(name, column)
    if not len(found) or count not in (None, len(found)):
        raise ValueError(f"space[{name!r}] must give {count or 'some'} values; got {len(found)}")
    return found


def by_name(settings: Any, optional: Collection[str] = ()) -> Mapping[Any, Any]:
    """Returns the columns of a dictionary, a DataFrame (of pandas or others), or rows `{"name": value}`.

    Rows may leave out names that are optional, for which they then have None.
    """
    if isinstance(settings, Mapping):
        return settings
    if hasattr(settings, "columns") and hasattr(settings, "shape"):
        names = list(settings.columns)
        if len(set(names)) < len(names):
            raise ValueError(f"settings must have columns of different names; got {names}")
        return {name: list(settings[name]) for name in names}
    wanted = 'settings must be a dictionary {"name": values}, a list of dictionaries {"name": value} or a DataFrame'
    if not isinstance(settings, (list, tuple)):
        raise TypeError(f"{wanted}; got {type(settings).__name__}")
    for i, row in enumerate(settings):
        if not isinstance(row, Mapping):
            raise TypeError(f"{wanted}; entry {i} is {type(row).__name__}")
    settings = [{**dict.fromkeys(optional), **row} for row in settings]
    for i, row in enumerate(settings):
        if apart := set(row) ^ set(settings[0]):
            raise ValueError(
                f"settings must have the same names in all rows; {', '.join(map(repr, sorted(apart, key=str)))} is in "
                f"only one of rows 0 and {i}"
            )
    return {name: [row[name] for row in settings] for name in (settings[0] if settings else ())}


def check_lengths(columns: Mapping[str, Any]) -> None:
    """Raises unless all columns are lists or arrays of the same length, at least 1."""
    for name, values in columns.items():
        _check_is_list(name, values)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"settings must be columns of equal length, at least 1; got lengths {lengths}")


def _check_is_list(name: str, values: Any) -> None:
    """Raises unless these are a list or an array, [n]."""
    is_list = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    if isinstance(values, (str, bytes, Mapping)) or not is_list:
        raise TypeError(f"settings[{name!r}] must be an array or a list, one value for each setting; got {values!r}")
    if isinstance(values, (np.ndarray, jax.Array)) and values.ndim != 1:
        raise ValueError(f"settings[{name!r}] must have shape (n,), one value for each setting; got {values.shape}")


def _column(name: str, values: Any) -> Any:
    if isinstance(values, Static):
        return _checked(name, values)
    _check_is_list(name, values)
    if not _holds_numbers(values):
        return _checked(name, Static(v.item() if _is_scalar(v) else v for v in values))
    if not _is_plain(values) and any(map(np.ndim, values)):
        raise ValueError(f"settings[{name!r}] must have one value for each setting; got {values!r}")
    array = np.asarray(values if _is_plain(values) else list(values))
    if array.dtype.kind == "O":
        raise ValueError(f"settings[{name!r}] must be numbers of at most 64 bits; got {max(values, key=abs)}")
    if array.dtype.kind not in "iuf":  # such as bfloat16
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"settings[{name!r}] must be finite; got {array[~np.isfinite(array)][0]}")
    return canonical(name, array)


def _holds_numbers(values: Any) -> bool:
    """Returns whether all are real numbers; flags are not."""
    if _is_plain(values):
        return any(jax.dtypes.issubdtype(values.dtype, kind) for kind in (np.integer, np.floating))
    return all(_is_number(value) for value in values)


def _is_plain(values: Any) -> bool:
    """Returns whether this is an array of anything but Python objects, which are examined one by one."""
    return isinstance(values, (np.ndarray, jax.Array)) and values.dtype.kind != "O"


def _checked(name: str, column: Static) -> Static:
    """Returns the column itself, after checking that a program can be made for each value."""
    for value in column:
        if (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NAType", "NaTType"):
            raise ValueError(f"settings[{name!r}] must have a value for each setting; got {value!r}")
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(f"settings[{name!r}] must hold numbers or hashable values; got {value!r}") from error
    return column


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.generic) or (isinstance(value, jax.Array) and value.ndim == 0)


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)) or (
        isinstance(value, jax.Array) and value.ndim == 0 and value.dtype != bool
    )
