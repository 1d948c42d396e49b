"""`train` and `fit` as programs: equal numbers, under jit and vmap, in lanes that are alone, compiled once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from digits_mlp import TRAIN as DIGITS
from digits_mlp import apply, init, poison
from flax import nnx
from sklearn.utils.class_weight import compute_class_weight

import lectopt as lo
from lectopt.training import loop

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.digits()
X, Y = X[:60] / 16, Y[:60]
TRAIN, VALID = (X[:40], Y[:40]), (X[40:], Y[40:])
OPTIONS = {"valid": VALID, "batch_size": 16, "epochs": 3, "key": 0}


class Net(nnx.Module):
    """With all that a lane has to keep apart: weights, batch statistics, dropout."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.linear = nnx.Linear(64, 10, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.norm(x)))


@pytest.fixture(scope="module")
def task():
    return lo.classification(Net)


def lane(runs, *i):
    return jax.tree.map(lambda a: a[i], runs)


def assert_same(a, b, rtol=2e-5):
    """All arrays of two runs, to the compiler's rounding (vmapped and single programs differ in the last bits)."""
    parts = [(r.params, r.model_state, r.opt_state, r.metrics, r.history.steps, r.history.epochs) for r in (a, b)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), *parts)


PLAIN = lo.classification((init, apply))  # test_loop's too, for whose shapes it has compiled


def plain(optimizer, **options):
    return lo.fit(PLAIN, optimizer, DIGITS, **{"valid": VALID, "batch_size": 32, "epochs": 2, "key": 0} | options)


@pytest.fixture
def count_compilations():
    log = compilations()

    def count(call):
        before = len(log)
        call()
        return len(log) - before

    return count


# fit and train --------------------------------------------------------------------------------------------------------
def test_train_equals_fit(task):
    optimizer = lo.nesterov(lo.linear_decay(0.2, 9), 0.8)
    fitted = lo.fit(task, optimizer, TRAIN, **OPTIONS)
    trained = jax.jit(lambda: lo.train(task, optimizer, TRAIN, **OPTIONS))()
    assert_same(trained, fitted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained.lookahead_params, fitted.lookahead_params
    )
    assert all(isinstance(value, float) for value in fitted.metrics.values())
    assert isinstance(fitted.diverged_at, int)


def test_chunks_change_nothing(chunks_of):
    """`fit` stops anywhere within an epoch to look at the progress."""
    optimizer = lo.adam(0.01)
    whole = plain(optimizer)
    for steps in (1, 2, 100):
        chunks_of(steps)
        assert_same(plain(optimizer), whole, rtol=0)


@pytest.mark.slow
def test_examples_are_sorted_once_an_epoch(monkeypatch, eager, chunks_of):
    """However many chunks it has: of millions, sorting takes longer than a step."""
    calls, rows_of = [], loop.rows_of
    monkeypatch.setattr(loop, "rows_of", lambda *args, **options: (calls.append(0), rows_of(*args, **options))[1])
    chunks_of(1)
    plain(lo.sgd(0.1))
    assert len(calls) == 2


def test_hyperparameters_are_arguments_of_the_optimizer():
    apart = plain(lo.momentum, hyperparameters={"learning_rate": 0.1, "momentum": 0.5})
    assert_same(apart, plain(lo.momentum(0.1, 0.5)), rtol=1e-6)

    def factory(rate, kind, scheduled):  # what is not a number stays as it is
        return {"sgd": lo.sgd, "adam": lo.adam}[kind](lo.linear_decay(rate, 9) if scheduled else rate)

    apart = plain(factory, hyperparameters={"rate": 0.1, "kind": "sgd", "scheduled": True})
    assert_same(apart, plain(lo.sgd(lo.linear_decay(0.1, 9))), rtol=1e-6)


def test_other_numbers_compile_nothing(task, count_compilations):
    def fit(rate, horizon, alpha, key):
        numbers = {"learning_rate": lo.linear_decay(rate, horizon), "momentum": alpha}
        lo.fit(task, lo.momentum, TRAIN, hyperparameters=numbers, **OPTIONS | {"key": key})

    assert count_compilations(lambda: fit(0.1, 9, 0.9, 0)) > 0
    assert count_compilations(lambda: fit(0.2, 9, 0.9, 0)) == 0
    assert count_compilations(lambda: fit(np.float32(0.3), 20, np.float64(0.5), 7)) == 0
    fit(jnp.float32(0.3), 5.5, 0.0, jax.random.key(1))  # JAX compiles the copy of an array, once
    assert count_compilations(lambda: fit(jnp.float32(0.4), 6.5, 0.1, jax.random.key(2))) == 0


# Lanes ----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rates():
    return jnp.array([0.01, 0.1, 1e30, 0.3])


@pytest.fixture(scope="module")
def lanes(task, rates):
    """Four rates, the third of which diverges, by three keys."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def train(rate, key):
        return lo.train(task, lo.nesterov(rate, 0.5), TRAIN, **OPTIONS | {"key": key})

    return train(rates, jax.random.split(jax.random.key(1), 3))


def test_lanes_equal_single_runs(task, lanes, rates):
    keys = jax.random.split(jax.random.key(1), 3)
    alone = functools.partial(lo.fit, task, lo.nesterov, TRAIN)
    for i, j in ((0, 0), (1, 2), (3, 1)):
        run = alone(hyperparameters={"learning_rate": rates[i], "momentum": 0.5}, **OPTIONS | {"key": keys[j]})
        assert_same(lane(lanes, i, j), run, rtol=2e-4)


def test_a_diverged_lane_is_frozen_and_changes_no_other(lanes):
    assert np.all(lanes.diverged_at[2] >= 0)
    assert np.all(lanes.diverged_at[jnp.array([0, 1, 3])] == -1)
    assert all(np.isnan(values[2]).all() and np.isfinite(values[:2]).all() for values in lanes.metrics.values())
    first = lane(lanes, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first.params))
    assert np.isnan(first.history.epochs["train_loss"]).all()
    assert np.isnan(first.history.steps["loss"][:, 3:]).all()


@pytest.mark.slow
def test_a_run_is_evaluated_inside_a_traced_function(task):
    def score(rate):
        run = lo.train(task, lo.sgd(rate), VALID, batch_size=16, epochs=1, key=0)
        return run.evaluate(VALID)

    together = jax.jit(jax.vmap(score))(jnp.array([0.01, 0.1]))
    for i, rate in enumerate((0.01, 0.1)):
        with jax.disable_jit():
            alone = score(rate)
        for name, value in alone.items():
            assert isinstance(value, float)
            np.testing.assert_allclose(together[name][i], value, rtol=1e-4)


def test_runs_of_lanes_can_be_used_one_by_one(task, lanes):
    run = lane(lanes, 1, 2)
    np.testing.assert_allclose(run.evaluate(VALID)["loss"], run.metrics["valid_loss"], rtol=1e-5)
    assert run.model(X[:2]).shape == (2, 10)
    assert repr(run).startswith("Run(train_loss=")
    assert repr(lanes).startswith("Run(train_loss=")


# Parts of different size, one shape -----------------------------------------------------------------------------------
SIZES = (33, 32, 30)  # batches of 16: 3, 2 and 2 of them
CAPACITY = 33


def folds(filler):
    """Three parts with indices and sizes stacked; what fills them up points at one row, whatever it holds."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(40)[:size] for size in SIZES]
    stacked = np.stack([np.append(r, np.full(CAPACITY - len(r), filler)) for r in rows])
    return rows, jnp.asarray(stacked, jnp.int32), jnp.asarray(SIZES, jnp.int32)


@pytest.mark.slow
@pytest.mark.parametrize("patience", [None, 2])
def test_padded_parts_train_as_alone(task, patience):
    """Row 50 is NaN: an example that only fills up may leave no trace. The data is traced, or it would be refused."""
    rows, indices, sizes = folds(filler=50)
    arrays = (jnp.asarray(X).at[50].set(jnp.nan), jnp.asarray(Y))
    optimizer = lo.nesterov(lo.linear_decay(0.2, 9), lo.momentum_ramp(0.5, 0.9, 5))
    options = {"batch_size": 16, "epochs": 3, "key": 0, "patience": patience}

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0))
    def train(arrays, indices, size):
        part = lo.Subset(arrays, indices, size, least=30)
        return lo.train(task, optimizer, part, valid=part, **options)

    runs = train(arrays, indices, sizes)
    for i, part in enumerate(rows):
        whole = (jnp.asarray(X), jnp.asarray(Y))
        tight = lo.Subset(whole, jnp.asarray(part), jnp.int32(len(part)), least=len(part))
        with jax.disable_jit():
            alone = lo.fit(task, optimizer, tight, valid=tight, **options)
        run = lane(runs, i)
        for name in ("params", "model_state", "opt_state"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
                *(getattr(r, name) for r in (run, alone)),
            )
        np.testing.assert_allclose(run.history.epochs["train_loss"], alone.history.epochs["train_loss"], rtol=1e-4)
        np.testing.assert_allclose(run.history.epochs["valid_loss"], alone.history.epochs["valid_loss"], rtol=1e-4)
        for name in ("loss", "gradient_norm", "learning_rate"):
            record, met = run.history.steps[name].reshape(3, 3), alone.history.steps[name].reshape(3, -1)
            np.testing.assert_allclose(record[:, : met.shape[1]], met, rtol=1e-4)
            assert np.isnan(record[:, met.shape[1] :]).all()
        assert run.diverged_at == -1


def test_a_padded_part_diverges_at_the_step_that_it_met():
    """Of the part's two batches, though three have its shape."""
    _, indices, sizes = folds(filler=0)
    part = lo.Subset((jnp.asarray(X), jnp.asarray(Y)), indices[1], sizes[1], least=30)
    run = lo.train(PLAIN, poison(1), part, batch_size=16, epochs=2, key=0)
    assert run.diverged_at == 1


# Data and settings that are traced ------------------------------------------------------------------------------------
@pytest.mark.slow
def test_data_and_weights_may_be_traced(task):
    weights = np.linspace(0.5, 2, 40)

    @jax.jit
    def train(x, y, weights, key, rate):
        numbers = {"learning_rate": lo.linear_decay(rate, 9 * rate / rate)}
        return lo.train(
            task, lo.sgd, (x, y), weights=weights, hyperparameters=numbers, **OPTIONS | {"key": key}
        )  # fmt: skip

    run = train(*TRAIN, weights, jax.random.key(0), 0.1)
    with jax.disable_jit():
        alone = lo.fit(task, lo.sgd(lo.linear_decay(0.1, 9)), TRAIN, weights=weights, **OPTIONS)
    assert_same(run, alone, rtol=1e-4)


UNEVEN = (X, np.digitize(np.arange(60) * 7 % 60, [40, 55]))  # of 40, 15 and 5 examples, mixed


def first_loss(train, weights, **options):
    """The first step's loss at weights of zero, log 10 times the mean weight of the examples; all are in the batch."""
    still = lo.Task((lambda key, x: ({"w": jnp.ones(())}, ()), zeros), lambda outputs, labels: outputs[:, 0] + labels)
    run = lo.train(still, lo.sgd(0.0), train, weights=weights, batch_size=60, steps=1, key=0, **options)
    return run.history.steps["loss"][0]


def zeros(params, state, x, key, training):
    return 0 * x[:, :1] * params["w"], state


def test_balanced_weights_are_those_of_scikit_learn():
    factors = compute_class_weight("balanced", classes=np.arange(3), y=UNEVEN[1])
    wanted = np.mean(factors[UNEVEN[1]] * UNEVEN[1])
    np.testing.assert_allclose(first_loss(UNEVEN, "balanced"), wanted, rtol=1e-6)
    np.testing.assert_allclose(first_loss(UNEVEN, dict(enumerate(factors))), wanted, rtol=1e-6)


def test_balanced_weights_are_of_the_training_part_alone():
    """Each fold is balanced by its own training examples, in one program; a class may be missing from one."""
    parts = [np.r_[:30], np.flatnonzero(UNEVEN[1] < 2)[:28]]
    examples = lo.from_indices(UNEVEN, [(part, np.setdiff1d(np.arange(60), part)) for part in parts])
    with pytest.warns(UserWarning, match="batch_size 60 is larger"):
        losses = jax.jit(jax.vmap(lambda train: first_loss(train, "balanced"), in_axes=(axes(examples.train),)))(
            examples.train
        )
    for part, loss in zip(parts, losses, strict=True):
        labels = UNEVEN[1][part]
        factors = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
        wanted = np.mean(factors[np.unique(labels, return_inverse=True)[1]] * labels)
        np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def axes(part):
    return dataclasses.replace(part, arrays=None, indices=0, size=0)


@pytest.mark.slow
def test_the_derivative_of_a_training(task):
    """`train` is pure, so the validation loss has a derivative with respect to the rate."""

    def loss(rate):
        with jax.disable_jit():
            return lo.train(task, lo.sgd(rate), TRAIN, **OPTIONS | {"epochs": None, "steps": 2}).metrics["valid_loss"]

    slope = jax.jvp(loss, (0.01,), (1.0,))[1]
    np.testing.assert_allclose(slope, (loss(0.0105) - loss(0.0095)) / 0.001, rtol=0.05)


def test_any_optax_optimizer_trains():
    rates = optax.chain(optax.clip_by_global_norm(1.0), optax.contrib.reduce_on_plateau(patience=1), optax.adamw(0.01))
    run = plain(optax.apply_if_finite(rates, 3))
    assert run.history.epochs["train_loss"][-1] < run.history.epochs["train_loss"][0]


@pytest.mark.slow
def test_a_model_without_parameters():
    empty = (lambda key, x: ({}, ()), lambda params, state, x, key, training: (x[:, :10], state))
    run = lo.fit(lo.classification(empty), lo.momentum(0.1), TRAIN, **OPTIONS)
    assert np.isfinite(run.metrics["valid_loss"])
