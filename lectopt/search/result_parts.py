"""Parts of what a search found."""

import dataclasses
from typing import Any

import numpy as np

from lectopt.search.results import Results
from lectopt.training.run import Run


def part_of(results: Results, rows: np.ndarray, folds: slice = slice(None)) -> Results:
    """Returns the results of some settings, on some folds alone, which have no trial to replay."""
    return dataclasses.replace(
        results,
        settings=results.settings.take(rows),
        metrics={name: values[rows, folds] for name, values in results.metrics.items()},
        diverged_at=results.diverged_at[rows, folds],
        rungs=results.rungs[rows],
        _replay=None,
    )


def runs_on(results: Results, row: int, folds: slice) -> list[Run]:
    """Returns the runs of a setting on some folds alone, trained again as `Results.runs` does."""
    return results._replay.on(folds, results.diverged_at.shape[1]).runs(row)


def drawn(results: Results) -> Any:
    """Returns a picture of the settings that a search has run so far; None if none has a score."""
    ran = np.flatnonzero(results.rungs)
    return part_of(results, ran).plot() if len(ran) and not np.isnan(results.mean()).all() else None
