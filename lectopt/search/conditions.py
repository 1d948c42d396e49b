"""Hyperparameters that apply only where another one has a certain value: which settings they have no value in."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lectopt.search.setting_columns import canonical, python_value
from lectopt.search.space import Static, When


def apply_conditions(space: Mapping[str, Any], columns: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the columns with a placeholder where a hyperparameter does not apply, and where that is.

    The placeholder is the first value of its distribution: a number that a trial may compute with like any other.

    Raises:
        ValueError: if a value is missing where the hyperparameter applies.
    """
    columns = dict(columns)
    missing: dict[str, np.ndarray] = {}
    for name in _parents_first(space):
        entry = space[name]
        if not isinstance(entry, When) or name not in columns:
            continue
        applies = _applies(entry, columns, missing)
        column, placeholder = columns[name], canonical(name, entry.distribution.spaced(1))
        if none := [i for i in np.flatnonzero(applies) if column[i] is None]:
            told = " or ".join(map(repr, entry.values))
            raise ValueError(f"settings[{name!r}] must have a value where {entry.name} is {told}; row {none[0]}")
        values = [value if active else placeholder[0] for value, active in zip(column, applies, strict=True)]
        dtype = None if isinstance(column, list) else column.dtype
        columns[name] = Static(values) if isinstance(placeholder, Static) else np.asarray(values, dtype)
        missing[name] = ~applies
    return columns, {name: missing[name] for name in columns if name in missing}


def check_given(space: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
    """Raises ValueError if a row has a value of a hyperparameter that does not apply to it, which would be lost."""
    missing: dict[str, np.ndarray] = {}
    for name in _parents_first(space):
        if not isinstance(space[name], When) or name not in columns:
            continue
        missing[name] = ~_applies(space[name], columns, missing)
        given = [i for i in np.flatnonzero(missing[name]) if not _is_missing(columns[name][i])]
        if given:
            told = " or ".join(map(repr, space[name].values))
            raise ValueError(
                f"settings[{name!r}] must be None, or left out, where {space[name].name} is not {told}; row {given[0]} "
                f"has {python_value(columns[name][given[0]])!r}"
            )


def _is_missing(value: Any) -> bool:
    """Returns whether a table has no value there: None, NaN or one of pandas' own."""
    is_nan = isinstance(value, (float, np.floating)) and np.isnan(value)
    return value is None or bool(is_nan) or type(value).__name__ in ("NAType", "NaTType")


def _applies(entry: When, columns: Mapping[str, Any], missing: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns where a hyperparameter applies: bool[n]; `missing` says where the one that it depends on does not."""
    above = missing.get(entry.name, np.zeros(len(columns[entry.name]), bool))
    return np.array([entry.applies(python_value(value)) for value in columns[entry.name]]) & ~above


def check_conditions(space: Mapping[str, Any]) -> None:
    """Raises ValueError unless each condition is on another hyperparameter of the space, and may come true."""
    for name, entry in space.items():
        if not isinstance(entry, When):
            continue
        if entry.name not in space:
            others = ", ".join(other for other in space if other != name)
            one = f"one of {others}" if others else "another entry of the space"
            raise ValueError(f"space[{name!r}] must be conditional on {one}; got {entry.name!r}")
        of = space[entry.name].distribution if isinstance(space[entry.name], When) else space[entry.name]
        if of.count is None:
            raise ValueError(
                f"space[{name!r}] must be conditional on a choice or whole numbers; {entry.name} has any real value"
            )
        possible = [python_value(value) for value in of.spaced(of.count)]
        for value in entry.values:
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in possible):
                raise ValueError(f"space[{name!r}] must be conditional on a value of {entry.name}; got {value!r}")
    _parents_first(space)


def _parents_first(space: Mapping[str, Any]) -> list[str]:
    """Returns the names in an order in which each stands after the one that it depends on."""
    order: list[str] = []
    for start in space:
        chain = [start]
        while isinstance(space[chain[-1]], When) and space[chain[-1]].name not in order:
            chain.append(space[chain[-1]].name)
            if len(chain) > len(space):
                raise ValueError(f"space[{start!r}] must not be conditional on itself, by way of others")
        order += [name for name in reversed(chain) if name not in order]
    return order
