"""What is recorded of each layer against a float64 NumPy network by hand; and that to look changes nothing."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from kinds_of_models import apply, init
from strict_modes import strict
from watched_networks import LinenNet, Mixed, Rematerialized, Stacked

import lectopt as lo
from lectopt.training import checkpoints, layer_statistics, running
from lectopt.training.layer_statistics import OUTPUT_STATISTICS, WEIGHT_STATISTICS, _owners

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.digits()
X, Y = X[:110] / 16, Y[:110]
TRAIN, VALID = (X[:77], Y[:77]), (X[77:], Y[77:])  # two full batches of 32 examples, and one of 13
OPTIONS = {"batch_size": 32, "shuffle": False, "key": 0}
LAYERS = ("layers/0", "layers/2", "layers/4")
BOTH = {*WEIGHT_STATISTICS, *OUTPUT_STATISTICS}


# The oracle -----------------------------------------------------------------------------------------------------------
def mlp(rngs):
    options = {"param_dtype": jnp.result_type(float), "rngs": rngs}
    first, second = nnx.Linear(64, 12, **options), nnx.Linear(12, 8, **options)
    return nnx.Sequential(first, nnx.tanh, second, nnx.relu, nnx.Linear(8, 10, **options))


def drawn():
    """Weights of `mlp` with which some values are saturated and some units dead; none of a kernel's norms is alike."""
    draw = np.random.default_rng(0)
    kernels = [draw.normal(0, s, shape) for s, shape in ((0.5, (64, 12)), (0.4, (12, 8)), (0.3, (8, 10)))]
    biases = [draw.normal(0, 0.1, 12), np.array([-2.5] * 4 + [0.5] * 4), draw.normal(0, 0.5, 10)]
    layers = [{"kernel": k, "bias": b} for k, b in zip(kernels, biases, strict=True)]
    return {"layers": dict(zip((0, 2, 4), layers, strict=True))}


def norm(layer):
    return math.sqrt(sum(np.sum(p**2) for p in layer.values()))


def by_hand(steps, every, weights, rate=0.3, momentum=0.8, threshold=math.inf):
    """{layer: {statistic: float64[looks]}} of `mlp` under clipping and momentum."""
    x, y = TRAIN[0].astype(np.float64), TRAIN[1]
    w = drawn()["layers"]
    v = {i: {n: np.zeros_like(p) for n, p in w[i].items()} for i in w}
    looks = {name: {s: [] for s in WEIGHT_STATISTICS + OUTPUT_STATISTICS} for name in LAYERS}
    for k in range(steps):
        rows = np.arange(77)[k % 3 * 32 :][:32]
        inputs, z = {0: x[rows]}, {}
        for i, act in ((0, np.tanh), (2, lambda z: np.maximum(z, 0)), (4, lambda z: z)):
            z[i] = inputs[i] @ w[i]["kernel"] + w[i]["bias"]
            inputs[i + 2] = act(z[i])
        p = np.exp(z[4] - z[4].max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        d = {4: (p - np.eye(10)[y[rows]]) * weights[rows, None] / len(rows)}
        d[2] = d[4] @ w[4]["kernel"].T * (z[2] > 0)
        d[0] = d[2] @ w[2]["kernel"].T * (1 - inputs[2] ** 2)
        g = {i: {"kernel": inputs[i].T @ d[i], "bias": d[i].sum(0)} for i in w}
        factor = min(1, threshold / math.sqrt(sum(norm(layer) ** 2 for layer in g.values())))
        v = {i: {n: momentum * v[i][n] - rate * factor * g[i][n] for n in w[i]} for i in w}
        for i, name in zip(w, LAYERS, strict=True) if k % every == 0 else ():
            norms = norm(g[i]), norm(v[i]), norm(w[i]), norm(v[i]) / norm(w[i])
            dead = np.mean(np.all(inputs[i + 2] == 0, axis=0))
            saturated = np.mean(1 - np.abs(inputs[2]) < 0.01) if i == 0 else 0.0
            numbers = (*norms, z[i].mean(), z[i].std(), d[i].std(), dead, saturated)
            for statistic, number in zip(WEIGHT_STATISTICS + OUTPUT_STATISTICS, numbers, strict=True):
                looks[name][statistic].append(number)
        w = {i: {n: w[i][n] + v[i][n] for n in w[i]} for i in w}
    return looks


def assert_close(ours, theirs, rtol):
    assert {layer: set(found) for layer, found in ours.items()} == {layer: set(s) for layer, s in theirs.items()}
    for layer, records in theirs.items():
        for name, value in records.items():
            scale = np.nanmax(np.abs([0.0, *value]))
            np.testing.assert_allclose(ours[layer][name], value, rtol, rtol * scale, err_msg=f"{layer} {name}")


WEIGHTS = np.random.default_rng(0).uniform(0, 3, 77).astype(np.float32) * (np.arange(77) % 5 > 0)


@pytest.mark.parametrize(
    ("steps", "every", "weights", "threshold"),
    [
        (9, 1, None, None),
        pytest.param(11, 2, None, None, marks=pytest.mark.slow),
        pytest.param(11, 4, WEIGHTS, None, marks=pytest.mark.slow),
        (7, 2, None, 0.3),  # of 3 steps an epoch
    ],
)
def test_every_statistic_equals_numpys(steps, every, weights, threshold, x64, chunks_of):
    chunks_of(3)
    clip = [] if threshold is None else [lo.clip_by_norm(threshold)]
    task, optimizer = lo.classification(mlp), optax.chain(*clip, lo.momentum(0.3, 0.8))
    run = lo.fit(task, optimizer, TRAIN, steps=steps, watch=every, weights=weights, start=drawn(), **OPTIONS)
    scaled = np.ones(77) if weights is None else weights / weights.mean(dtype=np.float64)
    expected = by_hand(steps, every, scaled, threshold=threshold or math.inf)
    assert_close(run.history.layers, expected, 1e-6)  # recorded in float32
    assert all(record.dtype == jnp.float32 for layer in run.history.layers.values() for record in layer.values())
    assert len(set(expected["layers/0"]["saturated"])) > 1, "something to count"
    assert len(set(expected["layers/2"]["dead"])) > 1
    if threshold is not None:
        assert set(run.history.steps["clipped"].tolist()) == {0.0, 1.0}


@pytest.mark.slow
def test_compiled_in_float32_by_train():
    task = lo.classification(mlp)
    train = jax.jit(lambda: lo.train(task, lo.momentum(0.3, 0.8), TRAIN, steps=8, watch=3, start=drawn(), **OPTIONS))
    run = train()
    assert_close(run.history.layers, by_hand(8, 3, np.ones(77)), 1e-4)
    assert run.history.watched_steps.tolist() == [0, 3, 6]


# Laws -----------------------------------------------------------------------------------------------------------------
class Convolutions(nnx.Module):
    """Convolution, BatchNorm and Dropout."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)  # its gradient would be rounding alone
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.out = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x.reshape(-1, 8, 8, 1))))
        return self.out(self.dropout(x.reshape(len(x), -1)))


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(a, b):
    for x, y in zip(numbers(a), numbers(b), strict=True):
        np.testing.assert_array_equal(x, y)


def unwatched(run):
    """All of a run but its looks."""
    return run.params, run.model_state, run.opt_state, run.metrics, run.history.steps, run.history.epochs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tolerance"),
    [
        pytest.param(Convolutions, 1e-5, id="nnx", marks=pytest.mark.slow),  # rounded otherwise in another program
        pytest.param(LinenNet(), 0, id="linen", marks=pytest.mark.slow),
        pytest.param((init, apply), 0, id="functions"),
    ],
)
def test_to_look_changes_nothing(model, tolerance):
    task = lo.classification(model)
    run, plain = (lo.fit(task, lo.adam(0.01), TRAIN, valid=VALID, epochs=2, watch=w, **OPTIONS) for w in (2, None))
    for x, y in zip(numbers(unwatched(run)), numbers(unwatched(plain)), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
    assert (plain.history.layers, plain.history.watched_every) == ({}, 0)
    assert run.history.watched_every == 2
    assert {len(record) for layer in run.history.layers.values() for record in layer.values()} == {3}


TASK, FUNCTIONS = lo.classification(mlp), lo.classification((init, apply))
LINEAR = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))


def course(rate, call=lo.train, train=TRAIN, **options):
    options = {"epochs": 4, "watch": 2, **OPTIONS, **options}
    return call(TASK, lo.momentum, train, hyperparameters={"learning_rate": rate}, **options)


def at(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_train_compiled_is_fit_is_each_lane_and_a_diverged_lane_has_no_looks_afterwards(lanes, chunk, chunks_of):
    chunks_of(chunk)
    assert lanes.diverged_at.tolist() == [-1, 1, -1]
    for i, rate in ((0, 0.05), (2, 0.2)):
        assert_close(at(lanes.history.layers, i), course(rate, lo.fit).history.layers, 1e-4)
    wild = np.stack(numbers(at(lanes.history.layers, 1)))
    assert np.isfinite(wild[:, 0]).sum() > 20  # its update may be too large for float32
    assert wild.shape == (27, 6)
    assert np.isnan(wild[:, 1:]).all()
    with pytest.warns(UserWarning, match=r"training diverged"):
        alone = course(1e30, lo.fit).history
    assert alone.watched_steps.tolist() == [0, 2]  # it was noticed at the end of the epoch
    np.testing.assert_allclose(np.stack(numbers(alone.layers)), wild[:, :2], 1e-4, 1e-6)


@pytest.fixture(scope="module")
def lanes():
    return jax.jit(jax.vmap(course))(jnp.array([0.05, 1e30, 0.2]))


@pytest.mark.slow
def test_several_trainings_are_refused(lanes):
    with pytest.raises(ValueError, match=r"holds .* trainings; take one"):
        lanes.history.to_pandas()
    with pytest.raises(ValueError, match=r"holds \(3,\) trainings"):
        lanes.history.plot()
    assert len(at(lanes, 2).history.to_pandas()) == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "every", "looks"), [(7, 3, 3), pytest.param(6, 3, 2, marks=pytest.mark.slow), (3, 10, 1), (1, 1, 1)]
)
def test_the_number_of_looks(steps, every, looks):
    trained = jax.eval_shape(lambda: course(0.1, epochs=None, steps=steps, watch=every))
    assert trained.history.watched_steps.tolist() == [every * k for k in range(looks)]
    assert {record.shape for record in jax.tree.leaves(trained.history.layers)} == {(looks,)}
    layers = lo.fit(FUNCTIONS, lo.sgd(0.1), TRAIN, steps=steps, watch=every, **OPTIONS).history.layers
    assert np.shape(numbers(layers)) == (4, looks)
    assert np.isfinite(numbers(layers)).all()


@pytest.mark.slow
def test_patience_ends_the_looks(eager):
    """At a rate of 0, no validation is better than the first."""
    arguments, options = (FUNCTIONS, lo.sgd(0.0), TRAIN), {"valid": VALID, "epochs": 5, "patience": 2, "watch": 2}
    whole, fitted = (call(*arguments, **options, **OPTIONS).history.layers for call in (lo.train, lo.fit))
    for ours, theirs in zip(numbers(whole), numbers(fitted), strict=True):
        assert (len(ours), len(theirs)) == (8, 5)  # of the steps 0 to 14, and 0 to 8
        np.testing.assert_array_equal(ours[:5], theirs)
        assert np.isfinite(theirs).all()
        assert np.isnan(ours[5:]).all()


@pytest.mark.slow
def test_folds_of_unequal_size():
    """In folds of 73 examples a batch of 73 is all; their second batch is empty, and no step is taken there."""
    folds, options = lo.k_fold((X, Y), 3, key=0), {**OPTIONS, "batch_size": 73, "epochs": 2, "watch": 1}

    def trial(setting, train, valid, key):
        run = lo.train(LINEAR, lo.sgd(setting["rate"]), train, valid=valid, **options)
        looks = {f"{s} {k}": v[k] for s, v in run.history.layers["Linear"].items() for k in range(4)}
        return looks | {"baseline_loss": run.history.baseline_loss, "valid_loss": run.metrics["valid_loss"]}

    quiet = {"minimize": "valid_loss", "key": 0, "progress": False, "chunk": 2}
    found = lo.cross_validate(trial, {"rate": [0.1, 0.2]}, folds, **quiet).metrics
    assert {len(train) for train, _ in folds} == {73, 74}
    for f, (train, _) in enumerate(folds):
        run = lo.fit(LINEAR, lo.sgd, train, hyperparameters={"learning_rate": 0.2}, **options)
        looks = run.history.layers["Linear"]
        for name in BOTH:
            ours = np.array([found[f"{name} {k}"][1, f, 0] for k in range(4)])
            if len(train) == 73:
                assert np.isnan(ours[1::2]).all()
                ours = ours[::2]
            np.testing.assert_allclose(ours, looks[name], 1e-3, 1e-5, err_msg=name)
        np.testing.assert_allclose(found["baseline_loss"][:, f, 0], entropy(Y[train.indices]), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the best rate")
@pytest.mark.slow
def test_in_a_search_with_halving():
    options = {"minimize": "valid_loss", "key": 0, "progress": False, "halving": lo.Halving(epochs=2, factor=2)}

    def searched(watch):
        def trial(setting, key, **rungs):
            return lo.train(LINEAR, lo.sgd(setting["rate"]), TRAIN, valid=VALID, watch=watch, **rungs, **OPTIONS)

        return numbers(lo.sweep(trial, {"rate": [0.01, 0.1]}, chunk=2, **options).metrics)

    for ours, theirs in zip(searched(2), searched(None), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


class Killed(Exception):
    pass


@pytest.mark.slow
def test_what_was_broken_off_keeps_its_looks(tmp_path, monkeypatch, chunks_of):
    arguments, options = (LINEAR, lo.adam(0.01), TRAIN), {"epochs": 3, "watch": 2, **OPTIONS}
    whole = lo.fit(*arguments, **options)
    monkeypatch.setattr(running, "_SAVE_SECONDS", 0.0)
    chunks_of(2)
    write = checkpoints.Store.save

    def save(self, step, carry):
        write(self, step, carry)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Store, "save", save)
        for _ in range(2):
            with pytest.raises(Killed):
                lo.fit(*arguments, directory=tmp_path, **options)
    run = lo.fit(*arguments, directory=tmp_path, **options)
    assert len(run.history.layers["Linear"]["dead"]) == 5
    assert_equal((unwatched(run), run.history.layers), (unwatched(whole), whole.history.layers))


@pytest.mark.slow
def test_going_on_looks_from_its_own_first_step():
    arguments, options = (LINEAR, lo.momentum(0.1), TRAIN), {"watch": 3, **OPTIONS}
    whole, first = (lo.fit(*arguments, epochs=epochs, **options) for epochs in (4, 2))
    second = lo.fit(*arguments, epochs=2, start=first, **options)
    assert_close(second.history.layers, whole.history.layers, 1e-5)


@pytest.mark.slow
def test_forward_derivatives_go_through(eager):
    def loss(rate, watch):
        return lo.train(LINEAR, lo.sgd(rate), TRAIN, epochs=1, watch=watch, **OPTIONS).metrics["train_loss"]

    watched, plain = (jax.jvp(lambda rate, w=w: loss(rate, w), (0.1,), (1.0,))[1] for w in (2, None))
    np.testing.assert_allclose(watched, plain, rtol=1e-5)
    assert plain != 0


# Models ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Mixed, {"recurrent": BOTH, "shared": BOTH, "shared (2)": {*OUTPUT_STATISTICS}, "norm": BOTH,
                 "dropout": {*OUTPUT_STATISTICS}, "out": BOTH}),
        (Stacked, {"out": BOTH, "stack": {*WEIGHT_STATISTICS}}),
        (Rematerialized(), {"last": BOTH, "first": {*WEIGHT_STATISTICS}}),
        (LinenNet(), {"first": BOTH, "Dropout_0": {*OUTPUT_STATISTICS}, "last": BOTH}),
        (lambda rngs: nnx.Linear(64, 10, rngs=rngs), {"Linear": BOTH}),
        (linen.Dense(10), {"Dense": BOTH}),
        ((init, apply), {"w": {*WEIGHT_STATISTICS}}),
    ],
    ids=["called twice", "scan", "remat", "linen", "one layer", "one Linen layer", "functions"],
)  # fmt: skip
def test_layers_of_models(model, expected):
    task = lo.classification(model)
    found = jax.eval_shape(lambda: lo.train(task, lo.sgd(0.1), TRAIN, epochs=2, watch=2, **OPTIONS)).history.layers
    assert {name: set(layer) for name, layer in found.items()} == expected
    assert {record.shape for layer in found.values() for record in layer.values()} == {(3,)}


@pytest.mark.slow
@pytest.mark.parametrize("model", [Stacked, Rematerialized(), (init, apply)], ids=["scan", "remat", "functions"])
def test_all_weights_count_once(model):
    task = lo.classification(model)
    run = lo.fit(task, lo.sgd(0.0), TRAIN, steps=1, watch=1, **OPTIONS)
    squares = sum(layer["weight_norm"][0] ** 2 for layer in run.history.layers.values())
    np.testing.assert_allclose(squares, sum(np.sum(np.square(p)) for p in numbers(run.params)), rtol=1e-5)
    assert np.isfinite(numbers(run.history.layers)).all()


def test_weights_belong_to_the_innermost_layer_or_to_the_place_where_they_are():
    params = {"alone": 0, "in": {"w": 0}, "layer": {"inner": {"w": 0}, "w": 0}, "of": {"a": {"scan": {"b": 0, "w": 0}}}}
    layers = {("layer",): "outer", ("layer", "inner"): "inner", ("of", "a", "other"): "other"}
    assert _owners(params, layers) == ["alone", "in", "inner", "outer", "of/a/scan", "of/a/scan"]


@pytest.mark.slow
def test_chosen_layers():
    every, some = (course(0.1, lo.fit, watch=w).history for w in (5, lo.watch(5, layers=["layers/4", "layers/0"])))
    assert set(some.layers) == {"layers/0", "layers/4"}
    assert some.watched_every == 5
    assert_equal(some.layers, {name: every.layers[name] for name in some.layers})


def constant(biases, activation, dtype=None, dropout=0.0):
    """A network whose first layer puts out its biases, whatever comes in."""

    def net(rngs):
        first = nnx.Linear(64, len(biases), kernel_init=jax.nn.initializers.zeros, dtype=dtype, rngs=rngs)
        first.bias[...] = jnp.array(biases, jnp.float32)
        rest = [nnx.Dropout(dropout, rngs=rngs)] * bool(dropout) + [nnx.Linear(len(biases), 10, dtype=dtype, rngs=rngs)]
        return nnx.Sequential(first, *[activation] * (activation is not None), *rest)

    return net


def first_look(model):
    return lo.fit(lo.classification(model), lo.sgd(0.1), TRAIN, steps=1, watch=1, **OPTIONS).history.layers


NEAR = [0.9, 0.98, 0.995, 0.999]  # apart also in bfloat16
TANH = [math.atanh(s * a) for s in (1, -1) for a in NEAR]
SIGMOID = [s * 2 * math.atanh(a) for s in (1, -1) for a in NEAR]
KILLED = [-1e3] * 6 + [0.3, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [None, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize(
    ("biases", "activation", "dead", "saturated"),
    [
        pytest.param(TANH, nnx.tanh, 0, 1 / 2, id="tanh"),
        pytest.param(KILLED, nnx.relu, 6 / 8, 0, id="relu"),
        pytest.param([0.0, 0, 1, 1], None, 2 / 4, 0, id="zeros"),
        pytest.param([0.999, -0.999, 0.5, -1.0], None, 0, 0, id="none, near 1"),
        pytest.param(SIGMOID, nnx.sigmoid, 0, 1 / 2, id="sigmoid", marks=pytest.mark.slow),
        pytest.param(KILLED, nnx.leaky_relu, 0, 0, id="leaky", marks=pytest.mark.slow),
        pytest.param(KILLED, nnx.tanh, 0, 6 / 8, id="tanh, far", marks=pytest.mark.slow),
        pytest.param(KILLED, None, 0, 0, id="none", marks=pytest.mark.slow),
        pytest.param([-1e3] * 4, nnx.relu, 1, 0, id="all dead", marks=pytest.mark.slow),
    ],
)
def test_dead_and_saturated(biases, activation, dead, saturated, dtype):
    layer = first_look(constant(biases, activation, dtype))["layers/0"]
    assert (layer["dead"][0], layer["saturated"][0]) == (dead, saturated)


@pytest.mark.slow
def test_dropout_behind_an_activation(eager):
    """What it drops is not dead for every example, and what a relu keeps is counted behind it."""
    layers = first_look(constant(KILLED, nnx.relu, dropout=0.5))
    assert (layers["layers/0"]["dead"][0], layers["layers/2"]["dead"][0]) == (6 / 8, 6 / 8)


# Numbers that are hard to sum -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (1e4, 1), (0, 1e30), (0, 1e-30), (5, 0)])
def test_a_deviation_that_squares_cannot_hold(mean, sd):
    """Of the rows that are examples; in float32, whatever their squares are."""
    x = (mean + sd * np.random.default_rng(0).normal(size=(64, 8))).astype(np.float32)
    found = jax.jit(layer_statistics._deviation)(x, np.arange(64)[:, None] < 50)
    np.testing.assert_allclose(found, x[:50].astype(np.float64).std(), rtol=1e-4)


def test_an_update_of_weights_that_are_0():
    with strict():
        found = jax.jit(layer_statistics._ratio)(jnp.array([1.0, 0, 2, 0]), jnp.array([0.0, 0, 4, 3]))
        np.testing.assert_array_equal(found, [np.inf, 0, 0.5, 0])
        assert not jax.jit(layer_statistics._deviation)(jnp.zeros((3, 2)), jnp.ones((3, 1), bool))
    assert np.isnan(layer_statistics._ratio(jnp.float32(1), jnp.float32(np.nan)))


class Odd(nnx.Module):
    """Layers whose outputs are whole numbers, complex, or none, and one of half precision far from 0."""

    def __init__(self, rngs):
        self.turn = Turn(rngs)
        self.nothing = nnx.Linear(64, 0, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.half = nnx.Linear(64, 10, dtype=jnp.float16, rngs=rngs)
        self.half.bias[...] = jnp.full(10, 3e4)

    def __call__(self, x):
        return self.half(x).astype(jnp.float32) - 3e4 + jnp.abs(self.turn(x)) + self.nothing(x).sum()


class Turn(nnx.Module):
    def __init__(self, rngs):
        self.weights = nnx.Param(jax.random.normal(rngs.params(), (64, 1), jnp.complex64))

    def __call__(self, x):
        return x @ self.weights[...]


@pytest.mark.slow
def test_outputs_that_are_no_real_numbers_or_sum_to_too_much(eager):
    run = lo.train(lo.classification(Odd), lo.sgd(0.0), TRAIN, steps=1, watch=1, **OPTIONS)
    layers = {name: {s: float(x[0]) for s, x in records.items()} for name, records in run.history.layers.items()}
    assert {name: set(records) for name, records in layers.items()} == {
        "half": BOTH, "turn": set(WEIGHT_STATISTICS), "nothing": set(WEIGHT_STATISTICS)
    }  # fmt: skip
    z = TRAIN[0][:32] @ np.asarray(run.params["half"]["kernel"], np.float64) + 3e4
    np.testing.assert_allclose(layers["half"]["output_mean"], z.mean(), rtol=1e-3)
    assert layers["nothing"] == dict.fromkeys(WEIGHT_STATISTICS, 0)
    np.testing.assert_allclose(layers["turn"]["weight_norm"], np.linalg.norm(run.params["turn"]["weights"]), rtol=1e-6)


# Baseline loss, clipping ----------------------------------------------------------------------------------------------
def entropy(labels):
    shares = np.unique(labels, return_counts=True)[1] / np.size(labels)
    return -np.sum(shares * np.log(shares))


def sequence(key, x):
    return {"w": jnp.ones((64, 3, 10))}, ()


def read(w, state, x, key, training):
    return jnp.einsum("ni,itc->ntc", x, w["w"]), state


def test_baseline_loss():
    def of(task, y, rows=77):
        part = lo.Subset((jnp.asarray(X), jnp.asarray(y)), jnp.arange(77), jnp.int32(rows), least=50)
        return jax.jit(lambda: lo.train(task, lo.sgd(0.1), part, steps=1, **OPTIONS).history.baseline_loss)()

    assert of(LINEAR, Y) == pytest.approx(entropy(Y[:77]), rel=1e-6)
    assert of(LINEAR, Y, rows=50) == pytest.approx(entropy(Y[:50]), rel=1e-6)  # 27 rows only fill it up
    words = np.stack([Y, Y // 2, 9 - Y], axis=1)
    assert of(lo.classification((sequence, read)), words, rows=60) == pytest.approx(entropy(words[:60]), rel=1e-6)
    targets = X[:, 20:22] * [1, 5]
    net = lo.regression(lambda rngs: nnx.Linear(64, 2, rngs=rngs))
    assert of(net, targets, rows=60) == pytest.approx(targets[:60].var(0).sum(), rel=1e-5)
    objective = lo.Task(nnx.Linear(64, 2, rngs=nnx.Rngs(0)), objective=lambda m, b, k: (jnp.sum(m(b[0]) ** 2, 1), {}))
    assert of(objective, Y) is None


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "at_step"), [(0.7, lambda k: 0.7), (lambda k: 0.6 + 0.1 * k, None)])
def test_clipping_is_recorded(threshold, at_step, eager):
    thresholds = np.array([(at_step or threshold)(k) for k in range(8)])
    optimizer = optax.chain(lo.clip_by_norm(threshold), lo.sgd(0.1))
    steps = lo.fit(LINEAR, optimizer, TRAIN, steps=8, **OPTIONS).history.steps
    np.testing.assert_allclose(steps["clip_threshold"], thresholds, rtol=1e-6)
    np.testing.assert_array_equal(steps["clipped"], steps["gradient_norm"] > thresholds)
    assert set(steps["clipped"].tolist()) == {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("links", [[], [lo.clip_by_norm(1.0), lo.clip_by_norm(2.0)], [optax.clip_by_global_norm(1.0)]])
def test_clipping_is_not_recorded_where_no_one_link_knows_it(links, eager):
    steps = lo.fit(LINEAR, optax.chain(*links, lo.sgd(1.0)), TRAIN, steps=1, **OPTIONS).history.steps
    assert set(steps) == {"loss", "gradient_norm", "learning_rate"}


# History --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run():
    with jax.disable_jit():
        return lo.fit(LINEAR, lo.sgd(0.1), TRAIN, valid=VALID, steps=7, watch=2, **OPTIONS)


@pytest.mark.slow
def test_to_pandas(run):
    frame, history = run.history.to_pandas(), run.history
    assert frame.index.tolist() == list(range(7))
    np.testing.assert_allclose(frame["epoch"], np.arange(1, 8) / 3)
    places = dict.fromkeys(history.steps, range(7)) | dict.fromkeys(history.epochs, (2, 5, 6))
    records = history.steps | history.epochs
    for name, record in history.layers["Linear"].items():
        places[f"Linear {name}"], records[f"Linear {name}"] = (0, 2, 4, 6), record
    assert set(frame) == {"epoch", *records}
    for name, record in records.items():
        kept = frame[name].dropna()
        assert kept.index.tolist() == list(places[name]), name
        np.testing.assert_array_equal(kept, record)


def assert_kept(ours, theirs):
    assert_equal(ours, theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)  # names, and what is static
    assert (ours.steps_per_epoch, ours.watched_every) == (3, 2)
    assert np.isfinite(ours.baseline_loss).all()


@pytest.mark.slow
def test_all_is_kept_on_disk(run, lanes, tmp_path):
    for name, history in (("one", run.history), ("lanes", lanes.history)):
        history.save(tmp_path / name)
        assert_kept(lo.History.load(str(tmp_path / name)), history)
    run.save(tmp_path / "run")
    assert_kept(lo.load(tmp_path / "run", LINEAR).history, run.history)


@pytest.mark.slow
def test_a_history_kept_under_an_older_name_of_the_baseline_loss(run, tmp_path):
    run.history.save(tmp_path / "history.npz")
    with np.load(tmp_path / "history.npz") as records:
        older = {name.replace("baseline_loss", "chance"): record for name, record in records.items()}
    assert json.dumps(["chance"]) in older
    np.savez(tmp_path / "older.npz", **older)
    assert_kept(lo.History.load(tmp_path / "older.npz"), run.history)


def test_what_is_no_history_is_refused(run, tmp_path):
    run.history.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    spoilt = {"empty": b"", "text": b"hello", "cut": whole[: len(whole) // 2]}
    spoilt["overwritten"] = whole[:60] + bytes(140) + whole[200:]
    for name, content in spoilt.items():
        (tmp_path / name).write_bytes(content)
    for name, array in {"other": "a", "no path": json.dumps([]), "half a path": json.dumps(["layers"])}.items():
        with (tmp_path / name).open("wb") as file:
            np.savez(file, **{array: np.ones(3)})
        spoilt[name] = b""
    for name in [*spoilt, "."]:
        with pytest.raises(ValueError, match=rf"path must be a file that History.save wrote; .*{name} is not"):
            lo.History.load(tmp_path / name)
    for name in ("nothing", "text/below"):
        with pytest.raises(FileNotFoundError, match=rf"there is nothing at .*{name}"):
            lo.History.load(tmp_path / name)
    for name in ("no/directory", "text/below", "."):
        with pytest.raises(ValueError, match=r"path must be a file that can be written; .* is not: "):
            run.history.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"path must be a directory that can be written; .*text/below is not: "):
        run.save(tmp_path / "text/below")
    with pytest.raises(FileNotFoundError, match=r"there is nothing at .*text/below"):
        lo.load(tmp_path / "text/below", LINEAR)


# Bad input ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: 0, ValueError, "watch must be"),
        (lambda: True, TypeError, "watch must be"),
        (lambda: "x", TypeError, "watch must be"),
        (lambda: 2.5, TypeError, "watch must be"),
        (lambda: lo.watch(10, layers=["layers/0", "layers/0"]), ValueError, "each once"),
        (lambda: lo.watch(10, layers=[]), ValueError, "at least 1"),
        (lambda: lo.watch(10, layers="layers/0"), TypeError, r"must be a list of names.* got 'layers/0'"),
        (lambda: lo.watch(10, layers=[0]), TypeError, r"must be a list of names.* got \[0\]"),
        (lambda: lo.watch(10, layers=["layers/1"]), ValueError, "among layers/0, layers/2, layers/4; got layers/1"),
    ],
    ids=["0", "True", "x", "2.5", "twice", "none", "string", "number", "unknown"],
)
def test_bad_input(make, error, message):
    for call in (lo.fit, lo.train):
        with pytest.raises(error, match=message):
            call(TASK, lo.sgd(0.1), TRAIN, epochs=1, watch=make(), **OPTIONS)
