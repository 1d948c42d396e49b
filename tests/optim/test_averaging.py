"""Averaged weights: what they are, how much less noisy, and that trainings know of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from digits_mlp import TRAIN, VALID, apply, init
from noisy_quadratic import CURVATURE, NOISE, START, assert_close, run

import lectopt as lo

INNER = {
    "sgd": (lambda: lo.sgd(0.05), lambda g, w, n: oracle.sgd(g, w, n, lambda k: 0.05)),
    "nesterov": (lambda: lo.nesterov(0.05), lambda g, w, n: oracle.nesterov(g, w, n, lambda k: 0.05, lambda k: 0.9)),
}


@pytest.mark.parametrize(("make", "reference"), INNER.values(), ids=INNER)
def test_the_average_of_all_that_there_was(make, reference, x64):
    """Uniform: the mean. Exponential: that of a start at zero, corrected. Held is what is held without averaging."""
    held = run(make(), jnp.float64, 30)[:, 1]
    loop = reference(lambda k, w: CURVATURE.astype(float) * w + NOISE[k], START.astype(float), 30)
    w = np.array([w for w, _ in loop])
    uniform = run(lo.average_params(make()), jnp.float64, 30)
    exponential = run(lo.average_params(make(), 0.9), jnp.float64, 30)
    np.testing.assert_array_equal(uniform[:, 1], held)
    np.testing.assert_array_equal(exponential[:, 1], held)
    assert_close(uniform[:, 0], [w[: k + 1].mean(0) for k in range(30)], 1e-13)
    shares = [0.1 * 0.9 ** np.arange(k, -1, -1) / (1 - 0.9 ** (k + 1)) for k in range(30)]
    assert_close(exponential[:, 0], [share @ w[: k + 1] for k, share in enumerate(shares)], 1e-13)
    assert_close(run(lo.average_params(make(), 0.0), jnp.float64, 30)[:, 0], w, 1e-13)


def test_before_the_first_step_it_is_w():
    params = {"w": jnp.ones(2)}
    optimizer = lo.average_params(lo.nesterov(0.1))
    chex.assert_trees_all_equal(lo.eval_params(optimizer.init(params), params), params)


def test_optax_optimizers_inside(x64):
    """Also one that has to be told what is evaluated: the averages of x."""
    inside = optax.contrib.schedule_free_sgd(0.1)
    x = run(inside, jnp.float64, 20)[:, 0]
    assert_close(run(lo.average_params(inside), jnp.float64, 20)[:, 0], [x[: k + 1].mean(0) for k in range(20)], 1e-12)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: lo.average_params(0.999), TypeError, "optimizer must be an Optax optimizer; got float"),
        (lambda: lo.average_params(lo.sgd(0.1), 1.0), ValueError, r"decay must be in \[0, 1\)"),
        (lambda: lo.average_params(lo.sgd(0.1), "0.9"), TypeError, "decay must be a number"),
        (lambda: lo.average_params(lo.sgd(0.1)).update(1.0, lo.average_params(lo.sgd(0.1)).init(1.0)), ValueError,
         "average_params needs the parameters"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_two_averages_are_refused():
    optimizer = optax.chain(lo.average_params(lo.sgd(0.1)), lo.average_params(lo.sgd(0.1)))
    with pytest.raises(ValueError, match="two states"):
        lo.eval_params(optimizer.init(jnp.ones(2)), jnp.ones(2))


# The noise floor ------------------------------------------------------------------------------------------------------
def squared_errors(rate, steps, seeds=500):
    """The mean of ||w - w*||^2 over seeds after each step, [steps, 2] for the last w and the average, and theory's
    tr(H^-1 S H^-1) / k for the average."""
    hessian = np.array([[1.0, 0.3], [0.3, 0.4]])
    root = np.array([[1.0, 0.0], [-0.5, 0.7]])  # of the noise's covariance S

    def training(key):
        optimizer = lo.average_params(lo.sgd(rate))

        def step(carry, noise):
            w, state = carry
            updates, state = optimizer.update(hessian @ w + root @ noise, state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), jnp.stack([jnp.sum(w**2), jnp.sum(lo.eval_params(state, w) ** 2)])

        start = jnp.zeros(2)
        return jax.lax.scan(step, (start, optimizer.init(start)), jax.random.normal(key, (steps, 2)))[1]

    errors = jax.jit(jax.vmap(training))(jax.random.split(jax.random.key(0), seeds)).mean(0)
    inverse = np.linalg.inv(hessian)
    return errors, np.trace(inverse @ root @ root.T @ inverse) / np.arange(1, steps + 1)


def test_the_noise_floor_falls_by_averaging(full_precision):
    """At a constant rate the last w stays at its floor; its average falls like 1/k, to theory's number."""
    errors, theory = squared_errors(0.5, 1000)
    last, average = np.asarray(errors).T
    np.testing.assert_allclose(last[-500:].mean(), last[50:500].mean(), rtol=0.05)
    np.testing.assert_allclose(average[499::100], theory[499::100], rtol=0.15)
    np.testing.assert_allclose(average[499] / average[999], 2, rtol=0.15)
    assert average[-1] < 0.05 * last[-500:].mean()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_the_rate_of_averages_is_that_of_theory_whatever_the_learning_rate(rate, full_precision, fully_compiled):
    errors, theory = squared_errors(rate, 4000, seeds=2000)
    np.testing.assert_allclose(errors[[1999, 3999], 1], theory[[1999, 3999]], rtol=0.05)


def test_the_noise_floor_of_a_training(full_precision):
    """Least squares on the diabetes data, from the minimum: the steps of a constant rate leave it, not their mean."""
    x, y = lo.datasets.diabetes()
    x, y = np.c_[np.ones(len(x)), (x - x.mean(0)) / x.std(0)].astype(np.float32), (y - y.mean()) / y.std()
    minimum = np.linalg.lstsq(x, y)[0].astype(np.float32).reshape(-1, 1)
    task = lo.Task(
        (lambda key, x: (jnp.zeros_like(minimum), ()), lambda w, s, x, key, training: (x @ w, s)),
        lambda outputs, targets: (outputs - targets)[:, 0] ** 2,
    )
    run = lo.train(
        task, lo.average_params(lo.sgd(0.03)), (x, y.reshape(-1, 1)), start=minimum, batch_size=8, epochs=20, key=0
    )
    floor, last, average = (
        np.mean((x @ w - y.reshape(-1, 1)) ** 2) for w in (minimum, run.lookahead_params, run.params)
    )
    assert average - floor < 0.1 * (last - floor)


# Trainings ------------------------------------------------------------------------------------------------------------
TASK = lo.classification((init, apply))
OPTIONS = {"batch_size": 20, "key": 0, "shuffle": False}


def averaged(rate=0.3, decay=0.8):
    return lo.average_params(lo.nesterov(rate), decay)


@pytest.mark.slow
def test_a_training_returns_averages_and_goes_on_from_the_last_weights(tmp_path):
    """As if it had never stopped; also after it was saved. Its scores are those of the averages."""
    options = OPTIONS | {"valid": VALID, "progress": False, "hyperparameters": {"rate": 0.3, "decay": 0.8}}
    whole = lo.fit(TASK, averaged, TRAIN, epochs=4, **options)
    half = lo.fit(TASK, averaged, TRAIN, epochs=2, **options)
    last = lo.eval_params(half.opt_state.optimizer_state, half.lookahead_params)
    assert np.abs(half.params["a"] - last["a"]).max() > 0.01
    assert half.evaluate(VALID)["loss"] == pytest.approx(half.metrics["valid_loss"], rel=1e-5)
    half.save(tmp_path / "run")
    for start in (half, lo.load(tmp_path / "run", TASK)):
        rest = lo.fit(TASK, averaged, TRAIN, epochs=2, start=start, **options)
        chex.assert_trees_all_equal(rest.params, whole.params)
        chex.assert_trees_all_equal(rest.opt_state, whole.opt_state)
        chex.assert_trees_all_equal(rest.lookahead_params, whole.lookahead_params)
    chex.assert_trees_all_equal(half.start.params, half.params)


@pytest.mark.slow
def test_averages_in_a_search():
    """Each lane has its own, of the decay that is one of the settings; patience and scores go by them."""

    def trial(setting, train, valid, key):
        run = lo.train(
            TASK, averaged(0.3, setting["decay"]), train, valid=valid, epochs=2, **OPTIONS | {"key": key}, patience=2
        )
        last = lo.eval_params(run.opt_state.optimizer_state, run.lookahead_params)
        largest = lambda a, b: jnp.max(jnp.abs(a - b))  # noqa: E731
        return {
            "valid_loss": run.metrics["valid_loss"] - run.evaluate(valid)["loss"],
            "from_average": largest(run.params["a"], run.opt_state.average["a"]),
            "from_last": largest(run.params["a"], last["a"]),
        }

    settings = {"decay": np.float32([0.0, 0.9])}
    folds = lo.k_fold(TRAIN, 2, key=0)
    found = lo.cross_validate(trial, settings, folds, minimize="valid_loss", key=0, progress=False).metrics
    np.testing.assert_allclose(found["valid_loss"], 0, atol=1e-6)
    np.testing.assert_array_equal(found["from_average"], 0)
    np.testing.assert_allclose(found["from_last"][0], 0, atol=1e-6)
    assert np.all(found["from_last"][1] > 1e-3)
