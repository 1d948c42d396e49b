"""The values of a hyperparameter as places on an axis: numbers, evenly or by magnitude, and choices one by one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from lectopt.plots.names import distinct_names, literal

Column: TypeAlias = np.ndarray | Sequence[Any]
"""Of n settings: an array of n numbers, or a list of n choices."""
Columns: TypeAlias = Mapping[str, Column]

_MOST_SHOWN = 6
"""Of more different numbers than these only the ends are written beside an axis."""


def place_on_axis(axis: Axes, column: Column, *, logarithmic: bool) -> np.ndarray:
    """Makes the x axis fit; returns where on it each setting stands."""
    if isinstance(column, np.ndarray):
        if logarithmic:
            axis.set_xscale("log")
        return column
    choices = _choices(column)
    names = distinct_names(str(getattr(choice, "__name__", choice)) for choice in choices)
    slant: Any = {"rotation": 30, "ha": "right"} if sum(map(len, names)) > 24 else {}
    axis.set_xticks(range(len(choices)), names, **slant)
    return np.array([choices.index(choice) for choice in column], float)


def heights(column: Column, *, logarithmic: bool) -> np.ndarray:
    """float[n]: the values, from 0 to 1."""
    if not isinstance(column, np.ndarray):
        choices = _choices(column)
        return np.array([choices.index(choice) for choice in column]) / max(len(choices) - 1, 1)
    values = np.log(column) if logarithmic else column.astype(float)
    return (values - np.nanmin(values)) / max(np.nanmax(values) - np.nanmin(values), 1e-30)


def ticks(column: Column, *, logarithmic: bool) -> list[tuple[str, float]]:
    """What to write beside a vertical axis of `heights`, and how high."""
    places = heights(column, logarithmic=logarithmic)
    if isinstance(column, np.ndarray):
        column, places = column[~np.isnan(column)], places[~np.isnan(column)]  # NaN where it does not apply
        if len(np.unique(column)) > _MOST_SHOWN:
            return [(f"{column[i]:.3g}", float(places[i])) for i in (int(np.argmin(column)), int(np.argmax(column)))]
    shown = {
        (f"{value:.3g}" if isinstance(value, np.number) else literal(str(value))): float(height)
        for value, height in zip(column, places, strict=True)
    }
    return list(shown.items())


def _choices(column: Sequence[Any]) -> list[Any]:
    """The different values: numbers in their order, others as they come."""
    values = list(dict.fromkeys(column))
    return sorted(values) if all(isinstance(value, (int, float)) for value in values) else values
