"""The lecture's whole recipe: validate each setting, retrain the best on all but the test set, test that."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from lectopt._internal.arrays import as_array
from lectopt._internal.keys import as_key
from lectopt._internal.numerics import one_program
from lectopt.data import Folds
from lectopt.data.as_folds import as_folds
from lectopt.data.subsets import Subset, as_subset
from lectopt.engine.lane_program import Program
from lectopt.engine.lanes import TrialLane
from lectopt.search.halving import Halving
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.result_warnings import warn_of_edges
from lectopt.search.results import Results
from lectopt.search.settings import Group, group_of
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True)
class Selection:
    """What `select` chose."""

    setting: dict[str, Any]
    """The setting with the best mean, {"name": value}."""
    results: Results
    """The scores of all settings."""
    run: Any
    """The Run (or what else the trial returns) of that setting on all examples but the test set; None if a person
    interrupted the search."""
    test_metrics: dict[str, float] | None
    """The loss and the metrics of that run on the test set, which nothing was chosen by; None without one."""

    def __repr__(self) -> str:
        tested = "" if self.test_metrics is None else f", test_metrics={self.test_metrics}"
        return f"Selection(setting={self.setting}{tested})"


def select(
    trial: Callable[..., Any],
    settings: Any,
    examples: Any,
    *,
    folds: int | float | Folds = 5,
    test: Any = None,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    halving: Halving | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Selection:
    """Chooses a setting by cross-validation, retrains it on all of the examples, and tests that.

    Args:
        trial: (setting, train, valid, key) -> a `Run`, as for `cross_validate`. At the end it is called with
            valid=None, to train on all examples.
        settings: as for `sweep`.
        examples: all that is not the test set: a tuple of arrays [n, ...], or a Subset.
        folds: the number of folds; a share in (0, 1) for a single held-out part; or Folds of your own over these
            examples, such as `k_fold` with groups. Those that are made here are stratified if the last array looks like
            labels: whole numbers [n], each of which comes at least once for each fold (twice, for a single part).
            Otherwise, as for whole-number targets of a regression, they are drawn at random; with a warning where there
            are few different ones, at most the root of the number of examples.
        test: examples that nothing is chosen by; None leaves testing out.
        minimize: as for `sweep`.
        maximize: as for `sweep`.
        seeds: as for `sweep`.
        key: as for `sweep`, and for the folds.
        halving: as for `sweep`; the last training takes all its epochs.
        chunk: as for `sweep`.
        memory: as for `sweep`.
        directory: as for `sweep`.
        progress: as for `sweep`.

    Returns:
        A Selection: the setting, the results of all settings, the run, and its test metrics. Ctrl-C, as for `sweep`,
        gives back the best setting so far, without a run.

    Raises:
        ValueError, TypeError: as `cross_validate`; before anything compiles, if the trial does not do without valid,
            or returns no Run although there is a test set.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     return lo.train(task, lo.sgd(**setting), train, valid=valid, batch_size=30, epochs=20, key=key)
        >>> rest, test = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> settings = lo.grid({"learning_rate": lo.space.log_uniform(1e-3, 100.0)}, points=6)
        >>> chosen = lo.select(trial, settings, rest, folds=5, test=test, minimize="valid_loss", key=0)
        >>> chosen.test_metrics["accuracy"] > 0.85
        True

    Source: the lecture, "Validation" and "Cross-Validation".
    """
    rest = as_subset(examples)
    tested = None if test is None else as_subset(test, "test", as_array)
    search = Search.of(
        trial,
        settings,
        as_folds(rest, folds, key),
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        halving=halving,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )
    last = Refit(search, len(search.shared.folds or ()))
    last.check(rest, needs_run=tested is not None)
    results = run_or_keep_partial(search)
    if not search.finished:
        return Selection(results.best(), results, None, None)
    run = last(warn_of_edges(results).best_index, rest)
    return Selection(results.best(), results, run, None if tested is None else run.evaluate(tested))


class Refit:
    """A search's trial on a training part as a whole, with nothing to validate on."""

    def __init__(self, search: Search, fold: int):
        """The key is that of a fold which the search does not have."""
        self._search = search
        self._key = jax.random.fold_in(jax.random.fold_in(as_key(search.shared.key), fold), 0)
        self._compiled: dict[int, Any] = {}  # by the first row of a group

    def check(self, train: Subset, needs_run: bool) -> None:
        """Raises, before anything compiles, unless the trial does without valid."""
        settings = self._search.settings
        function, numbers = self._function(group_of(settings, 0)), settings.numbers(0)
        try:
            returned = jax.eval_shape(function, numbers, train, self._key)
        except Exception as error:
            if self._search.halving is None:  # what goes wrong with valid too is told as it is
                lane = TrialLane(self._search.trial, group_of(settings, 0).static)
                Program(lane, numbers, None, self._search.shared, self._search.options.devices)
            raise ValueError(
                "trial must do without valid: the best setting is retrained on all examples by trial(setting, train, "
                f"None, key), which raised {type(error).__name__}: {error}"
            ) from error
        if needs_run and not isinstance(returned, Run):
            raise TypeError(f"trial must return a lectopt.Run to be tested; it returned {type(returned).__name__}")

    def __call__(self, row: int, train: Subset) -> Any:
        """What the trial returns for this setting."""
        settings = self._search.settings
        group = group_of(settings, row)
        first = int(group.rows[0])
        if first not in self._compiled:
            self._compiled[first] = jax.jit(self._function(group))
        numbers = settings.numbers(row)
        with one_program():
            made = self._compiled[first](numbers, train, self._key)
        # A task that the trial made holds the numbers that it was traced with: in their place, those of this setting.
        function = self._function(group)
        known = jax.eval_shape(lambda train, key: function(numbers, train, key), train, self._key)
        return jax.tree.unflatten(jax.tree.structure(known), jax.tree.leaves(made))

    def _function(self, group: Group) -> Callable[..., Any]:
        halving = self._search.halving
        extra = {} if halving is None else {"epochs": halving.epochs, "start": None}

        def retrain(numbers: dict[str, Any], train: Subset, key: jax.Array) -> Any:
            return self._search.trial.function({**group.static, **numbers}, train, None, key, **extra)

        return retrain
