"""Settings without a score, and why: a training diverged, the metric is undefined on a fold, or they were not run."""

from typing import NamedTuple

import numpy as np


class MissingScores(NamedTuple):
    """Which settings have no score."""

    diverged: np.ndarray
    """bool[n]: a training of theirs ceased to be finite."""
    undefined: np.ndarray
    """bool[n]: all their trainings are finite, and the metric is not: that of a fold without positives, perhaps."""
    unrun: np.ndarray
    """bool[n]: the search ended before they were run."""
    folds: np.ndarray
    """int[]: the folds that the metric is undefined on."""

    @classmethod
    def of(cls, values: np.ndarray, diverged_at: np.ndarray, rungs: np.ndarray) -> "MissingScores":
        """Makes it from a metric [n, folds, seeds], the steps of divergence, and the number of rungs completed."""
        unrun = rungs == 0
        none = np.isnan(values) & ~unrun[:, None, None]
        diverged = (none & (diverged_at >= 0)).any(axis=(1, 2))
        undefined = none & (diverged_at < 0)
        return cls(diverged, undefined.any(axis=(1, 2)) & ~diverged, unrun, np.flatnonzero(undefined.any(axis=(0, 2))))

    def why(self, metric: str, folds: int) -> str:
        """Returns how many there are of each kind, in words; empty if there are none."""
        where = f" on fold {', '.join(map(str, self.folds))}" if folds > 1 else ""
        kinds = {
            "diverged": self.diverged,
            f"with an undefined {metric} (not finite, though no divergence is recorded){where}": self.undefined,
            "not run": self.unrun,
        }
        return "; ".join(
            f"{'all ' if which.all() else ''}{which.sum()} {kind}" for kind, which in kinds.items() if which.any()
        )
