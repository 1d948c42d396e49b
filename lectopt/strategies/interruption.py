"""Ctrl-C between rounds: a person who ends a search is given the rounds that are done."""

import warnings
from types import TracebackType
from typing import Any

import jax

from lectopt._internal.progress import interactive


class RoundsDone:
    """Around rounds, whose status has a number `round` of them and their `records`: those that are done."""

    def __init__(self, status: Any, rounds: int):
        self.status, self._rounds = status, rounds

    def __enter__(self) -> "RoundsDone":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        done = int(self.status.round)
        if not isinstance(error, KeyboardInterrupt) or not interactive() or not done:
            return False
        warnings.warn(f"interrupted: {done} of {self._rounds} rounds are done, and in the record", stacklevel=5)
        return True

    def records(self) -> dict[str, Any]:
        """What was tried, so many rounds as are done."""
        done = int(self.status.round)
        if done == self._rounds:
            return self.status.records
        return jax.tree.map(lambda leaf: leaf[:done], self.status.records)
