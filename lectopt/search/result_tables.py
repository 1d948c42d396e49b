"""Tables of what a search found: one row for each setting, one for each training, and one hyperparameter by another."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lectopt._internal.tables import import_pandas
from lectopt.search.settings import Settings


def table_of_settings(
    settings: Settings, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]], others: Mapping[str, np.ndarray]
) -> Any:
    """Returns a DataFrame with a row for each setting: means and standard errors of the metrics, and other columns."""
    columns: dict[str, Any] = {**settings.shown()}
    taken = set(columns)
    called = {name: _free("metric", name, taken) for name in statistics}
    for name, column in called.items():
        columns |= dict(zip((column, _free("metric", f"{column}_sem", taken)), statistics[name], strict=True))
    columns |= {_free("search", name, taken): values for name, values in others.items()}
    return import_pandas().DataFrame(columns)


def table_of_lanes(settings: Settings, metrics: Mapping[str, np.ndarray], diverged_at: np.ndarray) -> Any:
    """Returns a DataFrame with a row for each setting, fold and seed, in this order."""
    row, fold, seed = np.indices(diverged_at.shape).reshape(3, -1)
    columns: dict[str, Any] = {name: [column[i] for i in row] for name, column in settings.shown().items()}
    taken = set(columns)
    columns |= {_free("search", name, taken): values for name, values in (("fold", fold), ("seed", seed))}
    columns |= {_free("metric", name, taken): values.ravel() for name, values in metrics.items()}
    columns[_free("search", "diverged_at", taken)] = diverged_at.ravel()
    return import_pandas().DataFrame(columns)


def pivoted(
    settings: Settings, rows: str, columns: str, scores: np.ndarray, ranking: np.ndarray
) -> tuple[list[Any], list[Any], np.ndarray]:
    """Returns the different values of two hyperparameters, and the score of the best setting for each pair of them.

    Raises:
        ValueError: if there are no such hyperparameters, or they are the same.
    """
    for argument, name in (("rows", rows), ("columns", columns)):
        if not isinstance(name, str) or name not in settings:
            raise ValueError(f"{argument} must be one of {', '.join(map(repr, settings))}; got {name!r}")
    if rows == columns:
        raise ValueError(f"columns must be another hyperparameter than rows; got {columns!r} for both")
    shown = settings.shown()
    down, across = (_different(shown[name]) for name in (rows, columns))
    found = np.full((len(down), len(across)), np.nan, np.float32)
    for i in ranking[::-1]:  # the best come last and stay
        found[down.index(shown[rows][i]), across.index(shown[columns][i])] = scores[i]
    return down, across, found


def _different(values: list[Any]) -> list[Any]:
    """Returns the different values: numbers in their order, others as they come."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else found


def _free(kind: str, name: str, taken: set[str]) -> str:
    """Returns a column name that is not taken, with its kind in front if needed, and takes it."""
    while name in taken:
        name = f"{kind}_{name}"
    taken.add(name)
    return name
