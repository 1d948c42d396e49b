"""Which setting of a search is retrained, and for how long: the arguments `rule`, `complexity` and `epochs`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lectopt._internal import checks
from lectopt.engine.lanes import Trial
from lectopt.search.results import Results
from lectopt.search.settings import Settings
from lectopt.search.simplest import complexities, simplest_row
from lectopt.training.run import Run


class RefitRule(NamedTuple):
    """What `lo.select` and `lo.nested_cross_validate` retrain, and for how many epochs."""

    rule: Any = "best"
    complexity: Any = None
    epochs: Any = None

    def checked(self, trial: Any) -> "RefitRule":
        """Returns this object itself.

        Raises:
            ValueError, TypeError: unless its arguments go together, and the trial takes `epochs` if it is told.
        """
        checks.check_choice("rule", self.rule, ("best", "one_standard_error"))
        if (self.complexity is None) != (self.rule == "best"):
            raise ValueError(
                'complexity goes with rule="one_standard_error", and that with it; got '
                f"rule={self.rule!r}, complexity={self.complexity!r}"
            )
        if self.epochs is not None:
            checks.check_choice("epochs", self.epochs, ("best",))
            if callable(trial):
                Trial(trial).check_call(["setting", "train", "valid", "key"], ["epochs"], ' for epochs="best"')
        return self

    def check_search(self, settings: Settings, lanes: int) -> None:
        """Raises unless the rule can be used on these settings, each trained on so many folds and seeds."""
        if self.rule != "best":
            complexities(self.complexity, settings)
            if lanes == 1:
                raise ValueError("one_standard_error needs at least 2 folds, or 2 seeds")

    @property
    def told(self) -> int | None:
        """With how many epochs the retraining is tried before any are known; None if it is told none."""
        return None if self.epochs is None else 1

    def row(self, results: Results) -> int:
        """Returns the setting that is retrained."""
        return results.best_index if self.rule == "best" else simplest_row(results, self.complexity)


def best_epochs(runs: Sequence[Run]) -> int:
    """Returns the median of the best numbers of epochs of the runs of a setting."""
    return max(int(np.median([run.best_epoch for run in runs]) + 0.5), 1)
