"""Trials of a study on which several processes may work: begun, put back, and never more of them than asked for."""

import contextlib
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread, is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

_RUNNER = "lectopt runner"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""What counts as finished: a trial that failed was not run to its end."""


class AskedTrial(NamedTuple):
    """A trial that is running, and its setting."""

    trial: optuna.Trial
    setting: dict[str, Any]


@contextlib.contextmanager
def asked_trials(
    study: optuna.Study, n_trials: int, count: int, suggest: Callable[[optuna.Trial], dict[str, Any]]
) -> Iterator[list[AskedTrial] | None]:
    """Begins up to `count` trials, to be run and told within; none is left running, whatever happens.

    Those that `suggest` ends by `optuna.TrialPruned` are told at once. None if no trial is left to begin.
    """
    begun: list[optuna.Trial] = []
    found: list[AskedTrial] = []
    with contextlib.ExitStack() as beating:
        try:
            while len(begun) < count and (one := _begin(study, n_trials)) is not None:
                begun.append(one)
                beating.enter_context(get_heartbeat_thread(one._trial_id, study._storage))  # type: ignore[arg-type]
                try:
                    found.append(AskedTrial(one, suggest(one)))
                except optuna.TrialPruned:
                    study.tell(one, state=TrialState.PRUNED)
            yield found if begun else None
        except BaseException as error:
            running = {one.number for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))}
            for left in begun:
                if left.number not in running:
                    continue
                if isinstance(error, Exception):
                    study.tell(left, state=TrialState.FAIL)
                else:
                    _put_back(study, left.number, left.params)
            raise


def finished(study: optuna.Study) -> int:
    """Returns how many trials were run to their end, or pruned."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def revive(study: optuna.Study) -> None:
    """Puts the trials that a process was running when it was killed back into the queue.

    Of a storage with heartbeats, Optuna itself fails them, whichever machine they ran on; its callback retries them.
    """
    if is_heartbeat_enabled(study._storage):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        return
    for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, pid = left.user_attrs.get(_RUNNER, "").rpartition(" ")
        if host == socket.gethostname() and not _alive(int(pid)):
            _put_back(study, left.number, left.params)


def _begin(study: optuna.Study, n_trials: int) -> optuna.Trial | None:
    """Begins a trial; None if those that have begun or wait, here or in other processes, are enough.

    Two processes may both see one missing and begin two. Only trials with fewer than `n_trials` before them by number,
    not counting failed ones, are run: since numbers are given once and failures only make room, these are never more
    than `n_trials`, whatever happens at the same time. Another one waits for a call that asks for more.
    """
    first = _not_failed(study)[:n_trials]
    if len(first) == n_trials and all(one.state is not TrialState.WAITING for one in first):
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")  # there is one, see above
        one = study.ask()
    if one.number not in {first.number for first in _not_failed(study)[:n_trials]}:
        study._storage.set_trial_state_values(one._trial_id, TrialState.WAITING)
        return None
    one.set_user_attr(_RUNNER, f"{socket.gethostname()} {os.getpid()}")
    return one


def _not_failed(study: optuna.Study) -> list[FrozenTrial]:
    """Returns all other trials, by number."""
    found = [one for one in study.get_trials(deepcopy=False) if one.state is not TrialState.FAIL]
    return sorted(found, key=lambda one: one.number)


def _put_back(study: optuna.Study, number: int, params: Mapping[str, Any]) -> None:
    try:
        study.tell(number, state=TrialState.FAIL)
    except ValueError:  # another process was faster
        return
    study.enqueue_trial(dict(params), user_attrs={"instead of": number})


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
