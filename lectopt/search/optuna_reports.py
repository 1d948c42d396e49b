"""What a study is told of its trials: between rungs, at their end, and from there back as results."""

import contextlib
import dataclasses
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from lectopt.engine.lanes import Outcome
from lectopt.search.halving import GoingOn, RungEnd
from lectopt.search.hyperparameter_search import Search
from lectopt.search.optuna_spaces import SuggestedSpace
from lectopt.search.optuna_trials import ENDED
from lectopt.search.results import Results
from lectopt.search.scores import Scores

_SCORES = "lectopt scores"
"""All scores of a trial, as JSON; the others' names end on what a reader of the study needs."""


@dataclasses.dataclass
class Report:
    """Tells a study what its trials came to."""

    study: optuna.Study
    metrics: tuple[str, ...]  # one for each direction
    constraints: tuple[str, ...]  # metrics of which trials are feasible up to 0
    epochs: int | None  # at the end of the last rung, where the pruner is asked at all
    _pruned: set[int] = dataclasses.field(default_factory=set)

    def pruner(self, asked: list[list[optuna.Trial]]) -> GoingOn:
        """Returns what asks the study's pruner between rungs; `asked` are the trials of each setting."""

        def going_on(results: Results, alive: np.ndarray, end: RungEnd) -> np.ndarray:
            # What diverged is pruned without a value: to TPE, NaN late in a training is better than a value before.
            alive, means = alive & ~np.isnan(results.mean()), results.mean()
            running = [(row, one) for row in np.flatnonzero(alive) for one in asked[row]]
            running = [(row, one) for row, one in running if one.number not in self._pruned]
            for row, one in running:
                with _unless_finished():
                    one.report(float(means[row]), end.epochs)
            self._pruned.update(one.number for _, one in running if one.should_prune())
            kept = [row for row, one in running if one.number not in self._pruned]
            return np.isin(np.arange(len(alive)), kept)

        return going_on

    def tell(self, asked: optuna.Trial, results: Results, row: int) -> bool:
        """Tells the means of a setting; returns whether the sampler says that it has no more settings."""
        with _unless_finished():
            return self._tell(asked, results, row)
        return False

    def _tell(self, asked: optuna.Trial, results: Results, row: int) -> bool:
        means = {name: float(results.mean(name)[row]) for name in results.metrics}
        asked.set_user_attr("means", means)
        asked.set_user_attr(_SCORES, _scores(results, row))
        lost = any(np.isnan(means[name]) for name in (*self.metrics, *self.constraints))
        if lost or asked.number in self._pruned:
            return self._end(asked, state=TrialState.PRUNED)
        for name in self.constraints:
            asked.set_constraint(name, means[name])
        if self.epochs is not None:
            asked.report(means[self.metrics[0]], self.epochs)
        return self._end(asked, values=[means[name] for name in self.metrics])

    def _end(self, asked: optuna.Trial, **told: Any) -> bool:
        try:
            self.study.tell(asked, skip_if_finished=True, **told)
        except RuntimeError as error:
            # A GridSampler calls study.stop() after its last setting, which works only inside of study.optimize.
            if "stop" not in str(error):
                raise
            return True
        return False


def _unless_finished() -> contextlib.AbstractContextManager[None]:
    """Around what changes a trial: another process may have failed it, since a heartbeat was late."""
    return contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError)


def collected(
    study: optuna.Study, space: SuggestedSpace, search: Search, run_seconds: float
) -> tuple[Results, dict[int, int]]:
    """Returns the results of all trials that a search has told a study of, and the row of each trial.

    Raises:
        ValueError: if there are none.
    """
    found = _told(study, space, search)
    if not found:
        raise ValueError(
            "study must hold a trial that optimize has run, with as many folds and seeds and a setting of this space; "
            f"none of its {len(study.get_trials(deepcopy=False))} trials is one"
        )
    settings, places = space.settings([setting for _, setting in found])
    for one, _ in found:
        known = {name: range_.log for name, range_ in one.distributions.items() if hasattr(range_, "log")}
        settings.logarithmic |= {name: log for name, log in known.items() if name in settings}
    scores = Scores(settings.count, len(search.pairs.fold))
    for (one, _), place in zip(found, places, strict=True):
        _read(one.user_attrs[_SCORES], scores, place)
    rows = {one.number: place for (one, _), place in zip(found, places, strict=True)}
    return search.of_other(settings).results(scores, run_seconds), rows


def _read(told: dict[str, Any], scores: Scores, row: int) -> None:
    """Writes what the study was told of a setting; of one that was run twice, what went further."""
    if told["rungs"] <= scores.rungs[row]:
        return
    metrics = {name: np.ravel(values)[None] for name, values in told["metrics"].items()}
    scores.write(np.array([row]), Outcome(metrics, np.ravel(told["diverged_at"])[None], None))  # type: ignore[arg-type]
    scores.rungs[row] = told["rungs"]


def _scores(results: Results, row: int) -> dict[str, Any]:
    return {
        "metrics": {name: values[row].tolist() for name, values in results.metrics.items()},
        "diverged_at": results.diverged_at[row].tolist(),
        "rungs": int(results.rungs[row]),
    }


def _told(study: optuna.Study, space: SuggestedSpace, search: Search) -> list[tuple[FrozenTrial, dict[str, Any]]]:
    """Returns the trials whose scores are those of such a search, with their settings."""
    found = []
    for one in study.get_trials(states=ENDED):
        told = one.user_attrs.get(_SCORES)
        if told is None or np.shape(told["diverged_at"]) != search.shape[1:] or search.metric not in told["metrics"]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ranges that were wider then
            try:
                found.append((one, space.setting(one)))
            except ValueError:  # a trial of another space
                continue
    last = set(found[-1][0].user_attrs[_SCORES]["metrics"]) if found else set()
    return [(one, setting) for one, setting in found if set(one.user_attrs[_SCORES]["metrics"]) == last]
