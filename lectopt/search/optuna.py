"""Optuna's samplers and storage on lectopt's engine: a batch of trials is asked for, run as one program, and told."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lectopt import _checks
from lectopt.progress import ProgressBar
from lectopt.search.execution import Search
from lectopt.search.results import Results
from lectopt.search.settings import Settings, canonical
from lectopt.search.space import Choice, Distribution, Integers, LogUniform, Static, Uniform, as_distribution
from lectopt.splits import Folds

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import TrialState
except ImportError as error:
    raise ImportError("lectopt.search.optuna needs Optuna: pip install 'lectopt[search]'") from error

_RUNNER = "lectopt runner"


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
    """Lets an Optuna study choose the settings, and runs each batch of them as one compiled program.

    What is finished stands in the study: its dashboard, plots and `best_params` work as ever, and a study in a storage
    (SQLite, a journal) that was interrupted at any moment goes on where it was: the trials that a killed process was
    running are run again.

    Args:
        study: of one direction, with any sampler and storage.
        trial: (setting, train, valid, key), or without folds (setting, key), -> a `Run` or a dictionary of scalars, as
            for `cross_validate` and `sweep`.
        space: {"name": distribution} as for `sample`, scipy's excepted.
        folds: as for `cross_validate`; None for `sweep`.
        metric: the metric whose mean over folds and seeds is told. A setting that diverges is told as failed.
        n_trials: how many trials the study holds in the end, with those it held before; fewer if a GridSampler has no
            more.
        batch_size: trials asked for at once. The sampler learns from a batch when all of it is done: few are better
            for the choice, many for the speed.
        seeds: as for `sweep`.
        key: as for `sweep`; the same for all batches, so that settings start alike.
        memory: as for `sweep`.
        progress: show a bar on standard error.

    Raises:
        ValueError, TypeError: as `cross_validate`; if the study has several directions.

    Example:
        >>> import lectopt as lo, optuna
        >>> from lectopt.search.optuna import optimize
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        >>> optimize(study, lambda setting, key: {"loss": (setting["x"] - 0.3) ** 2},
        ...          {"x": lo.space.uniform(0.0, 1.0)}, metric="loss", n_trials=48, batch_size=8, key=0)
        >>> abs(study.best_params["x"] - 0.3) < 0.05
        True
    """
    if not isinstance(study, optuna.Study):
        raise TypeError(f"study must be an optuna.Study; got {type(study).__name__}")
    if len(study.directions) != 1:
        raise ValueError(f"study must have one direction; got {len(study.directions)}")
    if not isinstance(space, Mapping) or not space:
        raise ValueError('space must be a dictionary {"name": distribution} of at least 1; got ' + repr(space))
    distributions = {name: _optunas(name, as_distribution(name, entry)) for name, entry in space.items()}
    n_trials, batch_size = _checks.check_count("n_trials", n_trials), _checks.check_count("batch_size", batch_size)
    _checks.check_flag("progress", progress)
    which = "maximize" if study.direction is optuna.study.StudyDirection.MAXIMIZE else "minimize"
    _revive(study)
    search: Search | None = None
    with ProgressBar("trials", n_trials, show=progress) as bar:
        while (done := _finished(study)) < n_trials:
            bar.update(done, _news(study))
            asked = [_ask(study, distributions) for _ in range(min(batch_size, n_trials - done))]
            settings, places = _distinct([one.params for one in asked], space)
            if search is None:
                options = {which: metric, "seeds": seeds, "key": key, "memory": memory, "progress": False}
                search = Search.of(trial, settings, folds, **options)
            results = search.of_other(settings).run()
            stops = [_tell(study, one, results, place) for one, place in zip(asked, places, strict=True)]
            if any(stops):
                break


def _optunas(name: str, distribution: Distribution) -> BaseDistribution:
    match distribution:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Integers(low, high):
            return IntDistribution(low, high)
        case Choice(values):
            return CategoricalDistribution(values)
    raise TypeError(f"space[{name!r}] must be made by lectopt.space for Optuna; got {type(distribution).__name__}")


def _runner() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _ask(study: optuna.Study, distributions: dict[str, BaseDistribution]) -> optuna.Trial:
    asked = study.ask(distributions)
    asked.set_user_attr(_RUNNER, _runner())
    return asked


def _revive(study: optuna.Study) -> None:
    """Puts the trials that a process was running when it was killed back into the queue."""
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = left.user_attrs.get(_RUNNER, "").rpartition(" ")
        if host == socket.gethostname() and not _alive(int(pid)):
            study.tell(left.number, state=TrialState.FAIL)
            study.enqueue_trial(left.params, user_attrs={"instead of": left.number})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _finished(study: optuna.Study) -> int:
    """Trials that were run to their end; not those that a killed process left."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED))
    given_up = {trial.user_attrs.get("instead of") for trial in study.get_trials(deepcopy=False)}
    return sum(trial.number not in given_up for trial in trials)


def _distinct(params: list[dict[str, Any]], space: Mapping[str, Any]) -> tuple[Settings, list[int]]:
    """The different settings among these, as JAX rounds them, and which one each of them is."""
    columns = {name: canonical(name, _column(space[name], [one[name] for one in params])) for name in space}
    rows = [tuple((type(value), value) for value in row) for row in zip(*columns.values(), strict=True)]
    first = list(dict.fromkeys(rows))
    return Settings(columns).take([rows.index(row) for row in first]), [first.index(row) for row in rows]


def _column(distribution: Any, values: list[Any]) -> Any:
    """The values in the dtype of the distribution, whichever of them were drawn."""
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
        study.tell(asked, **{"state": TrialState.FAIL} if np.isnan(value) else {"values": value})
    except RuntimeError as error:
        # A GridSampler calls study.stop() after its last setting, which works only inside of study.optimize.
        if "stop" not in str(error):
            raise
        return True
    return False


def _news(study: optuna.Study) -> str:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"best {study.best_value:.4g}" if complete else ""
