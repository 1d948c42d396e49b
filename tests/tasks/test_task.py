"""Losses, metrics and objectives, against numbers computed apart; and what tasks refuse."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from sklearn.metrics import explained_variance_score, log_loss
from strict_modes import strict

import lectopt as lo
from lectopt.data.subsets import as_subset
from lectopt.tasks.evaluation import evaluate
from lectopt.tasks.example_checks import check_fit
from lectopt.tasks.model_state import learn_inputs

pytestmark = pytest.mark.filterwarnings("error")

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


@pytest.mark.parametrize("count", [7, 1025, *(pytest.param(n, marks=pytest.mark.slow) for n in (1024, 1030))])
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
    part = as_subset((X[:1025], np.arange(1025)[:, None]))
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


@pytest.mark.parametrize("kind", ["nnx", *(pytest.param(k, marks=pytest.mark.slow) for k in VAES if k != "nnx")])
def test_an_objective_takes_the_model_apart(kind):
    run = lo.fit(VAES[kind](), lo.sgd(0.0), (PIXELS[:100],), valid=(PIXELS[:100],), **STILL | {"batch_size": 100})
    assert set(run.metrics) == {"train_loss", "valid_loss", "valid_divergence"}
    assert run.metrics["train_loss"] > 42  # about 64 log 2 = 44.4, as nothing is known yet
    assert run.metrics["valid_loss"] != run.metrics["train_loss"]  # of another draw


@pytest.mark.slow
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


SMALL = X[:8], LABELS[:8]


def linear(rngs):
    return nnx.Linear(5, 4, rngs=rngs)


def puts_out(what):
    return lambda rngs: nnx.Sequential(linear(rngs), what)


def whole(returned):
    return lambda: lo.classification(linear, metrics={"f": lo.whole_set(lambda o, t, w: returned(o, w))})


BAD_RETURNS = {
    "dict": (
        lambda: lo.classification(puts_out(lambda h: {"logits": h})),
        TypeError,
        "one array .* dict with 'logits'",
    ),
    "tuple": (
        lambda: lo.classification(puts_out(lambda h: (h, h))),
        TypeError,
        "outputs must be one array .* tuple of 2",
    ),
    "None": (lambda: lo.classification(puts_out(lambda h: None)), TypeError, "outputs must be one array .* got None"),
    "loss": (lambda: lo.Task(linear, lambda o, t: 1.0), TypeError, "losses .* must be arrays here; got float"),
    "two losses": (lambda: lo.Task(linear, lambda o, t: (o, o)), TypeError, "must be arrays here; got tuple of 2"),
    "complex": (lambda: lo.Task(linear, lambda o, t: 1j * o[:, 0]), ValueError, "the loss must be real numbers"),
    "objective": (
        lambda: lo.Task(linear, objective=lambda m, b, k: m(b[0])[:, 0]),
        TypeError,
        r"objective must return a pair \(losses, .*it returned an array of shape \(8,\)",
    ),
    "its metrics": (
        lambda: lo.Task(linear, objective=lambda m, b, k: (m(b[0])[:, 0], [])),
        TypeError,
        "an objective's metrics must be a dictionary",
    ),
    "whole: vector": (whole(lambda o, w: w), ValueError, r"metric 'f' of the whole set .* array of shape \(8,\)"),
    "whole: dict": (
        whole(lambda o, w: {"a": 1.0}),
        ValueError,
        "'f' of the whole set must return one number; got dict",
    ),
    "whole: None": (whole(lambda o, w: None), ValueError, "'f' of the whole set must return one number; got None"),
    "whole: complex": (whole(lambda o, w: 1j * o[0, 0]), ValueError, "metric 'f' must be real numbers; got complex64"),
}


@pytest.mark.parametrize("name", BAD_RETURNS)
def test_what_functions_return_is_checked_before_anything_compiles(name):
    task, error, message = BAD_RETURNS[name]
    with pytest.raises(error, match=message):
        check_fit(task(), SMALL, LABELS[:8], "train")


def test_a_whole_set_metric_may_return_a_plain_number():
    check_fit(whole(lambda o, w: 1)(), SMALL, LABELS[:8], "train")


BAD_ARGUMENTS = {
    "standardize": ({"standardize": "no"}, TypeError, "standardize must be True or False; got 'no'"),
    "metrics": ({"metrics": [loss]}, TypeError, "metrics must be a dictionary by their names; got a list"),
    "name": ({"metrics": {3: loss}}, TypeError, "metrics must have strings for names; got 3"),
    "metric": ({"metrics": {"a": 3}}, TypeError, r"metrics\['a'\] must be a function \(outputs, targets\); got int"),
    "loss": (
        {"loss": lambda outputs: outputs},
        TypeError,
        r"loss must be a function \(outputs, targets\); got .*\(outputs\)",
    ),
    "check": ({"check": 3}, TypeError, "check must be a function .* got int"),
    "baseline_loss": (
        {"baseline_loss": lambda targets: 1.0},
        TypeError,
        r"baseline_loss must be a function \(targets, weights\)",
    ),
    "activation": ({"activation": "relu"}, ValueError, "activation must be one of 'identity', .* got 'relu'"),
    "bias": ({"output_bias": 5, "activation": "softmax"}, TypeError, "output_bias must be a path .* got 5"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_arguments_of_another_kind_are_refused(name):
    arguments, error, message = BAD_ARGUMENTS[name]
    with pytest.raises(error, match=message):
        lo.Task(linear, **{"loss": loss} | arguments)


def test_functions_of_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"whole set must be a function \(outputs, targets, weights\)"):
        lo.whole_set(lambda outputs, targets: 1.0)
    with pytest.raises(TypeError, match=r"objective must be a function \(module, batch, key\)"):
        lo.Task(linear, objective=lambda module, batch: None)


BAD_PLACES = {
    "kernel": ("kernel", r"one number for each of the outputs, of shape \(4,\); kernel has shape \(5, 4\)"),
    "kernel by a function": (lambda m: m.kernel, r"kernel has shape \(5, 4\)"),
    "no such": ("nope", "must be one of the parameters bias, kernel; got nope"),
    "no such attribute": (lambda m: m.nope, "module -> variable; it raises AttributeError"),
    "no variable": (lambda m: m, "must return a variable of the module, .* returned a Linear"),
}


@pytest.mark.parametrize("name", BAD_PLACES)
def test_an_output_bias_is_a_bias(name):
    place, message = BAD_PLACES[name]
    with pytest.raises(ValueError, match=f"output_bias.*{message}"):
        check_fit(lo.classification(linear, output_bias=place), SMALL, LABELS[:8], "train")
    hidden = lambda rngs: nnx.Sequential(nnx.Linear(5, 7, rngs=rngs), nnx.Linear(7, 4, rngs=rngs))  # noqa: E731
    with pytest.raises(ValueError, match=r"layers/0/bias has shape \(7,\)"):
        check_fit(lo.classification(hidden, output_bias="layers/0/bias"), SMALL, LABELS[:8], "train")


AUGMENTS = {
    "rows": (
        lambda key, batch: (batch[0][:2], batch[1]),
        r"array 0 of the batch, float32\[4, 5\], into float32\[2, 5\]",
    ),
    "columns": (lambda key, batch: (batch[0][:, :3], batch[1]), r"into float32\[4, 3\]"),
    "dtype": (lambda key, batch: (batch[0].astype(jnp.float16), batch[1]), r"into float16\[4, 5\]"),
    "labels": (lambda key, batch: (batch[0], batch[1] / 1), r"array 1 of the batch, int32\[4\], into float32\[4\]"),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_augment_keeps_shapes_and_dtypes(name):
    augment, message = AUGMENTS[name]
    with pytest.raises(ValueError, match=f"augment must keep shapes and dtypes.*{message}"):
        lo.fit(lo.classification(linear), lo.sgd(0.1), SMALL, batch_size=4, steps=1, key=0, augment=augment)


@pytest.mark.slow
@pytest.mark.parametrize(
    "use", ["predict and evaluate", *(pytest.param(u, marks=pytest.mark.slow) for u in ("inspect", "watch"))]
)
def test_a_task_goes_with_its_last_reference(use):
    """JAX keeps programs, and their static arguments, for ever."""
    task = lo.classification(linear)
    there = weakref.ref(task)
    if use == "inspect":
        lo.inspect(task, SMALL, key=0)
    else:
        watch = 1 if use == "watch" else None
        run = lo.train(task, lo.sgd(0.1), SMALL, batch_size=4, steps=1, key=0, watch=watch)
        np.testing.assert_array_equal(run.predict(SMALL[0]), run.predict(SMALL[0]))
        run.evaluate(SMALL)
        del run
    del task
    gc.collect()
    assert there() is None


def strict_apply(params, state, x, key, training):
    return x @ params["w"] + jnp.stack(params["b"])[None], {"n": state["n"] + 1}


STRICT = {
    "nnx": lambda: lo.classification(linear, standardize=True, output_bias="bias", metrics={"e": mean_of_first}),
    "linen": lambda: lo.regression(linen.Dense(5), standardize=True, output_bias="bias"),
    "functions": lambda: lo.classification(
        (lambda key, x: ({"w": np.ones((5, 4)), "b": [0.0, 1.0, 2.0, 3.0]}, {"n": 0}), strict_apply), standardize=True
    ),
}


@lo.whole_set
def mean_of_first(outputs, targets, weights):
    return jnp.average(outputs[:, 0], weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRICT)
def test_tasks_leak_no_tracers(name):
    x, y = SMALL if name != "linen" else (X[:8], X[:8])
    with jax.checking_leaks():
        check_fit(STRICT[name](), (x, y), y, "train")


def outcome(name):
    """What becomes of a task: its scores, its baseline and gradients, with inputs and bias learned."""
    x, y = SMALL if name != "linen" else (X[:8], X[:8])
    task, part = STRICT[name](), as_subset((x, y))
    check_fit(task, (x, y), y, "train")

    @jax.jit
    def learn():
        params, state = task.init(jax.random.key(0), (x, y))
        state = learn_inputs(state, part)
        params = task.learn_output_bias(params, part)
        gradients = jax.grad(lambda p: task.scores(p, state, (x, y), jax.random.key(0), True)[0].losses.mean())(params)
        return evaluate(task, params, state, part), task.baseline_loss(part), gradients

    return learn()


@pytest.mark.parametrize("name", STRICT)
def test_tasks_under_strict_modes(name):
    """The model starts, learns inputs and bias, scores, and is evaluated as without them."""
    plain = outcome(name)
    with strict():
        jax.tree.map(np.testing.assert_array_equal, outcome(name), plain)
