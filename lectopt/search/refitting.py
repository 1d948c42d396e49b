"""The chosen setting, trained again on all of a training part."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax

from lectopt._internal.numerics import jit_without_nan_checks
from lectopt.data.subsets import Subset
from lectopt.engine.lanes import FoldAndSeed
from lectopt.engine.program_cache import Programs, programs_of
from lectopt.engine.tracing import TracedProgram
from lectopt.search.hyperparameter_search import Search
from lectopt.search.settings import Group, group_of, groups
from lectopt.training.run import Run


class Refit:
    """A search's trial on a training part as a whole, with nothing to validate on."""

    def __init__(self, search: Search, fold: int, epochs: int | None = None, parts: int = 1):
        """Uses the key of a fold that the search does not have; the trial is told `epochs`, if they are given.

        For how many parts of the search a setting is to be retrained is what its plan says.
        """
        self.search = search
        # One for each number of epochs that is found, and one for the runs that it is found by.
        search.retraining = min(parts, len(groups(search.settings))) if epochs is None else parts + 1
        self._epochs = epochs
        self._key = FoldAndSeed(fold, 0).key(search.shared.key)
        self._traced: dict[int, TracedProgram] = {}  # by the first row of a group
        self._programs: dict[int, Programs] = {}

    def check(self, train: Subset, needs_run: bool) -> None:
        """Raises, before anything compiles, unless the trial does without valid."""
        try:
            returned = self._trace(0, train).returned
        except Exception as error:
            if self.search.halving is None:  # what goes wrong with valid too is told as it is
                self.search.trace_first()
            raise ValueError(
                "trial must accept valid=None: the best setting is retrained on all examples by trial(setting, train, "
                f"None, key), which raised {type(error).__name__}: {error}"
            ) from error
        if self._epochs is not None:
            _check_epochs(returned, self._epochs)
        if needs_run and not isinstance(returned, Run):
            raise TypeError(f"trial must return a lectopt.Run to be tested; it returned {type(returned).__name__}")

    def begin(self, row: int, train: Subset, threads: Executor | None = None) -> None:
        """Begins to compile what retrains this setting in one of the threads, unless that has been done."""
        with jit_without_nan_checks():
            traced = self._trace(row, train)
            first = self._first(row)
            if first not in self._programs:
                last = traced.closed_over, self._key
                lowered = traced.lower(self.search.settings.numbers(row), train, last)
                self._programs[first] = programs_of(self.search.trial.function, lowered.as_text, lowered.in_tree)
                if _place(train) not in self._programs[first]:
                    self._programs[first].begin(_place(train), lowered, threads)

    def begin_early(self, train: Subset, threads: Executor) -> None:
        """Begins to compile before it is known which setting is the best, where all of them share a program."""
        if len(groups(self.search.settings)) == 1 and self._epochs is None:
            self.begin(0, train, threads)

    def __call__(self, row: int, train: Subset) -> Any:
        """Returns what the trial returns for this setting."""
        self.begin(row, train)
        first, numbers = self._first(row), self.search.settings.numbers(row)
        program = self._programs[first].get(_place(train))
        with jit_without_nan_checks():
            outputs = program.call(numbers, train, (self._traced[first].closed_over, self._key))
        # A task that the trial made holds the numbers that it was traced with: in their place, those of this setting.
        function = self._function(group_of(self.search.settings, row))
        template = jax.eval_shape(lambda train, key: function(numbers, train, key), train, self._key)
        return jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(outputs))

    def _first(self, row: int) -> int:
        """Returns the first row that has the static values of this one."""
        return int(group_of(self.search.settings, row).rows[0])

    def _trace(self, row: int, train: Subset) -> TracedProgram:
        """Returns what retrains the settings of a group, traced once."""
        first, settings = self._first(row), self.search.settings
        if first not in self._traced:
            function = self._function(group_of(settings, row))
            self._traced[first] = TracedProgram(function, settings.numbers(row), train, self._key, name="retrain")
        return self._traced[first]

    def _function(self, group: Group) -> Callable[..., Any]:
        halving = self.search.halving
        extra: dict[str, Any] = {} if halving is None else {"epochs": halving.epochs, "start": None}
        if self._epochs is not None:
            extra = {"epochs": self._epochs}

        def retrain(numbers: dict[str, Any], train: Subset, key: jax.Array) -> Any:
            return self.search.trial.function({**group.static, **numbers}, train, None, key, **extra)

        return retrain


def _check_epochs(returned: Any, epochs: int) -> None:
    """Raises unless a run has so many epochs."""
    if not isinstance(returned, Run):
        raise TypeError(f'trial must return a lectopt.Run for epochs="best"; it returned {type(returned).__name__}')
    if (found := max(len(record) for record in returned.history.epochs.values())) != epochs:
        raise ValueError(
            f'trial must pass epochs on to lectopt.train for epochs="best"; given {epochs}, its run has {found}'
        )


def _place(train: Subset) -> tuple[Any, ...]:
    """Returns on which devices the examples are: a compiled program takes no others."""
    return tuple(getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(train))
