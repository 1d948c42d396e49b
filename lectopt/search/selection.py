"""The lecture's whole recipe: validate each setting, retrain the best on all but the test set, test that."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lectopt._internal.arrays import as_array
from lectopt._internal.progress import ProgressBar
from lectopt.data.as_folds import as_folds
from lectopt.data.folds import Folds
from lectopt.data.subsets import Subset, as_subset
from lectopt.engine.program_cache import compile_threads
from lectopt.search.halving import Halving
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.refit_rules import RefitRule, best_epochs
from lectopt.search.refitting import Refit
from lectopt.search.result_parts import part_of
from lectopt.search.result_warnings import warn_of_edges
from lectopt.search.results import Results


@dataclasses.dataclass(frozen=True)
class Selection:
    """The outcome of `lo.select`.

    Attributes:
        setting: the setting that was chosen, `{"name": value}`.
        results: the `Results` of the cross-validation, with the scores of all settings.
        run: the `Run` (or whatever else the trial returns) of that setting, retrained on all of `examples`; None if the
            search was ended by Ctrl-C.
        test_metrics: `{"loss": float, "<metric>": float}`: the loss and metrics of `run` on the test set, by which
            nothing was chosen; None without a test set.
        epochs: how many epochs the retraining was told to take; None without `epochs="best"`.
    """

    setting: dict[str, Any]
    results: Results
    run: Any
    test_metrics: dict[str, float] | None
    epochs: int | None = None

    def __repr__(self) -> str:
        tested = "" if self.test_metrics is None else f", test_metrics={self.test_metrics}"
        return f"Selection(setting={self.setting}{tested})"


def select(
    trial: Callable[..., Any],
    settings: Any,
    examples: Any,
    *,
    folds: int | float | Folds | Any = 5,
    test: Any = None,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    halving: Halving | None = None,
    rule: str = "best",
    complexity: str | Callable[[dict[str, Any]], Any] | None = None,
    epochs: str | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Selection:
    """Chooses a setting by cross-validation, retrains it on all examples, and scores it on the test set.

    This is the procedure of the lecture: one cross-validation for each setting; take the setting with the best mean;
    retrain with it on all data but the test set; estimate the generalization error on the test set. The
    cross-validation runs as in `lo.cross_validate`, as one compiled program whose *lanes* are the trainings: one for
    each setting, fold and seed. The retraining uses a key that no fold has.

    Args:
        trial: a pure JAX function `trial(setting, train, valid, key)` that returns a `Run` or, if there is no test set,
            a dictionary of scalars `{"metric": value}`. `setting` is a dictionary `{"name": value}`: numbers are traced
            arrays of shape (), everything else is a Python value. `key` is a typed `jax.random.key`. `train` and
            `valid` are the two `Subset`s of a fold, to be handed to `lo.train`; for the retraining, `train` is all of
            `examples` and `valid` is None.
        settings: the n settings to compare: a dictionary `{"name": array[n] or list of n}`, as `lo.grid` and
            `lo.sample` return it; a list of n dictionaries `{"name": value}`; or a pandas DataFrame with one row per
            setting. All settings must differ. Numbers are passed to the trial as traced arrays and share one compiled
            program; strings, flags and columns of type `lo.space.Static` stay Python values, and each combination of
            them is compiled separately.
        examples: all examples but the test set: a tuple of arrays [n, ...], inputs first and targets last, or a
            `Subset`.
        folds: the number of folds, at least 2, by default 5; or a share in (0, 1) to hold out as a single validation
            part; or `Folds` over these examples, such as `lo.k_fold` makes with groups; or a function of the examples,
            a Subset, that returns `Folds`; or one of scikit-learn's splitters. Folds that are made here of a number are
            stratified if the targets look like labels, that is, if they are whole numbers of shape [n] of which each
            value occurs at least once per fold (twice, for a single part). Otherwise they are drawn at random.
        test: examples to score the retrained setting on, a tuple of arrays or a `Subset`; None skips this.
        minimize: name of the metric to choose by if lower is better, such as "valid_loss". Exactly one of `minimize`
            and `maximize` must be given.
        maximize: name of the metric to choose by if higher is better, such as "valid_accuracy"; None if `minimize` is
            given.
        seeds: number of trainings of each setting on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the folds and the keys of all lanes are derived.
        halving: a `lo.Halving`, which stops the worse settings early; the trial is then called with two more keyword
            arguments, `epochs` and `start`. The retraining takes all its epochs. None trains every setting to the end.
        rule: "best" (the default) takes the setting with the best mean; "one_standard_error" the simplest one whose
            mean is within one standard error of it, by `Results.one_standard_error`.
        complexity: which settings are simpler, for `rule="one_standard_error"`: the name of a hyperparameter that is a
            number, lower for simpler settings, such as "width"; or a function of a setting that returns something to
            sort by, lower for simpler ones, such as `lambda setting: -setting["coefficient"]`. None under "best".
        epochs: "best" retrains for as many epochs as were best on the folds: the median of `Run.best_epoch` over the
            runs of the chosen setting, rounded. These are trained once more, as `Results.runs` does; the trial is then
            called as `trial(setting, train, None, key, epochs=n)`, with a Python int to be passed on to `lo.train`,
            while for the folds it takes its default. It gives `patience` where `valid` is not None. None leaves the
            retraining to the trial.
        chunk: number of settings that are trained at once. None starts with about 40 lanes per device and then chooses
            the fastest number by timing, as far as memory allows.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished lanes, not the retraining; it is created if necessary. A
            search that was interrupted in any way continues from there when it is called again with the same arguments,
            and ends as an uninterrupted one would; with more settings or seeds, only what is new runs. None keeps
            nothing on disk.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        A `Selection` with the fields `setting`, `results`, `run`, `test_metrics` and `epochs`. In an interactive
        session (a notebook, IPython or the Python prompt), Ctrl-C during the cross-validation returns the best setting
        so far, with a warning; `run` and `test_metrics` are then None.

    Warns:
        UserWarning: if labels are too rare to stratify by; if the best value of a hyperparameter lies at an end of the
            range that was searched, and is better than the values inside by more than the noise of folds and seeds
            explains.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, or if the trial does not
            return the metric; if `directory` holds another search; if even a single lane needs more than `memory`; if
            the trial fails with `valid=None` or does not pass `epochs` on; if no setting has a finite score.
        TypeError: if an argument has the wrong type, the trial does not take the arguments named above, or it returns
            neither a `Run` nor a dictionary of scalars, or no `Run` although there is a test set. Other exceptions
            raised by the trial are passed on; a note says so where a traced number would have to be static.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions; its attribute `results` holds the results so far, if
            there are any. Outcomes in `directory` are kept.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     optimizer = lo.sgd(setting["learning_rate"])
        ...     return lo.train(task, optimizer, train, valid=valid, batch_size=30, epochs=5, key=key)
        >>> rest, test = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> settings = {"learning_rate": [0.01, 1.0, 100.0]}
        >>> chosen = lo.select(trial, settings, rest, folds=3, test=test, minimize="valid_loss", key=0)
        >>> chosen.setting, chosen.test_metrics["accuracy"] > 0.85
        ({'learning_rate': 1.0}, True)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Validation" and "Cross-validation" (example
    application); Goodfellow, Bengio and Courville (2016), "Deep Learning", section 5.3.
    """
    retrain = RefitRule(rule, complexity, epochs).checked(trial)
    if epochs is not None and halving is not None:
        raise ValueError('epochs="best" is for searches without halving, which says how many epochs there are')
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
    retrain.check_search(search.settings, len(search.pairs.fold))
    fold = len(search.shared.folds or ())
    refit = Refit(search, fold, retrain.told)
    refit.check(rest, needs_run=tested is not None)
    with compile_threads() as threads:
        refit.begin_early(rest, threads)
        results = run_or_keep_partial(search)
    if not search.finished:
        return Selection(results.best(), results, None, None)
    warn_of_edges(results)
    row = retrain.row(results)
    count = None if epochs is None else best_epochs(results.runs(row))
    (run,) = _retrained(refit if count is None else Refit(search, fold, count), [row], rest)
    return Selection(results.settings.row(row), results, run, None if tested is None else run.evaluate(tested), count)


def retrained(
    refit: Refit, results: Results, parts: Sequence[np.ndarray], rest: Subset, test: Subset | None
) -> list[Selection]:
    """Returns the best setting among each of some rows, retrained on the rest and tested; they compile together."""
    found = [part_of(results, rows) for rows in parts]
    best = [int(rows[part.best_index]) for rows, part in zip(parts, found, strict=True)]
    runs = _retrained(refit, best, rest)
    return [
        Selection(part.best(), part, run, None if test is None else run.evaluate(test))
        for part, run in zip(found, runs, strict=True)
    ]


def _retrained(refit: Refit, best: Sequence[int], rest: Subset) -> list[Any]:
    """Returns what the trial returns for these settings on the rest."""
    runs: list[Any] = []
    with (
        compile_threads() as threads,
        ProgressBar("retrainings", len(best), show=refit.search.options.progress) as bar,
    ):
        for row in best:
            refit.begin(row, rest, threads)
        for row in best:
            runs.append(refit(row, rest))
            bar.update(len(runs))
    return runs
