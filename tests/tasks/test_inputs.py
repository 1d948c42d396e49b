"""Models with several inputs; objectives that see step and mask; sequences weighed by their tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import lectopt as lo

X, Y = (a[:77] for a in lo.datasets.digits())
LEFT, RIGHT = X[:, :32], X[:, 32:]
SETTINGS = {"batch_size": 32, "key": 0}


class Both(nnx.Module):
    def __init__(self, rngs):
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, left, right, train=False):
        return self.out(jnp.concatenate([left, right], axis=-1))


class Named(nnx.Module):
    def __init__(self, rngs):
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.concatenate([x["left"], x["right"]], axis=-1))


class LinenBoth(linen.Module):
    @linen.compact
    def __call__(self, left, *others, train=False):
        return linen.Dense(10)(jnp.concatenate([left, *others], axis=-1))


def init(key, x):
    return {"w": jax.random.normal(key, (64, 10)) / 8}, ()


def apply(params, state, x, key, training):
    return jnp.concatenate(x, axis=-1) @ params["w"], state


def fit(task, examples, optimizer=None, **options):
    options = {"steps": 6, **SETTINGS, **options}
    return lo.fit(task, optimizer or lo.momentum(0.01), examples, progress=False, **options)


@pytest.mark.slow
def test_two_inputs_are_those_of_one_array_split():
    whole = fit(lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs)), (X, Y), valid=(X, Y))
    start = {"out": whole.task.init(jax.random.fold_in(jax.random.key(0), 2), (X, Y))[0]}
    both = fit(lo.classification(Both, inputs=2), (LEFT, RIGHT, Y), valid=(LEFT, RIGHT, Y), start=start)
    named = fit(lo.classification(Named), ({"left": LEFT, "right": RIGHT}, Y), start=start)
    for other in (both, named):
        np.testing.assert_allclose(other.history.steps["loss"], whole.history.steps["loss"], rtol=1e-5)
    np.testing.assert_allclose(both.metrics["valid_loss"], whole.metrics["valid_loss"], rtol=1e-5)
    np.testing.assert_allclose(both.predict((LEFT, RIGHT)), whole.predict(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(both.classes((LEFT[:3], RIGHT[:3])), whole.classes(X[:3]))
    assert both.evaluate((LEFT, RIGHT, Y))["loss"] == pytest.approx(whole.evaluate((X, Y))["loss"], rel=1e-5)


@pytest.mark.parametrize("model", [LinenBoth(), (init, apply)], ids=["linen", "functions"])
def test_linen_modules_and_functions_take_two_inputs(model, tmp_path):
    task = lo.classification(model, inputs=2)
    run = fit(task, (LEFT, RIGHT, Y))
    assert run.history.steps["loss"][-1] < run.history.steps["loss"][0]
    run.save(tmp_path / "run")
    again = lo.load(tmp_path / "run", task)
    np.testing.assert_array_equal(again.predict((LEFT, RIGHT)), run.predict((LEFT, RIGHT)))


@pytest.mark.slow
def test_what_looks_at_tasks_takes_two_inputs():
    task = lo.classification(Both, inputs=2)
    examples = (LEFT, RIGHT, Y)
    assert len(lo.inspect(task, examples, key=0).layers) == 1
    lo.check(task, examples, key=0, progress=False)
    lo.rescale(task, examples, key=0)
    folds = lo.stratified_k_fold(examples, 2, key=0)

    def trial(setting, train, valid, key):
        return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=32, steps=3, key=key)

    results = lo.cross_validate(trial, {"rate": [0.001, 0.01]}, folds, minimize="valid_loss", key=0, progress=False)
    assert np.isfinite(results.metrics["valid_loss"]).all()


class One(nnx.Module):
    def __init__(self, rngs):
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(x)


@pytest.mark.parametrize(
    ("task", "examples", "error", "words"),
    [
        (lambda: lo.classification(Both, inputs=0), None, ValueError, "inputs must be at least 1; got 0"),
        (lambda: lo.classification(Both, inputs="2"), None, TypeError, "inputs must be"),
        (lambda: lo.classification(Both, inputs=2), (X, Y), ValueError, "3 arrays, 2 inputs and targets, .*; got 2"),
        (lambda: lo.classification(Both), (LEFT, RIGHT, Y), ValueError, "two arrays, inputs and targets, .*; got 3"),
        (
            lambda: lo.classification(One, inputs=2),
            (LEFT, RIGHT, Y),
            TypeError,
            "2 inputs, by position; .*takes 1",
        ),
        (lambda: lo.classification(Both, inputs=2, standardize=True), (LEFT, RIGHT, Y), ValueError, "one array"),
        (lambda: lo.Task(Both, len, in_batch=True), None, ValueError, "in_batch goes with an objective"),
        (lambda: lo.Task(Both, lambda outputs, targets: 0, counts=3), None, TypeError, "counts must be a function"),
        (lambda: lo.Task(Both, objective=objective, counts=len), None, ValueError, "counts goes with a loss"),
        (
            lambda: lo.Task(One, lambda outputs, targets: 1.0 * targets, counts=len),
            (LEFT, Y),
            TypeError,
            "counts must return an array; it returned int",
        ),
    ],
)
def test_what_does_not_fit_is_refused(task, examples, error, words):
    with pytest.raises(error, match=words):
        fit(task(), examples)


def test_inputs_that_are_missing_are_refused_in_predictions():
    """Two rows of one array are no two inputs."""
    run = fit(lo.classification(Both, inputs=2), (LEFT, RIGHT, Y))
    for x in (LEFT, LEFT[:2], (LEFT, RIGHT, LEFT)):
        with pytest.raises(TypeError, match="x must be a tuple of the model's 2 inputs; got"):
            run.predict(x)


def objective(module, batch, key, *, step, mask, training):
    """A loss whose weight grows with the steps: 1 in evaluation."""
    (x,) = batch
    weight = 1.0 if step is None else jnp.minimum(step / 4, 1)
    assert (step is None) == (not training)
    assert mask.shape == x.shape[:1]
    return weight * jnp.mean((module(x) - x) ** 2, axis=-1), {"mask": mask.astype(jnp.float32)}


def test_an_objective_gets_the_step_and_the_mask():
    task = lo.Task(lambda rngs: nnx.Linear(64, 64, rngs=rngs), objective=objective)
    run = fit(task, (X,), lo.sgd(0.0), valid=(X,), steps=7, shuffle=False)
    plain = np.asarray(run.history.steps["loss"])
    np.testing.assert_allclose(plain[:3] / plain[3:6] * 3, [0, 1 / 4 * 3, 2 / 4 * 3], atol=1)
    np.testing.assert_allclose(plain[[0, 3, 6]], np.array([0, 3 / 4, 1]) * plain[6], rtol=1e-5)  # the same batch
    assert run.metrics["valid_loss"] == run.evaluate((X,))["loss"] > plain[3]


def contrastive(module, batch, key, *, mask):
    """Which of the right halves in the batch goes with a left one."""
    left, right = batch
    similar = module(left) @ module(right).T / 8
    similar = jnp.where(mask[None, :], similar, -jnp.inf)
    return -jnp.diagonal(jax.nn.log_softmax(similar)), {"first": jnp.argmax(similar, axis=1) == jnp.arange(len(left))}


def encoder(rngs):
    return nnx.Linear(32, 8, rngs=rngs)


def test_in_batch_losses_are_scored_in_batches_of_the_training():
    task = lo.Task(encoder, objective=contrastive, in_batch=True)
    pairs = LEFT / 16, RIGHT / 16
    run = fit(task, pairs, lo.adam(0.01), valid=pairs, steps=30)
    w, b = (np.asarray(run.params[name], np.float64) for name in ("kernel", "bias"))
    wanted = []
    for start in (0, 32, 64):  # the last of 13
        left, right = (a[start : start + 32].astype(np.float64) @ w + b for a in pairs)
        similar = left @ right.T / 8
        wanted += [*(np.log(np.exp(similar).sum(axis=1)) - np.diagonal(similar))]
    assert run.metrics["valid_loss"] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert run.evaluate(pairs)["loss"] == pytest.approx(np.mean(wanted), rel=1e-4)
    assert run.metrics["valid_loss"] < np.log(32)
    alone = lo.Task(encoder, objective=contrastive)
    assert fit(alone, pairs, lo.adam(0.01), valid=pairs, steps=30).metrics["valid_loss"] > np.mean(wanted) + 0.3


def test_padded_sequences_are_weighed_by_their_tokens():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 50)
    x = rng.normal(size=(50, 8, 4)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 3.0]).astype(np.float32) + 1
    y[np.arange(8) >= lengths[:, None]] = np.nan_to_num(-9.0)
    is_token = np.arange(8) < lengths[:, None]

    def loss(outputs, targets):
        counted = targets != -9
        return jnp.sum(jnp.where(counted, (outputs[..., 0] - targets) ** 2, 0), 1) / jnp.sum(counted, 1)

    def linear(rngs):
        return nnx.Linear(4, 1, rngs=rngs)

    task = lo.Task(linear, loss, counts=lambda targets: jnp.sum(targets != -9, axis=1))
    run = fit(task, (x, y), lo.sgd(0.05), valid=(x, y), batch_size=20, steps=3, shuffle=False)
    w = np.asarray(task.init(jax.random.fold_in(jax.random.key(0), 2), (x, y))[0]["kernel"], np.float64)
    bias, losses = np.zeros(1), []
    for start in (0, 20, 40):
        rows = slice(start, start + 20)
        inputs, targets = x[rows][is_token[rows]].astype(np.float64), y[rows][is_token[rows]]
        error = (inputs @ w + bias)[:, 0] - targets
        losses.append(np.mean(error**2))  # over the tokens of the batch
        w -= 0.05 * 2 * (inputs.T @ error)[:, None] / len(error)
        bias -= 0.05 * 2 * np.mean(error)
    np.testing.assert_allclose(run.history.steps["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(run.params["kernel"], w, rtol=1e-4)
    error = (x[is_token] @ w + bias)[:, 0] - y[is_token]
    assert run.metrics["valid_loss"] == pytest.approx(np.mean(error**2), rel=1e-4)


def test_counts_may_be_fractions():
    x, y = LEFT[:20], LEFT[:20, :1]
    task = [lo.Task(One, lambda o, t: (o - t)[:, 0] ** 2, counts=lambda t, c=c: c + 0 * t[:, 0]) for c in (1, 0.01)]
    runs = [fit(each, (x, y), lo.sgd(1e-4), valid=(x, y), batch_size=8, steps=3) for each in task]
    np.testing.assert_allclose(*[run.history.steps["loss"] for run in runs], rtol=1e-4)
    np.testing.assert_allclose(*[run.metrics["valid_loss"] for run in runs], rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (lambda targets: targets[:, 0] - 1.0, r"finite and at least 0; for train got -1\.0 in row 0"),
        (lambda targets: jnp.log(targets[:, 0] * 1.0), r"finite and at least 0; for train got -inf in row 0"),
        (lambda targets: 0 * targets[:, 0], "above 0 for some example of train; all are 0"),
    ],
)
def test_counts_that_count_nothing_are_refused(count, words):
    def loss(outputs, targets):
        return jnp.mean((outputs - targets) ** 2, axis=1)

    task = lo.Task(lambda rngs: nnx.Linear(64, 10, rngs=rngs), loss, counts=count)
    with pytest.raises(ValueError, match=f"counts must be {words}"):
        fit(task, (X, np.tile(Y[:, None], 10)))


@pytest.mark.slow
def test_optax_losses_over_tokens_fit_as_they_are():
    """ignore_label and counts say the same."""
    tokens = np.where(np.arange(6) < (np.arange(40) % 6 + 1)[:, None], np.arange(40)[:, None] % 5, -1)
    x = np.random.default_rng(0).normal(size=(40, 6, 3)).astype(np.float32)

    def loss(logits, labels):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return jnp.sum(jnp.where(labels >= 0, losses, 0), axis=1) / jnp.maximum(jnp.sum(labels >= 0, axis=1), 1)

    def linear(rngs):
        return nnx.Linear(3, 5, rngs=rngs)

    own = lo.Task(linear, loss, counts=lambda labels: jnp.sum(labels >= 0, axis=1))
    runs = [fit(task, (x, tokens)) for task in (own, lo.classification(linear, ignore_label=-1))]
    np.testing.assert_allclose(*(run.history.steps["loss"] for run in runs), rtol=1e-5)
