"""Optuna's samplers, pruners and storage on lectopt's engine: trials are asked for in batches, run as one, and told."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt._internal.progress import ProgressBar, interactive
from lectopt.data.folds import Folds, check_folds
from lectopt.search.halving import Halving
from lectopt.search.hyperparameter_search import Search
from lectopt.search.results import Results
from lectopt.search.settings import groups

try:
    import optuna
    from optuna.trial import TrialState

    from lectopt.search.optuna_ranges import optuna_distribution, searched_range, stored
    from lectopt.search.optuna_reports import Report, collected
    from lectopt.search.optuna_spaces import SuggestedSpace, stands_for
    from lectopt.search.optuna_trials import AskedTrial, asked_trials, finished, revive
    from lectopt.search.space import as_distribution
except ImportError as error:
    raise ImportError("lectopt.search.optuna needs Optuna: pip install 'lectopt[search]'") from error


@dataclasses.dataclass(frozen=True, repr=False)
class StudyResults(Results):
    """The `Results` of an Optuna study, which `optimize` returns.

    Everything that `lo.Results` has works on it: tables, plots, `runs`, `out_of_fold`. Trials that the study's pruner
    ended rank behind those that were trained to the end, and diverged ones last.

    Attributes:
        settings: the different settings of all trials, `{"name": array[n] or list of n}`.
        metrics: `{"name": float32[n, folds, seeds]}`; NaN where a lane diverged or the metric is not finite.
        diverged_at: int32[n, folds, seeds]: the first step whose loss was not finite, or -1.
        metric: name of the metric that settings are ranked by: with several directions, the first.
        maximizes: whether higher values of it are better.
        rungs: int32[n]: how many rungs of the `lo.Halving` each setting completed; without one, 1.
        compile_seconds: seconds that XLA took to compile in this call.
        run_seconds: seconds spent on training in this call.
        trace_seconds: seconds spent on tracing and lowering in this call.
        valid_per_train: how many examples were validated on for each one that was trained on; 0 without folds.
        study: the `optuna.Study`; None for results from a file.
        rows: `{number: row}`: the row of `settings` that a trial of the study has, by the trial's number.

    Example:
        >>> import lectopt as lo, optuna
        >>> from lectopt.search.optuna import optimize
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(0))
        >>> results = optimize(study, lambda s, key: {"a": s["x"] ** 2, "b": (s["x"] - 1) ** 2},
        ...                    {"x": lo.space.uniform(-1.0, 2.0)}, metric=["a", "b"], n_trials=9, key=0)
        >>> [round(results.settings.row(i)["x"], 1) for i in results.front()]
        [0.6, 0.8, 0.6, 0.3, 0.9, 0.3]

    Source: Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization
    framework", KDD.
    """

    study: Any = None
    rows: dict[int, int] = dataclasses.field(default_factory=dict)

    def front(self) -> list[int]:
        """Returns the settings that no other one surpasses: with several directions, the Pareto front.

        Returns:
            Row numbers of `settings`, one for each of the study's `best_trials`, which satisfy its constraints.

        Raises:
            ValueError: if the results were read from a file.
        """
        if self.study is None:
            raise ValueError("results from a file have no study")
        return list(dict.fromkeys(self.rows[one.number] for one in self.study.best_trials if one.number in self.rows))


def optimize(
    study: optuna.Study,
    trial: Callable[..., Any],
    space: Mapping[str, Any] | Callable[[optuna.Trial], dict[str, Any]],
    folds: Folds | None = None,
    *,
    metric: str | Sequence[str],
    n_trials: int,
    batch_size: int = 32,
    seeds: int = 1,
    key: Any,
    halving: Halving | None = None,
    static: Collection[str] = (),
    constraints: Collection[str] = (),
    memory: int | None = None,
    progress: bool = True,
) -> StudyResults:
    """Runs an Optuna study whose settings are trained in batches, each batch as one compiled program.

    The study's sampler proposes `batch_size` settings at a time, and they are trained as by `lo.cross_validate` (with
    folds) or `lo.sweep` (without). Results are reported to the study: `study.best_params`, Optuna's plots and its
    dashboard work as usual. Batches of any size share one program for each combination of static values (and for each
    rung of a halving).

    A study in a persistent storage (SQLite, a journal) that was interrupted continues when `optimize` is called again;
    trials that were running at that moment are run again: those of a process of this machine that no longer exists, or,
    if the storage has heartbeats, whatever Optuna finds stale and its callback retries. Several processes may call
    `optimize` on one study at the same time; together they finish exactly `n_trials`. Each returns when nothing is left
    to begin, and the others may still be running.

    If the user's function raises an exception, the trials of its batch are recorded as failed and do not count. Optuna
    stores numbers, strings, flags and None. Other choices (tuples, functions) are stored as text; the trial receives
    the value itself, and `setting_of` converts the text back.

    Args:
        study: an `optuna.Study` with one or several directions, and any sampler, pruner and storage. It is updated in
            place.
        trial: a pure JAX function `trial(setting, train, valid, key)`, or `trial(setting, key)` without folds, that
            returns a `Run` or a dictionary of scalars `{"metric": value}`. `setting` is a dictionary `{"name": value}`:
            numbers are traced arrays of shape (), everything else is a Python value. `train` and `valid` are the two
            `Subset`s of a fold. `key` is a typed `jax.random.key`.
        space: `{"name": distribution}`, at least one, each made by `lo.space` or one of Optuna's. SciPy's
            distributions are not supported here, nor `lo.space.when`. Or, as Optuna's users define a space, a function
            of an `optuna.trial.Trial` that suggests values and returns the setting: a dictionary `{"name": value}`,
            which holds what applies to this trial and is what `trial` is given. Settings with different names compile
            apart. The function may set constraints of Optuna's, and raise `optuna.TrialPruned` for settings that are
            not to be run; it is called once more for each trial in the end, to read the setting from the study.
        folds: the `Folds` for cross-validation; None trains without folds.
        metric: name of the metric whose mean over folds and seeds is reported to the study; for several directions, a
            list of names, one for each. Trials without a finite mean, because a training diverged or the metric is
            undefined on a fold, are reported as pruned: TPE then ranks them below all others, whereas it would ignore
            failed ones, and propose more of them.
        n_trials: number of finished trials (complete or pruned) that the study is to hold in the end, earlier ones
            included. It may be fewer if a `GridSampler` is exhausted.
        batch_size: number of trials proposed and trained at once, at least 1; 32 by default. The sampler learns only
            between batches: smaller ones choose better, larger ones run faster.
        seeds: number of trainings of each setting on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all trainings are derived; they depend on fold and
            seed alone and are the same in all batches, so that settings can be compared in pairs.
        halving: a `lo.Halving`, at the end of whose rungs the metric is reported to the study, with the number of
            epochs as the step, and the study's pruner is asked who continues, in place of the best 1/q. The trial is
            then called with two more keyword arguments, `epochs` and `start`. None trains every setting to the end.
        static: names of hyperparameters whose numbers stay Python values, where `space` is a function; by default none.
        constraints: names of metrics whose means must be at most 0 for a trial to be feasible, reported to the study by
            `set_constraint`, which Optuna's samplers take into account; by default none.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        progress: whether to show a progress bar on standard error; True by default.

    Returns:
        The `StudyResults` of all trials in the study that `optimize` has run, in this call, earlier or in other
        processes, with as many folds and seeds. In an interactive session (a notebook, IPython or the Python prompt),
        Ctrl-C ends the call with a warning and returns the results so far.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, the trial does not return the
            metrics, or a single training needs more than `memory`; at the end, if no trial of the study was run by
            `optimize`.
        TypeError: if `study` is not an `optuna.Study`, another argument has the wrong type, or the trial returns
            neither a `Run` nor a dictionary of scalars.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions, or before a trial is finished.

    Example:
        >>> import lectopt as lo, optuna
        >>> from lectopt.search.optuna import optimize
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        >>> def space(trial):
        ...     kind = trial.suggest_categorical("kind", ["flat", "bowl"])
        ...     return {"kind": kind} | ({"x": trial.suggest_float("x", 0, 1)} if kind == "bowl" else {})
        >>> def loss(setting, key):
        ...     return {"loss": (setting["x"] - 0.3) ** 2 if setting["kind"] == "bowl" else 0.5}
        >>> results = optimize(study, loss, space, metric="loss", n_trials=48, batch_size=8, key=0)
        >>> abs(study.best_params["x"] - 0.3) < 0.05, results.best()["kind"]
        (True, 'bowl')

    Source: Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization
    framework", KDD; Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for hyper-parameter optimization", NeurIPS
    (TPE).
    """
    if not isinstance(study, optuna.Study):
        raise TypeError(f"study must be an optuna.Study; got {type(study).__name__}")
    suggested = SuggestedSpace.of(space, static)
    n_trials, batch_size = checks.check_count("n_trials", n_trials), checks.check_count("batch_size", batch_size)
    checks.check_flag("progress", progress)
    metrics, limited = _metrics(study, metric, halving), _names("constraints", constraints)
    if folds is not None:
        check_folds(folds)
    maximizes = study.directions[0] is optuna.study.StudyDirection.MAXIMIZE
    search = Search.of(
        trial,
        {"": [0.0]},  # for a batch's settings, which are not known yet
        folds,
        **{"maximize" if maximizes else "minimize": metrics[0]},
        seeds=seeds,
        key=key,
        halving=halving,
        memory=memory,
        progress=False,
    )
    search = dataclasses.replace(search, also=(*metrics[1:], *limited))
    report = Report(study, metrics, limited, None if halving is None else halving.epochs)
    run_seconds, stopped = 0.0, False
    with ProgressBar("trials", n_trials, show=progress) as bar, _ended_by_hand(study, n_trials):
        while not stopped:
            revive(study)
            bar.update(finished(study), _best_so_far(study))
            with asked_trials(study, n_trials, batch_size, suggested.setting) as asked:
                if asked is None:
                    break
                if asked:
                    search = _padded(search, batch_size, suggested, asked)
                    seconds, stopped = _run(search, suggested, report, asked)
                    run_seconds += seconds
    results, rows = collected(study, suggested, search, run_seconds)
    fields = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    return StudyResults(**fields, study=study, rows=rows)


def setting_of(
    params: Mapping[str, Any], space: Mapping[str, Any] | Callable[[optuna.Trial], dict[str, Any]]
) -> dict[str, Any]:
    """Returns the values that the params of an Optuna trial stand for.

    Args:
        params: the params of an Optuna trial, such as `study.best_params`.
        space: the space that `optimize` was given, `{"name": distribution}` or a function of a trial of Optuna's.

    Returns:
        The setting, `{"name": value}`, with tuples, functions and the like in place of their text.

    Raises:
        ValueError: if `params` holds a name or a choice that the space does not have.

    Example:
        >>> import lectopt as lo
        >>> from lectopt.search.optuna import setting_of
        >>> setting_of({"widths": "(32, 16)"}, {"widths": lo.space.choice([(32,), (32, 16)])})
        {'widths': (32, 16)}

    Source: Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization
    framework", KDD.
    """
    if callable(space):
        return SuggestedSpace.of(space).setting(optuna.trial.FixedTrial(dict(params)))
    for name in params:
        if name not in space:
            raise ValueError(f"params must have the names of space, {', '.join(space)}; got {name!r}")
    return {name: stands_for(name, as_distribution(name, space[name]), param) for name, param in params.items()}


def to_study(results: Results) -> optuna.Study:
    """Converts the results of a search to an Optuna study in memory.

    Optuna's own plots and importances then work on them, such as `optuna.visualization.plot_contour(study)` and
    `optuna.importance.get_param_importances(study)`.

    Args:
        results: the `Results` of `lo.sweep`, `lo.cross_validate`, or of a `Selection`.

    Returns:
        A study with one trial for each setting that was run, whose value is the mean over folds and seeds of the metric
        that settings are ranked by; trials without a finite mean are pruned. The means of all metrics are in
        `user_attrs["means"]`. Tuples, functions and the like are stored as text, a hyperparameter that does not apply
        to a setting is left out, and numbers have the range that was searched.

    Raises:
        TypeError: if `results` is no `Results`.

    Example:
        >>> import lectopt as lo, optuna
        >>> from lectopt.search.optuna import to_study
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> results = lo.sweep(lambda setting, key: {"loss": (setting["x"] - 1) ** 2}, {"x": [0, 1, 3]},
        ...                    minimize="loss", key=0)
        >>> study = to_study(results)
        >>> study.best_params, study.best_value, len(study.trials)
        ({'x': 1}, 0.0, 3)

    Source: Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization
    framework", KDD.
    """
    if not isinstance(results, Results):
        raise TypeError(f"results must be a lectopt.Results; got {type(results).__name__}")
    study = optuna.create_study(direction="maximize" if results.maximizes else "minimize")
    shown = results.settings.shown()
    searched = {name: searched_range(results.settings, name, shown[name]) for name in shown}
    means = {name: results.mean(name) for name in results.metrics}
    for i in map(int, np.flatnonzero(results.rungs)):
        row = {name: column[i] for name, column in shown.items() if not results.settings.lacks(name, i)}
        value = float(means[results.metric][i])
        state: dict[str, Any] = {"state": TrialState.PRUNED} if np.isnan(value) else {"value": value}
        found = optuna.trial.create_trial(
            params={name: stored(searched[name], value) for name, value in row.items()},
            distributions={name: optuna_distribution(name, searched[name]) for name in row},
            user_attrs={"means": {name: float(values[i]) for name, values in means.items()}},
            **state,
        )
        study.add_trial(found)
    return study


def _metrics(study: optuna.Study, metric: Any, halving: Any) -> tuple[str, ...]:
    """Returns the metrics, one for each direction of the study."""
    count = len(study.directions)
    if count == 1 and isinstance(metric, str):
        return (metric,)
    if halving is not None and count > 1:
        raise ValueError(
            f"halving must be None for a study with {count} directions, which Optuna does not prune; got {halving}"
        )
    found = _names("metric", metric)
    if len(found) != count:
        raise ValueError(f"metric must be {count} different names, one for each direction of the study; got {metric!r}")
    return found


def _names(argument: str, names: Any) -> tuple[str, ...]:
    """Returns names of metrics, each once."""
    listed = isinstance(names, Collection) and not isinstance(names, (bytes, Mapping))
    if not listed or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument} must be names of metrics; got {names!r}")
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))


def _padded(search: Search, batch_size: int, space: SuggestedSpace, asked: Sequence[AskedTrial]) -> Search:
    """Returns the search with rectangles of a fixed number of settings: one program for each group, in all batches."""
    if search.options.padded:
        return search
    count = math.prod(entry.count or 1 for name, entry in space.entries.items() if name in space.static)
    if not space.entries:
        count = len(groups(space.settings([one.setting for one in asked])[0]))
    options = search.options._replace(chunk=math.ceil(batch_size / min(batch_size, count)), padded=True)
    return dataclasses.replace(search, options=options)


def _run(search: Search, space: SuggestedSpace, report: Report, asked: Sequence[AskedTrial]) -> tuple[float, bool]:
    """Runs a batch and tells the study; returns the seconds of training, and whether the sampler has no more."""
    settings, places = space.settings([one.setting for one in asked])
    trials: list[list[optuna.Trial]] = [[] for _ in range(settings.count)]
    for one, place in zip(asked, places, strict=True):
        trials[place].append(one.trial)
    results = dataclasses.replace(
        search.of_other(settings), going_on=report.pruner(trials), spent_before=search.spent
    ).run()
    stops = [report.tell(one.trial, results, place) for one, place in zip(asked, places, strict=True)]
    return results.run_seconds, any(stops)


@contextlib.contextmanager
def _ended_by_hand(study: optuna.Study, n_trials: int) -> Iterator[None]:
    """Ends the batches within without an error on Ctrl-C, in interactive sessions, and warns."""
    try:
        yield
    except KeyboardInterrupt:
        if not interactive() or not finished(study):
            raise
        warnings.warn(
            f"interrupted: {finished(study)} of {n_trials} trials are finished and in the study. To continue, "
            "call optimize again",
            stacklevel=3,
        )


def _best_so_far(study: optuna.Study) -> str:
    with contextlib.suppress(ValueError, RuntimeError):  # there is none yet that is feasible, or one for each direction
        return f"best {study.best_value:.4g}"
    return ""
