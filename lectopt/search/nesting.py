"""Nested cross-validation: an honest error of a whole selection."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._internal.keys import as_key
from lectopt.data import Folds
from lectopt.data.as_folds import as_folds
from lectopt.data.folds import join
from lectopt.data.subsets import as_subset
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.results import Results
from lectopt.search.selection import Refit


@dataclasses.dataclass(frozen=True)
class NestedResults:
    """What `nested_cross_validate` found, for each outer fold."""

    settings: list[dict[str, Any]]
    """The setting that was chosen on each outer fold's training part."""
    test_metrics: dict[str, np.ndarray]
    """{"name": float[outer]}: what its retrained run scored on the outer fold's other part; {} if a person interrupted
    the search."""
    inner: Results
    """The scores of all settings: its first folds are the inner folds of outer fold 0, then come those of 1, ..."""

    def mean(self, metric: str = "loss") -> float:
        """The mean over outer folds: what the whole selection can be expected to reach."""
        return float(self._scores(metric).mean())

    def std(self, metric: str = "loss") -> float:
        """The standard deviation (ddof 1) over outer folds."""
        return float(self._scores(metric).std(ddof=1))

    def _scores(self, metric: str) -> np.ndarray:
        if metric not in self.test_metrics:
            raise ValueError(f"metric must be one of {', '.join(map(repr, self.test_metrics))}; got {metric!r}")
        return self.test_metrics[metric]

    def __repr__(self) -> str:
        if not self.test_metrics:
            return f"NestedResults(interrupted before the retraining on {len(self.settings)} outer folds)"
        scores = ", ".join(f"{name}={self.mean(name):.4g} ± {self.std(name):.2g}" for name in self.test_metrics)
        return f"NestedResults({scores} over {len(self.settings)} outer folds)"


def nested_cross_validate(
    trial: Callable[..., Any],
    settings: Any,
    examples: Any,
    *,
    outer: int | Folds = 5,
    inner: int | float = 5,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> NestedResults:
    """Estimates the error of choosing a setting by cross-validation and retraining it.

    The best mean of a cross-validation is too good, since it was chosen for being the best. Here each outer fold is
    kept out of the choice: on its training part a setting is chosen by inner folds and retrained, and the part that
    was kept out scores it. All inner folds of all outer folds run as one search.

    Args:
        trial: as for `select`; it returns a Run.
        settings: as for `sweep`.
        examples: a tuple of arrays [n, ...], or a Subset.
        outer: the number of outer folds, or Folds over these examples; stratified as for `select`.
        inner: the number of inner folds, or the share in (0, 1) of a single held-out part, stratified alike within each
            outer fold. They know of no groups.
        minimize: as for `sweep`.
        maximize: as for `sweep`.
        seeds: as for `sweep`.
        key: as for `sweep`, and for the folds.
        chunk: as for `sweep`.
        memory: as for `sweep`.
        directory: as for `sweep`.
        progress: as for `sweep`.

    Returns:
        NestedResults.

    Raises:
        ValueError, TypeError: as `select`.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     return lo.train(task, lo.sgd(**setting), train, valid=valid, batch_size=30, epochs=20, key=key)
        >>> settings = lo.grid({"learning_rate": lo.space.log_uniform(1e-3, 100.0)}, points=6)
        >>> honest = lo.nested_cross_validate(trial, settings, lo.datasets.iris(), outer=3, inner=3,
        ...                                   minimize="valid_loss", key=0)
        >>> len(honest.settings), honest.mean("accuracy") > 0.85
        (3, True)

    Source: Varma and Simon (2006), "Bias in error estimation when using cross-validation for model selection".
    """
    whole, key = as_subset(examples), as_key(key)
    outside = as_folds(whole, outer, jax.random.fold_in(key, 0), "outer")
    pairs = list(outside)
    inside = [
        list(as_folds(train, inner, jax.random.fold_in(key, 1 + i), "inner")) for i, (train, _) in enumerate(pairs)
    ]
    search = Search.of(
        trial,
        settings,
        join([pair for folds in inside for pair in folds]),
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        halving=None,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )
    last = Refit(search, search.shape[1])
    last.check(outside.at(0)[0], needs_run=True)
    results = run_or_keep_partial(search)
    chosen = [best_of(results, i * len(inside[0]), (i + 1) * len(inside[0])) for i in range(len(pairs))]
    settings = [results.settings.row(row) for row in chosen]
    if not search.finished:
        return NestedResults(settings, {}, results)
    scores = [
        last(row, outside.at(i)[0]).evaluate(valid)
        for i, (row, (_, valid)) in enumerate(zip(chosen, pairs, strict=True))
    ]
    return NestedResults(
        settings=settings,
        test_metrics={name: np.array([score[name] for score in scores]) for name in scores[0]},
        inner=results,
    )


def best_of(results: Results, first: int, last: int) -> int:
    """The best row by some of the folds alone."""
    part = dataclasses.replace(
        results,
        metrics={name: values[:, first:last] for name, values in results.metrics.items()},
        diverged_at=results.diverged_at[:, first:last],
    )
    return part.best_index
