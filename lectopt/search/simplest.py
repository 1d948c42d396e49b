"""The simplest setting that is about as good as the best one."""

import numbers
from typing import Any

import numpy as np

from lectopt.search.settings import Settings


def complexities(complexity: Any, settings: Settings) -> list[Any]:
    """Returns what the settings are sorted by, the simplest first: the values of a function, or of a hyperparameter.

    Raises:
        TypeError: unless it is a function or a name, of a hyperparameter whose values are numbers; or if what the
            function returns cannot be sorted.
        ValueError: if there is no hyperparameter of this name.
    """
    if not callable(complexity) and not isinstance(complexity, str):
        raise TypeError(f"complexity must be a function of a setting, or a hyperparameter's name; got {complexity!r}")
    rows = [settings.row(i) for i in range(settings.count)]
    if callable(complexity):
        found = [complexity(row) for row in rows]
        try:
            sorted(found)
            odd = [v for v in found if v is None or (isinstance(v, (float, np.floating)) and np.isnan(v))]
        except (TypeError, ValueError):
            odd = found
        if odd:
            raise TypeError(f"complexity must return numbers, or others that can be sorted; it returned {odd[0]!r}")
        return found
    if complexity not in settings:
        raise ValueError(
            f"complexity must be one of {', '.join(map(repr, settings))}, or a function; got {complexity!r}"
        )
    values = [row[complexity] for row in rows]
    if odd := [v for v in values if not isinstance(v, (numbers.Real, np.number))]:
        raise TypeError(f"complexity must be the name of a number, or a function; {complexity} has {odd[0]!r}")
    return values


def simplest_row(results: Any, complexity: Any) -> int:
    """Returns the row of the simplest setting whose mean is within one standard error of the best; then the better."""
    sorted_by, best = complexities(complexity, results.settings), results.best_index
    mean, error = results.mean(), float(results.sem()[best])
    if np.isnan(error):
        raise ValueError("one_standard_error needs at least 2 folds, or 2 seeds")
    apart = np.abs(mean - mean[best])
    near = [int(i) for i in results.ranking() if apart[i] <= error and results.rungs[i] == results.rungs[best]]
    return min(near, key=sorted_by.__getitem__)
