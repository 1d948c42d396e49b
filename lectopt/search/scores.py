"""The scores of a search, as they come in."""

import numpy as np

from lectopt.engine.lanes import Outcome


class Scores:
    """The scores of all lanes, as they come in: [settings, pairs]."""

    def __init__(self, settings: int, pairs: int):
        self.metrics: dict[str, np.ndarray] = {}
        self.diverged_at = np.full((settings, pairs), -1, np.int32)
        self.rungs = np.zeros(settings, np.int32)

    def write(self, rows: np.ndarray, outcome: Outcome) -> None:
        """Writes the outcomes of these settings; what diverged on an earlier rung no longer has a score."""
        before = self.diverged_at[rows]
        self.diverged_at[rows] = np.where(before >= 0, before, outcome.diverged_at)
        self.rungs[rows] += 1
        for name, values in outcome.metrics.items():
            column = self.metrics.setdefault(name, np.full(self.diverged_at.shape, np.nan, np.float32))
            column[rows] = np.where(before >= 0, np.nan, values)
