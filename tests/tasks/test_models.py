"""What the adapters carry for each kind of model: batch statistics, random keys, weights that are there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from kinds_of_models import LinenNet, Net, apply, init

import lectopt as lo
from lectopt.tasks.example_checks import check_fit

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

X, Y = lo.datasets.digits()
X, Y = X[:77] / 16, Y[:77]
BATCH = 32  # two full batches and one of 13 examples, filled up with 19
OPTIONS = {"batch_size": BATCH, "shuffle": False, "key": 0}


@pytest.fixture(params=[True, False], ids=["graph mode", "tree mode"])
def graph_mode(request):
    with nnx.set_graph_mode(request.param):
        yield request.param


MODELS = {"nnx": lambda: Net, "given": lambda: Net(nnx.Rngs(5)), "linen": LinenNet, "functions": lambda: (init, apply)}


@pytest.fixture(params=["nnx", "linen", *(pytest.param(k, marks=pytest.mark.slow) for k in ("given", "functions"))])
def task(request):
    return lo.classification(MODELS[request.param]())


def statistics(run):
    """Means and variances of the model's BatchNorm, whatever the kind of model."""
    leaves = jax.tree_util.tree_leaves_with_path(run.model_state)
    found = {name: leaf for path, leaf in leaves for name in ("mean", "var") if name in jax.tree_util.keystr(path)}
    assert len(leaves) == len(found) == 2
    return found


@pytest.mark.slow
def test_batch_statistics_are_those_of_the_batches_met(task):
    run = lo.fit(task, lo.sgd(0.0), (X, Y), valid=(X[:33], Y[:33]), epochs=2, **OPTIONS)
    mean, var = np.zeros(64), np.ones(64)
    for rows in 2 * [range(32), range(32, 64), [*range(64, 77), *range(19)]]:
        batch = X[list(rows)].astype(np.float64)
        mean, var = 0.9 * mean + 0.1 * batch.mean(0), 0.9 * var + 0.1 * batch.var(0)
    np.testing.assert_allclose(statistics(run)["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(statistics(run)["var"], var, atol=1e-6)


@pytest.mark.slow
def test_going_on_keeps_the_statistics(task):
    whole = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=2, **OPTIONS)
    first = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=1, **OPTIONS)
    second = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=1, start=first, **OPTIONS)
    for name, values in statistics(whole).items():
        np.testing.assert_allclose(statistics(second)[name], values, rtol=1e-5)


@pytest.mark.slow
def test_evaluation_takes_the_statistics_and_drops_nothing(task):
    run = lo.fit(task, lo.sgd(0.1), (X, Y), valid=(X[:33], Y[:33]), epochs=2, **OPTIONS)
    (w,) = [leaf for leaf in jax.tree.leaves(run.params) if leaf.ndim == 2]
    bias = sum(leaf for leaf in jax.tree.leaves(run.params) if leaf.ndim == 1)
    found = statistics(run)
    logits = np.asarray((X - found["mean"]) / np.sqrt(found["var"] + 1e-5) @ w + bias)
    np.testing.assert_allclose(run.predict(X), logits, atol=1e-4)
    np.testing.assert_allclose(run.predict(X[:1]), logits[:1], atol=1e-4)
    losses = jax.nn.logsumexp(logits, axis=1) - logits[np.arange(77), Y]
    np.testing.assert_allclose(run.evaluate((X, Y))["loss"], losses.mean(), rtol=1e-4)
    np.testing.assert_allclose(run.metrics["valid_loss"], losses[:33].mean(), rtol=1e-4)
    np.testing.assert_allclose(run.metrics["valid_accuracy"], np.mean(logits.argmax(1) == Y, where=np.arange(77) < 33))
    if isinstance(run.model, nnx.Module):
        np.testing.assert_allclose(run.model(X), logits, atol=1e-4)  # in evaluation mode
    else:
        assert run.model == (run.params, run.model_state.variables)


@pytest.mark.slow
def test_training_drops_anew_at_each_step_and_again_for_the_same_key(task):
    """Without learning and shuffling, the losses of two epochs differ by what was dropped alone."""
    losses = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=3, **OPTIONS).history.steps["loss"]
    assert len(set(losses.tolist())) == 9
    again = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=3, **OPTIONS).history.steps["loss"]
    np.testing.assert_array_equal(again, losses)
    other = lo.fit(task, lo.sgd(0.0), (X, Y), epochs=3, **OPTIONS | {"key": 1}).history.steps["loss"]
    assert not np.isin(other, losses).any()


def test_the_key_chooses_the_first_weights():
    task = lo.classification(Net)
    first, again, other = (
        jax.tree.leaves(lo.fit(task, lo.sgd(0.0), (X, Y), steps=1, batch_size=BATCH, key=key).params)[-1]
        for key in (0, jax.random.key(0), 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


# Keys, seen by a model that writes down what it is given --------------------------------------------------------------
def diary(x):
    """A model whose state is a list of (draw of its key, draw of the augmentation, whether training)."""

    def init(key, x):
        return jnp.zeros(()), {"at": jnp.int32(0), "seen": jnp.full((12, 3), -1.0)}

    def apply(params, state, x, key, training):
        row = jnp.stack([jax.random.uniform(key), x[0], jnp.float32(training)])
        return params * x, {"at": state["at"] + 1, "seen": state["seen"].at[state["at"]].set(row)}

    task = lo.Task((init, apply), lambda outputs, targets: outputs * 0.0)
    augment = lambda key, batch: (jnp.broadcast_to(jax.random.uniform(key), batch[0].shape), batch[1])  # noqa: E731
    options = {"valid": (x, x), "batch_size": 4, "epochs": 3, "augment": augment}
    return lambda key: np.asarray(lo.fit(task, lo.sgd(0.1), (x, x), key=key, **options).model_state.variables["seen"])


def test_augmentation_and_model_draw_from_keys_of_their_own():
    def apply(params, state, x, key, training):
        return params * x, jnp.stack([jax.random.uniform(key), x[0]])

    task = lo.Task((lambda key, x: (jnp.zeros(()), jnp.zeros(2)), apply), lambda outputs, targets: outputs)
    augment = lambda key, batch: (jnp.broadcast_to(jax.random.uniform(key), batch[0].shape), batch[1])  # noqa: E731
    x = np.zeros(5, np.float32)
    run = lo.train(task, lo.sgd(0.1), (x, x), batch_size=5, steps=1, augment=augment, key=0)
    draw, augmented = run.model_state.variables
    assert draw != augmented


@pytest.mark.slow
def test_every_step_draws_from_keys_of_its_own():
    run = diary(jnp.arange(10.0))
    seen = run(0)
    np.testing.assert_array_equal(seen[:, 2], [1] * 9 + [-1] * 3)  # 9 steps; validation leaves no trace
    draws = seen[:9, :2].ravel()
    assert len(set(draws.tolist())) == 18
    np.testing.assert_array_equal(run(0), seen)
    assert not np.isin(run(1)[:9, :2], draws).any()


def test_augmentation_is_for_training_alone():
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    options = {"valid": (X, Y), "epochs": 2, **OPTIONS}
    augmented = lo.fit(task, lo.sgd(0.1), (X, Y), augment=lambda key, batch: (1 - batch[0], batch[1]), **options)
    inverted = lo.fit(task, lo.sgd(0.1), (1 - X, Y), **options)
    jax.tree.map(np.testing.assert_array_equal, augmented.params, inverted.params)
    np.testing.assert_array_equal(augmented.history.epochs["train_loss"], inverted.history.epochs["train_loss"])
    np.testing.assert_allclose(augmented.metrics["valid_loss"], inverted.evaluate((X, Y))["loss"], rtol=1e-5)


# Modules that are there -----------------------------------------------------------------------------------------------
def test_a_module_that_is_there_is_where_training_starts(graph_mode):
    module = Net(nnx.Rngs(5))
    module.norm.mean[...] = jnp.arange(64.0)
    before = jax.tree.map(np.array, nnx.as_pure(nnx.state(module, (nnx.Param, nnx.BatchStat))))
    task = lo.classification(module)
    still = lo.fit(task, lo.sgd(0.0), (X, Y), steps=1, **OPTIONS)
    np.testing.assert_array_equal(still.params["linear"]["kernel"], module.linear.kernel[...])
    np.testing.assert_allclose(
        still.model_state.variables["norm"]["mean"], 0.9 * np.arange(64) + 0.1 * X[:BATCH].mean(0), rtol=1e-5
    )
    moved = lo.fit(task, lo.sgd(0.5), (X, Y), steps=3, **OPTIONS)
    assert np.abs(moved.params["linear"]["kernel"] - module.linear.kernel[...]).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(nnx.state(module, (nnx.Param, nnx.BatchStat))), before)
    assert (module.dropout.deterministic, module.norm.use_running_average) == (False, False)
    module.linear.kernel[...] += 1  # nor does what is done to it later reach the task
    again = lo.fit(task, lo.sgd(0.0), (X, Y), steps=1, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, again.params, still.params)


@pytest.mark.slow
def test_both_graph_modes_train_alike():
    runs = []
    for mode in (True, False):
        with nnx.set_graph_mode(mode):
            runs.append(lo.fit(lo.classification(Net), lo.adam(0.01), (X, Y), valid=(X, Y), epochs=2, **OPTIONS))
            np.testing.assert_allclose(runs[-1].model(X), runs[-1].predict(X), rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, runs[0].params, runs[1].params)
    assert runs[0].metrics == runs[1].metrics


def test_the_model_is_a_copy():
    run = lo.fit(lo.classification(Net), lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)
    before = run.predict(X)
    run.model.linear.kernel[...] *= 0
    np.testing.assert_array_equal(run.predict(X), before)
    assert run.model.dropout.deterministic


def test_random_streams_that_are_split():
    """As `nnx.vmap` leaves them, with a leading axis."""

    class Many(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(64, 10, rngs=rngs)
            self.noise = nnx.Rngs(dropout=jax.random.split(jax.random.key(0), 3)).dropout

        def __call__(self, x):
            return self.linear(x)

    run = lo.fit(lo.classification(Many), lo.sgd(0.1), (X, Y), steps=2, **OPTIONS)
    assert np.isfinite(run.metrics["train_loss"])


def test_linen_without_train():
    task = lo.classification(linen.Dense(10))
    run = lo.fit(task, lo.sgd(0.1), (X, Y), epochs=2, **OPTIONS)
    params, state = run.model
    np.testing.assert_allclose(run.predict(X), X @ params["kernel"] + params["bias"], atol=1e-5)
    assert state == {}


@pytest.mark.slow
def test_all_kinds_of_a_linear_model_train_alike():
    """From the same weights: an nnx module, a Linen module and functions."""
    w = {"kernel": jax.random.normal(jax.random.key(0), (64, 10)), "bias": jnp.zeros(10)}
    functions = (lambda key, x: (w, ()), lambda p, state, x, key, training: (x @ p["kernel"] + p["bias"], state))
    models = (lambda rngs: nnx.Linear(64, 10, rngs=rngs), linen.Dense(10), functions)
    runs = [
        lo.fit(lo.classification(model), lo.momentum(0.1), (X, Y), epochs=3, start=w, **OPTIONS) for model in models
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.history.steps["loss"], runs[0].history.steps["loss"], rtol=1e-5)


@pytest.mark.parametrize("model", [3, None, "net", (init, 3), (init, apply, apply)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=r"model must be a function rngs -> nnx.Module, .* got"):
        lo.classification(model)


def test_a_factory_that_makes_no_module_is_refused():
    with pytest.raises((TypeError, ValueError), match=r"model must return an nnx.Module; it returned int"):
        lo.fit(lo.classification(lambda rngs: 3), lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)


# What makes no model -------------------------------------------------------------------------------------------------
class Bare(nnx.Module):
    def __init__(self, rngs, keep=lambda array: array):
        self.linear = nnx.Linear(64, 10, rngs=rngs)
        self.scale = keep(jnp.full(10, 2.0))

    def __call__(self, x):
        return self.linear(x) * self.scale


def test_a_bare_array_in_a_factory_is_refused_by_name(graph_mode):
    message = r"scale of Bare is a bare array. Make it nnx.Param\(array\) .* nnx.data\(array\) .* nnx.Variable"
    with pytest.raises(TypeError, match=message):
        check_fit(lo.classification(Bare), (X, Y), Y, "train")

    def nested(rngs):
        return nnx.Sequential(Bare(rngs))

    with pytest.raises(TypeError, match=r"layers.0.scale of Sequential is a bare array"):
        check_fit(lo.classification(nested), (X, Y), Y, "train")


@pytest.mark.parametrize("keep", [nnx.Param, nnx.data, nnx.BatchStat])
def test_what_the_refusal_of_a_bare_array_advises(keep):
    run = lo.fit(lo.classification(lambda rngs: Bare(rngs, keep)), lo.sgd(0.1), (X, Y), steps=1, **OPTIONS)
    assert ("scale" in run.params) == (keep is nnx.Param)
    np.testing.assert_allclose(run.model(X), run.predict(X), rtol=1e-5)
    if keep is not nnx.Param:
        np.testing.assert_array_equal(run.model_state.variables["scale"], np.full(10, 2.0))


class LinenWhole(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(x) + self.param("shift", lambda key: jnp.arange(10))


WHOLE = {
    "nnx": lambda rngs: Bare(rngs, lambda array: nnx.Param(array.astype(int))),
    "given": Bare(nnx.Rngs(0), lambda array: nnx.Param(array.astype(int))),
    "linen": LinenWhole(),
    "functions": (lambda key, x: ({"scale": 3}, ()), lambda p, s, x, key, training: (x[:, :10] * p["scale"], s)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_that_have_no_gradient_are_refused(name):
    message = (
        r"parameters must be floating-point numbers, to have gradients; (scale|shift) is int32.*nnx.Variable \(NNX\)"
    )
    with pytest.raises(ValueError, match=message):
        check_fit(lo.classification(WHOLE[name]), (X, Y), Y, "train")


def test_functions_may_start_from_numpy_numbers_and_lists():
    def begin(key, x):
        return {"w": np.full((64, 10), 0.5), "b": [0.0] * 10}, {"n": 0}

    def call(params, state, x, key, training):
        return x @ params["w"] + jnp.stack(params["b"]), {"n": state["n"] + 1}

    run = lo.fit(lo.classification((begin, call)), lo.sgd(0.1), (X, Y), epochs=1, **OPTIONS)
    leaves = jax.tree.leaves((run.params, run.model_state))
    assert {(leaf.dtype.name, leaf.weak_type) for leaf in leaves} == {("float32", False), ("int32", False)}
    assert run.model_state.variables["n"] == 3
    np.testing.assert_allclose(run.predict(X), X @ run.params["w"] + np.stack(run.params["b"]), rtol=1e-5)


BAD_FUNCTIONS = {
    "init: no pair": (lambda key, x: {"w": 0.0}, apply, r"init must return a pair \(params, state\); .* dict with 'w'"),
    "init: three": (lambda key, x: (0.0, (), ()), apply, "init must return a pair .* tuple of 3"),
    "init: text": (lambda key, x: ({"w": "a"}, ()), apply, r"init must return arrays of numbers; at \['w'\] .* str"),
    "apply: no pair": (
        init,
        lambda p, s, x, key, training: x,
        r"apply must return a pair \(outputs, state\); .* array",
    ),
}


@pytest.mark.parametrize("name", BAD_FUNCTIONS)
def test_functions_that_return_something_else_are_refused(name):
    *model, message = BAD_FUNCTIONS[name]
    with pytest.raises(TypeError, match=message):
        check_fit(lo.classification(tuple(model)), (X, Y), Y, "train")


@pytest.mark.parametrize(
    ("factory", "got"),
    [
        (lambda: Net(nnx.Rngs(0)), r"\(\)"),
        (lambda rngs, width: 0, r"\(rngs, width\)"),
        (nnx.Linear, r"\(in_features"),
        (functools.partial(nnx.Linear, 64), r"\(out_features"),
    ],
)
def test_factories_take_random_streams_alone(factory, got):
    with pytest.raises(
        TypeError, match=f"model must be a function of one argument, rngs -> nnx.Module.* got one of {got}"
    ):
        lo.classification(factory)


@pytest.mark.parametrize(("made", "kind"), [(linen.Dense(3), "Dense"), (jnp.tanh, "function|jit|Pjit")])
def test_factories_make_nnx_modules(made, kind):
    with pytest.raises(TypeError, match=f"model must return an nnx.Module; it returned .*({kind})"):
        check_fit(lo.classification(lambda rngs: made), (X, Y), Y, "train")
