"""Optuna's samplers and storage on lectopt's engine: a batch of trials is asked for, run as one program, and told."""

import contextlib
import dataclasses
import math
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt._internal.progress import ProgressBar, interactive
from lectopt.data.folds import Folds
from lectopt.search.hyperparameter_search import Search
from lectopt.search.results import Results
from lectopt.search.setting_columns import canonical
from lectopt.search.settings import Settings
from lectopt.search.space import Choice, Static, as_distribution

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState

    from lectopt.search.optuna_ranges import labels, lacks, optuna_distribution, searched_range, stored
except ImportError as error:
    raise ImportError("lectopt.search.optuna needs Optuna: pip install 'lectopt[search]'") from error

_RUNNER = "lectopt runner"
_UNRUN = "lectopt not run"


def optimize(
    study: optuna.Study,
    trial: Callable[..., Any],
    space: Mapping[str, Any],
    folds: Folds | None = None,
    *,
    metric: str,
    n_trials: int,
    batch_size: int = 32,
    seeds: int = 1,
    key: Any,
    memory: int | None = None,
    progress: bool = True,
) -> None:
    """Runs an Optuna study whose settings are trained in batches, each batch as one compiled program.

    The study's sampler proposes `batch_size` settings at a time, and they are trained as by `lo.cross_validate` (with
    folds) or `lo.sweep` (without). Results are reported to the study: `study.best_params`, Optuna's plots and its
    dashboard work as usual. A study in a persistent storage (SQLite, a journal) that was interrupted continues when
    `optimize` is called again; trials that were running at that moment are run again.

    If the user's function raises an exception, the trials of its batch are recorded as failed and do not count. Optuna
    stores numbers, strings, flags and None. Other choices (tuples, functions) are stored as text; the trial receives
    the value itself, and `setting_of` converts the text back.

    Args:
        study: an `optuna.Study` with a single direction, and any sampler and storage. It is updated in place.
        trial: a pure JAX function `trial(setting, train, valid, key)`, or `trial(setting, key)` without folds, that
            returns a `Run` or a dictionary of scalars `{"metric": value}`. `setting` is a dictionary `{"name": value}`:
            numbers are traced arrays of shape (), everything else is a Python value. `train` and `valid` are the two
            `Subset`s of a fold. `key` is a typed `jax.random.key`.
        space: `{"name": distribution}`, at least one, each made by `lo.space` or one of Optuna's. SciPy's
            distributions are not supported here, nor `lo.space.when`.
        folds: the `Folds` for cross-validation; None trains without folds.
        metric: name of the metric whose mean over folds and seeds is reported to the study. Trials without a finite
            mean, because a training diverged or the metric is undefined on a fold, are reported as pruned: TPE then
            ranks them below all others, whereas it would ignore failed ones.
        n_trials: number of finished trials that the study is to hold in the end, earlier ones included. It may be fewer
            if a `GridSampler` is exhausted.
        batch_size: number of trials proposed and trained at once, at least 1; 32 by default. The sampler learns only
            between batches: smaller ones choose better, larger ones run faster.
        seeds: number of trainings of each setting on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all trainings are derived; they depend on fold and
            seed alone and are the same in all batches, so that settings can be compared in pairs.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        progress: whether to show a progress bar on standard error; True by default.

    Returns:
        None; the results are in `study`. In an interactive session (a notebook, IPython or the Python prompt), Ctrl-C
        ends the call with a warning; finished trials are in the study.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above; if the study has several
            directions, the trial does not return the metric, or a single training needs more than `memory`.
        TypeError: if `study` is not an `optuna.Study`, another argument has the wrong type, or the trial returns
            neither a `Run` nor a dictionary of scalars.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions.

    Example:
        >>> import lectopt as lo, optuna
        >>> from lectopt.search.optuna import optimize
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        >>> optimize(study, lambda setting, key: {"loss": (setting["x"] - 0.3) ** 2},
        ...          {"x": lo.space.uniform(0.0, 1.0)}, metric="loss", n_trials=48, batch_size=8, key=0)
        >>> abs(study.best_params["x"] - 0.3) < 0.05
        True

    Source: Akiba, Sano, Yanase, Ohta and Koyama (2019), "Optuna: a next-generation hyperparameter optimization
    framework", KDD; Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for hyper-parameter optimization", NeurIPS
    (TPE).
    """
    if not isinstance(study, optuna.Study):
        raise TypeError(f"study must be an optuna.Study; got {type(study).__name__}")
    if len(study.directions) != 1:
        raise ValueError(f"study must have one direction; got {len(study.directions)}")
    if not isinstance(space, Mapping) or not space:
        raise ValueError('space must be a dictionary {"name": distribution} of at least 1; got ' + repr(space))
    space = {name: as_distribution(name, entry) for name, entry in space.items()}
    distributions = {name: optuna_distribution(name, entry) for name, entry in space.items()}
    n_trials, batch_size = checks.check_count("n_trials", n_trials), checks.check_count("batch_size", batch_size)
    checks.check_flag("progress", progress)
    options: dict[str, Any] = {"seeds": seeds, "key": key, "memory": memory, "progress": False}
    rows = math.ceil(batch_size / min(batch_size, _programs(space)))
    options["maximize" if study.direction is optuna.study.StudyDirection.MAXIMIZE else "minimize"] = metric
    _revive(study)
    search: Search | None = None
    with ProgressBar("trials", n_trials, show=progress) as bar, _ended_by_hand(study, n_trials):
        while (done := _finished(study)) < n_trials:
            bar.update(done, _best_so_far(study))
            with _asked(study, distributions, min(batch_size, n_trials - done)) as asked:
                settings, places = _distinct([setting_of(one.params, space) for one in asked], space)
                if search is None:
                    search = _padded(Search.of(trial, settings, folds, **options), rows)
                results = search.of_other(settings).run()
                stops = [_tell(study, one, results, place) for one, place in zip(asked, places, strict=True)]
            if any(stops):
                break


def setting_of(params: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that the params of an Optuna trial stand for.

    Args:
        params: the params of an Optuna trial, such as `study.best_params`.
        space: the space that `optimize` was given, `{"name": distribution}`.

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
    for name in params:
        if name not in space:
            raise ValueError(f"params must have the names of space, {', '.join(space)}; got {name!r}")
    return {name: _value(name, as_distribution(name, space[name]), param) for name, param in params.items()}


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
        row = {name: column[i] for name, column in shown.items() if not lacks(results.settings, name, i)}
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


def _value(name: str, distribution: Any, param: Any) -> Any:
    if not isinstance(distribution, Choice):
        return param
    found = labels(distribution)
    if param not in found:
        raise ValueError(f"params[{name!r}] must be one of {', '.join(map(repr, found))}; got {param!r}")
    return distribution.values[found.index(param)]


def _programs(space: Mapping[str, Any]) -> int:
    """Returns the number of combinations of static values."""
    return math.prod(entry.count or 1 for entry in space.values() if getattr(entry, "static", False))


def _padded(search: Search, rows: int) -> Search:
    """Returns the same search with rectangles of a fixed number of settings: one program for each group."""
    return dataclasses.replace(search, options=search.options._replace(chunk=rows, padded=True))


@contextlib.contextmanager
def _ended_by_hand(study: optuna.Study, n_trials: int) -> Iterator[None]:
    """Ends the batches within without an error on Ctrl-C, in interactive sessions, and warns."""
    try:
        yield
    except KeyboardInterrupt:
        if not interactive():
            raise
        warnings.warn(
            f"interrupted: {_finished(study)} of {n_trials} trials are finished and in the study. To continue, "
            "call optimize again",
            stacklevel=3,
        )


@contextlib.contextmanager
def _asked(study: optuna.Study, distributions: dict[str, BaseDistribution], count: int) -> Iterator[list[optuna.Trial]]:
    """Asks for a number of trials to run and report; none is left running, whatever happens."""
    asked: list[optuna.Trial] = []
    try:
        for _ in range(count):
            asked.append(study.ask(distributions))
            asked[-1].set_user_attr(_RUNNER, _runner())
        yield asked
    except BaseException as error:
        running = {one.number for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
        for left in asked:
            if left.number not in running:
                continue
            if isinstance(error, Exception):
                left.set_user_attr(_UNRUN, True)
                study.tell(left, state=TrialState.FAIL)
            else:
                _put_back(study, left.number, left.params)
        raise


def _runner() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _revive(study: optuna.Study) -> None:
    """Puts the trials that a process was running when it was killed back into the queue."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = left.user_attrs.get(_RUNNER, "").rpartition(" ")
        if host == socket.gethostname() and not _alive(int(pid)):
            _put_back(study, left.number, left.params)


def _put_back(study: optuna.Study, number: int, params: Mapping[str, Any]) -> None:
    study.tell(number, state=TrialState.FAIL)
    study.enqueue_trial(dict(params), user_attrs={"instead of": number})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _finished(study: optuna.Study) -> int:
    """Trials that were run to their end; not those that a killed process or an error left."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED))
    given_up = {trial.user_attrs.get("instead of") for trial in study.get_trials(deepcopy=False)}
    return sum(trial.number not in given_up and _UNRUN not in trial.user_attrs for trial in trials)


def _distinct(params: list[dict[str, Any]], space: Mapping[str, Any]) -> tuple[Settings, list[int]]:
    """Returns the different settings among these, as JAX rounds them, and which one each of them is."""
    columns = {name: canonical(name, _column(space[name], [one[name] for one in params])) for name in space}
    rows = [tuple((type(value), value) for value in row) for row in zip(*columns.values(), strict=True)]
    first = list(dict.fromkeys(rows))
    return Settings(columns).take([rows.index(row) for row in first]), [first.index(row) for row in rows]


def _column(distribution: Any, values: list[Any]) -> Any:
    """Returns the values in the dtype of the distribution, whichever of them were drawn."""
    if getattr(distribution, "static", False):
        return Static(values)
    kind = distribution.values if isinstance(distribution, Choice) else values
    return np.asarray(values, np.asarray(kind).dtype)


def _tell(study: optuna.Study, asked: optuna.Trial, results: Results, row: int) -> bool:
    """Tells the mean of a setting; returns whether the sampler says that it has no more settings."""
    means = {name: float(results.mean(name)[row]) for name in results.metrics}
    asked.set_user_attr("means", means)
    value = means[results.metric]
    try:
        study.tell(asked, **{"state": TrialState.PRUNED} if np.isnan(value) else {"values": value})
    except RuntimeError as error:
        # A GridSampler calls study.stop() after its last setting, which works only inside of study.optimize.
        if "stop" not in str(error):
            raise
        return True
    return False


def _best_so_far(study: optuna.Study) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"best {study.best_value:.4g}" if complete else ""
