"""Several processes on one study: never more trials than asked for, none lost."""

import subprocess
import sys
import textwrap
import threading
import time

import pytest

import lectopt as lo

optuna = pytest.importorskip("optuna")
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from lectopt.search.optuna import optimize  # noqa: E402
from lectopt.search.optuna_trials import asked_trials, finished, revive  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = {"x": lo.space.uniform(0.0, 1.0)}
quiet = {"metric": "loss", "key": 0, "progress": False}


def square(setting, key):
    return {"loss": setting["x"] * setting["x"]}


def journal(path):
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))


def opened(storage, **options):
    made = {"study_name": "s", "load_if_exists": True, "sampler": optuna.samplers.RandomSampler(seed=0)}
    return optuna.create_study(storage=storage, **made | options)


def states(study):
    return "".join(one.state.name[0] for one in study.trials)


def suggest(trial):
    return {"x": trial.suggest_float("x", 0, 1)}


def in_batches(study, n_trials, count):
    """As `optimize` does, without the trainings."""
    while True:
        revive(study)
        with asked_trials(study, n_trials, count, suggest) as asked:
            if asked is None:
                return
            time.sleep(0.002)
            for one in asked:
                study.tell(one.trial, one.setting["x"])


@pytest.mark.parametrize("kind", ["journal", "memory"])
def test_workers_at_the_same_time_end_at_the_number_asked_for(tmp_path, kind):
    """Each with a study of its own, as in a process of its own; a few are in the queue, some of them too many."""
    shared = optuna.storages.InMemoryStorage()
    make = (lambda: journal(tmp_path / "journal")) if kind == "journal" else (lambda: shared)
    study = opened(make())
    for i in range(3):
        study.enqueue_trial({"x": 0.25 * i})
    workers = [threading.Thread(target=in_batches, args=(opened(make()), 13, 3)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert states(study).count("C") == 13
    assert set(states(study)) <= {"C", "W"}
    left = states(study).count("W")
    in_batches(study, 13 + left + 2, 4)  # who was one too many is run when more are asked for
    assert states(study) == "C" * (15 + left)


def test_a_trial_that_another_process_begins_meanwhile(monkeypatch):
    """The worst moment: after it was seen that one is missing."""
    study = opened(None)
    other, ask = optuna.load_study(study_name="s", storage=study._storage), study.ask
    meanwhile = []

    def late():
        if len(study.trials) == 4:
            meanwhile.append(other.ask())
        return ask()

    monkeypatch.setattr(study, "ask", late)
    with asked_trials(study, 5, 8, suggest) as asked:
        assert [one.trial.number for one in asked] == [0, 1, 2, 3]
        assert states(study) == "RRRRRW"
        for one in asked:
            study.tell(one.trial, 1.0)
    assert finished(study) == 4
    with asked_trials(study, 5, 8, suggest) as asked:  # the other one has it
        assert asked is None
    other.tell(meanwhile[0], state=TrialState.FAIL)
    in_batches(study, 5, 8)
    assert states(study) == "CCCCFC"


def test_more_in_the_queue_than_are_asked_for():
    study = opened(None)
    for i in range(5):
        study.enqueue_trial({"x": i / 8})
    results = optimize(study, square, SPACE, n_trials=3, batch_size=2, **quiet)
    assert states(study) == "CCCWW"
    assert results.settings["x"].tolist() == [0.0, 0.125, 0.25]
    optimize(study, square, SPACE, n_trials=6, batch_size=4, **quiet)
    assert states(study) == "CCCCCC"
    assert study.trials[4].params == {"x": 0.5}


def test_trials_that_failed_elsewhere_do_not_count_and_those_of_others_do():
    study = opened(None)
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    results = optimize(study, square, SPACE, n_trials=5, **quiet)
    assert states(study) == "FCCCCC"
    assert sorted(results.rows) == [3, 4, 5]


def test_a_dead_process_is_revived_once(monkeypatch):
    """Two processes that begin at the same time find it dead both."""
    study = opened(None)
    left = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    left.set_user_attr("lectopt runner", f"{__import__('socket').gethostname()} 999999999")
    found, faster = study.get_trials, []

    def late(*arguments, **options):
        trials = found(*arguments, **options)
        if options.get("states") == (TrialState.RUNNING,) and not faster:
            faster.append(1)
            revive(study)
        return trials

    monkeypatch.setattr(study, "get_trials", late)
    revive(study)
    assert states(study) == "FW"
    optimize(study, square, SPACE, n_trials=1, **quiet)
    assert states(study) == "FC"
    assert study.trials[1].params == left.params


def test_a_trial_that_was_failed_meanwhile_is_replaced():
    """As by another process, to which a heartbeat came late."""
    study = opened(None)

    def space(trial):
        if trial.number == 1:
            study.tell(0, state=TrialState.FAIL, skip_if_finished=True)
        return suggest(trial)

    results = optimize(study, square, space, n_trials=3, batch_size=3, **quiet)
    assert states(study) == "FCCC"
    assert sorted(results.rows) == [1, 2, 3]


def beating(path, **options):
    return optuna.storages.RDBStorage(
        f"sqlite:///{path}/study.db", engine_kwargs={"connect_args": {"timeout": 10}}, **options
    )


@pytest.mark.slow
def test_a_storage_with_heartbeats(tmp_path, monkeypatch):
    """Each trial of a batch beats; what stopped beating is failed by Optuna, whose callback retries it."""
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
    storage = beating(tmp_path, heartbeat_interval=1, grace_period=1, heartbeat_stale_trial_callback=retry)
    study = opened(storage)
    with pytest.warns(UserWarning, match="Heartbeat"):
        left = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    storage.record_heartbeat(left._trial_id)
    beats, record = set(), storage.record_heartbeat

    def recorded(trial_id):
        beats.add(trial_id)
        record(trial_id)

    monkeypatch.setattr(storage, "record_heartbeat", recorded)
    time.sleep(2.5)
    optimize(study, square, SPACE, n_trials=3, batch_size=2, **quiet)
    assert states(study) == "FCCC"
    assert study.trials[1].params == left.params
    assert {one._trial_id for one in study.trials[1:]} <= beats


CHILD = textwrap.dedent("""
    import sys, optuna, lectopt as lo
    from optuna.storages.journal import JournalFileBackend
    from lectopt.search.optuna import optimize
    storage = optuna.storages.JournalStorage(JournalFileBackend(sys.argv[1]))
    study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True,
                                sampler=optuna.samplers.RandomSampler())
    found = optimize(study, lambda s, key: {"loss": s["x"] * s["x"]}, {"x": lo.space.uniform(0.0, 1.0)},
                     metric="loss", n_trials=50, batch_size=3, key=0, progress=False)
    print(len(found))
""")


@pytest.mark.slow
def test_processes_end_at_the_number_asked_for(tmp_path):
    path = str(tmp_path / "journal")
    workers = [subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE) for _ in range(2)]
    lengths = [int(worker.communicate(timeout=300)[0]) for worker in workers]
    assert max(lengths) == 50
    study = optuna.load_study(study_name="s", storage=journal(path))
    assert states(study).count("C") == 50
    assert set(states(study)) <= {"C", "W"}
