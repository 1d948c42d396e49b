"""Pre-training without labels: numbers of a plain loop, what learns and what stands still, and what is refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from flax import linen, nnx
from strict_modes import MODES

import lectopt as lo
from lectopt.pretraining.stage_training import Recipe
from lectopt.training.arguments import TrainingArguments
from lectopt.training.setup import prepare
from lectopt.training.starting import init_from_examples

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.iris()
X = np.asarray(X[::5], np.float32)  # 30 examples
SCALED = (X - X.mean(0)) / X.std(0)
OPTIONS = {"batch_size": 10, "steps": 3, "key": 0, "progress": False}


def dense(*widths, act=jnp.tanh):
    def net(rngs):
        pairs = itertools.pairwise(widths)
        layers = [layer for a, b in pairs for layer in (nnx.Linear(a, b, rngs=rngs), act)]
        return nnx.Sequential(*layers[:-1])

    return net


class Normed(nnx.Module):
    """A norm before the first layer and one after each, dropout, and a layer on top."""

    def __init__(self, rngs, norm=nnx.BatchNorm):
        self.entry = norm(4, rngs=rngs)
        self.first = nnx.Linear(4, 4, rngs=rngs)  # of one width, so that the operations of JAX compile once
        self.one = norm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.second = nnx.Linear(4, 4, rngs=rngs)
        self.two = norm(4, rngs=rngs)
        self.third = nnx.Linear(4, 3, rngs=rngs)
        self.three = norm(3, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.one(self.first(self.entry(x)))))
        return self.three(self.third(nnx.relu(self.two(self.second(x)))))


class Linen(linen.Module):
    """The like of it in Linen."""

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(5)(x)))
        x = linen.Dropout(0.1, deterministic=not train)(x)
        x = linen.relu(linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x)))
        return linen.Dense(3)(x)


def pretrain(task=None, x=X, optimizer=None, **options):
    return lo.pretrain_layers(task or dense(4, 5, 3, 3), x, optimizer or lo.sgd(0.1), **OPTIONS | options)


def encode(task=None, x=X, optimizer=None, **options):
    return lo.pretrain_encoder(task or dense(4, 5, 3), x, optimizer or lo.sgd(0.1), **OPTIONS | options)


def arrays(tree):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def moved(a, b):
    """The paths of arrays that differ in any bit."""
    a, b = arrays(a), arrays(b)
    assert a.keys() == b.keys()
    return {path for path in a if not np.array_equal(a[path], b[path])}


def assert_close(a, b, tolerance=2e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def drawn(task, x=X, key=0):
    """What `train` begins with."""
    task = task if isinstance(task, lo.Task) else lo.Task(task, objective=lambda *_: None)
    whole = lo.Subset((x,), np.arange(len(x)), np.int32(len(x)), least=len(x))
    return init_from_examples(task, jax.random.key(key), whole)


# Against a plain loop -------------------------------------------------------------------------------------------------
@pytest.fixture
def stages(monkeypatch):
    """What each stage began with, of network and decoder, and the key that it was given."""
    seen = []
    run = lo.pretraining.stage_training.fit

    def record(stage, optimizer, inputs, **options):
        seen.append((options["start"].params, options["key"], inputs))
        return run(stage, optimizer, inputs, **options)

    monkeypatch.setattr(lo.pretraining.stage_training, "fit", record)
    return seen


def batches(key, inputs, steps):
    """The rows of each minibatch."""
    shuffle = jax.random.fold_in(key, 0)
    epochs = [lo.minibatches(inputs, 10, key=shuffle, epoch=e).indices for e in range(-(-steps // 3))]
    return np.concatenate(epochs)[:steps]


def weights(tree):
    return np.asarray(tree["kernel"], np.float64), np.asarray(tree["bias"], np.float64)


CORRUPTIONS = {
    "none": (0, lambda h: h),
    "halved": (lambda key, h: h * 0.5 + 0.1, lambda h: h * 0.5 + 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "corruption"),
    [
        ("tanh", "halved"),
        pytest.param("relu", "none", marks=pytest.mark.slow),
        pytest.param("tanh", "none", marks=pytest.mark.slow),
        pytest.param("relu", "halved", marks=pytest.mark.slow),
    ],
)
def test_the_plain_loop(act, corruption, stages, full_precision):
    """Greedy layer-wise denoising autoencoders, written by hand."""
    given, plain = CORRUPTIONS[corruption]
    net = dense(4, 5, 3, 3, act={"tanh": jnp.tanh, "relu": nnx.relu}[act])
    task = lo.classification(net, standardize=True)
    valid = X[:7] + 0.1
    pretrained = pretrain(task, steps=5, corruption=given, valid=valid)
    assert list(pretrained.histories) == ["layers/0", "layers/2"]
    h, v = np.asarray(SCALED, np.float64), (valid - X.mean(0)) / X.std(0).astype(np.float64)
    for (start, key, inputs), (name, history) in zip(stages, pretrained.histories.items(), strict=True):
        place = int(name[-1])
        layer, decoder = weights(start["network"]["layers"][place]), weights(start["decoder"]["layer"])
        rows = batches(key, inputs, 5)
        layer, decoder, losses, losses_of_valid = oracle.denoise(h, layer, decoder, rows, act, plain, 0.1, v)
        np.testing.assert_allclose(history.steps["loss"], losses, rtol=2e-5)
        np.testing.assert_allclose(history.epochs["valid_loss"], np.array(losses_of_valid)[[2, 4]], rtol=2e-5)
        trained = pretrained.params["layers"][place]
        np.testing.assert_allclose(trained["kernel"], layer[0], atol=2e-5)
        np.testing.assert_allclose(trained["bias"], layer[1], atol=2e-5)
        h, v = (oracle.ACTIVATIONS[act][0](a @ layer[0] + layer[1]) for a in (h, v))
    assert not moved(stages[0][0]["network"]["layers"][4], pretrained.params["layers"][4]), "the last one stands still"


@pytest.mark.slow
def test_an_encoder_by_automatic_differentiation(stages, x64):
    """Of all layers at once, in float64, with masking noise as it was drawn."""
    seen = []

    def corrupt(key, x):
        mask = jnp.arange(x.size).reshape(x.shape) % 3 > 0
        seen.append(x.shape)
        return jnp.where(mask, x, 0)

    pretrained = encode(dense(4, 5, 3), SCALED, steps=4, corruption=corrupt)
    start, key, inputs = stages[0]

    def loss(p, x):
        (a, b), (c, d) = ([p["network"]["layers"][0], p["network"]["layers"][2]], p["decoder"]["decoders"].values())
        code = jnp.tanh(corrupt(None, x) @ a["kernel"] + a["bias"]) @ b["kernel"] + b["bias"]
        hidden = jnp.maximum(code @ c["layer"]["kernel"] + c["layer"]["bias"], 0)
        return jnp.mean((hidden @ d["layer"]["kernel"] + d["layer"]["bias"] - x) ** 2)

    p = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), start)
    for i, rows in enumerate(batches(key, inputs, 4)):
        value, gradient = jax.value_and_grad(loss)(p, jnp.asarray(SCALED[rows]))
        np.testing.assert_allclose(pretrained.histories["network"].steps["loss"][i], value, rtol=2e-5)
        p = jax.tree.map(lambda w, g: w - 0.1 * g, p, gradient)
    assert_close(pretrained.params, p["network"])


# What learns, and what stands still -----------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("norm", [lo.LayerNorm, nnx.BatchNorm, functools.partial(lo.BatchNorm, window=3)])
def test_one_layer_after_the_other(norm, eager):
    def net(rngs):
        return Normed(rngs, norm)

    begun, state = drawn(net)
    heavy = optax.chain(lo.add_l2(0.1), lo.adam(0.01))  # that moves whatever it is let at
    one = pretrain(net, optimizer=heavy, layers=["first"], steps=1)
    both = pretrain(net, optimizer=heavy, layers=["second", "first"], steps=1)
    parts = {"first": ("first", "one"), "second": ("second", "two")}

    def of(*names):
        trained = {f"['{part}']['{leaf}']" for n in names for part in parts[n] for leaf in ("kernel", "bias", "scale")}
        return trained & arrays(begun).keys()

    assert moved(begun, one.params) == of("first")
    assert moved(one.params, both.params) == of("second")
    for before, after, part in ((state.variables, one.model_state.variables, "one"), (one, both, "two")):
        before, after = (getattr(getattr(s, "model_state", s), "variables", s) for s in (before, after))  # noqa: PLW2901
        names = {path.split("'")[1] for path in moved(before, after)}
        assert names - {"entry"} == ({part} & {p.split("'")[1] for p in arrays(before)})
    if norm is nnx.BatchNorm:  # what stands before all layers is shown what is not corrupted
        entry = one.model_state.variables["entry"]
        assert np.all(np.abs(np.asarray(entry["mean"]) - 0.01 * X.mean(0)) < 0.005 * X.mean(0))


@pytest.mark.slow
def test_linen_layers():
    begun, state = drawn(Linen())
    pretrained = pretrain(Linen(), optimizer=lo.nesterov(0.1, 0.9), layers=["Dense_0"])
    assert {path.split("'")[1] for path in moved(begun, pretrained.params)} == {"Dense_0", "BatchNorm_0"}
    changed = moved(state.variables, pretrained.model_state.variables)
    assert changed == {f"['batch_stats']['BatchNorm_0']['{name}']" for name in ("mean", "var")}


@pytest.mark.slow
def test_look_ahead_is_undone(stages):
    """The parameters are w, not the point where Nesterov's method took its last gradient."""
    plain = pretrain(optimizer=lo.nesterov(0.1, 0.0), steps=1)
    ahead = pretrain(optimizer=lo.nesterov(0.1, 0.9), steps=1)
    assert_close(plain.params["layers"][0], ahead.params["layers"][0])


@pytest.mark.slow
def test_clipping_sees_what_learns_alone():
    """The norm of the gradient is that of the decoder's and the layer's, all there are."""
    clipped = pretrain(optimizer=optax.chain(optax.clip_by_global_norm(1e6), lo.sgd(0.1)))
    assert_close(clipped.params, pretrain().params, 1e-6)


# Corruption -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0, 0.25, 0.9])
def test_masking_noise(share):
    corrupt = lo.pretraining.corruption.as_corruption(share)
    x = np.arange(1, 40001, dtype=np.float32).reshape(100, 400)
    lost = np.asarray(corrupt(jax.random.key(0), x))
    assert abs(np.mean(lost == 0) - share) < 0.01
    np.testing.assert_array_equal(lost[lost != 0], x[lost != 0])
    if share:
        assert not np.array_equal(lost, corrupt(jax.random.key(1), x))
    assert corrupt(jax.random.key(0), x.astype(np.uint8)).dtype == np.uint8


@pytest.mark.slow  # the plain loop sees it too
def test_corruption_is_of_what_the_layer_takes_in(eager):
    """Never of what is to be rebuilt, and below it nothing is changed; by another key at each step of each layer."""
    shapes, keys = set(), []

    def lose_all(key, h):
        if not isinstance(h, jax.core.Tracer):
            shapes.add(h.shape)
            keys.append(tuple(np.asarray(jax.random.key_data(key))))
        return h * 0

    pretrained = pretrain(x=SCALED, corruption=lose_all, optimizer=lo.sgd(0.0), batch_size=30, steps=2)
    assert shapes == {(30, 4), (30, 5)}
    assert len(set(keys)) == len(keys) == 4
    # The decoder puts out its bias, which is 0, and of a layer's tanh of a bias that is 0 too: the targets are left.
    clean = [SCALED, np.tanh(SCALED @ pretrained.params["layers"][0]["kernel"])]
    for history, h in zip(pretrained.histories.values(), clean, strict=True):
        np.testing.assert_allclose(history.steps["loss"], np.mean(np.asarray(h) ** 2), rtol=1e-4)


# As a program ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("function", [pretrain, encode])
def test_traced_equals_eager_and_lanes_equal_single_ones(function):
    task = lo.classification(dense(4, 5, 3, 3), standardize=True)
    keys = jax.random.split(jax.random.key(3), 2)
    lanes = jax.jit(jax.vmap(lambda key: function(task, key=key)))(keys)
    jitted = jax.jit(lambda key, x: function(task, x, key=key))(keys[1], X)
    alone = function(task, key=keys[1])
    assert_close(jitted.params, alone.params)
    assert_close(jax.tree.map(lambda a: a[1], lanes.params), alone.params)
    assert_close(lanes.model_state.inputs.mean[1], X.mean(0))
    for name, history in alone.histories.items():
        assert_close(jitted.histories[name].steps, history.steps)
        assert_close(jax.tree.map(lambda a: a[1], lanes.histories[name].steps), history.steps)
    assert not moved(alone.params, function(task, key=keys[1]).params)
    kernels = {name for name in arrays(alone.params) if "kernel" in name}  # a bias that does not learn is 0
    assert moved(alone.params, function(task, key=keys[0]).params) >= kernels


@pytest.mark.slow
def test_as_a_trial():
    task = lo.classification(dense(4, 5, 3), standardize=True)
    train, valid = lo.holdout((X, Y[::5]), 0.3, key=0)

    def trial(setting, key):
        numbers = {"corruption": setting["share"], "key": key, "batch_size": 7, "steps": 4}
        pretrained = lo.pretrain_layers(task, train.unlabelled(), lo.sgd(setting["rate"]), **numbers)
        few = lo.few_labels((X, Y[::5]), 2, key=key)
        return lo.train(task, lo.sgd(0.1), few, valid=valid, batch_size=3, steps=4, key=key, start=pretrained.start)

    settings = {"rate": [0.0, 0.1, 0.2], "share": [0.0, 0.5, 0.3]}
    with pytest.warns(UserWarning, match="the best rate, 0.2, lies at the high end"):
        results = lo.sweep(trial, settings, minimize="valid_loss", key=0, progress=False)
    assert len(np.unique(results.mean())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("function", [pretrain, encode])
@pytest.mark.parametrize("net", [Linen(), Normed])
def test_a_fit_begins_there(function, net, eager):
    task = lo.classification(net, standardize=True)
    options = {"decoder": lambda rngs: nnx.Linear(3, 4, rngs=rngs)} if function is encode else {}
    pretrained = function(task, corruption=0.5, key=4, **options)
    other = np.roll(X, 1, axis=1)[:20], Y[::5][:20]
    run = lo.fit(task, lo.sgd(0.0), other, batch_size=20, steps=1, key=9, start=pretrained.start, progress=False)
    assert not moved(run.params, pretrained.params)
    np.testing.assert_allclose(pretrained.model_state.inputs.mean, X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(pretrained.model_state.inputs.var, X.var(0), rtol=1e-5)
    assert not moved(run.model_state.inputs, pretrained.model_state.inputs)
    begun = prepare(
        TrainingArguments(task, lo.sgd(0.0), other, batch_size=20, epochs=1, key=9, start=pretrained.start)
    ).learner()
    assert not moved(begun.state, pretrained.model_state)


# Networks -------------------------------------------------------------------------------------------------------------
IMAGES = np.random.default_rng(0).normal(size=(12, 7, 7, 2)).astype(np.float32)
SIGNALS = np.random.default_rng(0).normal(size=(12, 11, 2)).astype(np.float32)


def pool(window, strides=None):
    size = (window, window)
    return lambda x: nnx.max_pool(x, size, strides=strides or size)


def flat(x):
    return x.reshape(len(x), -1)


def conv(*args, **options):
    return functools.partial(nnx.Conv, *args, **options)


def images(*parts):
    def net(rngs):
        return nnx.Sequential(*(p(rngs=rngs) if isinstance(p, functools.partial) else p for p in parts))

    return net


def linear(*args):
    return functools.partial(nnx.Linear, *args)


class Skips(nnx.Module):
    """A residual block between two convolutions, and the mean over space."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = lo.BatchNorm(4, window=2, rngs=rngs)
        self.inner = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        return self.head((x + nnx.relu(self.inner(x))).mean((1, 2)))


class Concatenated(nnx.Module):
    """What the first layer took in stands beside what it put out."""

    def __init__(self, rngs):
        self.one = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.two = nnx.Conv(6, 3, (3, 3), rngs=rngs)
        self.head = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.two(jnp.concatenate([x, self.one(x)], -1)))
        return self.head(x.max((1, 2)))


class Attending(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(2, 4, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.attend(self.embed(x)).mean(1))


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Linear(2, 4, rngs=rngs)
        self.cells = nnx.RNN(nnx.GRUCell(4, 5, rngs=rngs))
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.cells(self.embed(x))[:, -1])


NETWORKS = {
    "pooled": (images(conv(2, 4, (3, 3)), nnx.relu, pool(2), flat, linear(36, 5), nnx.relu, linear(5, 3)), IMAGES),
    "valid, strided": (
        images(conv(2, 4, (3, 3), strides=2, padding="VALID"), nnx.relu, conv(4, 4, (2, 2), padding="VALID"), flat,
               linear(16, 3)),
        IMAGES,
    ),
    "1-D": (images(conv(2, 4, (3,)), nnx.relu, conv(4, 4, (2,), strides=2), nnx.relu, flat, linear(24, 3)), SIGNALS),
    "skips": (Skips, IMAGES),
    "concatenated": (Concatenated, IMAGES),
    "bytes": (images(flat, linear(98, 5), nnx.relu, linear(5, 3)), (IMAGES * 50 + 100).astype(np.uint8)),
    "attention": (Attending, SIGNALS),
    "recurrent": (Recurrent, SIGNALS),
    "live": (dense(4, 5, 3)(nnx.Rngs(7)), X),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, eager):
    """Each stage rebuilds better in the end, and the network is one to go on with."""
    net, x = NETWORKS[name]
    rate = 1e-3 if name == "bytes" else 1e-2
    pretrained = pretrain(net, x, lo.adam(rate), corruption=0, batch_size=len(x), steps=8)
    for layer, history in pretrained.histories.items():
        assert history.steps["loss"][-1] < history.steps["loss"][0], layer
        assert np.isfinite(history.steps["loss"]).all()
    assert pretrained.model(jnp.asarray(x)).shape == (len(x), 3)
    assert repr(pretrained) == f"Pretrained({', '.join(pretrained.histories)})"
    if name == "live":
        begun = drawn(net)[0]
        assert not moved(begun, nnx.as_pure(nnx.state(net, nnx.Param)))
        assert moved(begun, pretrained.params) == {"['layers'][0]['kernel']", "['layers'][0]['bias']"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pooled", "bytes"])
def test_encoders(name, eager):
    net, x = NETWORKS[name]
    run = encode(net, x, lo.adam(1e-3), corruption=0, batch_size=len(x), steps=8).histories["network"]
    assert run.steps["loss"][-1] < run.steps["loss"][0]


@pytest.mark.slow
def test_a_decoder_of_ones_own(eager):
    """Of any network, functions too; its batch statistics are its own."""

    def decoder(rngs):
        return nnx.Sequential(nnx.Linear(3, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs), nnx.Linear(6, 4, rngs=rngs))

    functions = (lambda key, x: ({"w": jnp.ones((4, 3))}, {}), lambda p, s, x, key, training: (x @ p["w"], s))
    for net in (dense(4, 5, 3), functions, Linen()):
        pretrained = encode(net, decoder=decoder)
        assert moved(drawn(net)[0], pretrained.params)
        assert jax.tree.structure(pretrained.params) == jax.tree.structure(drawn(net)[0])


CODES = {  # what is taken in, put out, and left after pooling or flattening: the image that the decoder enlarges
    "as it is": ((7, 7, 2), (7, 7, 4), (7, 7, 4), (7, 7, 4)),
    "pooled": ((7, 7, 2), (7, 7, 4), (3, 3, 4), (3, 3, 4)),
    "flattened": ((7, 7, 2), (7, 7, 4), (196,), (7, 7, 4)),
    "pooled and flattened": ((7, 7, 2), (7, 7, 4), (36,), (3, 3, 4)),
    "with padding": ((7, 7, 2), (7, 7, 4), (64,), (4, 4, 4)),
    "not square": ((8, 5, 2), (8, 5, 4), (32,), (4, 2, 4)),
    "mean": ((7, 7, 2), (7, 7, 4), (4,), (1, 1, 4)),
    "more channels": ((7, 7, 2), (7, 7, 4), (7, 7, 6), (7, 7, 6)),
    "a part of them": ((7, 7, 2), (7, 7, 4), (17,), None),
    "one axis": ((11, 2), (11, 3), (15,), (5, 3)),
}


@pytest.mark.parametrize("name", CODES)
def test_decoders(name):
    inputs, outputs, code, image = CODES[name]
    shapes = lo.pretraining.decoders.LayerShapes(inputs, outputs, code, (3,) * (len(inputs) - 1))
    decoder = lo.pretraining.decoders.Decoder(shapes, nnx.Rngs(0))
    assert decoder.image == image
    assert decoder(jnp.ones((5, *code))).shape == (5, *inputs)


def test_the_code_is_enlarged_in_place():
    shapes = lo.pretraining.decoders.LayerShapes((4, 4, 1), (4, 4, 1), (4,), (1, 1))
    decoder = lo.pretraining.decoders.Decoder(shapes, nnx.Rngs(0))
    decoder.layer.kernel[...] = jnp.ones((1, 1, 1, 1))
    np.testing.assert_allclose(
        decoder(jnp.arange(4.0)[None])[0, :, :, 0], np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2)))
    )


@pytest.mark.slow
def test_an_output_bias_is_left(eager):
    """It would have to be learned from labels."""
    task = lo.classification(dense(4, 5, 3), output_bias=lambda m: m.layers[2].bias)
    assert not np.any(pretrain(task).params["layers"][2]["bias"])


# Bad input ------------------------------------------------------------------------------------------------------------
class Named(nnx.Module):
    """Calls its layers in a way that hides what they take in."""

    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.two(inputs=self.one(inputs=x))


class Several(Named):
    """Puts out more than one array."""

    def __call__(self, x):
        return self.two(self.one(x)), x


LABELLED = lo.holdout((X, Y[::5]), 0.2, key=0)[0]
BAD = {
    "labels": ({"x": (X, Y)}, ValueError, "inputs must be one array without labels; got 2 arrays"),
    "labels of a part": ({"x": LABELLED}, ValueError, "inputs must be .*unlabelled\\(\\) of a Subset"),
    "labels to validate": ({"valid": LABELLED}, ValueError, "valid must be one array without labels"),
    "a list": ({"x": X.tolist()}, TypeError, "inputs must be an array .* got list"),
    "a tree": ({"x": {"a": X}}, TypeError, "inputs must be an array .* got dict"),
    "words": ({"x": np.array(["a", "b"])}, TypeError, r"inputs\[0\] must be .* numbers.* got ndarray of <U1"),
    "complex": ({"x": X * 1j}, TypeError, "inputs must be .* real numbers.* got ndarray of complex64"),
    "no examples": ({"x": X[:0]}, ValueError, "inputs must hold at least 1 example"),
    "a number": ({"x": np.float32(1)}, ValueError, "inputs must be arrays with one row per example"),
    "NaN": ({"x": np.where(X > 7, np.nan, X)}, ValueError, "inputs must be finite; 4 of 30 .* row 21"),
    "infinite": ({"valid": np.where(X > 7, np.inf, X)}, ValueError, "valid must be finite; 4 of 30"),
    "features": ({"x": X[:, :3]}, ValueError, "the network must fit the inputs, float32\\[10, 3\\]: "),
    "no features": ({"x": X[:, 0]}, ValueError, "the network must fit the inputs, float32\\[10\\]: "),
    "features to validate": ({"valid": X[:, :3]}, ValueError, "valid must have .* \\(4,\\), as inputs; got \\(3,\\)"),
    "all lost": ({"corruption": 1.0}, ValueError, "corruption must be in \\[0, 1\\); got 1"),
    "less than none": ({"corruption": -0.1}, ValueError, "corruption must be in \\[0, 1\\); got -0.1"),
    "a word": ({"corruption": "x"}, TypeError, "corruption must be a number in \\[0, 1\\); got 'x'"),
    "corruption to another shape": (
        {"corruption": lambda key, h: h[:, :2]}, ValueError, "corruption must return .*\\[10, 4\\]; got \\[10, 2\\]",
    ),
    "corruption to a number": ({"corruption": lambda key, h: 3.0}, ValueError, "corruption must return .* got \\[\\]"),
    "corruption without key": ({"corruption": lambda h: h}, ValueError, "corruption .* must fit .* 1 positional"),
    "a function": ({"optimizer": lo.adam}, TypeError, "optimizer must be .* such as lo.adam\\(1e-3\\); got <function"),
    "no optimizer": ({"optimizer": "adam"}, TypeError, "optimizer must be an Optax .* got 'adam'"),
    "both": ({"epochs": 1}, ValueError, "exactly one of epochs and steps must be given; got epochs=1, steps=3"),
    "neither": ({"steps": None}, ValueError, "exactly one of epochs and steps must be given"),
    "no steps": ({"steps": 0}, ValueError, "steps must be at least 1; got 0"),
    "no batch": ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
    "half a batch": ({"batch_size": 0.5}, TypeError, "batch_size must be a whole number of at least 1; got 0.5"),
    "no key": ({"key": None}, TypeError, "key must be an int or one jax.random.key; got None"),
    "no model": ({"task": 5}, TypeError, "model must be a function .* got int"),
    "a pair": ({"task": (lambda key, x: ({}, {}), lambda p, s, x, *_: (x, s))}, TypeError, "got a pair of functions"),
    "by name": ({"task": Named}, ValueError, "calls its layers as layer\\(x\\); one is given x as a keyword argument"),
    "several outputs": ({"task": Several}, ValueError, "a network that returns one array; got tuple"),
}  # fmt: skip


@pytest.mark.parametrize("function", [pretrain, encode])
@pytest.mark.parametrize("name", BAD)
def test_bad_input(function, name):
    options, error, message = BAD[name]
    with pytest.raises(error, match=message):
        function(**options)


LAYERS = "layers must be a list of some of layers/0, layers/2, layers/4; got "
BAD_LAYERS = {
    "a string": ("layers/0", LAYERS + "'layers/0'"),
    "none": ([], LAYERS + "\\[\\]"),
    "unknown": (["layers/0", "layers/7"], LAYERS + "\\['layers/0', 'layers/7'\\]"),
    "without weights": (["layers/1"], LAYERS),
    "a number": (5, LAYERS + "5"),
    "lists": ([["layers/0"]], LAYERS),
    "an array": (np.zeros(2), LAYERS),
    "arrays": ([np.zeros(2)], LAYERS),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_bad_layers(name):
    layers, message = BAD_LAYERS[name]
    with pytest.raises(ValueError, match=message):
        pretrain(layers=layers)


@pytest.mark.slow
def test_a_single_layer():
    single = dense(4, 3)
    for net, name in ((single, "layers/0"), (functools.partial(nnx.Linear, 4, 3), "Linear")):
        with pytest.raises(ValueError, match=f"task must have .* below its last one; it has \\['{name}'\\]"):
            pretrain(lambda rngs, net=net: net(rngs=rngs))
        assert list(pretrain(lambda rngs, net=net: net(rngs=rngs), layers=[name]).histories) == [name]
    with pytest.raises(ValueError, match="task must have a network with a dense layer or a convolution; it calls none"):
        pretrain(lambda rngs: nnx.Sequential(jnp.tanh, lo.LayerNorm(4, rngs=rngs)))


BAD_DECODERS = {
    "a number": (5, TypeError, "decoder must be a function rngs -> nnx.Module; got int"),
    "Linen": (linen.Dense(4), TypeError, "decoder must be a function rngs -> nnx.Module; got Dense"),
    "no module": (lambda rngs: 3, TypeError, "must return an nnx.Module; it returned int"),
    "too few": (
        lambda rngs: nnx.Linear(3, 1, rngs=rngs), ValueError, "decoder must return .*\\[10, 4\\]; got \\[10, 1\\]",
    ),
    "from another code": (lambda rngs: nnx.Linear(2, 4, rngs=rngs), ValueError, "network, .* decoder must fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DECODERS)
def test_bad_decoders(name):
    decoder, error, message = BAD_DECODERS[name]
    with pytest.raises(error, match=message):
        encode(decoder=decoder)


def test_an_encoder_without_layers():
    with pytest.raises(ValueError, match="encoder must have a dense layer or a convolution"):
        encode(lambda rngs: nnx.Sequential(lo.LayerNorm(4, rngs=rngs)))


def test_nothing_compiles_before_it_is_checked(monkeypatch):
    monkeypatch.setattr(Recipe, "init", lambda *_: pytest.fail("begun"))
    for name in ("features", "NaN", "both", "labels", "several outputs"):
        with pytest.raises(BAD[name][1]):
            pretrain(**BAD[name][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=pytest.mark.exhaustive if name == "leaks" else ()) for name, mode in MODES.items()],
    ids=MODES,
)
def test_in_every_mode_of_jax(mode):
    x = np.sin(np.arange(24, dtype=np.float32)).reshape(6, 4)

    def net(rngs):
        dense = [nnx.Linear(4, 3, rngs=rngs), lo.BatchNorm(3, window=2, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)]
        return nnx.Sequential(*dense)

    options = {"batch_size": 3, "steps": 2, "key": 0, "progress": False}
    with mode():
        for pretrained in (
            lo.pretrain_layers(lo.classification(net, standardize=True), x, lo.sgd(1e-3), **options),
            lo.pretrain_encoder(net, x, lo.sgd(1e-3), **options),
        ):
            assert all(np.isfinite(history.steps["loss"]).all() for history in pretrained.histories.values())
            assert lo.transfer(pretrained, net(nnx.Rngs(0)), statistics="take").rows
