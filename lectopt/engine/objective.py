"""The metric that a search chooses by."""

from collections.abc import Iterable
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


def check_metrics(
    metric: str, maximizes: bool, first: Iterable[str], found: Iterable[str], also: Iterable[str] = ()
) -> None:
    """Raises ValueError unless a trial returns the metric to choose by, and what it returned for the first setting.

    Others that were named as metrics or constraints are to be there too.
    """
    if metric not in found:
        word = "maximize" if maximizes else "minimize"
        raise ValueError(f"{word} must be a metric that trial returns, {_names(found)}; got {metric!r}")
    if lacking := [name for name in also if name not in found]:
        raise ValueError(
            f"metric and constraints must be metrics that trial returns, {_names(found)}; got {lacking[0]!r}"
        )
    if set(first) != set(found):
        raise ValueError(
            f"trial must return the same metrics for all settings; got {_names(first)} and then {_names(found)}"
        )


def _names(metrics: Iterable[str]) -> str:
    return ", ".join(map(repr, metrics)) or "and that has none"
