"""A device that runs out of memory while `fit` runs: fewer steps at once, nothing lost, and an error that names it."""

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.training import compiled_loop, feeding

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
MOMENTUM = lo.momentum(0.1)


def fit(data=(X, Y), **options):
    batch_size = {} if isinstance(data, lo.data.streams.Stream) else {"batch_size": 10}
    return lo.fit(TASK, MOMENTUM, data, epochs=3, key=0, progress=False, **batch_size, **options)


def out_of_memory():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")


@pytest.fixture
def small_device(monkeypatch, chunks_of):
    """A device with memory for so many steps at once, until some step; with more, a chunk raises what XLA raises."""
    advance, tried = compiled_loop.advance, []

    def fits(most, until=12):
        def small(setup, carry, stop, last):
            tried.append(int(stop) - int(carry.step))
            if tried[-1] > (most if int(carry.step) < until else 0):
                raise out_of_memory()
            return advance(setup, carry, stop, last)

        chunks_of(8)
        monkeypatch.setattr(compiled_loop, "advance", small)
        return tried

    return fits


def assert_same(run, whole):
    for one, other in zip(*(jax.tree.leaves((r.params, r.history.steps)) for r in (run, whole)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_as_many_steps_are_tried_until_they_fit(small_device):
    whole, tried = fit(), small_device(3)
    with pytest.warns(UserWarning, match="ran out of memory in a chunk of") as warned:
        run = fit()
    assert {w.filename for w in warned} == {__file__}
    assert_same(run, whole)
    assert [str(w.message).split(";")[0].split()[-2] for w in warned] == ["8", "4"]
    assert tried == [0, 1, 8, 4, 2, 2, 2, 2, 2, 1]


def test_memory_for_no_step_is_an_error_and_what_was_done_is_kept(small_device, tmp_path, monkeypatch):
    small_device(9, until=8)
    with (
        pytest.warns(UserWarning, match="training goes on with 1 at once"),
        pytest.raises(MemoryError, match=r"memory for a step, and ran out of it after 9 of 12: take a .*EXHAUSTED"),
    ):
        fit(directory=tmp_path)
    assert len(lo.load(tmp_path, TASK).history.steps["loss"]) == 9
    monkeypatch.setattr("lectopt.training.running.interactive", lambda: True)
    with pytest.warns(UserWarning, match="goes on"), pytest.warns(UserWarning, match="ended early, by MemoryError"):
        assert len(fit().history.steps["loss"]) == 9


def test_what_a_failing_chunk_was_given_is_not_used_again(monkeypatch):
    advance = compiled_loop.advance

    def fails(*arguments):
        jax.block_until_ready(advance(*arguments))
        raise out_of_memory()

    monkeypatch.setattr(compiled_loop, "advance", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        fit()


@pytest.mark.slow
def test_a_window_that_does_not_fit_beside_the_last_is_brought_after_it(monkeypatch):
    put, puts = feeding._put, []

    def fails_at_first(*arguments):
        puts.append(arguments[-1])
        if len(puts) % 2 == 0:
            raise out_of_memory()
        return put(*arguments)

    def batches():
        for i in range(0, 40, 10):
            yield X[i : i + 10], Y[i : i + 10]

    stream = lo.stream(batches, 4)
    whole = fit(stream)
    monkeypatch.setattr(feeding, "_put", fails_at_first)
    monkeypatch.setattr(feeding.Feed, "prefetch", waiting(feeding.Feed.prefetch))
    assert_same(fit(stream), whole)
    assert len(puts) > 3


def waiting(prefetch):
    """Prefetching, once there is something to bring, if anything follows."""

    def call(feed):
        while feed._read is None and feed._queue.empty() and feed._thread.is_alive():
            pass
        prefetch(feed)

    return call
