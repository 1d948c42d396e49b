"""The lanes of a group of settings on a rung, ready to run, and what becomes of them."""

import copy
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt.engine.running import LaneRun, Progress
from lectopt.search.scores import Scores


class PreparedGroup(NamedTuple):
    """The lanes of a group of settings on a rung: traced, and perhaps still being compiled."""

    number: int
    places: np.ndarray  # int[], which rows of the group
    rows: np.ndarray  # int[], the same among all settings
    run: LaneRun

    def finish(self, scores: Scores, progress: Progress) -> Any:
        """Runs the lanes, writes their scores, those that are complete on Ctrl-C too, and returns what they keep."""
        try:
            self.run.run(progress)
        except KeyboardInterrupt:
            self._write_complete(scores)
            raise
        outcome = self.run.table.gather()
        scores.write(self.rows, outcome)
        return outcome.kept

    def so_far(self, scores: Scores) -> Scores:
        """Returns the scores with those of the settings of this group that are complete."""
        scores = copy.deepcopy(scores)
        self._write_complete(scores)
        return scores

    def _write_complete(self, scores: Scores) -> None:
        done = self.run.table.complete_rows
        scores.write(self.rows[done], jax.tree.map(lambda leaf: leaf[done], self.run.table.outcome))
