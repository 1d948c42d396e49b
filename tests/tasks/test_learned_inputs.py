"""What a task learns from its training part: standardisation and the output bias. Nothing else may leak in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.data.subsets import Subset

X, Y = lo.datasets.digits()
X = X + 100.0  # so that leaving out the mean is seen
ZEROS = jax.nn.initializers.zeros


def net(rngs):
    return nnx.Sequential(nnx.Linear(64, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 10, kernel_init=ZEROS, rngs=rngs))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10, kernel_init=ZEROS, name="last")(linen.relu(linen.Dense(16, name="first")(x)))


def functions():
    def init(key, x):
        first = jax.random.normal(key, (x.shape[-1], 16)) / 8
        return {"first": first, "last": jnp.zeros((16, 10)), "bias": jnp.zeros(10)}, ()

    def apply(params, state, x, key, training):
        return jax.nn.relu(x @ params["first"]) @ params["last"] + params["bias"], state

    return init, apply


MODELS = {
    "NNX": (net, lambda module: module.layers[2].bias),
    "NNX by path": (net, "layers/2/bias"),
    "Linen": (LinenNet(), "last/bias"),
    "functions": (functions(), "bias"),
}


@pytest.mark.parametrize(
    "kind", ["NNX by path", *(pytest.param(k, marks=pytest.mark.slow) for k in MODELS if k != "NNX by path")]
)
def test_initial_loss_is_the_entropy_of_the_labels(kind):
    model, place = MODELS[kind]
    part = (X[Y < 4][:300], Y[Y < 4][:300])  # six classes never occur
    task = lo.classification(model, output_bias=place)
    run = lo.fit(task, lo.sgd(0.0), part, batch_size=50, steps=1, key=0)
    shares = np.bincount(part[1]) / len(part[1])
    # The classes that never occur count as half an example each: 6 x 0.5 in 303.
    expected = -(shares * np.log(shares * 300 / 303)).sum()
    assert run.evaluate(part)["loss"] == pytest.approx(expected, rel=1e-5)


def test_regression_starts_at_the_mean():
    x, t = lo.datasets.diabetes()
    task = lo.regression(
        lambda rngs: nnx.Linear(10, 1, kernel_init=ZEROS, rngs=rngs), standardize=True, output_bias="bias"
    )
    run = lo.fit(task, lo.sgd(0.0), (x, t), batch_size=64, steps=1, key=0)
    assert run.evaluate((x, t))["loss"] == pytest.approx(t.var(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["NNX", *(pytest.param(k, marks=pytest.mark.slow) for k in ("Linen", "functions"))])
def test_inputs_are_standardised_alike_everywhere(kind, full_precision):
    """Training on raw inputs with standardize equals training on inputs that were standardised by hand."""
    model, _ = MODELS[kind]
    rest, test = lo.holdout((X, Y), 0.3, key=0)
    train, valid = lo.holdout(rest, 0.3, key=1)
    settings = {"batch_size": 50, "epochs": 3, "key": 0}
    run = lo.fit(lo.classification(model, standardize=True), lo.momentum(0.05), train, valid=valid, **settings)

    x = np.asarray(train.examples()[0], float)
    sd = np.where(x.std(0) > 1e-6, x.std(0), np.inf)

    def by_hand(subset):
        raw, labels = subset.examples()
        return ((np.asarray(raw, float) - x.mean(0)) / sd).astype(np.float32), labels

    oracle = lo.fit(lo.classification(model), lo.momentum(0.05), by_hand(train), valid=by_hand(valid), **settings)
    np.testing.assert_allclose(run.history.steps["loss"], oracle.history.steps["loss"], rtol=1e-3, atol=1e-4)
    assert run.metrics["valid_loss"] == pytest.approx(oracle.metrics["valid_loss"], rel=1e-3)
    assert run.evaluate(test)["loss"] == pytest.approx(oracle.evaluate(by_hand(test))["loss"], rel=1e-3)
    raw, ready = test.examples()[0], by_hand(test)[0]
    np.testing.assert_allclose(run.predict(raw), oracle.predict(ready), rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_the_model_that_is_given_back_takes_raw_inputs(tmp_path):
    task = lo.classification(net, standardize=True)
    run = lo.fit(task, lo.momentum(0.05), (X, Y), batch_size=50, epochs=2, key=0)
    np.testing.assert_allclose(run.model(X[:20]), run.predict(X[:20]), rtol=1e-5, atol=1e-5)
    run.save(tmp_path / "run")
    again = lo.load(tmp_path / "run", task)
    np.testing.assert_allclose(again.model(X[:20]), run.predict(X[:20]), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_look_and_rescaling_see_standardised_inputs():
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs), standardize=True)
    run = lo.fit(task, lo.sgd(0.0), (X, Y), batch_size=50, steps=1, key=0)
    x = np.asarray(X, float)
    ready = (x - x.mean(0)) / np.where(x.std(0) > 1e-6, x.std(0), np.inf)
    z = ready @ np.asarray(run.params["kernel"], float)
    for look in (lo.inspect(task, (X, Y), key=0), lo.inspect(run, (X, Y))):
        assert look.layers[0].output_std == pytest.approx(z.std(), rel=1e-4)
    kernel = np.asarray(lo.rescale(task, (X, Y), key=0)["kernel"], float)
    assert (ready @ kernel).std() == pytest.approx(1, rel=1e-4)


def test_statistics_are_those_of_the_training_part_only():
    """Validation and test examples a million times as large change nothing that was learned."""
    train, valid = lo.holdout((X, Y), 0.5, key=0)
    task = lo.classification(net, standardize=True, output_bias="layers/2/bias")
    rows = np.asarray(valid.indices)
    spoilt_x, spoilt_y = X.copy(), Y.copy()
    spoilt_x[rows] *= 1e6
    spoilt_y[rows] = 0
    spoilt = Subset((jnp.asarray(spoilt_x), jnp.asarray(spoilt_y)), train.indices, train.size, train.least)
    settings = {"batch_size": 50, "epochs": 1, "key": 0}
    clean, other = (lo.fit(task, lo.sgd(0.01), part, **settings) for part in (train, spoilt))
    jax.tree.map(np.testing.assert_array_equal, clean.model_state.inputs, other.model_state.inputs)
    jax.tree.map(np.testing.assert_array_equal, clean.params, other.params)
    x = np.asarray(train.examples()[0], float)
    np.testing.assert_allclose(clean.model_state.inputs.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(clean.model_state.inputs.var, x.var(0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_parts_of_different_size_in_one_program():
    """Under vmap, what only fills a part up has no influence on what is learned from it."""
    parts = [np.arange(0, 300), np.arange(300, 520)]
    padded = jnp.stack([jnp.asarray(np.resize(part, 300)) for part in parts])
    folds = Subset((jnp.asarray(X), jnp.asarray(Y)), padded, jnp.array([300, 220]), least=220)
    axes = Subset(None, 0, 0, least=220)  # type: ignore[arg-type]
    task = lo.classification(net, standardize=True, output_bias="layers/2/bias")

    def final(part):
        return lo.train(task, lo.sgd(0.1), part, batch_size=50, epochs=2, key=0)

    lanes = jax.jit(jax.vmap(final, in_axes=(axes,)))(folds)
    for lane, part in enumerate(parts):
        alone = lo.fit(task, lo.sgd(0.1), (X[part], Y[part]), batch_size=50, epochs=2, key=0)
        np.testing.assert_allclose(lanes.model_state.inputs.mean[lane], X[part].mean(0, dtype=float), rtol=1e-6)
        np.testing.assert_allclose(
            lanes.params["layers"][2]["bias"][lane], alone.params["layers"][2]["bias"], rtol=1e-3, atol=1e-4
        )


@pytest.mark.slow
def test_going_on_keeps_what_was_learned():
    task = lo.classification(net, standardize=True, output_bias="layers/2/bias")
    first = lo.fit(task, lo.sgd(0.01), (X[:500], Y[:500]), batch_size=50, epochs=1, key=0)
    second = lo.fit(task, lo.sgd(0.0), (X[500:], Y[500:]), batch_size=50, epochs=1, key=1, start=first)
    jax.tree.map(np.testing.assert_array_equal, first.model_state.inputs, second.model_state.inputs)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


def test_a_module_that_is_there_is_standardised_and_keeps_its_bias():
    module = net(nnx.Rngs(0))
    task = lo.classification(module, standardize=True, output_bias=lambda m: m.layers[2].bias)
    run = lo.fit(task, lo.sgd(0.0), (X, Y), batch_size=50, steps=1, key=0)
    np.testing.assert_array_equal(run.params["layers"][2]["bias"], module.layers[2].bias[...])
    np.testing.assert_allclose(run.model_state.inputs.mean, X.mean(0, dtype=float), rtol=1e-6)


def test_an_objective_gets_standardised_inputs():
    seen = {}

    def objective(module, batch, key):
        seen["mean"] = jnp.mean(batch[0], axis=0)
        jax.debug.callback(lambda m: seen.update(value=np.asarray(m)), seen["mean"])
        return jnp.mean(module(batch[0]) ** 2, axis=1), {}

    task = lo.Task(net, objective=objective, standardize=True)
    lo.fit(task, lo.sgd(0.0), (X,), batch_size=len(X), steps=1, key=0)
    np.testing.assert_allclose(seen["value"], 0, atol=1e-3)


def test_bad_input():
    with pytest.raises(ValueError, match="output_bias needs the activation"):
        lo.Task(net, lambda o, t: o[:, 0], output_bias="layers/2/bias")
    for place, error in (("layers/7/bias", ValueError), (lambda m: 3, ValueError)):
        with pytest.raises(error, match="output_bias must"):
            lo.fit(lo.classification(net, output_bias=place), lo.sgd(0.1), (X, Y), batch_size=50, steps=1, key=0)
    linen_task = lo.classification(LinenNet(), output_bias=lambda m: m)
    with pytest.raises(TypeError, match="path such as"):
        lo.fit(linen_task, lo.sgd(0.1), (X, Y), batch_size=50, steps=1, key=0)
    tokens = lo.classification(lambda rngs: nnx.Embed(10, 10, rngs=rngs), standardize=True)
    with pytest.raises(ValueError, match="standardize needs inputs"):
        lo.fit(tokens, lo.sgd(0.1), (Y, Y), batch_size=50, steps=1, key=0)
