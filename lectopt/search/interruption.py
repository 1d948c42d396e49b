"""Ctrl-C: a person who ends a search is given what is done; a program is told by the exception, as ever."""

import warnings
from types import TracebackType
from typing import Any

import jax

from lectopt.progress import interactive
from lectopt.search.execution import Search
from lectopt.search.results import Results


def results_of(search: Search) -> Results:
    """Runs all of it, or what was done when a person ended it by Ctrl-C, with a warning.

    Raises:
        KeyboardInterrupt: if nobody sits in front of it, nothing is done yet, or other processes share the search.
    """
    try:
        return search.run()
    except KeyboardInterrupt:
        found = search.so_far() if interactive() and jax.process_count() == 1 else None
        if found is None:
            raise
    kept = "" if search.options.directory is None else "; called again with the same directory, the search goes on"
    warnings.warn(
        f"interrupted: {(found.rungs > 0).sum()} of {len(found)} settings were run, the others are ranked last{kept}",
        stacklevel=3,
    )
    return found


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
