"""Runs on disk, and trainings that are killed and go on."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import older_runs
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx
from kept_training import OPTIMIZER, OPTIONS, X, Y, noisy, numbers
from kinds_of_models import LinenNet, Net, apply, init

import lectopt as lo
from lectopt._internal import run_directories
from lectopt._internal.files import DamagedError
from lectopt._internal.trees import paths
from lectopt.training import archives, checkpoints, running
from lectopt.training.archives import Archive
from lectopt.training.carry import Carry

pytestmark = pytest.mark.filterwarnings("error")


def assert_equal(a, b):
    for name in ("params", "model_state", "lookahead_params", "opt_state", "metrics", "history", "diverged_at"):
        for x, y in zip(numbers(getattr(a, name)), numbers(getattr(b, name)), strict=True):
            np.testing.assert_array_equal(x, y, err_msg=name)


def flip(file, place, bits):
    """Flips some bits of a byte."""
    content = file.read_bytes()
    file.write_bytes(content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :])


# Runs -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Net, id="nnx"),
        pytest.param(LinenNet(), id="linen", marks=pytest.mark.slow),
        pytest.param((init, apply), id="functions", marks=pytest.mark.slow),
    ],
)
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


def test_a_run_as_arrays_and_back(eager):
    task = lo.classification(Net)
    run = lo.fit(task, OPTIMIZER, (X, Y), epochs=2, **OPTIONS)
    archive = run.to_arrays()
    assert archive.trees["params"].keys() == set(paths(run.params))
    assert archive.trees["history"].keys() == run.history.to_arrays().keys()
    json.dumps(archive.facts)
    assert_equal(lo.Run.from_arrays(archive, task), run)


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
    with pytest.raises(ValueError, match="missing there: linear/bias, linear/kernel; not asked for: bias, kernel"):
        lo.load(tmp_path / "run", lo.classification(Net))


class Turned(nnx.Module):
    """Layers of equal shapes, whose names sort the other way round than they are called."""

    def __init__(self, first, second, rngs):
        self.names = first, second
        for name in self.names:
            setattr(self, name, nnx.Linear(10, 10, rngs=rngs))

    def __call__(self, x):
        for name in self.names:
            x = nnx.tanh(getattr(self, name)(x))
        return x


def test_arrays_go_in_by_their_names(tmp_path, eager):
    tasks = {names: lo.classification(lambda rngs, names=names: Turned(*names, rngs)) for names in ("ab", "cd", "ba")}
    run = lo.fit(tasks["ab"], lo.sgd(0.1), (X[:, 20:30], Y), steps=1, **OPTIONS)
    run.save(tmp_path / "run")
    with pytest.raises(
        ValueError,
        match=r"params of .* missing there: c/bias, c/kernel, d/bias, d/kernel; not asked for: a/bias, a/kernel",
    ):
        lo.load(tmp_path / "run", tasks["cd"])
    turned = lo.load(tmp_path / "run", tasks["ba"])
    np.testing.assert_array_equal(turned.params["a"]["kernel"], run.params["a"]["kernel"])


def test_variables_go_in_by_their_names(tmp_path, eager):
    """Batch statistics, in a run that is loaded and in one that a training starts from."""

    def net(name):
        class Normed(linen.Module):
            @linen.compact
            def __call__(self, x, train):
                x = linen.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name=name)(x)
                return linen.Dense(10, name="dense")(x)

        return Normed()

    run = lo.fit(lo.classification(net("one")), lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)
    run.save(tmp_path / "run")
    other = lo.classification(net("two"))
    with pytest.raises(
        ValueError, match=r"model_state of .* missing there: .*/two/mean, .*/two/var; not asked for: .*/one/mean"
    ):
        lo.load(tmp_path / "run", other)
    with pytest.raises(ValueError, match=r"the model state of start.* missing there: .*two/mean"):
        lo.fit(other, lo.sgd(0.1), (X, Y), steps=1, start=run, **OPTIONS)


def test_arrays_keep_their_kind(tmp_path, eager):
    def net(dtype):
        return lo.classification(lambda rngs: nnx.Linear(64, 10, param_dtype=dtype, rngs=rngs))

    run = lo.fit(net(jnp.bfloat16), lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)
    run.save(tmp_path / "run")
    assert_equal(lo.load(tmp_path / "run", net(jnp.bfloat16)), run)
    with pytest.raises(ValueError, match="must have bias of bfloat16, as it was saved; got float32"):
        lo.load(tmp_path / "run", net(jnp.float32))


def test_an_optimizer_state_goes_to_its_optimizer_alone(tmp_path, eager):
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    run = lo.fit(task, lo.adagrad(0.1), (X, Y), steps=2, **OPTIONS)
    run.save(tmp_path / "a")
    lo.load(tmp_path / "a", task).save(tmp_path / "b")  # what is known of it is saved again
    older_runs.save(run, tmp_path / "older")
    for name in ("a", "b"):
        again = lo.load(tmp_path / name, task)
        with pytest.raises(ValueError, match="start must be a run of this optimizer"):
            lo.fit(task, lo.rmsprop(0.1), (X, Y), steps=1, start=again, **OPTIONS)
    onward = [lo.fit(task, lo.adagrad(0.1), (X, Y), steps=1, start=lo.load(tmp_path / name, task), **OPTIONS)
              for name in ("a", "b", "older")]  # fmt: skip
    for other in onward[1:]:
        assert_equal(onward[0], other)


@pytest.mark.parametrize("changes", [{}, {"params": None, "variables": None}], ids=["named", "unnamed"])
def test_runs_of_the_format_before(tmp_path, eager, changes):
    task = lo.classification(Net, standardize=True)
    run = lo.fit(task, OPTIMIZER, (X, Y), valid=(X, Y), epochs=2, **OPTIONS)
    older_runs.save(run, tmp_path / "run", **changes)
    again = lo.load(tmp_path / "run", task)
    assert_equal(again, run)
    assert again.opt_state.outline is None
    (tmp_path / "run" / "about" / "metadata").write_text("{")
    with pytest.raises(ValueError, match=r"path must be a directory that Run\.save wrote; .*run is not"):
        lo.load(tmp_path / "run", task)


def test_a_damaged_run_is_refused(tmp_path, eager):
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    run = lo.fit(task, lo.momentum(0.1), (X, Y), steps=2, **OPTIONS)
    run.save(tmp_path / "run")
    draw = random.Random(0)
    files = sorted(path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.stat().st_size)
    for file in [*files, *draw.choices(files, [path.stat().st_size for path in files], k=40)]:
        place, bits = draw.randrange(file.stat().st_size), 1 << draw.randrange(8)
        flip(file, place, bits)
        name = ".*" if file.name == "digests.json" else re.escape(str(file.relative_to(tmp_path / "run")))
        with pytest.raises(ValueError, match=f"run is damaged: the file {name} is not what was written"):
            lo.load(tmp_path / "run", task)
        flip(file, place, bits)
    (tmp_path / "run" / "digests.json").rename(tmp_path / "digests.json")
    with pytest.raises(ValueError, match=r"run is damaged: the file digests\.json is missing"):
        lo.load(tmp_path / "run", task)
    (tmp_path / "digests.json").rename(tmp_path / "run" / "digests.json")
    assert_equal(lo.load(tmp_path / "run", task), run)


def test_anywhere_in_the_home_directory(tmp_path, monkeypatch, eager):
    monkeypatch.setenv("HOME", str(tmp_path))
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    run = lo.fit(task, lo.momentum(0.1), (X, Y), steps=2, **OPTIONS)
    run.save("~/runs [1]/*?#")
    assert (tmp_path / "runs [1]" / "*?#").is_dir()
    assert_equal(lo.load("~/runs [1]/*?#", task), run)
    with pytest.raises(ValueError, match=r"path must be a directory that can be written; .*\\b is not: .* backslash"):
        run.save("~/a\\b")
    for path, error in ((3, TypeError), ("", ValueError), ("x" * 256, ValueError)):
        for call in (run.save, lambda path: lo.load(path, task)):
            with pytest.raises(error, match="path must "):
                call(path)


# Trainings under way --------------------------------------------------------------------------------------------------
class Killed(Exception):
    pass


@pytest.mark.parametrize("patience", [2, pytest.param(None, marks=pytest.mark.slow)])
def test_what_was_broken_off_goes_on(tmp_path, monkeypatch, patience, chunks_of):
    task = lo.classification(Net)
    options = {"valid": (X, Y), "epochs": 5, "patience": patience, "progress": False, **OPTIONS, "shuffle": True}
    whole = lo.fit(task, OPTIMIZER, (X, Y), **options)
    monkeypatch.setattr(running, "_SAVE_SECONDS", 0.0)
    chunks_of(4)
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


SMALL = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
KEPT = {"valid": (X, Y), "steps": 12, "patience": 9, "progress": False, **OPTIONS, "shuffle": True}


def train(directory=None, **changes):
    return lo.fit(
        SMALL, lo.nesterov, (X, Y), hyperparameters={"learning_rate": 0.01}, directory=directory, **KEPT, **changes
    )


@pytest.fixture(scope="module")
def whole():
    return train()


@pytest.fixture
def often(monkeypatch, chunks_of):
    """A copy after each two steps."""
    monkeypatch.setattr(running, "_SAVE_SECONDS", -1.0)
    chunks_of(2)


@pytest.fixture
def broken_off(tmp_path, monkeypatch, often):
    """The directory of a training that was killed in the middle of its third epoch, after 7 of 12 steps."""
    write = checkpoints.Store.save

    def save(self, carry, run):
        write(self, carry, run)
        if carry.step == 7:
            raise Killed

    with monkeypatch.context() as context:
        context.setattr(checkpoints.Store, "save", save)
        with pytest.raises(Killed):
            train(tmp_path / "kept")
    return tmp_path / "kept"


def copies(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name != "fingerprint")


def damage(directory, step):
    """Flips a byte of the copy."""
    files = [path for path in (directory / str(step)).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    flip(largest, largest.stat().st_size // 2, 8)


@pytest.mark.slow
def test_a_training_that_is_under_way_can_be_loaded(broken_off, whole):
    run = lo.load(broken_off, SMALL)
    assert len(run.history.steps["loss"]) == 7
    assert len(run.history.epochs["valid_loss"]) == 2
    np.testing.assert_array_equal(run.history.steps["loss"], whole.history.steps["loss"][:7])
    best = lo.fit(SMALL, lo.nesterov(0.01), (X, Y), epochs=2, progress=False, **OPTIONS | {"shuffle": True})
    np.testing.assert_allclose(run.params["kernel"], best.params["kernel"], rtol=1e-6)  # w, as validated last
    np.testing.assert_allclose(run.lookahead_params["kernel"], best.lookahead_params["kernel"], rtol=1e-6)
    assert run.evaluate((X, Y))["loss"] == pytest.approx(run.metrics["valid_loss"])
    np.testing.assert_array_equal(lo.transfer(broken_off, nnx.Linear(64, 10, rngs=nnx.Rngs(1))).model.kernel[...],
                                  run.params["kernel"])  # fmt: skip
    assert_equal(train(broken_off), whole)  # and goes on
    assert_equal(lo.load(broken_off, SMALL), whole)


def test_the_last_two_copies_are_kept(broken_off, whole):
    assert copies(broken_off) == [5, 7]
    train(broken_off)
    assert copies(broken_off) == [10, 12]


def test_of_a_damaged_copy_the_one_before_is_used(broken_off, whole):
    damage(broken_off, 7)
    with pytest.warns(UserWarning, match=r"kept/7 is damaged: .* The copy before is read: .*kept/5"):
        assert len(lo.load(broken_off, SMALL).history.steps["loss"]) == 5
    with pytest.warns(UserWarning, match=r"kept/7 is damaged: .* training goes on from step 5"):
        assert_equal(train(broken_off), whole)
    assert copies(broken_off) == [10, 12]


def test_where_all_copies_are_damaged(broken_off):
    damage(broken_off, 5)
    (broken_off / "7" / "about" / "metadata").unlink()
    with pytest.raises(ValueError, match=r"directory must hold a whole copy; .*kept/7 .* to begin anew"):
        train(broken_off)
    with pytest.raises(ValueError, match=r"path must be a directory that Run\.save wrote; .*kept/7"):
        lo.load(broken_off, SMALL)
    (broken_off / "5").rename(broken_off / "thesis")
    shutil.rmtree(broken_off / "7")
    with pytest.raises(ValueError, match=r"path must be a directory that Run\.save wrote"):
        lo.load(broken_off, SMALL)


def test_a_copy_of_another_training_is_not_taken(broken_off, whole):
    """Foreign arrays under the right name."""
    other = lo.fit(SMALL, lo.sgd(0.1), (X, Y), steps=1, progress=False, **OPTIONS)
    other.save(broken_off / "9")
    with pytest.warns(UserWarning, match=r"kept/9 .*training goes on from step 7"):
        assert_equal(train(broken_off), whole)


def test_a_full_disk_loses_nothing(broken_off, whole, monkeypatch):
    def full(*rest):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 448832 bytes to file 15 [os_error_code='28']")

    with monkeypatch.context() as context:
        context.setattr(ocp.Checkpointer, "save", full)
        with pytest.raises(
            OSError, match=r"directory cannot be written any more \(No space left .* kept in .*kept before"
        ):
            train(broken_off)
        with pytest.raises(ValueError, match=r"path must be a directory that can be written; .*: No space left"):
            whole.save(broken_off.parent / "run")
    assert [path.name for path in broken_off.parent.iterdir()] == ["kept"]
    assert copies(broken_off) == [5, 7]
    assert_equal(train(broken_off), whole)


@pytest.mark.parametrize(("directory", "error"), [(3, TypeError), (b"x", TypeError), ("", ValueError)])
def test_what_is_no_directory(directory, error):
    with pytest.raises(error, match="directory must be a path"):
        train(directory)


def test_the_state_of_a_loaded_run_says_nothing_of_the_point_to_evaluate(broken_off):
    run = lo.load(broken_off, SMALL)
    with pytest.raises(ValueError, match=r"a loaded run has its arrays alone: take run\.params"):
        lo.eval_params(run.opt_state, run.lookahead_params)


@pytest.mark.parametrize("name", ["../../outside", "{}/outside"])
def test_names_in_metadata_do_not_leave_the_directory(tmp_path, name):
    place = tmp_path / "a[b"  # in which each array is a folder
    archives.write(place, Archive({"params": {("w",): np.ones(2)}}, {}))
    shutil.copytree(place / "arrays/params.000000", tmp_path / "outside.000000")
    metadata = place / "arrays/_METADATA"
    metadata.write_text(metadata.read_text().replace('"key": "params"', f'"key": "{name.format(tmp_path)}"'))
    (place / "digests.json").write_text(json.dumps(archives._digests(place)))
    with pytest.raises(DamagedError, match=r"it names .*outside, which is outside of it"):
        archives.read(place)


def test_one_training_at_a_time(broken_off, whole):
    store = checkpoints.Store(broken_off, (broken_off / "fingerprint").read_text())
    with pytest.raises(ValueError, match=r"directory must be of no process that still trains; one trains in .*kept"):
        train(broken_off)
    assert len(lo.load(broken_off, SMALL).history.steps["loss"]) == 7  # it can be looked at
    store.close()
    assert_equal(train(broken_off), whole)


def test_of_two_trainings_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    """The other begins while the first one makes the directory its own."""
    outcomes, replace = [], run_directories.replace_file

    def begin():
        try:
            outcomes.append(checkpoints.Store(tmp_path / "kept", "the same"))
        except ValueError as error:
            outcomes.append(str(error))

    def beside(*arguments):
        monkeypatch.undo()
        other.start()
        other.join(0.3)
        replace(*arguments)

    other = threading.Thread(target=begin)
    monkeypatch.setattr(run_directories, "replace_file", beside)
    begin()
    other.join()
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(outcomes) == 2
    assert len(refused) == 1
    assert "no process that still trains" in refused[0]


def test_a_training_that_an_earlier_version_kept(tmp_path, whole, often, monkeypatch):
    carries, write = [], checkpoints.Store.save
    with monkeypatch.context() as context:
        context.setattr(checkpoints.Store, "save", lambda self, carry, run: carries.append(jax.device_get(carry)))
        train(tmp_path / "kept")
    older_runs.keep(carries[2], tmp_path / "kept", 5)
    (tmp_path / "kept" / "7.orbax-checkpoint-tmp").mkdir()  # where it was killed
    losses = []
    with monkeypatch.context() as context:
        context.setattr(checkpoints.Store, "save", lambda *rest: (losses.append(0), write(*rest)))
        assert_equal(train(tmp_path / "kept"), whole)
    assert len(losses) == 5  # at 6, 8, 10, 12, and at its end
    assert copies(tmp_path / "kept") == [10, 12]


SCRIPT = """
import sys, jax, numpy as np, lectopt as lo, lectopt.training.running
from kept_training import OPTIMIZER, OPTIONS, X, Y, numbers
from kinds_of_models import Net
lectopt.training.running._SAVE_SECONDS = 0.0
lectopt.training.chunks.next_size = lambda *_, **__: 7
options = {"valid": (X, Y), "epochs": 200, **OPTIONS, "shuffle": True}
run = lo.fit(lo.classification(Net), OPTIMIZER, (X, Y), directory=sys.argv[1] or None, **options)
np.savez(sys.argv[2], *numbers((run.params, run.model_state, run.opt_state, run.history)))
"""


def test_the_fields_of_a_carry_keep_the_names_of_the_format():
    """The copies in a directory hold these names, and so does the lowered program, of which its fingerprint is made."""
    carry = Carry(*range(len(Carry._fields)))
    names = (
        "step epoch learner before best least failures metrics known running ended diverged_at loss_sum counted "
        "step_records epoch_records looks chance rows loss_scale bar validations"
    )
    assert [name for (name,) in paths(carry)] == names.split()
    assert jax.tree.map(lambda leaf: leaf + 1, carry) == Carry(*range(1, len(Carry._fields) + 1))


KILLS = int(os.environ.get("LECTOPT_TEST_KILLS", "2"))


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """By SIGKILL, while it computes and while it writes. LECTOPT_TEST_KILLS=20 tries 20 times."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start(directory, result):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, directory, str(result)], env=environment)

    assert start("", tmp_path / "whole.npz").wait() == 0
    directory, kills, draw = tmp_path / "training", 0, random.Random(0)
    while not (tmp_path / "broken.npz").exists():
        process = start(str(directory), tmp_path / "broken.npz")
        wait_for_steps(process, directory)
        time.sleep(draw.uniform(0, 0.4))
        if kills < KILLS:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert kills == KILLS
    whole, broken = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "broken.npz")
    for name in whole:
        np.testing.assert_array_equal(broken[name], whole[name])


def wait_for_steps(process, directory):
    """Until the process has kept something new, or has ended."""
    kept = set(directory.glob("[0-9]*"))
    while process.poll() is None and set(directory.glob("[0-9]*")) <= kept:
        time.sleep(0.05)


def test_a_model_in_place_of_its_task_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"task must be a lectopt\.Task; got function"):
        lo.load(tmp_path, lambda rngs: None)
