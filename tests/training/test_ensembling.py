"""Ensembles: means of probabilities and of outputs, and their scores."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

X, LABELS = lo.datasets.iris()
TWO = (np.asarray(LABELS) > 0).astype(np.int32)
NUMBERS = np.asarray(X[:, :1]) * 2 - 1
quiet = {"batch_size": 50, "epochs": 2, "progress": False}


def net(outputs):
    return lambda rngs: nnx.Linear(4, outputs, rngs=rngs)


def runs_of(task, targets, count=2):
    return [lo.fit(task, lo.sgd(0.1), (X, targets), key=key, **quiet) for key in range(count)]


@pytest.fixture(scope="module")
def softmax():
    return runs_of(lo.classification(net(3), standardize=True), LABELS)


@pytest.mark.slow
def test_the_mean_of_probabilities(softmax):
    together = lo.ensemble(softmax)
    mean = np.mean([run.probabilities(X) for run in softmax], axis=0)
    np.testing.assert_allclose(together.predict(X), mean, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(together.classes(X), mean.argmax(axis=1))
    scores = together.evaluate((X, LABELS))
    np.testing.assert_allclose(scores["loss"], -np.mean(np.log(mean[np.arange(150), LABELS])), rtol=1e-5)
    np.testing.assert_allclose(scores["accuracy"], np.mean(mean.argmax(axis=1) == LABELS), rtol=1e-6)
    assert scores["loss"] < np.mean([run.evaluate((X, LABELS))["loss"] for run in softmax])
    part, _ = lo.holdout((X, LABELS), 0.5, key=0)
    one = lo.ensemble(softmax[:1]).evaluate(part)
    np.testing.assert_allclose(list(one.values()), list(softmax[0].evaluate(part).values()), rtol=1e-5)
    assert repr(together) == "Ensemble(2 runs)"


def test_the_mean_of_probabilities_of_two_classes():
    runs = runs_of(lo.classification(net(1), binary=True), TWO)
    mean = np.mean([run.probabilities(X) for run in runs], axis=0)
    together = lo.ensemble(runs)
    np.testing.assert_allclose(together.predict(X), mean, rtol=1e-5)
    likely = np.where(TWO == 1, mean.reshape(-1), 1 - mean.reshape(-1))
    np.testing.assert_allclose(together.evaluate((X, TWO))["loss"], -np.mean(np.log(likely)), rtol=1e-5)
    np.testing.assert_array_equal(together.classes(X), mean > 0.5)


def test_the_mean_of_outputs():
    runs = runs_of(lo.regression(net(1)), NUMBERS)
    mean = np.mean([run.predict(X) for run in runs], axis=0)
    together = lo.ensemble(iter(runs))
    np.testing.assert_allclose(together.predict(X), mean, rtol=1e-5)
    np.testing.assert_allclose(together.evaluate((X, NUMBERS))["loss"], np.mean((mean - NUMBERS) ** 2), rtol=1e-5)
    with pytest.raises(ValueError, match=r"classes are known for tasks made by lectopt\.classification"):
        together.classes(X)


def test_certain_models_have_a_finite_loss(softmax):
    """Probabilities that float32 takes for 0 and 1: the loss is that of their logarithms."""
    task = lo.Task(
        (lambda key, x: ({"w": jnp.zeros(())}, {}), lambda params, state, x, key, training: (params["w"] * x, state)),
        lambda outputs, targets: -jnp.take_along_axis(outputs, targets[:, None], 1)[:, 0],
        activation="softmax",
    )
    x, y = np.array([[0.0, 300.0], [0.0, 1.0]], np.float32), np.array([0, 1])
    runs = [lo.fit(task, lo.sgd(0.0), (x, y), start={"w": jnp.float32(1)}, **{**quiet, "batch_size": 2}, key=0)] * 2
    np.testing.assert_allclose(lo.ensemble(runs).evaluate((x, y))["loss"], (300 + np.log1p(np.exp(-1))) / 2, rtol=1e-5)


def diverged():
    return lo.fit(lo.regression(net(1)), lo.sgd(1e30), (X, NUMBERS), key=0, **quiet)


BAD = {
    "none": (lambda runs: [], ValueError, "runs must hold at least 1 run; got none"),
    "one": (lambda runs: runs[0], TypeError, "runs must be a list of lectopt.Run; got Run"),
    "models": (lambda runs: [runs[0].model], TypeError, "runs must hold lectopt.Run; got .*Linear|Sequential"),
    "diverged": (lambda runs: [diverged()], ValueError, "runs must not have diverged; run 0 did at step 1"),
    "tasks": (
        lambda runs: [runs[0], *runs_of(lo.regression(net(1)), NUMBERS, 1)],
        ValueError,
        "runs must have tasks of one activation; got",
    ),
}


@pytest.mark.filterwarnings("ignore:training diverged")
@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD)
def test_what_is_no_ensemble(softmax, make, error, message):
    with pytest.raises(error, match=message):
        lo.ensemble(make(softmax))
