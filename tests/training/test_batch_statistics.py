"""`update_batch_statistics`: what the batches of one pass have at the weights of a run, in every kind of model."""

import chex
import jax
import kinds_of_models
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

X, Y = lo.datasets.digits()
X, Y = X[:50] / 16, Y[:50]
OPTIONS = {"batch_size": 20, "steps": 2, "key": 0}
MODELS = {
    "nnx": kinds_of_models.Net,
    "linen": kinds_of_models.LinenNet(),
    "functions": (kinds_of_models.init, kinds_of_models.apply),
    "ours": lambda rngs: nnx.Sequential(lo.BatchNorm(64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)),
    "window": lambda rngs: nnx.Sequential(lo.BatchNorm(64, window=9, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)),
}


def batches(size, key):
    """The mean and variance of the examples of each batch of one pass, and how many there are."""
    indices, weights = map(np.asarray, lo.minibatches((X,), size, key=key))
    parts = [X[rows[weight > 0]].astype(float) for rows, weight in zip(indices, weights, strict=True)]
    return [part.mean(0) for part in parts], [part.var(0) for part in parts], weights.sum(1)


def statistics(run):
    variables = jax.tree.leaves(run.model_state.variables)
    return variables if len(variables) == 2 else list(run.model.layers[0].statistics()[1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_statistics_of_one_pass(name):
    run = lo.train(lo.classification(MODELS[name]), lo.average_params(lo.sgd(0.1)), (X, Y), **OPTIONS)
    new = lo.update_batch_statistics(run, (X, Y), batch_size=20, key=3)
    means, variances, counts = batches(20, 3)
    share = counts / counts.sum()
    mean, var = share @ means, share @ variances
    if name == "functions":  # follow their own rule
        mean, var = statistics(run)
        for m, v in zip(means, variances, strict=True):
            mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v
    if name == "window":  # pools all examples of the batches
        mean, var = X.mean(0), X.var(0)
    for actual, desired in zip(statistics(new), (mean, var), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal(new.params, run.params)
    same = lo.update_batch_statistics(new, (X, Y), batch_size=20, key=3)
    if name not in ("functions", "window"):
        np.testing.assert_allclose(statistics(new)[0], X.mean(0), rtol=1e-5, atol=1e-6)
        chex.assert_trees_all_close(same.model_state, new.model_state, rtol=1e-6)


def deep(rngs, **arguments):
    norm = lo.BatchNorm(8, **arguments, rngs=rngs)
    return nnx.Sequential(nnx.Linear(64, 8, rngs=rngs), norm, nnx.Linear(8, 10, rngs=rngs))


@pytest.mark.slow
def test_they_belong_to_the_averages():
    """One batch of all examples: the moments of what the layer gets at the averaged weights, in a trial too."""
    task = lo.classification(deep, standardize=True)

    @jax.jit
    def trial(x):
        run = lo.train(task, lo.average_params(lo.sgd(0.5)), (x, Y), **OPTIONS)
        new = lo.update_batch_statistics(run, (x, Y))
        return run, new, new.evaluate((x, Y))

    run, new, scores = trial(X)
    x = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)
    first, affine, last = (jax.tree.map(lambda p: np.asarray(p, float), run.params["layers"][i]) for i in range(3))
    inputs = x @ first["kernel"] + first["bias"]
    norm = new.model.layers[1].layers[1]
    np.testing.assert_allclose(norm.mean[...], inputs.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.var[...], inputs.var(0), rtol=1e-4)
    assert norm.decay == 0.99
    in_batches = lo.update_batch_statistics(run, (X, Y), batch_size=20).model  # 20, 20 and 10 examples, each once
    np.testing.assert_allclose(in_batches.layers[1].layers[1].mean[...], inputs.mean(0), rtol=1e-4, atol=1e-5)
    normal = (inputs - inputs.mean(0)) / np.sqrt(inputs.var(0) + norm.epsilon) * affine["scale"] + affine["bias"]
    logits = normal @ last["kernel"] + last["bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(Y)), Y]
    np.testing.assert_allclose(scores["loss"], losses.mean(), rtol=1e-4)
    assert abs(run.evaluate((X, Y))["loss"] - losses.mean()) > 0.05


@pytest.mark.slow
def test_frozen_layers_stay():
    def frozen(rngs):
        net = deep(rngs, use_running_average=True, window=3)
        net.layers[1].window_count[...] = np.ones((3, 8), np.float32)
        return net

    run = lo.train(lo.classification(frozen), lo.sgd(0.1), (X, Y), **OPTIONS)
    chex.assert_trees_all_equal(lo.update_batch_statistics(run, (X, Y)).model_state, run.model_state)


def test_bad_arguments():
    plain = lo.train(lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs)), lo.sgd(0.1), (X, Y), **OPTIONS)
    with pytest.raises(TypeError, match=r"run must be a lectopt\.Run"):
        lo.update_batch_statistics(plain.params, (X, Y))
    with pytest.raises(ValueError, match="run must be of a model with batch statistics"):
        lo.update_batch_statistics(plain, (X, Y))
