"""Training on examples that are read while it runs: the same as in memory, or an error that names the batch."""

import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

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


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_trains_as_the_arrays_would(kind):
    """Whatever it is, with BatchNorm, dropout, and a last batch that is smaller."""
    assert_same(fit(KINDS[kind](), valid=(X, Y)), in_memory(valid=(X, Y)))


def note_steps(called, run):
    called.append(len(run.history.steps["loss"]))


def on_disk(tmp_path, mode="r"):
    for name, array in (("x", X), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    return tuple(np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in ("x", "y"))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_memory_map_trains_as_the_arrays_would(shuffle, tmp_path):
    run = fit(on_disk(tmp_path), valid=(X, Y), batch_size=SIZE, shuffle=shuffle)
    assert_same(run, in_memory(valid=(X, Y), shuffle=shuffle))
    assert run.history.baseline_loss is None


def test_a_single_map_is_enough_and_views_of_it_are_maps_too(tmp_path):
    x, _ = on_disk(tmp_path, "c")
    run = fit((x[: len(X)], Y), PLAIN, batch_size=SIZE, epochs=1)
    assert_same(run, fit((X, Y), PLAIN, batch_size=SIZE, epochs=1))


def test_the_length_of_a_pass_is_found_at_its_end(chunks_of, monkeypatch):
    """In the window that it ends in, at the start of the next, and where the records have to grow first."""
    chunks_of(3)
    wanted = in_memory(PLAIN, watch=2)
    for room, most in ((4096, 1024), (4096, 2), (4096, 3), (3, 1), (4, 4)):
        monkeypatch.setattr("lectopt.training.stream_setup.ROOM", room)
        monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", most)
        called = []
        run = fit(lo.stream(batches), PLAIN, watch=2, on_epoch=functools.partial(note_steps, called))
        assert_same(run, wanted)
        assert jax.tree.all(jax.tree.map(np.array_equal, run.history.layers, wanted.history.layers))
        assert called == [4, 8, 12]


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_steps_may_end_within_a_pass_and_after_it(steps):
    for kind in ("steps per epoch", "without end", "Grain dataset"):
        assert_same(fit(KINDS[kind](), PLAIN, steps=steps), in_memory(PLAIN, steps=steps))
    run = fit(lo.stream(lambda: itertools.cycle(batches())), PLAIN, steps=6)
    assert run.history.steps_per_epoch == 6  # a pass without end is one epoch


def test_windows_and_chunks_change_nothing(chunks_of, monkeypatch):
    chunks_of(2)
    for size in (1, 3):
        monkeypatch.setattr("lectopt.training.feeding._MOST_BATCHES", size)
        assert_same(fit(lo.stream(batches)), in_memory())


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
