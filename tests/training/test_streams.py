"""Training on examples that are read while it runs: the same as in memory, or an error that names the batch."""

import dataclasses
import functools
import itertools
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.data.readers import Reader
from lectopt.training import checkpoints
from lectopt.training.arguments import TrainingArguments
from lectopt.training.setup import prepare
from lectopt.training.stream_setup import prepare_stream

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.digits()
X, Y = X[:110] / 16, Y[:110]
SIZE, STEPS = 32, 4  # the last batch of a pass has 14 examples
MOMENTUM = lo.momentum(0.1)  # one object, so that the tests share programs


def net(rngs):
    """What a padded batch, the number of a batch and the mode would show in."""
    norm, dropout = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.2, rngs=rngs)
    return nnx.Sequential(nnx.Linear(64, 8, rngs=rngs), norm, nnx.relu, dropout, nnx.Linear(8, 10, rngs=rngs))


TASK = lo.classification(net)
PLAIN = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))


def batches(x=X, y=Y):
    for i in range(0, len(x), SIZE):
        yield x[i : i + SIZE], y[i : i + SIZE]


def fit(train, task=TASK, epochs=3, **options):
    options = {"key": 0, "progress": False} | options
    if "steps" not in options:
        options["epochs"] = epochs
    return lo.fit(task, MOMENTUM, train, **options)


def in_memory(task=TASK, **options):
    return fit((X, Y), task, **{"batch_size": SIZE, "shuffle": False} | options)


def assert_same(run, wanted):
    leaves = [
        jax.tree.leaves((r.params, r.model_state, r.opt_state, r.metrics, r.history.steps, r.history.epochs))
        for r in (run, wanted)
    ]
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.history.steps_per_epoch == wanted.history.steps_per_epoch


class Source:
    """A data source, as Grain and PyTorch know them."""

    def __repr__(self):
        return "digits"

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


class Passes:
    """An iterable of batches."""

    def __iter__(self):
        return batches()


def torch_loader():
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(Source(), batch_size=SIZE)


def grain_loader():
    grain = pytest.importorskip("grain.python")
    sampler = grain.IndexSampler(len(X), shard_options=grain.NoSharding(), shuffle=False, num_epochs=1, seed=0)
    return grain.DataLoader(data_source=Source(), sampler=sampler, operations=[grain.Batch(SIZE)], worker_count=0)


def grain_dataset():
    return pytest.importorskip("grain.python").MapDataset.source(Source()).batch(SIZE)


KINDS = {
    "function": lambda: lo.stream(batches),
    "steps per epoch": lambda: lo.stream(batches, STEPS),
    "without end": lambda: lo.stream(lambda: itertools.cycle(batches()), STEPS),
    "iterable": Passes,
    "iterator": lambda: lo.stream(itertools.cycle(batches()), STEPS),
    "PyTorch": torch_loader,
    "Grain loader": grain_loader,
    "Grain dataset": grain_dataset,
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k == "PyTorch" else k for k in KINDS])
def test_a_stream_trains_as_the_arrays_would(kind):
    """Whatever it is, with BatchNorm, dropout, and a last batch that is smaller."""
    assert_same(fit(KINDS[kind](), valid=(X, Y)), in_memory(valid=(X, Y)))


def note_steps(called, run):
    called.append(len(run.history.steps["loss"]))


def on_disk(tmp_path, mode="r"):
    for name, array in (("x", X), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    return tuple(np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in ("x", "y"))


@pytest.mark.parametrize("shuffle", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_memory_map_trains_as_the_arrays_would(shuffle, tmp_path):
    run = fit(on_disk(tmp_path), valid=(X, Y), batch_size=SIZE, shuffle=shuffle)
    assert_same(run, in_memory(valid=(X, Y), shuffle=shuffle))
    assert run.history.baseline_loss is None
    onward = fit(on_disk(tmp_path), batch_size=SIZE, shuffle=shuffle, epochs=1, start=run)
    assert_same(onward, in_memory(shuffle=shuffle, epochs=1, start=run))


BIASED = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs), output_bias=lambda net: net.bias)
CLASSES = {"weights": {1: 5.0}, "weight_validation": True, "valid": (X, Y)}


@pytest.mark.slow
def test_a_memory_map_trains_with_weights_and_an_output_bias_as_the_arrays_would(tmp_path):
    whole = fit((X, Y), BIASED, epochs=2, batch_size=SIZE, **CLASSES)
    assert_same(fit(on_disk(tmp_path), BIASED, epochs=2, batch_size=SIZE, **CLASSES), whole)


@pytest.mark.parametrize("weights", [CLASSES, {"weights": "balanced"}, {"weights": np.arange(110.0)}])
def test_weights_and_an_output_bias_are_learned_from_all_targets_of_a_memory_map(weights, tmp_path):
    options = {"batch_size": SIZE, "epochs": 1, "shuffle": False, "key": 0} | weights
    whole = prepare(TrainingArguments(BIASED, MOMENTUM, (X, Y), **options))
    feed = prepare_stream(TrainingArguments(BIASED, MOMENTUM, on_disk(tmp_path), **options), None)
    with pytest.raises(ValueError, match="labels must be"):
        feed._reader.check((X, Y + 9, np.ones(110)))
    mapped = feed.setup
    np.testing.assert_array_equal(mapped.data.weights[0], whole.data.weights[:SIZE])
    np.testing.assert_array_equal(mapped.start.targets.take(mapped.start.targets.indices)[-1], Y)
    if "valid" in weights:
        np.testing.assert_array_equal(mapped.data.valid_weights["valid"], whole.data.valid_weights["valid"])


def test_of_a_memory_map_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    """Not the targets where weights do not depend on them."""
    x, _ = on_disk(tmp_path)
    monkeypatch.setattr("lectopt.training.mapped_targets._targets", None)
    task = lo.regression(lambda rngs: nnx.Linear(64, 64, rngs=rngs))
    given = TrainingArguments(task, MOMENTUM, (x, x), batch_size=SIZE, epochs=1, key=0, weights=np.ones(110))
    np.testing.assert_array_equal(prepare_stream(given, None).setup.data.weights, np.ones((1, SIZE)))
    with pytest.raises(ValueError, match=r"weights must have shape \(110,\)"):
        prepare_stream(dataclasses.replace(given, weights=np.ones(109)), None)
    with pytest.raises(ValueError, match="weight_validation weights valid as weights does train"):
        prepare_stream(dataclasses.replace(given, weights=None, weight_validation=True), None)


def test_a_batch_of_more_than_a_memory_map_holds(tmp_path):
    with pytest.warns(UserWarning, match=f"batch_size 999 is larger than the {len(X)} training examples"):
        run = fit(on_disk(tmp_path), PLAIN, batch_size=999, epochs=1)
    assert len(run.history.steps["loss"]) == 1


@pytest.mark.slow
def test_a_single_map_is_enough_and_views_of_it_are_maps_too(tmp_path):
    x, _ = on_disk(tmp_path, "c")
    run = fit((x[: len(X)], Y), PLAIN, batch_size=SIZE, epochs=1)
    assert_same(run, fit((X, Y), PLAIN, batch_size=SIZE, epochs=1))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[(3, 2)], pytest.param([(9, 9), (9, 3), (3, 1), (4, 4)], marks=pytest.mark.slow)])
def test_the_length_of_a_pass_is_found_at_its_end(sizes, chunks_of, monkeypatch):
    """In the window that it ends in, at the start of the next, and where the records have to grow first."""
    chunks_of(3)
    wanted = in_memory(PLAIN, watch=2)
    for room, most in sizes:
        monkeypatch.setattr("lectopt.training.stream_setup.ROOM", room)
        monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", most)
        called = []
        run = fit(lo.stream(batches), PLAIN, watch=2, on_epoch=functools.partial(note_steps, called))
        assert_same(run, wanted)
        assert jax.tree.all(jax.tree.map(np.array_equal, run.history.layers, wanted.history.layers))
        assert called == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_validation_by_steps_where_the_length_is_found_late(epochs, chunks_of, monkeypatch):
    chunks_of(4)
    monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", 2)
    options = {"valid": (X, Y), "validate_every": 3, "epochs": epochs}
    run, wanted = fit(lo.stream(batches), PLAIN, **options), in_memory(PLAIN, **options)
    assert_same(run, wanted)
    for name, record in wanted.history.validations.items():
        np.testing.assert_array_equal(run.history.validations[name], record)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [*(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)), 6])
def test_steps_may_end_within_a_pass_and_after_it(steps):
    for kind in ("steps per epoch", "without end", "Grain dataset"):
        assert_same(fit(KINDS[kind](), PLAIN, steps=steps), in_memory(PLAIN, steps=steps))
    run = fit(lo.stream(lambda: itertools.cycle(batches())), PLAIN, steps=6)
    assert run.history.steps_per_epoch == 6  # a pass without end is one epoch


@pytest.mark.slow
def test_windows_and_chunks_change_nothing(chunks_of, monkeypatch):
    chunks_of(2)
    wanted = in_memory()
    for size in (1, 3):
        monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", size)
        assert_same(fit(lo.stream(batches, STEPS)), wanted)


def test_each_pass_may_have_an_order_of_its_own():
    def shuffled(epoch):
        order = np.random.default_rng(epoch).permutation(len(X))
        yield from batches(X[order], Y[order])

    seen = []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(len(X))
        seen += [X[order], Y[order]]
    run = fit(lo.stream(shuffled), PLAIN)
    stacked = fit(
        lo.stream([b for x, y in zip(seen[::2], seen[1::2], strict=True) for b in batches(x, y)], STEPS), PLAIN
    )
    assert_same(run, stacked)


def test_no_more_is_read_than_is_trained_on():
    read = []

    def counted():
        for i, batch in enumerate(itertools.cycle(batches())):
            read.append(i)
            yield batch

    fit(lo.stream(counted()), PLAIN, steps=6)
    assert read == list(range(6))


def test_an_epoch_ends_once():
    reader = Reader("examples", lo.stream(batches), None)
    assert [reader.read() is None for _ in range(10)] == 2 * [False, False, False, False, True]


def test_there_is_memory_for_three_windows(monkeypatch):
    monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", 4)
    stream = lo.stream(lambda: itertools.cycle(batches()), 100)
    feed = prepare_stream(TrainingArguments(PLAIN, MOMENTUM, stream, epochs=1, key=0), None)
    portions = feed._portions()
    held = [next(portions) for _ in range(3)]
    assert [portion.filled for portion in held] == [4, 4, 4]
    threading.Timer(0.05, lambda: feed._memory.give_back(held[0].leaves)).start()
    assert next(portions).leaves is held[0].leaves


# What is learned from all examples ------------------------------------------------------------------------------------
SCALED = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs), standardize=True)


@pytest.mark.slow
def test_inputs_are_standardized_by_a_pass_of_its_own_or_by_given_statistics(tmp_path):
    x = np.float32(X * 100 + 1e3)
    fitted = lo.Standardize(64)
    for rows, _ in batches(x):
        fitted.partial_fit(rows)
    stream = lo.stream(lambda: batches(x))
    whole = fit((x, Y), SCALED, epochs=2, batch_size=SIZE, shuffle=False)
    run = fit(stream, SCALED, epochs=2)
    for one, other in zip(run.model_state.inputs, whole.model_state.inputs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-9)
    given = fit(lo.stream(batches(x)), SCALED, steps=4, start=fitted)
    np.testing.assert_allclose(given.model_state.inputs.mean, fitted.mean[...])
    assert_same(given, fit((x, Y), SCALED, epochs=1, batch_size=SIZE, shuffle=False, start=fitted))
    onward = fit(lo.stream(batches(x)), SCALED, steps=2, start=run)
    np.testing.assert_array_equal(onward.model_state.inputs.mean, run.model_state.inputs.mean)
    with pytest.raises(ValueError, match="standardize learns from a pass before training, and an iterator"):
        fit(lo.stream(batches(x)), SCALED, steps=2)
    with pytest.raises(ValueError, match="start must be a Standardize that has learned"):
        fit(stream, SCALED, start=lo.Standardize(64))


# What is wrong --------------------------------------------------------------------------------------------------------
def changed(number, batch):
    """The batches, with another one in place of one of them."""
    return lambda: (batch if i == number else b for i, b in enumerate(batches()))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            (X[:32, :60], Y[:32]),
            r"batch 3 of epoch 1 of train must be as the first batch, float32\[\.\.\., 64\] .*32, 60",
        ),
        ((np.float64(X[:32]), Y[:32]), r"batch 3 of epoch 1 of train must be as the first batch, .*got float64"),
        (
            (X[:33], Y[:33]),
            r"batch 3 of epoch 1 of train must hold .* from 1 to the 32 of the first batch; got \[33, 33",
        ),
        ((X[:5], Y[:4]), r"batch 3 of epoch 1 of train must hold as many examples in each array"),
        ((X[:32],), r"batch 3 of epoch 1 of train must be a tuple of as many arrays as the first batch"),
        ((X[:32] * np.nan, Y[:32]), r"batch 3 of epoch 1 of train must be finite; 32 of 32 examples"),
        ((X[:32], Y[:32] + 5), r"batch 3 of epoch 1 of train: labels must be in \[0, 10\)"),
        (None, r"batch 3 of epoch 1 of train must be a tuple"),
    ],
)
def test_a_batch_that_is_not_as_the_first_is_named(batch, message):
    with pytest.raises(ValueError, match=message):
        fit(lo.stream(changed(2, batch)), PLAIN)


def test_counts_of_a_later_batch_are_checked():
    """In row 14 of 32 of the second batch; a batch in which nothing counts is no mistake."""

    def loss(outputs, targets):
        return ((outputs[:, 0] - targets[:, 0]) ** 2) / 100

    task = lo.Task(lambda rngs: nnx.Linear(64, 10, rngs=rngs), loss, counts=lambda targets: 1.0 * targets[:, 1])
    targets = np.stack([Y, np.arange(len(Y)) < 2 * SIZE], axis=1)
    fit(lo.stream(lambda: batches(y=targets)), task, epochs=1)
    targets[SIZE + 14, 1] = -1
    with pytest.raises(ValueError, match=r"batch 2 of epoch 1 of train: counts must be .* got -1\.0 in row 14"):
        fit(lo.stream(lambda: batches(y=targets)), task, epochs=1)


def fails(after):
    for i, batch in enumerate(itertools.cycle(batches())):
        if i == after:
            raise OSError("the disk is gone")
        yield batch


def test_what_a_stream_raises_is_raised_and_says_where():
    with pytest.raises(OSError, match="the disk is gone") as raised:
        fit(lo.stream(lambda: fails(6), STEPS), PLAIN)
    assert raised.value.__notes__ == ["It was raised by train, where batch 3 of epoch 2 was to be read"]
    with pytest.raises(OSError, match="the disk is gone"):
        fit(lo.stream(lambda: fails(0)), PLAIN)


@pytest.mark.parametrize(
    ("stream", "options", "message"),
    [
        (lambda: lo.stream(batches, 7), {}, r"must hold 7 batches in each epoch; in epoch 1 it ended after 4"),
        (lambda: lo.stream(list), {}, r"train must hold at least 1 batch; it ended at once"),
        (lambda: lo.stream(lambda epoch: list(batches())[: 4 - epoch]), {}, r"4 batches in each epoch; in epoch 2 it"),
        (lambda: lo.stream(lambda epoch: list(batches())[: 3 + epoch]), {}, r"must hold as many batches in each pass"),
        (batches, {}, r"train must be what can be read several times, for several epochs; an iterator"),
        (batches, {"steps": 5}, r"train must be read in several passes, which an iterator cannot be; .* 4 b"),
        (lambda: lo.stream(batches), {"batch_size": 31}, r"batch_size must be that of the first batch .*32"),
        (lambda: lo.stream(batches), {"weights": "balanced"}, r"weights must be None where train is read"),
        (lambda: lo.stream(batches), {"epochs": None}, r"exactly one of epochs and steps"),
        (lambda: lo.stream(lambda: [X]), {}, r"first batch of train must be a tuple of arrays such as"),
        (lambda: lo.stream(lambda: [("a", "b")]), {}, r"first batch of train\[0\] must be an array of numbers"),
        (lambda: lo.stream(lambda: 3), {}, r"stream's function must return an iterator of batches"),
        (lambda: (X, Y), {}, r"batch_size must be given with arrays"),
        (lambda: X, {}, r"train must be a tuple of arrays such as"),
        (lambda: batches, {}, r"train must be a tuple of arrays such as"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(stream, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(stream(), PLAIN, **options)


def test_a_model_that_does_not_take_the_first_batch_is_refused_before_compiling(monkeypatch):
    monkeypatch.setattr("lectopt.training.compiled_loop.start", None)
    with pytest.raises(ValueError, match="the model does not fit the inputs of train, of shape"):
        fit(lo.stream(batches), lo.classification(lambda rngs: nnx.Linear(63, 10, rngs=rngs)))
    with pytest.raises(ValueError, match="output_bias is learned from all targets"):
        fit(lo.stream(batches), lo.classification(net, output_bias=lambda net: net.layers[4].bias))


def test_stream_and_train_refuse_what_they_do_not_take():
    for wrong in ((X, Y), X, {"x": X}, lo.holdout((X, Y), 0.2, key=0)[0]):
        with pytest.raises(TypeError, match=r"stream takes a function that returns an iterator .* fit takes as it is"):
            lo.stream(wrong)
    with pytest.raises(TypeError, match=r"stream takes a function .* got 3"):
        lo.stream(3)
    with pytest.raises(ValueError, match="steps_per_epoch must be"):
        lo.stream(batches, 0)
    with pytest.raises(TypeError, match=r"train must be examples in memory.* is for lectopt\.fit"):
        lo.train(PLAIN, MOMENTUM, lo.stream(batches), batch_size=SIZE, epochs=1, key=0)


def test_maps_of_different_length_are_refused(tmp_path):
    x, y = on_disk(tmp_path)
    with pytest.raises(ValueError, match=r"train must be arrays of equal length; got lengths \[110, 100\]"):
        fit((x, y[:100]), PLAIN, batch_size=SIZE)
    with pytest.raises(TypeError, match="batch_size must be given with arrays"):
        fit((x, y), PLAIN)


# Broken off -----------------------------------------------------------------------------------------------------------
class Killed(BaseException):
    pass


def grain_shuffled():
    grain = pytest.importorskip("grain.python")
    return grain.MapDataset.source(Source()).seed(0).shuffle().batch(SIZE)


RESUMED = {
    "function": lambda tmp_path: lo.stream(batches),
    "without end": lambda tmp_path: lo.stream(lambda: itertools.cycle(batches()), STEPS),
    "iterator": lambda tmp_path: lo.stream(itertools.cycle(batches()), STEPS),
    "Grain loader": lambda tmp_path: grain_loader(),
    "Grain dataset": lambda tmp_path: grain_shuffled(),
    "memory map": on_disk,
}


@pytest.mark.parametrize(
    "kind", [k if k == "Grain dataset" else pytest.param(k, marks=pytest.mark.slow) for k in RESUMED]
)
def test_what_was_broken_off_goes_on(kind, tmp_path, monkeypatch, chunks_of):
    """By the iterator's own state, or past what was read before."""
    chunks_of(3)
    monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", 2)
    options = {"batch_size": SIZE} if kind == "memory map" else {}
    whole = fit(RESUMED[kind](tmp_path), **options)
    monkeypatch.setattr("lectopt.training.running._SAVE_SECONDS", -1.0)
    write, writes = checkpoints.Store.save, []

    def save_and_die(self, carry, run):
        write(self, carry, run)
        writes.append(int(carry.step))
        if len(writes) % 2 == 0:
            raise Killed

    monkeypatch.setattr(checkpoints.Store, "save", save_and_die)
    for _ in range(20):
        try:
            run = fit(RESUMED[kind](tmp_path), directory=tmp_path / "kept", **options)
            break
        except Killed:
            pass
    assert len(writes) > 5
    assert_same(run, whole)


def test_a_failing_stream_keeps_what_was_done(tmp_path):
    whole = fit(lo.stream(batches))
    with pytest.raises(OSError, match="the disk is gone"):
        fit(lo.stream(lambda: fails(6), STEPS), directory=tmp_path / "kept")
    assert lo.load(tmp_path / "kept", TASK).history.steps["loss"].shape == (6,)
    assert_same(fit(lo.stream(lambda: fails(100), STEPS), directory=tmp_path / "kept"), whole)


def test_at_a_prompt_a_failing_stream_gives_back_the_run(monkeypatch):
    monkeypatch.setattr("lectopt.training.running.interactive", lambda: True)
    with pytest.warns(
        UserWarning, match=r"training ended early, by OSError\('the disk is gone'\): .* after 6 of 12 steps"
    ):
        run = fit(lo.stream(lambda: fails(6), STEPS))
    assert_same(run, in_memory(steps=6))


def test_ctrl_c_ends_a_training_that_waits_for_a_batch(monkeypatch):
    monkeypatch.setattr("lectopt.training.running.interactive", lambda: True)
    trained, ended = threading.Event(), threading.Event()

    def stalls():
        yield from batches()
        trained.wait(20)
        signal.raise_signal(signal.SIGINT)  # to the main thread, which waits for the next batch
        ended.wait(20)

    with pytest.warns(UserWarning, match=r"training was interrupted: the run is as it was after 4 of 12 steps"):
        run = fit(lo.stream(stalls, STEPS), PLAIN, on_epoch=lambda run: trained.set())
    ended.set()
    assert run.history.steps["loss"].shape == (4,)


LARGE = """
import pathlib, sys, numpy as np, lectopt as lo
from flax import nnx
x = np.memmap(sys.argv[1], np.float32, "w+", shape=(4 * 2**30 // (784 * 4), 784))  # a sparse file
y = np.zeros(len(x), np.int32)
task = lo.classification(lambda rngs: nnx.Linear(784, 10, rngs=rngs))
for shuffle in (True, False):
    run = lo.fit(task, lo.sgd(0.1), (x, y), batch_size=512, steps=600, shuffle=shuffle, key=0, progress=False)
    assert run.history.steps["loss"].shape == (600,)
print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
def test_a_memory_map_of_4_gb_stays_on_disk(tmp_path):
    """Of each training a gigabyte is read. (`ru_maxrss` would tell of the process that starts this one too.)"""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("asks Linux for the memory of a process")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", LARGE, str(tmp_path / "x")]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert (tmp_path / "x").stat().st_size > 4.29e9
    assert int(printed) * 1024 < 1e9


KILLED = """
import sys, time, numpy as np, lectopt as lo, lectopt.training.running
from flax import nnx
from test_streams import grain_shuffled, net
lectopt.training.running._SAVE_SECONDS = 0.0
dataset = grain_shuffled().map(lambda batch: (time.sleep(0.01), batch)[1]).to_iter_dataset()
task, epochs = lo.classification(net), int(sys.argv[3])
run = lo.fit(task, lo.momentum(0.1), dataset, epochs=epochs, key=0, progress=False, directory=sys.argv[1])
np.savez(sys.argv[2], loss=run.history.steps["loss"], weights=run.params["layers"][0]["kernel"])
"""


KILLS = int(os.environ.get("LECTOPT_TEST_KILLS", "2"))


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """By SIGKILL, while it reads, computes and writes; with Grain's own state. LECTOPT_TEST_KILLS=20 tries 20 times."""
    pytest.importorskip("grain.python")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start(directory, result):
        command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / directory), str(tmp_path / result)]
        command.append(str(14 * KILLS))
        return subprocess.Popen(command, env=environment)

    whole, kills, draw = start("whole", "whole.npz"), 0, random.Random(0)
    while not (tmp_path / "broken.npz").exists():
        process, kept = start("broken", "broken.npz"), set((tmp_path / "broken").glob("[0-9]*"))
        while process.poll() is None and set((tmp_path / "broken").glob("[0-9]*")) <= kept:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.4))
        if kills < KILLS:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert whole.wait() == 0
    assert kills == KILLS
    with np.load(tmp_path / "whole.npz") as wanted, np.load(tmp_path / "broken.npz") as found:
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.slow
def test_a_stream_on_a_mesh_trains_as_the_arrays_would(several_devices):
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert_same(fit(lo.stream(batches), PLAIN, mesh=mesh), in_memory(PLAIN, mesh=mesh))


@pytest.mark.slow
def test_augment_patience_and_watch_are_as_in_memory():
    options = {"valid": (X, Y), "patience": 1, "watch": 3, "epochs": 6, "augment": mirrored}
    run, wanted = fit(lo.stream(batches), PLAIN, **options), in_memory(PLAIN, **options)
    assert_same(run, wanted)
    assert jax.tree.all(jax.tree.map(np.array_equal, run.history.layers, wanted.history.layers))


def mirrored(key, batch):
    x, y = batch
    return jax.numpy.where(jax.random.bernoulli(key, 0.5, (len(x), 1)), x[:, ::-1], x), y


def test_a_stream_to_validate_on_is_read_into_memory():
    assert_same(
        fit((X, Y), PLAIN, batch_size=SIZE, valid=lo.stream(batches)), fit((X, Y), PLAIN, batch_size=SIZE, valid=(X, Y))
    )
