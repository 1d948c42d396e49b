"""Models that compute in half precision: what is rounded, what stays float32, and the scale of the loss in float16."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.training import compiled_loop, loss_scale

X, Y = (a[:77] for a in lo.datasets.digits())
HALVES = [jnp.bfloat16, jnp.float16]


def mlp(rngs):
    return nnx.Sequential(nnx.Linear(64, 12, rngs=rngs), nnx.relu, nnx.Linear(12, 10, rngs=rngs))


def apply(params, x):
    (w, b), (v, c) = params
    return jax.nn.relu(x @ w + b) @ v + c


def init(key, x):
    first, second = jax.random.split(key)
    draw = lambda key, *shape: (jax.random.normal(key, shape) / 8, jnp.zeros(shape[-1]))  # noqa: E731
    return (draw(first, 64, 12), draw(second, 12, 10)), ()


def functions():
    return init, lambda params, state, x, key, training: (apply(params, x), state)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(linen.relu(linen.Dense(12)(x)))


MODELS = {"nnx": mlp, "linen": LinenNet(), "functions": functions()}


def train(task, steps=6, optimizer=None, **options):
    return jax.jit(
        lambda: lo.train(task, optimizer or lo.momentum(0.05), (X, Y), batch_size=32, steps=steps, key=0, **options)
    )()


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def dtypes_of_products(program):
    """Of what is multiplied in products of matrices and in convolutions, in a lowered program."""
    return re.findall(r"stablehlo\.(?:dot_general|convolution).*-> tensor<(?:\d+x)*(\w+)>", program.as_text())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", MODELS)
def test_products_are_half_and_all_that_is_kept_is_float32(kind, dtype):
    task = lo.classification(MODELS[kind], standardize=True, compute_dtype=dtype)

    def training(key):
        return lo.train(task, lo.adam(0.01), (X + 1, Y), valid=(X, Y), batch_size=32, steps=3, key=key)

    program = jax.jit(training).lower(jax.random.key(0))
    products = dtypes_of_products(program)
    assert len(products) >= 5
    assert set(products) == {{jnp.bfloat16: "bf16", jnp.float16: "f16"}[dtype]}
    run = program.out_info
    assert dtypes((run.params, run.opt_state, run.metrics, run.history.steps, run.model_state)) == {
        jnp.dtype("float32")
    }


@pytest.mark.slow
def test_steps_equal_those_of_a_loop_that_rounds_weights_and_inputs():
    order = lo.minibatches((X, Y), 32, shuffle=False)

    def loss(params, batch):
        x, y, weights = batch
        low = lambda tree: jax.tree.map(lambda a: a.astype(jnp.bfloat16), tree)  # noqa: E731
        outputs = apply(low(params), low(x)).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
        return jnp.sum(losses * weights) / jnp.sum(weights)

    params = jax.tree.map(np.asarray, init(jax.random.key(3), X)[0])
    optimizer = optax.adam(0.01)
    state = optimizer.init(params)
    expected, met = params, []
    differentiate = jax.jit(jax.value_and_grad(loss))
    for rows, weights in [(rows, w) for _ in range(2) for rows, w in zip(*order, strict=True)]:
        value, gradients = differentiate(expected, (X[rows], Y[rows], weights))
        met.append(value)
        updates, state = optimizer.update(gradients, state, expected)
        expected = optax.apply_updates(expected, updates)
    task = lo.classification(functions(), compute_dtype=jnp.bfloat16)
    run = train(task, steps=6, optimizer=lo.adam(0.01), start=params, shuffle=False)
    np.testing.assert_allclose(run.history.steps["loss"], met, rtol=1e-3)  # a bfloat16 may round to its neighbour
    for ours, theirs in zip(jax.tree.leaves(run.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    exact = train(lo.classification(functions()), steps=6, optimizer=lo.adam(0.01), start=params, shuffle=False)
    assert np.abs(exact.history.steps["loss"] - np.array(met)).max() > 1e-5  # float32 is another training


def test_float16_underflows_without_the_scale_and_learns_with_it():
    """Gradients of 1e-8 are 0 in float16; times 2^15 they are not."""

    def tiny(outputs, targets):
        return 1e-8 * (outputs - targets)[:, 0] ** 2

    linear = (lambda key, x: (jnp.ones((1, 1)), ()), lambda params, state, x, key, training: (x @ params, state))
    task = lo.Task(linear, tiny, compute_dtype=jnp.float16)
    x = np.full((4, 1), 1.0, np.float32)
    run = lo.fit(task, lo.sgd(1e7), (x, 0 * x), batch_size=4, steps=3, key=0, progress=False)
    w = 1.0
    for _ in range(3):
        w -= 1e7 * 2e-8 * w
    assert float(run.params[0, 0]) == pytest.approx(w, rel=1e-2)


def steep(outputs, targets):
    """A gradient of 4096 for each output: 2^15 times that is beyond float16."""
    return 4096.0 * (outputs - targets)[:, 0]


def test_a_gradient_that_overflows_halves_the_scale_and_changes_nothing():
    linear = (lambda key, x: (jnp.ones((1, 1)), ()), lambda params, state, x, key, training: (x @ params, state))
    task = lo.Task(linear, steep, compute_dtype=jnp.float16)
    x = np.ones((1, 1), np.float32)
    run = lo.fit(task, lo.adam(0.5), (x, x), batch_size=1, steps=16, key=0, progress=False)
    scales = np.asarray(run.history.steps["loss_scale"])
    fits = np.asarray(run.history.steps["gradient_norm"]) > 0
    np.testing.assert_array_equal(fits, scales * 4096 < 65520)  # what rounds to a finite float16
    first = int(np.argmax(fits))
    np.testing.assert_array_equal(scales[: first + 1], 2.0 ** (15 - np.arange(first + 1)))
    np.testing.assert_array_equal(scales[first:], scales[first])
    assert first == 12
    # Adam's steps are 0.5 each: those that were skipped do not count, nor do their bias corrections.
    assert float(run.params[0, 0]) == pytest.approx(1 - 0.5 * (16 - first), rel=1e-5)
    assert int(run.history.diverged_at) == -1


def test_the_scale_doubles_after_two_thousand_steps():
    scale, seen = loss_scale.initial_scale(jnp.float16), []
    adjust = jax.jit(loss_scale.next_scale)
    for step in range(4100):
        scale = adjust(scale, np.bool_(step == 50))
        seen.append(float(scale.scale))
    assert seen[49] == 2**15
    assert seen[50] == seen[50 + 1999] == 2**14
    assert seen[50 + 2000] == seen[50 + 3999] == 2**15
    assert seen[50 + 4000] == 2**16


def test_what_is_not_finite_by_itself_is_no_overflow_of_the_scale():
    def undefined(outputs, targets):
        return jnp.sqrt(jnp.abs(outputs[:, 0] - targets[:, 0]))  # infinite slope at 0

    linear = (lambda key, x: (jnp.ones((1, 1)), ()), lambda params, state, x, key, training: (x @ params, state))
    task = lo.Task(linear, undefined, compute_dtype=jnp.float16)
    x = np.ones((1, 1), np.float32)
    with pytest.warns(UserWarning, match="gradient not finite|not finite"):
        run = lo.fit(task, lo.sgd(0.1), (x, x), batch_size=1, steps=20, key=0, progress=False)
    assert int(run.history.diverged_at) == 15  # once the scale has come down to 1


class Embedding(nnx.Module):
    """Flax's Embed and BatchNorm hand on float32, whatever they are given."""

    def __init__(self, rngs):
        self.table = nnx.Embed(10, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.own_norm = lo.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.out = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, tokens):
        return self.out(self.drop(self.own_norm(self.norm(self.table(tokens)))))


class LinenEmbedding(linen.Module):
    @linen.compact
    def __call__(self, tokens, train):
        x = linen.Embed(10, 8)(tokens)
        return linen.Dense(10)(linen.BatchNorm(use_running_average=not train)(x))


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.cell = nnx.RNN(nnx.LSTMCell(8, 6, rngs=rngs))
        self.out = nnx.Linear(6, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(self.cell(x.reshape(-1, 8, 8))[:, -1])


class LinenRecurrent(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10)(linen.RNN(linen.GRUCell(6))(x.reshape(-1, 8, 8))[:, -1])


class Image(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), rngs=rngs)
        self.norm = nnx.LayerNorm(3, rngs=rngs)
        self.out = nnx.Linear(192, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.norm(self.conv(x.reshape(-1, 8, 8, 1)))).reshape(len(x), -1))


@pytest.mark.parametrize(
    ("model", "x"),
    [(Embedding, Y), (LinenEmbedding(), Y), (Recurrent, X), (LinenRecurrent(), X), (Image, X)],
    ids=["embedding", "linen embedding", "recurrent", "linen recurrent", "image"],
)
def test_layers_compute_in_it_after_those_that_widen(model, x):
    task = lo.classification(model, compute_dtype="bfloat16")
    params, state = jax.eval_shape(task.init, jax.random.key(0), (x, Y))

    def loss(params, state):
        scores, new = task.scores(params, state, (x, Y), jax.random.key(0), training=True)
        return scores.losses.mean(), new

    program = jax.jit(jax.grad(loss, has_aux=True)).lower(params, state)
    assert set(dtypes_of_products(program)) == {"bf16"}
    assert dtypes(program.out_info) == {jnp.dtype("float32")}


@pytest.mark.slow
def test_a_model_with_embedding_batch_norm_and_dropout_learns():
    task = lo.classification(Embedding, compute_dtype="bfloat16")
    run = lo.fit(task, lo.adam(0.05), (Y, Y), valid=(Y, Y), batch_size=32, epochs=8, key=0, progress=False)
    assert run.metrics["valid_accuracy"] == 1
    assert run.predict(Y[:3]).dtype == run.probabilities(Y[:3]).dtype == jnp.float32


def test_variables_keep_their_dtypes():
    def remember(params, state, x, key, training):
        return x @ params["w"], {"last": x.mean(), "count": state["count"] + 1}

    begin = {"last": jnp.float32(0), "count": jnp.int32(0)}
    model = (lambda key, x: ({"w": jnp.zeros((64, 10))}, begin), remember)
    run = train(lo.classification(model, compute_dtype=jnp.bfloat16))
    last, count = (run.model_state.variables[name] for name in ("last", "count"))
    assert (last.dtype, count.dtype, int(count)) == (jnp.float32, jnp.int32, 6)


def test_an_objective_computes_in_it_too():
    def objective(module, batch, key):
        (x,) = batch
        assert x.dtype == jnp.float32
        return jnp.mean((module(x) - x).astype(jnp.float32) ** 2, axis=-1), {}

    autoencoder = lo.Task(lambda rngs: nnx.Linear(64, 64, rngs=rngs), objective=objective, compute_dtype=jnp.bfloat16)

    def training():
        return lo.train(autoencoder, lo.sgd(0.01), (X,), batch_size=32, steps=3, key=0)

    assert set(dtypes_of_products(jax.jit(training).lower())) == {"bf16"}
    functional = lo.Task(
        functions(), objective=lambda f, batch, key: (jnp.sum(f(*batch) ** 2, 1), {}), compute_dtype="f2"
    )
    program = jax.jit(lambda: lo.train(functional, lo.sgd(0.01), (X,), batch_size=32, steps=3, key=0)).lower()
    assert set(dtypes_of_products(program)) == {"f16"}


@pytest.mark.slow
def test_it_works_in_searches_and_under_what_looks_into_layers():
    task = lo.classification(mlp, standardize=True, compute_dtype=jnp.bfloat16)

    def trial(setting, train, valid, key):
        return lo.train(task, lo.momentum(setting["rate"]), train, valid=valid, batch_size=32, epochs=2, key=key)

    settings = {"rate": np.array([0.01, 0.1], np.float32)}
    results = lo.cross_validate(
        trial, settings, lo.k_fold((X, Y), 2, key=0), minimize="valid_loss", key=0, progress=False
    )
    assert np.isfinite(results.metrics["valid_loss"]).all()
    watched = train(task, watch=2)
    assert all(np.isfinite(np.asarray(v)).all() for v in jax.tree.leaves(watched.history.layers))
    lo.inspect(task, (X, Y), key=0)


def test_a_training_in_float16_is_resumed_with_its_scale(tmp_path, chunks_of):
    linear = (lambda key, x: (jnp.ones((1, 1)), ()), lambda params, state, x, key, training: (x @ params, state))
    task = lo.Task(linear, steep, compute_dtype=jnp.float16)
    x = np.ones((1, 1), np.float32)
    arguments = {"batch_size": 1, "steps": 16, "key": 0, "progress": False}
    whole = lo.fit(task, lo.adam(0.5), (x, x), **arguments)
    chunks_of(5)
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return advance(*args, **kwargs)

    advance = compiled_loop.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lectopt.training.running._SAVE_SECONDS", -1.0)
        patch.setattr(compiled_loop, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lo.fit(task, lo.adam(0.5), (x, x), directory=tmp_path, **arguments)
    resumed = lo.fit(task, lo.adam(0.5), (x, x), directory=tmp_path, **arguments)
    np.testing.assert_array_equal(resumed.history.steps["loss_scale"], whole.history.steps["loss_scale"])
    np.testing.assert_array_equal(resumed.params, whole.params)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (jnp.int8, ValueError, "got int8"),
        (jnp.float64, ValueError, "got float64"),
        ("brain", TypeError, "got 'brain'"),
        (16, TypeError, "got 16"),
        (True, TypeError, "got True"),
    ],
)
def test_other_dtypes_are_refused(given, error, words):
    with pytest.raises(error, match=f"compute_dtype must be one of bfloat16, float16, float32; {words}"):
        lo.classification(mlp, compute_dtype=given)


def test_complex_numbers_are_refused():
    linear = (lambda key, x: (jnp.ones((1, 1), complex), ()), lambda p, s, x, key, training: ((x @ p).real, s))
    task = lo.Task(linear, lambda outputs, targets: outputs[:, 0], compute_dtype=jnp.bfloat16)
    x = np.ones((4, 1), np.float32)
    with pytest.raises(TypeError, match="compute_dtype must be None for complex numbers"):
        lo.fit(task, lo.sgd(0.1), (x, x), batch_size=4, steps=1, key=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        pytest.param("digits", jnp.bfloat16, marks=pytest.mark.exhaustive),
        ("digits", jnp.float16),
        pytest.param("mnist", jnp.bfloat16, marks=pytest.mark.exhaustive),
    ],
)
def test_accuracy_is_within_a_third_of_a_point_of_float32(data, dtype, fully_compiled):
    x, y = getattr(lo.datasets, data)()
    x = x.reshape(len(x), -1)
    rest, test = lo.holdout((x, y), 0.3, key=0, stratify=True)
    size = x.shape[-1]

    def net(rngs):
        return nnx.Sequential(nnx.Linear(size, 50, rngs=rngs), nnx.relu, nnx.Linear(50, 10, rngs=rngs))

    def accuracy(compute_dtype):
        task = lo.classification(net, compute_dtype=compute_dtype)
        run = lambda key: lo.train(task, lo.adam(3e-3), rest, valid=test, batch_size=64, epochs=6, key=key)  # noqa: E731
        return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 10)).metrics["valid_accuracy"].mean()

    assert abs(accuracy(dtype) - accuracy(None)) <= 0.003
