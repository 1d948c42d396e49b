"""The simplest setting that is about as good as the best one."""

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from lectopt.search.settings import Settings


def as_complexity(complexity: Any, settings: Settings) -> Callable[[dict[str, Any]], Any]:
    """Returns what settings are sorted by, the simplest first: a function, or the value of a hyperparameter.

    Raises:
        TypeError: unless it is a function or a name, of a hyperparameter whose values are numbers.
        ValueError: if there is no hyperparameter of this name.
    """
    if callable(complexity):
        return complexity
    if not isinstance(complexity, str):
        raise TypeError(f"complexity must be a function of a setting, or a hyperparameter's name; got {complexity!r}")
    if complexity not in settings:
        raise ValueError(
            f"complexity must be one of {', '.join(map(repr, settings))}, or a function; got {complexity!r}"
        )
    if odd := [v for v in settings[complexity] if not isinstance(v, (numbers.Real, np.number))]:
        raise TypeError(f"complexity must be the name of a number, or a function; {complexity} has {odd[0]!r}")
    return lambda setting: setting[complexity]


def simplest_row(results: Any, complexity: Any) -> int:
    """Returns the row of the simplest setting whose mean is within one standard error of the best; then the better."""
    simpler, best = as_complexity(complexity, results.settings), results.best_index
    mean, error = results.mean(), float(results.sem()[best])
    if np.isnan(error):
        raise ValueError("one_standard_error needs at least 2 folds, or 2 seeds")
    apart = np.abs(mean - mean[best])
    near = [int(i) for i in results.ranking() if apart[i] <= error and results.rungs[i] == results.rungs[best]]
    return min(near, key=lambda i: simpler(results.settings.row(i)))
