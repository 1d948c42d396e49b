"""Results of two searches as those of one."""

from typing import Any

import jax
import numpy as np

from lectopt._internal.trees import to_numpy
from lectopt.search.settings import identity


def merged(first: Any, other: Any) -> dict[str, Any]:
    """Returns the fields of the results of all settings of both; a setting of both once, as it went further.

    Raises:
        ValueError: unless they are results of the same trial by the same metric, on the same folds and seeds.
    """
    _check_alike(first, other)
    settings = first.settings + other.settings
    found: dict[tuple[Any, ...], tuple[Any, int]] = {}
    for results in (first, other):
        for i in range(len(results)):
            row = results.settings.row(i)
            name = identity(row.get(key) for key in settings)
            if name not in found or results.rungs[i] > found[name][0].rungs[found[name][1]]:
                found[name] = results, i
    shown = settings.shown()
    rows = [found[identity(column[i] for column in shown.values())] for i in range(settings.count)]
    rungs = np.array([results.rungs[i] for results, i in rows], np.int32)
    replay = None
    if first._replay is not None and other._replay is not None:
        replay = first._replay.of(settings, rungs)
    return {
        "settings": settings,
        "metrics": {name: np.stack([results.metrics[name][i] for results, i in rows]) for name in first.metrics},
        "diverged_at": np.stack([results.diverged_at[i] for results, i in rows]),
        "rungs": rungs,
        **{name: getattr(first, name) + getattr(other, name) for name in ("compile_seconds", "run_seconds")},
        "trace_seconds": first.trace_seconds + other.trace_seconds,
        "_replay": replay,
    }


def _check_alike(first: Any, other: Any) -> None:
    for name, of in {
        "metric": lambda results: results.metric,
        "direction": lambda results: "maximize" if results.maximizes else "minimize",
        "metrics": lambda results: ", ".join(sorted(results.metrics)),
        "hyperparameters": lambda results: ", ".join(sorted(results.settings)),
        "number of folds": lambda results: results.diverged_at.shape[1],
        "number of seeds": lambda results: results.diverged_at.shape[2],
        "trial": _trial_name,
        "halving": _halving,
    }.items():
        one, two = of(first), of(other)
        if one != two and not (name in ("trial", "halving") and None in (first._replay, other._replay)):
            raise ValueError(f"other must have the same {name}, {one}; it has {two}")
    if first._replay is None or other._replay is None:  # from a file, which does not tell
        return
    for name in ("folds", "key"):
        one, two = (jax.tree.leaves(getattr(results._replay.shared, name)) for results in (first, other))
        if len(one) != len(two) or not all(
            np.array_equal(to_numpy(a), to_numpy(b)) for a, b in zip(one, two, strict=True)
        ):
            raise ValueError(f"other must have the same {name}; it has others")


def _trial_name(results: Any) -> str | None:
    function = None if results._replay is None else results._replay.trial.function
    return getattr(function, "__qualname__", type(function).__name__)


def _halving(results: Any) -> list[int] | None:
    """Returns after how many epochs settings are dropped."""
    rungs = None if results._replay is None else results._replay.halving
    return None if rungs is None else [epochs for epochs, _ in rungs]
