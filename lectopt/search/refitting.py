"""The chosen setting, trained again on all of a training part."""

from collections.abc import Callable
from typing import Any

import jax

from lectopt._internal.numerics import jit_without_nan_checks
from lectopt.data.subsets import Subset
from lectopt.engine.lanes import FoldAndSeed
from lectopt.search.hyperparameter_search import Search
from lectopt.search.settings import Group, group_of
from lectopt.training.run import Run


class Refit:
    """A search's trial on a training part as a whole, with nothing to validate on."""

    def __init__(self, search: Search, fold: int):
        """Uses the key of a fold that the search does not have."""
        self._search = search
        self._key = FoldAndSeed(fold, 0).key(search.shared.key)
        self._compiled: dict[int, Any] = {}  # by the first row of a group

    def check(self, train: Subset, needs_run: bool) -> None:
        """Raises, before anything compiles, unless the trial does without valid."""
        settings = self._search.settings
        function = self._function(group_of(settings, 0))
        try:
            returned = jax.eval_shape(function, settings.numbers(0), train, self._key)
        except Exception as error:
            if self._search.halving is None:  # what goes wrong with valid too is told as it is
                self._search.trace_first()
            raise ValueError(
                "trial must accept valid=None: the best setting is retrained on all examples by trial(setting, train, "
                f"None, key), which raised {type(error).__name__}: {error}"
            ) from error
        if needs_run and not isinstance(returned, Run):
            raise TypeError(f"trial must return a lectopt.Run to be tested; it returned {type(returned).__name__}")

    def __call__(self, row: int, train: Subset) -> Any:
        """Returns what the trial returns for this setting."""
        settings = self._search.settings
        group = group_of(settings, row)
        first = int(group.rows[0])
        if first not in self._compiled:
            self._compiled[first] = jax.jit(self._function(group))
        numbers = settings.numbers(row)
        with jit_without_nan_checks():
            outputs = self._compiled[first](numbers, train, self._key)
        # A task that the trial made holds the numbers that it was traced with: in their place, those of this setting.
        function = self._function(group)
        template = jax.eval_shape(lambda train, key: function(numbers, train, key), train, self._key)
        return jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(outputs))

    def _function(self, group: Group) -> Callable[..., Any]:
        halving = self._search.halving
        extra = {} if halving is None else {"epochs": halving.epochs, "start": None}

        def retrain(numbers: dict[str, Any], train: Subset, key: jax.Array) -> Any:
            return self._search.trial.function({**group.static, **numbers}, train, None, key, **extra)

        return retrain
