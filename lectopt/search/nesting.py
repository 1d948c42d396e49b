"""Nested cross-validation: an honest error of a whole selection."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._internal.keys import as_key
from lectopt.data.as_folds import as_folds
from lectopt.data.folds import Folds, join
from lectopt.data.subsets import as_subset
from lectopt.engine.program_cache import compile_threads
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.refit_rules import RefitRule, best_epochs
from lectopt.search.refitting import Refit
from lectopt.search.result_parts import part_of, runs_on
from lectopt.search.results import Results


@dataclasses.dataclass(frozen=True)
class NestedResults:
    """The outcome of `lo.nested_cross_validate`.

    Attributes:
        settings: the setting that was chosen on the training part of each outer fold, `[{"name": value}]`.
        test_metrics: `{"loss": float[outer], "<metric>": float[outer]}`: the scores of the retrained settings on the
            other parts of the outer folds; {} if the search was ended by Ctrl-C.
        inner: the `Results` of all settings on all inner folds: first those of outer fold 0, then those of outer fold
            1, and so on.
        epochs: how many epochs the retraining on each outer fold was told to take; None without `epochs="best"`.
    """

    settings: list[dict[str, Any]]
    test_metrics: dict[str, np.ndarray]
    inner: Results
    epochs: list[int] | None = None

    def mean(self, metric: str = "loss") -> float:
        """Returns the mean of a test metric over the outer folds.

        It estimates what the whole procedure, selection and retraining, reaches on new data.

        Args:
            metric: name of a test metric, "loss" by default.

        Returns:
            The mean as a float.
        """
        return float(self._scores(metric).mean())

    def std(self, metric: str = "loss") -> float:
        """Returns the standard deviation of a test metric over the outer folds, with `ddof=1`.

        Args:
            metric: name of a test metric, "loss" by default.

        Returns:
            The standard deviation as a float.
        """
        return float(self._scores(metric).std(ddof=1))

    def _scores(self, metric: str) -> np.ndarray:
        if not isinstance(metric, str) or metric not in self.test_metrics:
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
    outer: int | Folds | Any = 5,
    inner: int | float | Any = 5,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    rule: str = "best",
    complexity: str | Callable[[dict[str, Any]], Any] | None = None,
    epochs: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> NestedResults:
    r"""Estimates the error of choosing a setting by cross-validation and retraining it.

    The best mean of a cross-validation is optimistic, since it is the best of many. Here each of M outer folds is kept
    out of the choice: with :math:`\hat h_i` the setting that cross-validation on the training part :math:`T_i` chooses,
    and :math:`w(h, T)` the weights trained with setting h on T, the estimate is the mean loss on the other parts
    :math:`V_i`,

    .. math:: \hat E = \frac{1}{M} \sum_{i=1}^{M} E\left(w(\hat h_i, T_i);\ V_i\right)

    All inner folds of all outer folds run as one search, whose trainings are its *lanes*: one for each setting, inner
    fold of an outer fold, and seed.

    Args:
        trial: a pure JAX function `trial(setting, train, valid, key)` that returns a `Run`. `setting` is a dictionary
            `{"name": value}`: numbers are traced arrays of shape (), everything else is a Python value. `key` is a
            typed `jax.random.key`. `train` and `valid` are the two `Subset`s of an inner fold, to be handed to
            `lo.train`; for the retraining, `train` is the training part of an outer fold and `valid` is None.
        settings: the n settings to compare: a dictionary `{"name": array[n] or list of n}`, as `lo.grid` and
            `lo.sample` return it; a list of n dictionaries `{"name": value}`; or a pandas DataFrame with one row per
            setting. All settings must differ. Numbers are passed to the trial as traced arrays and share one compiled
            program; strings, flags and columns of type `lo.space.Static` stay Python values, and each combination of
            them is compiled separately.
        examples: all examples, a tuple of arrays [n, ...], inputs first and targets last, or a `Subset`.
        outer: the number of outer folds, at least 2 and by default 5, or `Folds` over these examples, or a function of
            the examples that returns `Folds`, or one of scikit-learn's splitters. Folds that are made here of a number
            are stratified if the targets look like labels, that is, if they are whole numbers of shape [n] of
            which each value occurs at least once per fold.
        inner: the number of inner folds within each outer training part, at least 2 and by default 5; or a share in (0,
            1) to hold out as a single validation part. They are stratified by the same rule (each label at least twice,
            for a single part), and do not keep groups together. For groups and time, a function of the part (a
            `Subset`) that returns `Folds` within it, such as `lambda part: lo.time_series_split(part, 3)` or `lambda
            part: lo.k_fold(part, 3, key=0, groups=groups[part.indices])`; or one of scikit-learn's splitters.
        minimize: name of the metric to choose by if lower is better, such as "valid_loss". Exactly one of `minimize`
            and `maximize` must be given.
        maximize: name of the metric to choose by if higher is better, such as "valid_accuracy"; None if `minimize` is
            given.
        seeds: number of trainings of each setting on each inner fold, at least 1 (the default), each from a key of its
            own.
        key: an int or a `jax.random.key`, from which the folds and the keys of all lanes are derived.
        rule: "best" (the default) takes the setting with the best mean over the inner folds; "one_standard_error" the
            simplest one whose mean is within one standard error of it, by `Results.one_standard_error`.
        complexity: which settings are simpler, for `rule="one_standard_error"`: the name of a hyperparameter that is a
            number, lower for simpler settings; or a function of a setting that returns something to sort by. None under
            "best".
        epochs: "best" retrains on each outer fold for as many epochs as were best on its inner folds: the median of
            `Run.best_epoch` over the runs of the chosen setting, which are trained once more. The trial is then called
            as `trial(setting, train, None, key, epochs=n)`, with a Python int to be passed on to `lo.train`, and each
            number is a program of its own. None leaves the retraining to the trial.
        chunk: number of settings that are trained at once. None starts with about 40 lanes per device and then chooses
            the fastest number by timing, as far as memory allows.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished lanes, not the retrainings; it is created if necessary. A
            search that was interrupted in any way continues from there when it is called again with the same arguments,
            and ends as an uninterrupted one would. None keeps nothing on disk.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        A `NestedResults` with the fields `settings`, `test_metrics`, `inner` and `epochs`. In an interactive session (a
        notebook, IPython or the Python prompt), Ctrl-C during the search returns the best settings so far, with a
        warning and without test metrics.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, or if the trial does not
            return the metric; if `directory` holds another search; if even a single lane needs more than `memory`; if
            the trial fails with `valid=None` or does not pass `epochs` on; if no setting has a finite score on the
            inner folds of an outer fold.
        TypeError: if an argument has the wrong type, the trial does not take the arguments named above, or it returns
            no `Run`. Other exceptions raised by the trial are passed on; a note says so where a traced number would
            have to be static.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. Outcomes in `directory` are kept.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     optimizer = lo.sgd(setting["learning_rate"])
        ...     return lo.train(task, optimizer, train, valid=valid, batch_size=30, epochs=5, key=key)
        >>> settings = {"learning_rate": [0.01, 1.0, 100.0]}
        >>> nested = lo.nested_cross_validate(
        ...     trial, settings, lo.datasets.iris(), outer=3, inner=2, minimize="valid_loss", key=0
        ... )  # doctest: +SKIP
        >>> len(nested.settings), nested.mean("accuracy") > 0.85  # doctest: +SKIP
        (3, True)

    Source: Varma and Simon (2006), "Bias in error estimation when using cross-validation for model selection", BMC
    Bioinformatics 7:91; for cross-validation itself R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5,
    "Cross-validation".
    """
    retrain = RefitRule(rule, complexity, epochs).checked(trial)
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
    retrain.check_search(search.settings, min(map(len, inside)) * search.shape[2])
    refit = Refit(search, search.shape[1], retrain.told, len(pairs))
    refit.check(outside.at(0)[0], needs_run=True)
    with compile_threads() as threads:
        refit.begin_early(outside.at(0)[0], threads)
        results = run_or_keep_partial(search)
    every, ends = np.arange(len(results)), np.cumsum([0, *map(len, inside)])
    parts = [slice(*ends[i : i + 2]) for i in range(len(pairs))]
    chosen = [retrain.row(part_of(results, every, part)) for part in parts]
    settings = [results.settings.row(row) for row in chosen]
    if not search.finished:
        return NestedResults(settings, {}, results)
    counts = None
    if epochs is not None:
        counts = [best_epochs(runs_on(results, row, part)) for row, part in zip(chosen, parts, strict=True)]
    refits = {count: Refit(search, search.shape[1], count) for count in counts or ()}
    scores = [
        (refits[counts[i]] if counts else refit)(row, outside.at(i)[0]).evaluate(valid)
        for i, (row, (_, valid)) in enumerate(zip(chosen, pairs, strict=True))
    ]
    metrics = {name: np.array([score[name] for score in scores]) for name in scores[0]}
    return NestedResults(settings, metrics, results, counts)
