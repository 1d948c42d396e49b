"""What `fit` need not do a second time: trace, compile, look at examples that cannot have changed, start slowly."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import traces_and_compilations
from flax import nnx

import lectopt as lo
from lectopt.data import subsets
from lectopt.norms import moment_checks
from lectopt.tasks import labels
from lectopt.training import chunks, compiled_loop
from lectopt.training.arguments import TrainingArguments
from lectopt.training.setup import prepare

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
STEPS = 12


def fit(task, data, **options):
    settings = {"batch_size": 10, "epochs": 3, "key": 0, "hyperparameters": {"learning_rate": 0.1}, "progress": False}
    return lo.fit(task, lo.nesterov, data, valid=data, **settings | options)


def scale(key, batch):
    return 2 * batch[0], batch[1]


def spread(outputs, targets, weights):
    return jnp.std(outputs)


def make_task():
    return lo.classification(
        lambda rngs: nnx.Linear(4, 2, rngs=rngs), standardize=True, metrics={"spread": lo.whole_set(spread)}
    )


@pytest.fixture
def stops(monkeypatch):
    """The steps that the compiled loop is called to run to."""
    log, advance = [], compiled_loop.advance

    def noted(setup, carry, stop, last):
        log.append(int(stop))
        return advance(setup, carry, stop, last)

    monkeypatch.setattr(compiled_loop, "advance", noted)
    return log


def test_an_equal_fit_traces_and_compiles_nothing_and_begins_with_what_the_first_one_measured(stops, monkeypatch):
    task, data, log = make_task(), (X, Y), traces_and_compilations()
    monkeypatch.setattr(chunks, "next_size", lambda *_, **__: 7)
    fit(task, data, augment=scale, watch=2, patience=2)
    assert stops == [0, 1, 8, STEPS]  # the first one compiles
    before = len(log)
    assert before > 0
    fit(task, data, augment=scale, watch=2, patience=2, hyperparameters={"learning_rate": 0.2}, key=1)
    assert log[before:] == []
    assert stops[4:] == [7, STEPS]


@pytest.fixture
def looks(monkeypatch):
    """The checks that look at all examples, as they are made."""
    log = []
    for owner, name in (
        (subsets, "check_finite_array"),
        (moment_checks, "check_learnable"),
        (labels.OneOf, "_check_values"),
    ):
        check = getattr(owner, name)

        def counted(*arguments, check=check, name=name):
            if name != "_check_values" or arguments[1] is not None:  # labels, not just their shape
                log.append(name)
            return check(*arguments)

        monkeypatch.setattr(owner, name, counted)
    return log


def check(task, data):
    """What `fit` does before it trains."""
    prepare(TrainingArguments(task, lo.sgd(0.1), data, valid=data, batch_size=10, epochs=1, key=0))


def test_arrays_that_cannot_change_are_looked_at_once(looks):
    task, data = make_task(), (jnp.asarray(X), jnp.asarray(Y))
    check(task, data)
    # Inputs and labels, which serve as validation examples too, in batches of another size.
    assert sorted(looks) == ["_check_values"] * 2 + ["check_finite_array"] * 2 + ["check_learnable"]
    check(task, data)
    part = lo.Subset(data, jnp.arange(20), jnp.int32(20), least=20)  # other rows have other moments
    check(task, part)
    check(task, part)
    assert sorted(looks[5:]) == ["_check_values", "check_learnable"]


def test_arrays_that_can_change_are_looked_at_each_time(looks):
    task, (x, y) = make_task(), (X.copy(), Y.copy())
    check(task, (x, y))
    count = len(looks)
    check(task, (x, y))
    assert len(looks) == 2 * count
    x[3] = np.nan
    with pytest.raises(ValueError, match="the first in row 3"):
        check(task, (x, y))
    x[3], y[5] = 0, 2
    with pytest.raises(ValueError, match=r"labels must .*2"):
        check(task, (x, y))


def test_another_task_looks_at_the_labels_again():
    data = jnp.asarray(X), jnp.asarray(Y + 1)
    three, two = (lo.classification(lambda rngs, k=k: nnx.Linear(4, k, rngs=rngs)) for k in (3, 2))
    check(three, data)
    with pytest.raises(ValueError, match="labels must"):
        check(two, data)


class Program:
    """Stands for a compiled one."""


@pytest.mark.slow
def test_chunks_grow_to_a_quarter_of_a_second():
    program, other = Program(), Program()
    first = chunks.Chunks(program)
    assert (first.size, first.is_measured) == (1, False)
    first.update(1, 1e-6)
    assert (first.size, first.is_measured) == (16, True)
    first.update(16, 0.016)
    assert first.size == 250
    first.update(0, 0.1)  # a training that had ended
    assert first.size >= 1
    first.update(4, 0.5)
    assert (chunks.Chunks(program).size, chunks.Chunks(other).size) == (2, 1)
    gc.collect()
    before = len(chunks._sizes)
    del program, first
    gc.collect()
    assert len(chunks._sizes) == before - 1


@pytest.mark.slow
def test_the_records_of_an_uncompiled_training_are_arrays():
    """As those of a compiled one, whatever was computed on the host."""
    with jax.disable_jit():
        task = lo.classification(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
        run = lo.train(task, lo.sgd(0.1), (X, Y), batch_size=40, epochs=1, key=0)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(run))
