"""Greedy denoising autoencoders: numbers against NumPy, and what each stage may change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.pretraining.decoders import Decoder, Mirror, Passage, _image
from lectopt.pretraining.training import Recipe

X, Y = lo.datasets.digits()
X = X[:100] / 16
Y = Y[:100]
ONCE = {"batch_size": 100, "shuffle": False}


def net(rngs):
    return nnx.Sequential(
        nnx.Linear(64, 12, rngs=rngs), jnp.tanh, nnx.Linear(12, 7, rngs=rngs), nnx.relu, nnx.Linear(7, 10, rngs=rngs)
    )


def double(key, h):
    """A corruption that NumPy can do too."""
    return 2 * h


def spy(monkeypatch):
    """The decoders' first parameters, stage by stage."""
    seen = []
    run = Recipe.run

    def watched(self, stage, optimizer, params, state, number):
        batch = (self.inputs.arrays[0][:8],)
        drawn, _ = stage.init(jax.random.fold_in(jax.random.fold_in(self.key, number), 2), batch)
        seen.append(jax.tree.map(np.asarray, dict(drawn["decoder"]["layer"])))
        return run(self, stage, optimizer, params, state, number)

    monkeypatch.setattr(Recipe, "run", watched)
    return seen


def stage(h, corrupt, w, b, wd, bd, activation, slope, rate, steps):
    """Gradient descent on the mean squared error of a linear decoder of an activated layer, in float64."""
    w, b, wd, bd = (np.array(a, np.float64) for a in (w, b, wd, bd))
    losses = []
    for _ in range(steps):
        noisy = corrupt(h)
        z = noisy @ w + b
        a = activation(z)
        error = a @ wd + bd - h
        losses.append(np.mean(error**2))
        d = 2 * error / error.size
        dz = d @ wd.T * slope(z)
        wd, bd = wd - rate * a.T @ d, bd - rate * d.sum(0)
        w, b = w - rate * noisy.T @ dz, b - rate * dz.sum(0)
    return w, b, losses


@pytest.mark.parametrize("corrupt", [None, double], ids=["clean", "doubled"])
def test_equals_numpy(corrupt, monkeypatch):
    decoders = spy(monkeypatch)
    task = lo.classification(net)
    how = {"corruption": 0.0 if corrupt is None else corrupt, "key": 3, "progress": False}
    got = lo.pretrain_layers(task, X, optax.sgd(0.7), batch_size=100, steps=15, **how)
    begun = lo.fit(task, lo.sgd(0.0), (X, Y), batch_size=100, steps=1, key=3, progress=False).params["layers"]
    change = (lambda h: h) if corrupt is None else (lambda h: 2 * h)
    h = X.astype(np.float64)
    forms = ((0, np.tanh, lambda z: 1 - np.tanh(z) ** 2), (2, lambda z: np.maximum(z, 0), lambda z: z > 0))
    for (number, activation, slope), decoder in zip(forms, decoders, strict=True):
        first, end = begun[number], got.params["layers"][number]
        w, b, losses = stage(
            h, change, first["kernel"], first["bias"], decoder["kernel"], decoder["bias"], activation, slope, 0.7, 15
        )
        np.testing.assert_allclose(end["kernel"], w, rtol=2e-5, atol=5e-6)
        np.testing.assert_allclose(end["bias"], b, rtol=2e-5, atol=5e-6)
        np.testing.assert_allclose(got.histories[f"layers/{number}"].steps["loss"], losses, rtol=2e-5)
        assert np.abs(w - first["kernel"]).max() > 1e-3
        h = activation(h @ w + b)
    np.testing.assert_array_equal(got.params["layers"][4]["kernel"], begun[4]["kernel"])


def normed(rngs):
    return nnx.Sequential(
        nnx.Linear(64, 12, rngs=rngs), nnx.BatchNorm(12, rngs=rngs), nnx.relu, nnx.Linear(12, 8, rngs=rngs),
        nnx.BatchNorm(8, rngs=rngs), nnx.relu, nnx.Linear(8, 10, rngs=rngs),
    )  # fmt: skip


def moved(before, after, number, leaf):
    return not np.array_equal(before["layers"][number][leaf], after["layers"][number][leaf])


def test_a_stage_changes_its_layer_and_its_norm_alone():
    """Under weight decay too, which would move what has no gradient."""
    task = lo.classification(normed)
    decay = optax.chain(lo.add_l2(0.1), lo.sgd(0.1))
    how = {"batch_size": 50, "epochs": 2, "key": 0, "progress": False}
    begun = lo.fit(task, lo.sgd(0.0), (X, Y), batch_size=100, steps=1, key=0, progress=False).params
    one = lo.pretrain_layers(task, X, decay, layers=["layers/0"], **how)
    both = lo.pretrain_layers(task, X, decay, **how)
    assert list(both.histories) == ["layers/0", "layers/3"]
    for number, leaf in ((0, "kernel"), (0, "bias"), (1, "scale"), (1, "bias")):
        assert moved(begun, one.params, number, leaf)
        assert not moved(one.params, both.params, number, leaf)
    for number, leaf in ((3, "kernel"), (4, "scale"), (6, "kernel"), (6, "bias")):
        assert not moved(begun, one.params, number, leaf)
        assert moved(begun, both.params, number, leaf) == (number < 6)
    one, both = one.model_state.variables["layers"], both.model_state.variables["layers"]
    np.testing.assert_array_equal(one[4]["mean"], np.zeros(8))  # it saw only what was corrupted
    assert np.abs(one[1]["mean"]).max() > 0
    assert np.abs(both[4]["mean"]).max() > 0


def test_masking_sets_its_share_to_nothing_and_leaves_the_target():
    recipe = Recipe.of(
        net, X, optax.sgd(0.1), valid=None, corruption=0.3, key=0, progress=False, batch_size=10, epochs=1, steps=None
    )
    noisy = recipe.corrupt(jax.random.key(0), jnp.ones((200, 64)))
    assert set(np.unique(noisy)) == {0.0, 1.0}
    assert abs(float(jnp.mean(noisy == 0)) - 0.3) < 0.02
    all_lost = lo.pretrain_layers(
        net, X, optax.set_to_zero(), batch_size=100, steps=1, corruption=lambda key, h: 0 * h, key=0, progress=False
    )
    loss = float(all_lost.histories["layers/0"].steps["loss"][0])
    np.testing.assert_allclose(loss, np.mean(X**2), rtol=1e-5)  # a fresh decoder of biases 0 puts out nothing


def test_starts_where_it_ended():
    task = lo.classification(normed, standardize=True)
    how = {"batch_size": 50, "epochs": 2, "key": 0, "progress": False}
    got = lo.pretrain_layers(task, 16 * X, lo.adam(0.01), **how)
    np.testing.assert_allclose(got.model_state.inputs.mean, (16 * X).mean(0), rtol=1e-5)
    run = lo.fit(
        task, lo.sgd(0.0), (16 * X[:20], Y[:20]), batch_size=20, steps=1, key=1, start=got.start, progress=False
    )
    for value, wanted in zip(jax.tree.leaves(run.params), jax.tree.leaves(got.params), strict=True):
        np.testing.assert_array_equal(value, wanted)
    np.testing.assert_array_equal(run.model_state.inputs.mean, got.model_state.inputs.mean)
    assert got.model(16 * X).shape == (100, 10)


@pytest.mark.slow
def test_lanes_equal_each_alone():
    task = lo.classification(net)

    def end(key):
        return lo.pretrain_layers(task, X, lo.adam(0.01), batch_size=50, epochs=2, key=key, progress=False)

    lanes = jax.jit(jax.vmap(end))(jax.vmap(jax.random.key)(jnp.arange(2)))
    alone = end(1)
    for together, single in zip(jax.tree.leaves(lanes.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(together[1], single, rtol=1e-4, atol=1e-6)
        assert together.ndim == 1 or np.abs(together[0] - together[1]).max() > 1e-4 or together[0].size < 20
    np.testing.assert_allclose(
        lanes.histories["layers/0"].steps["loss"][1], alone.histories["layers/0"].steps["loss"], rtol=1e-5
    )


class Pictures(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.two = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.three = nnx.Conv(6, 5, (2, 2), padding="VALID", rngs=rngs)
        self.head = nnx.Linear(5, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.one(x)), (2, 2), (2, 2))
        return self.head(nnx.relu(self.three(nnx.relu(self.two(x)))).reshape(x.shape[0], -1))


class Residual(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(64, 16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.one(x))
        return self.head(h + nnx.relu(self.two(h)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(16)(x)))
        x = linen.Dropout(0.2, deterministic=not train)(linen.relu(linen.Dense(8)(x)))
        return linen.Dense(10)(x)


MODELS = {
    "convolutions": (lambda: Pictures, X.reshape(-1, 8, 8, 1), ["one", "two", "three"]),
    "curves": (
        lambda: (
            lambda rngs: nnx.Sequential(
                nnx.Conv(1, 4, (3,), rngs=rngs),
                nnx.relu,
                lambda x: x.reshape(x.shape[0], -1),
                nnx.Linear(256, 10, rngs=rngs),
            )
        ),
        X[..., None],
        ["layers/0"],
    ),
    "skips": (lambda: Residual, X, ["one", "two"]),
    "Linen": (LinenNet, X, ["Dense_0", "Dense_1"]),
    "a module that is there": (lambda: net(nnx.Rngs(0)), X, ["layers/0", "layers/2"]),
    "lectopt's norm": (
        lambda: (
            lambda rngs: nnx.Sequential(
                nnx.Linear(64, 8, rngs=rngs),
                lo.BatchNorm(8, window=2, rngs=rngs),
                nnx.relu,
                nnx.Linear(8, 10, rngs=rngs),
            )
        ),
        X,
        ["layers/0"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_kinds_of_networks_learn(case):
    make, x, names = MODELS[case]
    task = lo.classification(make())
    got = lo.pretrain_layers(task, x, lo.adam(0.01), batch_size=25, epochs=15, corruption=0.1, key=0, progress=False)
    assert list(got.histories) == names
    for name, history in got.histories.items():
        losses = np.asarray(history.epochs["train_loss"])
        assert losses[-1] < 0.7 * losses[0], name
    run = lo.fit(task, lo.adam(0.01), (x, Y), batch_size=25, epochs=15, key=0, start=got.start, progress=False)
    assert run.evaluate((x, Y))["accuracy"] > 0.4


CODES = {
    "as it is": (((8, 8, 1), (8, 8, 4), (8, 8, 4), (3, 3)), (8, 8, 4)),
    "pooled": (((8, 8, 1), (8, 8, 4), (4, 4, 4), (3, 3)), (4, 4, 4)),
    "flattened": (((8, 8, 1), (8, 8, 4), (256,), (3, 3)), (8, 8, 4)),
    "pooled and flattened": (((8, 8, 1), (8, 8, 4), (64,), (3, 3)), (4, 4, 4)),
    "rounded down": (((7, 7, 1), (7, 7, 4), (36,), (3, 3)), (3, 3, 4)),
    "rounded up": (((7, 7, 1), (7, 7, 4), (64,), (3, 3)), (4, 4, 4)),
    "the mean": (((8, 8, 1), (8, 8, 4), (4,), (3, 3)), (1, 1, 4)),
    "nothing that is known": (((8, 8, 1), (8, 8, 4), (10,), (3, 3)), None),
    "dense": (((64,), (12,), (12,), ()), None),
    "dense, of sequences": (((5, 3), (5, 12), (5, 12), ()), None),
}


@pytest.mark.parametrize("case", CODES)
def test_decoders_know_pooled_and_flattened_pictures(case):
    shapes, image = CODES[case]
    passage = Passage(*shapes)
    assert _image(passage) == image
    decoder = Decoder(passage, nnx.Rngs(0))
    assert decoder(jnp.ones((2, *passage.code))).shape == (2, *passage.taken)
    assert Mirror([passage], nnx.Rngs(0))(jnp.ones((2, *passage.code))).shape == (2, *passage.taken)


def encoder(rngs):
    return nnx.Sequential(nnx.Linear(64, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 6, rngs=rngs))


@pytest.mark.parametrize("decoder", [None, lambda rngs: nnx.Linear(6, 64, rngs=rngs)], ids=["mirror", "own"])
def test_an_encoder_end_to_end(decoder):
    how = {"batch_size": 25, "epochs": 20, "key": 0, "progress": False}
    got = lo.pretrain_encoder(encoder, X, lo.adam(0.01), decoder=decoder, valid=X[:20], **how)
    losses = np.asarray(got.histories["network"].epochs["train_loss"])
    assert losses[-1] < 0.5 * losses[0]
    assert got.histories["network"].epochs["valid_loss"][-1] < np.var(X)
    whole = nnx.Sequential(encoder(nnx.Rngs(1)), nnx.Linear(6, 10, rngs=nnx.Rngs(1)))
    taken = lo.transfer(got, whole, rename={"": "layers/0"})
    np.testing.assert_array_equal(taken.model.layers[0].layers[2].kernel[...], got.params["layers"][2]["kernel"])


SGD = lo.sgd(0.1)


def attempt(model=net, inputs=X, optimizer=SGD, **options):
    return lo.pretrain_layers(model, inputs, optimizer, **{"batch_size": 10, "epochs": 1, "key": 0, **options})


def normalise(rngs):
    return nnx.BatchNorm(64, rngs=rngs)


def bad_decoder(rngs):
    return nnx.Linear(6, 63, rngs=rngs)


FUNCTIONS = lambda key, x: ({}, {}), lambda p, s, x, key, training: (x, s)
BAD = {
    "labels": (lambda: attempt(inputs=(X, Y)), ValueError, "inputs must be one array without labels; got 2 arrays"),
    "a Subset": (lambda: attempt(inputs=lo.holdout((X, Y), 0.2, key=0)[0]), ValueError, "without labels"),
    "labels to validate": (lambda: attempt(valid=(X, Y)), ValueError, "valid must be one array without labels"),
    "all lost": (lambda: attempt(corruption=1.0), ValueError, r"corruption must be in \[0, 1\); got 1"),
    "negative": (lambda: attempt(corruption=-0.1), ValueError, "corruption must be in"),
    "corruption's kind": (lambda: attempt(corruption="mask"), TypeError, "corruption must be a number"),
    "optimizer": (lambda: attempt(optimizer=lo.sgd), TypeError, "optimizer must be an Optax GradientTransformation"),
    "unknown layer": (lambda: attempt(layers=["layers/1"]), ValueError, r"layers must be some of .*got \['layers/1'\]"),
    "one name": (lambda: attempt(layers="layers/0"), ValueError, "layers must be some of"),
    "no layers": (lambda: attempt(layers=[]), ValueError, "layers must be some of"),
    "one layer": (lambda: attempt(lambda rngs: nnx.Linear(64, 3, rngs=rngs)), ValueError, "below its last one"),
    "functions": (lambda: attempt(FUNCTIONS), TypeError, "pair of functions"),
    "epochs and steps": (lambda: attempt(steps=3), ValueError, "exactly one of epochs and steps"),
    "batch_size": (lambda: attempt(batch_size=0), ValueError, "batch_size must be at least 1"),
    "not finite": (lambda: attempt(inputs=np.full((20, 64), np.nan)), ValueError, "must be finite"),
    "no layers to reverse": (
        lambda: lo.pretrain_encoder(normalise, X, SGD, batch_size=9, epochs=1, key=0),
        ValueError,
        "encoder must have a dense layer",
    ),
    "decoder": (
        lambda: lo.pretrain_encoder(encoder, X, lo.sgd(0.1), decoder=bad_decoder, batch_size=9, epochs=1, key=0),
        ValueError,
        r"decoder must put out \(64,\) for an example; it puts out \(63,\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()
