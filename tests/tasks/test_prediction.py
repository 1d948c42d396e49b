"""Predictions in batches: equal to those of the whole, by one program, of trees, of none, inside of a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt._internal.jit_cache import cached_jit
from lectopt.tasks import prediction

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 37)


class Net(nnx.Module):
    """With what evaluation mode has to keep apart: batch statistics, dropout."""

    def __init__(self, rngs):
        self.norm, self.linear = nnx.BatchNorm(5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.norm(x)))


@pytest.fixture(scope="module")
def run():
    return lo.fit(lo.classification(Net, standardize=True), lo.sgd(0.1), (X, Y), batch_size=37, epochs=2, key=0)


def whole(run, x):
    return run.model(x)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8, 9, 16, 37])
def test_batches_give_what_the_whole_gives(run, rows):
    found = run.predict(X[:rows], batch_size=8)
    assert isinstance(found, jax.Array)
    assert found.shape == (rows, 3)
    if rows:
        np.testing.assert_allclose(found, whole(run, X[:rows]), rtol=1e-5, atol=1e-6)


def test_one_program_however_many_rows(run):
    program = cached_jit(prediction.predict, run.task).program.jitted
    run.predict(X[:20], batch_size=8)
    before = program._cache_size()
    for rows in (8, 9, 15, 31, 37, 7, 5):
        run.predict(X[:rows], batch_size=8)
    run.predict(jnp.asarray(X), batch_size=8)
    assert program._cache_size() == before
    for rows in (1, 2, 3, 4):
        run.predict(X[:rows], batch_size=8)
    assert program._cache_size() <= before + 3  # of 1, 2 and 4 rows


def test_nan_stays_in_its_row(run):
    x = X.copy()
    x[3] = np.nan
    outputs = run.predict(x, batch_size=8)
    np.testing.assert_array_equal(np.isnan(outputs).any(axis=1), np.arange(37) == 3)


@pytest.mark.slow
def test_trees(eager):
    def apply(params, state, x, key, training):
        y = x["a"] * params + x["b"][0][:, None]
        return {"sum": y.sum(axis=1), "all": (y, x["a"].astype(jnp.int32))}, state

    model = (lambda key, x: (jnp.ones(5), ()), apply)
    x = {"a": X, "b": (np.arange(37.0),)}
    task = lo.Task(model, lambda outputs, targets: outputs["sum"] * 0)
    run = lo.fit(task, lo.sgd(0.0), (x, Y), batch_size=37, steps=1, key=0)
    found = run.predict(x, batch_size=5)
    np.testing.assert_allclose(found["sum"], (X + np.arange(37)[:, None]).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(found["all"][1], X.astype(int))
    assert found["all"][1].dtype == np.int32
    assert jax.tree.structure(run.predict(jax.tree.map(lambda a: a[:0], x))) == jax.tree.structure(found)


def test_inside_of_a_trace(run):
    @jax.jit
    def scores(x):
        trained = lo.train(run.task, lo.sgd(0.1), (X, Y), batch_size=37, epochs=2, key=0)
        return run.predict(x, batch_size=8), trained.predict(X, batch_size=8), trained.classes(x), run.predict(X[:9])

    of_run, of_trained, classes, concrete = scores(X)
    wanted = whole(run, X)
    np.testing.assert_allclose(of_run, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_trained, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(classes, wanted.argmax(1))
    np.testing.assert_allclose(concrete, wanted[:9], rtol=1e-5, atol=1e-6)


BAD = {
    "features": (X[:, :3], {}, ValueError, r"x must be inputs that the model takes; of shape \(n, 3\) it does not: "),
    "one row": (X[0], {}, ValueError, r"x must be inputs that the model takes; of shape \(n, \) it does not"),
    "none of them": (X[:0, :3], {}, ValueError, r"x must be inputs that the model takes; of shape \(n, 3\)"),
    "a number": (3.0, {}, ValueError, r"x must be arrays with one row for each example; got shapes \(\)"),
    "nothing": ((), {}, ValueError, r"x must be arrays with one row for each example; got shapes "),
    "lengths": ((X, X[:3]), {}, ValueError, r"x must be arrays with one row .* got shapes \(37, 5\), \(3, 5\)"),
    "strings": (np.array(["a", "b"]), {}, TypeError, r"x must be an array of numbers; got ndarray of <U1"),
    "None": (None, {}, TypeError, r"x must be an array of numbers; got NoneType"),
    "batch of 0": (X, {"batch_size": 0}, ValueError, r"batch_size must be at least 1; got 0"),
    "batch of 2.5": (X, {"batch_size": 2.5}, TypeError, r"batch_size must be a whole number of at least 1; got 2.5"),
    "batch of None": (X, {"batch_size": None}, TypeError, r"batch_size must be a whole number .* got None"),
}


@pytest.mark.parametrize("read", ["predict", "classes"])
@pytest.mark.parametrize(("x", "options", "error", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_predicted_is_refused(run, x, options, error, message, read):
    with pytest.raises(error, match=message):
        getattr(run, read)(x, **options)


@pytest.mark.slow
def test_outputs_that_are_not_of_rows_are_refused(eager):
    model = (lambda key, x: (jnp.ones(()), ()), lambda params, state, x, key, training: (x[:1] * params, state))
    task = lo.Task(model, lambda outputs, targets: targets * jnp.sum(outputs))
    run = lo.fit(task, lo.sgd(0.0), (X, X[:, 0]), batch_size=37, steps=1, key=0)
    with pytest.raises(ValueError, match=r"outputs must have one row for each of x; got shape \(1, 5\) for 8 rows"):
        run.predict(X, batch_size=8)
