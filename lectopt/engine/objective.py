"""The metric that a search chooses by."""

from typing import Any


def checked_metric(minimize: Any, maximize: Any) -> str:
    """Returns the metric to choose by.

    Raises:
        ValueError: unless exactly one of them is given.
        TypeError: unless it is a name.
    """
    if (minimize is None) == (maximize is None):
        raise ValueError(f"exactly one of minimize and maximize must be given; got {minimize=}, {maximize=}")
    metric = minimize if maximize is None else maximize
    if not isinstance(metric, str):
        raise TypeError(f"{'minimize' if maximize is None else 'maximize'} must be a metric's name; got {metric!r}")
    return metric
