"""Runs on disk, and trainings that are killed and go on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from test_models import LinenNet, Net, apply, init

import lectopt as lo
from lectopt import checkpoints

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.digits()
X, Y = X[:45] / 16, Y[:45]
OPTIONS = {"batch_size": 20, "shuffle": False, "key": 0}


def noisy(rate):
    """An optimizer with a random key in its state."""
    return optax.chain(optax.add_noise(1e-3, 0.5, jax.random.key(1)), lo.nesterov(rate))


OPTIMIZER = noisy(0.05)


def numbers(tree):
    return [np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
            for x in map(jnp.asarray, jax.tree.leaves(tree))]  # fmt: skip


def assert_equal(a, b):
    for name in ("params", "model_state", "lookahead_params", "opt_state", "metrics", "history", "diverged_at"):
        for x, y in zip(numbers(getattr(a, name)), numbers(getattr(b, name)), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)


# Runs -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", [Net, LinenNet(), (init, apply)], ids=["nnx", "linen", "functions"])
def test_a_run_comes_back_as_it_was(model, tmp_path, eager):
    task = lo.classification(model)
    run = lo.fit(task, OPTIMIZER, (X, Y), valid=(X, Y), epochs=2, **OPTIONS)
    run.save(tmp_path / "run")
    again = lo.load(tmp_path / "run", task)
    assert_equal(again, run)
    assert again.metrics == run.metrics
    assert type(again.diverged_at) is int
    assert again.history.steps_per_epoch == 3
    assert jax.tree.structure((again.params, again.model_state)) == jax.tree.structure((run.params, run.model_state))
    np.testing.assert_array_equal(again.predict(X), run.predict(X))
    onward = [lo.fit(task, OPTIMIZER, (X, Y), valid=(X, Y), epochs=1, start=r, **OPTIONS) for r in (run, again)]
    assert_equal(*onward)  # with its velocity, its step and its key


def test_a_loaded_run_can_be_saved_again(tmp_path, eager):
    task = lo.classification(Net)
    lo.fit(task, OPTIMIZER, (X, Y), steps=1, **OPTIONS).save(tmp_path / "a")
    lo.load(str(tmp_path / "a"), task).save(tmp_path / "b")
    assert_equal(lo.load(tmp_path / "b", task), lo.load(tmp_path / "a", task))


def test_runs_of_many_lanes_come_back(tmp_path, eager):
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    runs = [lo.train(task, lo.momentum(rate), (X, Y), epochs=1, **OPTIONS) for rate in (0.1, 0.2)]
    runs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    runs.save(tmp_path / "runs")
    again = lo.load(tmp_path / "runs", task)
    assert_equal(again, runs)
    assert again.metrics["train_loss"].shape == (2,)


def test_inputs_that_are_a_tree(tmp_path, eager):
    class Two(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(10)(jnp.concatenate([x["left"], x["right"][0]], axis=1))

    task, inputs = lo.classification(Two()), {"left": X[:, :30], "right": (X[:, 30:],)}
    run = lo.fit(task, lo.sgd(0.1), (inputs, Y), steps=2, **OPTIONS)
    run.save(tmp_path / "run")
    np.testing.assert_array_equal(lo.load(tmp_path / "run", task).predict(inputs), run.predict(inputs))


def test_what_is_no_run_is_refused(tmp_path, eager):
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    run = lo.fit(task, lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)
    run.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"path must be a new directory; there is something at .*run already"):
        run.save(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"there is nothing at .*nowhere"):
        lo.load(tmp_path / "nowhere", task)
    with pytest.raises(ValueError, match=r"path must be a directory that Run.save wrote; .* is not"):
        lo.load(tmp_path, task)
    (tmp_path / "file").write_text("a")
    with pytest.raises(ValueError, match=r"path must be a directory that Run.save wrote; .* is not"):
        lo.load(tmp_path / "file", task)
    with pytest.raises(
        ValueError, match=r"of this task's model must be arrays of shapes float32\[11\], .* got float32\[10\]"
    ):
        lo.load(tmp_path / "run", lo.classification(lambda rngs: nnx.Linear(64, 11, rngs=rngs)))
    with pytest.raises(ValueError, match="which lacks linear/bias, linear/kernel and has bias, kernel"):
        lo.load(tmp_path / "run", lo.classification(Net))


# Trainings under way --------------------------------------------------------------------------------------------------
class Killed(Exception):
    pass


@pytest.mark.parametrize("patience", [None, 2])
def test_what_was_broken_off_goes_on(tmp_path, monkeypatch, patience):
    task = lo.classification(Net)
    options = {"valid": (X, Y), "epochs": 9, "patience": patience, "progress": False, **OPTIONS, "shuffle": True}
    whole = lo.fit(task, OPTIMIZER, (X, Y), **options)
    monkeypatch.setattr(lo.fitting, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(lo.fitting, "_next_chunk", lambda *_: 4)
    write, writes = checkpoints.Store.save, []

    def save_twice(self, carry, run):
        write(self, carry, run)
        writes.append(int(carry.step))
        if len(writes) % 2 == 0:
            raise Killed

    monkeypatch.setattr(checkpoints.Store, "save", save_twice)
    for _ in range(20):
        try:
            run = lo.fit(task, OPTIMIZER, (X, Y), directory=tmp_path / "a", **options)
            break
        except Killed:
            pass
    assert len(writes) > 4
    assert writes == sorted(writes)
    assert_equal(run, whole)
    monkeypatch.undo()
    assert_equal(lo.fit(task, OPTIMIZER, (X, Y), directory=tmp_path / "a", **options), whole)  # it has ended
    for change in ({"key": 1}, {"train": (X[::-1], Y[::-1])}, {"optimizer": noisy(0.06)}, {"shuffle": False}):
        arguments = {"optimizer": OPTIMIZER, "train": (X, Y), **options, **change}
        with pytest.raises(
            ValueError, match=r"directory must be new, or of the same training; .*a holds something else"
        ):
            lo.fit(task, directory=tmp_path / "a", **arguments)


def test_a_directory_that_holds_something_else_is_refused(tmp_path, eager):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="directory must be new, or of the same training"):
        checkpoints.Store(tmp_path, "fingerprint")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_killed_before_anything_was_kept(tmp_path):
    """A directory that is there but empty, or in which the fingerprint was being written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "fingerprint.part").write_text("fing")
    for directory in (tmp_path / "empty", tmp_path):
        if directory == tmp_path:
            (tmp_path / "empty").rename(tmp_path.parent / "moved")
        store = checkpoints.Store(directory, "fingerprint")
        assert store.restore("fresh") == "fresh"
        store.close()


SCRIPT = """
import sys, jax, numpy as np, lectopt as lo, lectopt.fitting
from test_checkpoints import Net, OPTIMIZER, OPTIONS, X, Y, numbers
lectopt.fitting._SAVE_SECONDS = 0.0
lectopt.fitting._next_chunk = lambda *_: 7
options = {"valid": (X, Y), "epochs": 400, **OPTIONS, "shuffle": True}
run = lo.fit(lo.classification(Net), OPTIMIZER, (X, Y), directory=sys.argv[1] or None, **options)
np.savez(sys.argv[2], *numbers((run.params, run.model_state, run.opt_state, run.history)))
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """By SIGKILL, while it computes and while it writes."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}

    def start(directory, result):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, directory, str(result)], env=environment)

    assert start("", tmp_path / "whole.npz").wait() == 0
    directory, kills, draw = tmp_path / "training", 0, random.Random(0)
    while not (tmp_path / "broken.npz").exists():
        process = start(str(directory), tmp_path / "broken.npz")
        wait_for_steps(process, directory)
        time.sleep(draw.uniform(0, 0.6))
        if kills < 6:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills == 6
    whole, broken = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "broken.npz")
    for name in whole:
        np.testing.assert_array_equal(broken[name], whole[name])


def wait_for_steps(process, directory):
    """Until the process has kept something new, or has ended."""
    kept = set(directory.glob("[0-9]*"))
    while process.poll() is None and set(directory.glob("[0-9]*")) <= kept:
        time.sleep(0.05)
