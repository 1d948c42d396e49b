"""Losses, metrics and objectives, against numbers computed apart; and what tasks refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from sklearn.metrics import explained_variance_score, log_loss

import lectopt as lo
from lectopt.evaluation import evaluate

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1030, 5)).astype(np.float32)  # more than are scored at once, and no multiple of it
LABELS = RNG.integers(0, 4, 1030)
STILL = {"batch_size": 500, "steps": 1, "key": 0}


def flat(width, shape=()):
    """A model of one linear layer with outputs [n, *shape, width]."""

    def model(rngs):
        linear = nnx.Linear(5, int(np.prod(shape)) * width, rngs=rngs)
        return nnx.Sequential(linear, lambda h: h.reshape(*h.shape[:1], *shape, width))

    return model


def trained(task, y):
    return lo.fit(task, lo.sgd(0.1), (X, y), **STILL)


# Losses and metrics ---------------------------------------------------------------------------------------------------
def test_classification():
    run = trained(lo.classification(flat(4)), LABELS)
    logits = np.asarray(run.predict(X), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = run.evaluate((X, LABELS))
    np.testing.assert_allclose(scores["loss"], log_loss(LABELS, p), rtol=1e-5)
    np.testing.assert_allclose(scores["accuracy"], np.mean(logits.argmax(1) == LABELS), rtol=1e-6)


def test_several_labels_for_each_example():
    labels = RNG.integers(0, 4, (1030, 2, 3))
    run = trained(lo.classification(flat(4, (2, 3))), labels)
    logits = np.asarray(run.predict(X), np.float64).reshape(-1, 4)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = run.evaluate((X, labels))
    np.testing.assert_allclose(scores["loss"], log_loss(labels.ravel(), p), rtol=1e-5)
    np.testing.assert_allclose(scores["accuracy"], np.mean(logits.argmax(1) == labels.ravel()), rtol=1e-6)


@pytest.mark.parametrize(("width", "shape"), [(1, ()), (3, ()), (3, (2,))])
def test_regression(width, shape):
    """The mean over examples of the *sum* over outputs; the absolute error is a mean over both."""
    y = RNG.normal(size=(1030, *shape, width)).astype(np.float32)
    run = trained(lo.regression(flat(width, shape)), y)
    errors = (np.asarray(run.predict(X), np.float64) - y).reshape(1030, -1)
    scores = run.evaluate((X, y))
    np.testing.assert_allclose(scores["loss"], np.mean(np.sum(errors**2, axis=1)), rtol=1e-5)
    np.testing.assert_allclose(scores["absolute_error"], np.mean(np.abs(errors)), rtol=1e-5)


def test_regression_of_one_number_without_an_axis():
    model = lambda rngs: nnx.Sequential(nnx.Linear(5, 1, rngs=rngs), lambda h: h[:, 0])  # noqa: E731
    y = X[:, 0]
    run = trained(lo.regression(model), y)
    np.testing.assert_allclose(run.evaluate((X, y))["loss"], np.mean((run.predict(X) - y) ** 2), rtol=1e-5)


def test_half_precision_outputs_are_scored_in_float32():
    def model(rngs):
        return nnx.Linear(5, 1, dtype=jnp.float16, param_dtype=jnp.float16, rngs=rngs)

    y = np.full((1030, 1), 300, np.float16)  # its square overflows
    run = lo.fit(lo.regression(model), lo.sgd(0.0), (X.astype(np.float16), y), **STILL)
    np.testing.assert_allclose(run.metrics["train_loss"], 9e4, rtol=0.02)
    assert all(leaf.dtype == np.float16 for leaf in jax.tree.leaves(run.params))


@lo.whole_set
def explained_variance(outputs, targets, weights):
    def variance(values):
        mean = jnp.average(values, axis=0, weights=weights)
        return jnp.average((values - mean) ** 2, axis=0, weights=weights)

    return jnp.mean(1 - variance(targets - outputs) / variance(targets))


@pytest.mark.parametrize("count", [7, 1024, 1025, 1030])
def test_metrics_of_all_outputs_at_once(count):
    y = X @ RNG.normal(size=(5, 2)).astype(np.float32)
    task = lo.regression(flat(2), metrics={"explained": explained_variance})
    run = lo.fit(task, lo.sgd(0.05), (X, y), valid=(X[:count], y[:count]), batch_size=100, steps=8, key=0)
    wanted = explained_variance_score(y[:count], run.predict(X[:count]))
    np.testing.assert_allclose(run.evaluate((X[:count], y[:count]))["explained"], wanted, rtol=1e-4)
    np.testing.assert_allclose(run.metrics["valid_explained"], wanted, rtol=1e-4)


def test_what_fills_up_counts_in_no_score():
    """A part of 6 of 9 indices; the others point at a row that would spoil everything."""
    y = X @ np.ones((5, 1), np.float32)
    rows = np.array([4, 9, 2, 7, 30, 1])
    part = lo.Subset(
        (jnp.asarray(X).at[50].set(jnp.nan), jnp.asarray(y)), jnp.array([*rows, 50, 50, 50]), jnp.int32(6), least=6
    )
    task = lo.regression(flat(1), metrics={"explained": explained_variance})
    params, state = task.init(jax.random.key(0), part.arrays)
    scores = evaluate(task, params, state, part)
    outputs, _ = task.outputs(params, state, X[rows], jax.random.key(0), False)
    np.testing.assert_allclose(scores["loss"], np.mean((outputs - y[rows]) ** 2), rtol=1e-5)
    np.testing.assert_allclose(scores["explained"], explained_variance_score(y[rows], outputs), rtol=1e-4)


def test_an_infinite_loss_is_infinite_whatever_fills_up():
    """The first example also fills up the last of two batches; 0 times infinity would be NaN there."""
    task = lo.Task(flat(1), lambda outputs, targets: jnp.where(targets[:, 0] == 0, jnp.inf, 1.0))
    part = lo.subsets.as_subset((X[:1025], np.arange(1025)[:, None]))
    scores = evaluate(task, *task.init(jax.random.key(0), part.arrays), part)
    assert scores["loss"] == np.inf


# Objectives: a variational autoencoder --------------------------------------------------------------------------------
PIXELS = lo.datasets.digits()[0] / 16
CODE = 4


def elbo_loss(decode, encoded, x, key):
    """-ELBO of Bernoulli pixels under a standard normal prior, and its two parts."""
    mean, log_sd = jnp.split(encoded, 2, axis=-1)
    z = mean + jnp.exp(log_sd) * jax.random.normal(key, mean.shape)
    logits = decode(z)
    reconstruction = jnp.sum(jax.nn.softplus(logits) - x * logits, axis=-1)
    divergence = jnp.sum((jnp.exp(2 * log_sd) + mean**2 - 1) / 2 - log_sd, axis=-1)
    return reconstruction + divergence, {"divergence": divergence}


class NNXVAE(nnx.Module):
    def __init__(self, rngs):
        self.a, self.encoder = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 2 * CODE, rngs=rngs)
        self.b, self.decoder = nnx.Linear(CODE, 32, rngs=rngs), nnx.Linear(32, 64, rngs=rngs)

    def encode(self, x):
        return self.encoder(nnx.relu(self.a(x)))

    def decode(self, z):
        return self.decoder(nnx.relu(self.b(z)))


class LinenVAE(linen.Module):
    def setup(self):
        self.a, self.encoder = linen.Dense(32), linen.Dense(2 * CODE)
        self.b, self.decoder = linen.Dense(32), linen.Dense(64)

    def encode(self, x):
        return self.encoder(linen.relu(self.a(x)))

    def decode(self, z):
        return self.decoder(linen.relu(self.b(z)))

    def __call__(self, x):
        return self.decode(self.encode(x)[:, :CODE])


def vae_init(key, x):
    shapes = {"a": (64, 32), "encoder": (32, 2 * CODE), "b": (CODE, 32), "decoder": (32, 64)}
    keys = jax.random.split(key, 4)
    return {n: jax.random.normal(k, s) / s[0] ** 0.5 for k, (n, s) in zip(keys, shapes.items(), strict=True)}, ()


def vae_apply(params, state, x, key, training):
    kind, value = x
    a, b = ("a", "encoder") if kind == "encode" else ("b", "decoder")
    return jax.nn.relu(value @ params[a]) @ params[b], state


def of_module(module, batch, key):
    (x,) = batch
    return elbo_loss(module.decode, module.encode(x), x, key)


def of_function(model, batch, key):
    (x,) = batch
    return elbo_loss(lambda z: model(("decode", z)), model(("encode", x)), x, key)


VAES = {
    "nnx": lambda: lo.Task(NNXVAE, objective=of_module),
    "linen": lambda: lo.Task(LinenVAE(), objective=of_module),
    "functions": lambda: lo.Task((vae_init, vae_apply), objective=of_function),
}


@pytest.mark.parametrize("kind", VAES)
def test_an_objective_takes_the_model_apart(kind):
    run = lo.fit(VAES[kind](), lo.sgd(0.0), (PIXELS[:100],), valid=(PIXELS[:100],), **STILL | {"batch_size": 100})
    assert set(run.metrics) == {"train_loss", "valid_loss", "valid_divergence"}
    assert run.metrics["train_loss"] > 42  # about 64 log 2 = 44.4, as nothing is known yet
    assert run.metrics["valid_loss"] != run.metrics["train_loss"]  # of another draw


@pytest.mark.parametrize("kind", ["nnx", *(pytest.param(k, marks=pytest.mark.slow) for k in ("linen", "functions"))])
def test_a_variational_autoencoder_learns(kind):
    """Its bound on -log p(x) starts about 64 log 2 = 44.4 nats, and ends below what the mean picture alone reaches."""
    mean = PIXELS.mean(0).clip(1e-6, 1 - 1e-6)
    blind = -np.mean(np.sum(PIXELS * np.log(mean) + (1 - PIXELS) * np.log(1 - mean), axis=1))
    with jax.disable_jit(False):
        run = lo.fit(
            VAES[kind](), lo.adam(3e-3), (PIXELS[:1500],), valid=(PIXELS[1500:],), batch_size=50, epochs=20, key=0
        )
    losses = run.history.epochs["valid_loss"]
    assert run.history.steps["loss"][0] > 42
    assert blind - losses[-1] > 2  # nats; the mean picture needs `blind`
    assert run.metrics["valid_divergence"] > 1  # it says something about the picture


def test_an_objective_draws_anew_at_each_step():
    def noise(module, batch, key):
        return jax.random.normal(key, batch[0].shape[:1]), {}

    task = lo.Task(flat(1), objective=noise)
    losses = lo.fit(task, lo.sgd(0.0), (X,), batch_size=103, epochs=2, key=0).history.steps["loss"]
    assert len(set(losses.tolist())) == 20


# What is refused ------------------------------------------------------------------------------------------------------
def loss(outputs, targets):
    return jnp.sum((outputs - targets) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of loss and objective"),
        ({"loss": loss, "objective": of_module}, "exactly one of loss and objective"),
        ({"objective": of_module, "metrics": {"a": loss}}, "metrics go with a loss"),
    ],
)
def test_tasks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lo.Task(flat(1), **arguments)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (lambda: lo.Task(flat(1), lambda o, t: jnp.mean((o - t) ** 2)), r"loss must be one number per example.*\(7,\)"),
        (lambda: lo.Task(flat(1), lambda o, t: (o - t) ** 2), r"loss must be one number per .* got shape \(7, 1\)"),
        (
            lambda: lo.Task(flat(1), loss, {"worst": lambda o, t: jnp.max(o)}),
            r"the worst must be one number .*shape \(\)",
        ),
    ],
)
def test_losses_and_metrics_are_per_example(task, message):
    with pytest.raises(ValueError, match=message):
        lo.fit(task(), lo.sgd(0.1), (X, X[:, :1]), batch_size=7, steps=1, key=0)
