"""What `fit` takes from those who use it for the first time, and what it says to what it cannot take."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from flax import linen, nnx

import lectopt as lo

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32) + (X[:, 1] > 0)
DATA = (X, Y)
SETTINGS = {"batch_size": 20, "epochs": 2, "key": 0}


def linear(rngs):
    return nnx.Linear(4, 3, rngs=rngs)


TASK = lo.classification(linear)


def test_complex_weights_learn():
    """The gradient that JAX gives has to be conjugated for them."""
    model = (lambda key, x: (jnp.zeros(2, jnp.complex64), ()), lambda p, s, x, key, training: (p[None] * x, s))
    task = lo.Task(model, lambda outputs, targets: jnp.sum(jnp.abs(outputs - targets) ** 2, axis=-1))
    ones = np.ones((20, 2), np.complex64)
    target = np.array([1 + 2j, -1j], np.complex64)
    run = lo.fit(task, lo.sgd(0.1), (ones, ones * target), batch_size=20, epochs=100, key=0)
    np.testing.assert_allclose(run.params, target, rtol=1e-5)


def test_a_whole_number_compiles_nothing_after_a_fraction():
    log = compilations()
    lo.fit(TASK, lo.momentum, DATA, hyperparameters={"learning_rate": 0.1}, **SETTINGS)
    before = len(log)
    lo.fit(TASK, lo.momentum, DATA, hyperparameters={"learning_rate": 1}, **SETTINGS)
    assert len(log) == before


@pytest.mark.slow
def test_a_start_has_to_be_beaten_under_patience():
    good = lo.fit(TASK, lo.adam(0.1), DATA, valid=DATA, batch_size=20, epochs=60, key=0)
    worse = lo.fit(TASK, lo.sgd(20.0), DATA, valid=DATA, patience=1, start=good.params, **SETTINGS)
    assert worse.metrics["valid_loss"] == pytest.approx(good.metrics["valid_loss"], rel=1e-5)
    jax.tree.map(np.testing.assert_array_equal, worse.params, good.params)


def test_another_optimizers_state_is_refused_though_its_shapes_fit():
    run = lo.fit(TASK, lo.adagrad(0.1), DATA, **SETTINGS)
    with pytest.raises(ValueError, match="must be a run of this optimizer"):
        lo.fit(TASK, lo.scale_by_rmsprop(), DATA, start=run, **SETTINGS)
    with pytest.raises(ValueError, match="must have the parameters of this task"):
        lo.fit(TASK, lo.sgd(0.1), DATA, start={"weights": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}, **SETTINGS)


@pytest.mark.slow
def test_line_search_runs():
    run = lo.fit(TASK, optax.lbfgs(), DATA, batch_size=60, epochs=10, key=0)
    assert run.metrics["train_loss"] < 0.5


def test_factories_with_rngs_by_name():
    class Net(nnx.Linear):
        def __init__(self, *, rngs):
            super().__init__(4, 3, rngs=rngs)

    for factory in (Net, functools.partial(nnx.Linear, 4, 3)):
        assert np.isfinite(lo.fit(lo.classification(factory), lo.sgd(0.1), DATA, **SETTINGS).metrics["train_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["train", "training", "deterministic"])
def test_linen_flags_of_training(flag):
    """Dropout of everything: all outputs are 0 in training, and are not in evaluation."""

    class Net(linen.Module):
        def forward(self, x, deterministic):
            return linen.Dropout(1.0, deterministic=deterministic)(linen.Dense(3)(x))

        if flag == "train":
            __call__ = linen.compact(lambda self, x, train: self.forward(x, not train))
        elif flag == "training":
            __call__ = linen.compact(lambda self, x, training: self.forward(x, not training))
        else:
            __call__ = linen.compact(lambda self, x, deterministic: self.forward(x, deterministic))

    run = lo.fit(lo.classification(Net()), lo.sgd(0.0), DATA, **SETTINGS)
    assert run.metrics["train_loss"] == pytest.approx(np.log(3), rel=1e-6)
    assert np.abs(run.predict(X)).min() > 0


def test_a_run_of_many_lanes_says_how_to_take_one():
    runs = jax.jit(jax.vmap(lambda rate: lo.train(TASK, lo.sgd(rate), DATA, **SETTINGS)))(jnp.array([0.1, 0.2]))
    for use in (lambda: runs.model, lambda: runs.predict(X), lambda: runs.evaluate(DATA)):
        with pytest.raises(ValueError, match="take one"):
            use()
    one = jax.tree.map(lambda leaf: leaf[0], runs)
    assert one.predict(X).shape == (60, 3)


def test_fit_under_a_trace_points_to_train():
    with pytest.raises(TypeError, match=r"call lectopt\.train"):
        jax.vmap(lambda x: lo.fit(TASK, lo.sgd(0.1), (x, Y), **SETTINGS).params)(X[None])


BAD = {
    "a metric called loss": lambda: lo.classification(linear, metrics={"loss": lambda o, t: t}),
    "a loss by name": lambda: lo.Task(linear, "mse"),
    "a metric by name": lambda: lo.classification(linear, metrics={"f1": "f1"}),
    "lists": lambda: lo.fit(TASK, lo.sgd(0.1), (X.tolist(), Y.tolist()), **SETTINGS),
    "a class that is not there": lambda: lo.fit(TASK, lo.sgd(0.1), DATA, weights={7: 2.0}, **SETTINGS),
    "augment drops the labels": lambda: lo.fit(TASK, lo.sgd(0.1), DATA, augment=lambda k, b: b[:1], **SETTINGS),
    "augment of one argument": lambda: lo.fit(TASK, lo.sgd(0.1), DATA, augment=lambda b: b, **SETTINGS),
    "an unhashable hyperparameter": lambda: lo.fit(
        TASK, optax.adamw, DATA, hyperparameters={"learning_rate": 0.1, "mask": {"kernel": True}}, **SETTINGS
    ),
    "a Linen class": lambda: lo.classification(linen.Dense),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_refused(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert "must" in str(caught.value)
    assert "racer" not in str(caught.value)
