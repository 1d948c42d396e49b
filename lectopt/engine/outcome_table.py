"""The outcomes of a group of lanes, a table of settings x pairs that one or several processes fill."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from lectopt.engine.lane_records import LaneRecords
from lectopt.engine.lanes import Outcome
from lectopt.engine.tiling import Rectangle


class OutcomeTable:
    """The outcomes of lanes, and which of them are known; with records, each is kept on disk too."""

    def __init__(self, like: Outcome, rows: int, pairs: int, records: LaneRecords | None):
        """Makes an empty table for lanes with outcomes like this one."""
        self._local = local_lanes(rows, pairs)
        self._like, self._records = like, records
        self.outcome: Outcome = jax.tree.map(lambda leaf: np.zeros((rows, pairs, *leaf.shape), leaf.dtype), like)
        self.done = ~self._local  # bool[rows, pairs]; what other processes run counts as done

    @property
    def complete_rows(self) -> np.ndarray:
        """int[]: the rows all of whose lanes are this process's, and known."""
        return np.flatnonzero((self.done & self._local).all(axis=1))

    def next(self, shape: Rectangle) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows and pairs of the next lanes to run, at most as many as the rectangle has."""
        rows = np.flatnonzero(~self.done.all(axis=1))
        rows = rows[(self.done[rows] == self.done[rows[0]]).all(axis=1)][: shape.rows]  # that lack the same pairs
        return rows, np.flatnonzero(~self.done[rows[0]])[: shape.pairs]

    def restore(self) -> int:
        """Puts in what the records hold; returns how many lanes that is."""
        if self._records is None:
            return 0
        return sum(self._put(*kept) for kept in self._records.read(self._like, self.done.shape))

    def write(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> int:
        """Keeps the outcomes of these lanes, and puts them in; returns how many of them were missing."""
        if self._records is not None:
            self._records.write(rows, pairs, outcome)
        return self._put(rows, pairs, outcome)

    def gather(self) -> Outcome:
        """Returns the outcomes of all processes, each from the process that ran it."""
        if jax.process_count() == 1:
            return self.outcome
        all_outcomes, owned = multihost_utils.process_allgather((self.outcome, self._local))
        lanes = (np.argmax(owned, axis=0), *np.indices(self._local.shape))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[lanes], all_outcomes)

    def _put(self, rows: np.ndarray, pairs: np.ndarray, outcome: Outcome) -> int:
        lanes = np.ix_(rows, pairs)
        for column, leaf in zip(jax.tree.leaves(self.outcome), jax.tree.leaves(outcome), strict=True):
            column[lanes] = leaf
        missing = int((~self.done[lanes]).sum())
        self.done[lanes] = True
        return missing


def local_lanes(rows: int, pairs: int) -> np.ndarray:
    """Returns which lanes this process runs: bool[rows, pairs]."""
    index, count = jax.process_index(), jax.process_count()
    row, pair = np.indices((rows, pairs))
    return (row if rows >= count else pair) % count == index
