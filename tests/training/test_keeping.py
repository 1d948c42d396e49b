"""What of a training its directory keeps: the last copies, and the best runs."""

import jax
import numpy as np
import pytest
from digits_mlp import TRAIN, VALID, apply, init

import lectopt as lo
from lectopt.training import running

pytestmark = pytest.mark.filterwarnings("error")

TASK = lo.classification((init, apply))
MOMENTUM = lo.momentum(0.6)
EPOCHS = 6
PER_EPOCH = 3


def fit(directory=None, **options):
    given = {"valid": VALID, "batch_size": 32, "epochs": EPOCHS, "key": 0, "directory": directory, "progress": False}
    return lo.fit(TASK, MOMENTUM, TRAIN, **given | options)


def steps_in(path):
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdecimal())


@pytest.fixture(scope="module")
def runs():
    """The run at the end of each epoch, by step."""
    seen = []
    fit(on_epoch=seen.append)
    return {len(run.history.steps["loss"]): run for run in seen}


def best_steps(runs, metric, count, sign):
    return sorted(sorted(runs, key=lambda step: (sign * runs[step].metrics[metric], step))[:count])


@pytest.mark.parametrize("last", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_so_many_last_copies(last, tmp_path, monkeypatch, chunks_of):
    monkeypatch.setattr(running, "_SAVE_SECONDS", -1)
    chunks_of(4)
    fit(tmp_path, keep=lo.Keep(last=last))
    assert steps_in(tmp_path) == [9, 13, 17, 18][-last:]


@pytest.mark.parametrize(
    ("options", "metric", "sign"),
    [
        ({}, "valid_loss", 1),
        ({"best_by": "valid_loss", "direction": "maximize"}, "valid_loss", -1),  # falls: the best are not the last
        pytest.param(
            {"best_by": "valid_accuracy", "direction": "maximize"}, "valid_accuracy", -1, marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_best_runs_as_they_were(options, metric, sign, count, tmp_path, runs):
    fit(tmp_path, keep=lo.Keep(best=count), **options)
    wanted = best_steps(runs, metric, count, sign)
    assert steps_in(tmp_path / "best") == wanted
    for step in wanted:
        kept = lo.load(tmp_path / "best" / str(step), TASK)
        jax.tree.map(np.testing.assert_array_equal, kept.params, runs[step].params)
        assert kept.metrics == runs[step].metrics
        assert len(kept.history.steps["loss"]) == step
    assert lo.load(tmp_path / "best", TASK).metrics == runs[wanted[-1]].metrics
    assert len(lo.load(tmp_path, TASK).history.steps["loss"]) == PER_EPOCH * EPOCHS


def test_the_best_of_validations_by_steps(tmp_path):
    run = fit(tmp_path, keep=lo.Keep(best=2), validate_every=4)
    losses = np.asarray(run.history.validations["valid_loss"])
    wanted = sorted(run.history.validated_steps[np.argsort(losses, kind="stable")[:2]].tolist())
    assert steps_in(tmp_path / "best") == wanted
    best = lo.load(tmp_path / "best" / str(run.history.validated_steps[losses.argmin()]), TASK)
    assert best.metrics["valid_loss"] == losses.min()


def test_a_training_that_was_broken_off_ends_with_the_same_best(tmp_path, runs):
    def broken(run):
        raise KeyError

    with pytest.raises(KeyError):
        fit(tmp_path, keep=lo.Keep(best=2), on_steps=(8, broken))
    assert steps_in(tmp_path / "best") == [3, 6]
    (tmp_path / "best" / "15").mkdir()  # of a validation beyond the copy that it goes on from
    (tmp_path / "best" / "15" / "about").write_text("")
    fit(tmp_path, keep=lo.Keep(best=2))
    assert steps_in(tmp_path / "best") == best_steps(runs, "valid_loss", 2, 1)
    for step in steps_in(tmp_path / "best"):
        assert lo.load(tmp_path / "best" / str(step), TASK).metrics == runs[step].metrics


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"keep": 3}, TypeError, r"keep must be a lectopt.Keep; got 3 \(int\)"),
        ({"keep": lo.Keep(last=0)}, ValueError, "keep.last must be at least 1; got 0"),
        ({"keep": lo.Keep(best=-1)}, ValueError, "keep.best must be at least 0; got -1"),
        ({"keep": lo.Keep(best=1.5)}, TypeError, "keep.best must be a whole number"),
        ({"keep": lo.Keep(), "directory": None}, ValueError, "keep says .* together with directory"),
        ({"keep": lo.Keep(best=1), "valid": None}, ValueError, "keep.best counts validations: .* with valid"),
    ],
)
def test_bad_input(options, error, said, tmp_path):
    with pytest.raises(error, match=said):
        fit(**{"directory": tmp_path} | options)
