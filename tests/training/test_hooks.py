"""Functions that are called with the run so far: when, with what, and what they can do."""

import traceback

import jax
import numpy as np
import pytest
from digits_mlp import TRAIN, VALID, apply, init

import lectopt as lo
from lectopt.training import running

pytestmark = pytest.mark.filterwarnings("error")

TASK = lo.classification((init, apply))
MOMENTUM = lo.momentum(0.3)
PER_EPOCH = 3  # of 77 examples, 32 at once


def fit(**options):
    return lo.fit(TASK, MOMENTUM, TRAIN, **{"valid": VALID, "batch_size": 32, "epochs": 4, "key": 0} | options)


def steps_done(run):
    return len(run.history.steps["loss"])


def assert_equal(a, b):
    parts = [(r.params, r.opt_state, r.metrics, r.history) for r in (a, b)]
    jax.tree.map(np.testing.assert_array_equal, *parts)


@pytest.fixture(scope="module")
def whole():
    return fit()


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_hooks_are_called_when_they_are_due_and_change_nothing(at_once, whole, chunks_of):
    chunks_of(at_once)
    epochs, steps = [], []
    run = fit(on_epoch=lambda run: epochs.append(steps_done(run)), on_steps=(5, steps.append))
    assert epochs == [3, 6, 9, 12]
    assert [steps_done(run) for run in steps] == [5, 10]
    assert_equal(run, whole)
    for seen in steps:
        np.testing.assert_array_equal(seen.history.steps["loss"], whole.history.steps["loss"][: steps_done(seen)])
        assert seen.metrics["valid_loss"] == whole.history.epochs["valid_loss"][steps_done(seen) // PER_EPOCH - 1]


def test_a_hook_sees_the_run_that_so_many_epochs_would_have_given():
    seen = []
    fit(on_epoch=seen.append, epochs=2)
    for epochs, run in enumerate(seen, 1):
        assert_equal(run, fit(epochs=epochs))


def test_an_epoch_that_is_cut_ends_too():
    epochs = []
    fit(epochs=None, steps=5, on_epoch=lambda run: epochs.append(steps_done(run)))
    assert epochs == [3, 5]


def test_true_ends_the_training(whole):
    """Without a warning, as training for so many steps would have ended; the history is as long as that."""
    assert_equal(fit(on_epoch=lambda run: steps_done(run) == 6), fit(epochs=2))
    broken = fit(on_steps=(4, lambda run: np.bool_(True)))
    assert_equal(broken, fit(epochs=None, steps=4))
    assert broken.history.epochs["train_loss"].shape == (2,)
    assert_equal(fit(on_epoch=lambda run: run.metrics["valid_loss"] < 0), whole)
    by_array = fit(on_epoch=lambda run: run.history.epochs["train_loss"][-1] < np.inf)
    assert steps_done(by_array) == PER_EPOCH


def test_all_hooks_are_called_before_one_ends_the_training():
    called = []
    fit(on_epoch=lambda run: True, on_steps=(3, lambda run: called.append(steps_done(run))))
    assert called == [3]


@pytest.mark.parametrize(("answer", "said"), [(1, r"1 \(int\)"), ("stop", r"'stop' \(str\)"), (np.ones(2) > 0, "")])
def test_other_answers_are_refused_by_name(answer, said):
    with pytest.raises(TypeError, match=f"on_epoch must return True to end the training, .* it returned {said}"):
        fit(on_epoch=lambda run: answer)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"on_epoch": 3}, TypeError, r"on_epoch must be a function of the run so far; got 3 \(int\)"),
        ({"on_epoch": lambda: None}, TypeError, r"on_epoch must be a function \(run\); got one of \(\)"),
        ({"on_steps": (3, lambda: None)}, TypeError, r"on_steps\[1\] must be a function \(run\)"),
        ({"on_steps": print}, TypeError, r"on_steps must be a pair \(n, function\)"),
        ({"on_steps": (print, 3)}, TypeError, r"on_steps must be a pair \(n, function\)"),
        ({"on_steps": (0, print)}, ValueError, r"on_steps\[0\] must be at least 1; got 0"),
        ({"on_steps": (2.5, print)}, TypeError, r"on_steps\[0\] must be a whole number"),
    ],
)
def test_bad_hooks_are_refused_before_anything_compiles(options, error, said, monkeypatch):
    monkeypatch.setattr(running.compiled_loop, "start", None)
    with pytest.raises(error, match=said):
        fit(**options)


def test_a_hook_that_raises_keeps_its_traceback_and_the_run_so_far(tmp_path, whole):
    def log(run):
        if steps_done(run) == 6:
            raise ConnectionError("the tracker is away")

    with pytest.raises(ConnectionError, match="the tracker is away") as raised:
        fit(on_epoch=log, directory=tmp_path)
    assert "log" in [frame.name for frame in traceback.extract_tb(raised.tb)]
    kept, two = lo.load(tmp_path, TASK), fit(epochs=2)
    assert kept.metrics == two.metrics
    jax.tree.map(np.testing.assert_array_equal, kept.params, two.params)
    called = []
    run = fit(on_epoch=lambda run: called.append(steps_done(run)), directory=tmp_path)
    assert_equal(run, whole)
    assert called == [9, 12]


def test_hooks_cost_nothing_where_there_are_none(monkeypatch, whole):
    fetched, so_far = [], running._run_so_far
    monkeypatch.setattr(running, "_run_so_far", lambda *arguments: (fetched.append(0), so_far(*arguments))[1])
    fit(progress=False)
    assert not fetched
    fit(progress=False, on_epoch=lambda run: None)
    assert len(fetched) == 4


class Tracker:
    """Stands for `mlflow` and `wandb`, as strict as they are about numbers."""

    def __init__(self):
        self.logged = []

    def log_metrics(self, metrics, step):
        assert all(type(value) is float for value in metrics.values())
        self.logged.append((step, metrics))

    def log(self, data, step):
        self.log_metrics(data, step)


def test_trackers(whole):
    mlflow, wandb = Tracker(), Tracker()

    def log(run):
        last = {name: float(record[-1]) for name, record in run.history.epochs.items()}
        mlflow.log_metrics(last, step=len(run.history.steps["loss"]))
        wandb.log(last, step=len(run.history.steps["loss"]))

    fit(on_epoch=log)
    assert mlflow.logged == wandb.logged
    assert [step for step, _ in mlflow.logged] == [3, 6, 9, 12]
    for i, (_, metrics) in enumerate(mlflow.logged):
        assert metrics == {name: float(record[i]) for name, record in whole.history.epochs.items()}
