"""BatchNorm and LayerNorm alike: the formula, gradients, dtypes, Flax's and JAX's transformations, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from norm_cases import (
    ENTRIES,
    IMAGES,
    MASK,
    RNG,
    X,
    batch_norm,
    batches,
    close,
    layer_norm,
    normalized,
    same_draws,  # noqa: F401, for every test
)
from strict_modes import MODES

import lectopt as lo
from lectopt import norms

FORWARD = [
    (batch_norm, X, {}, 0, 1e-5),
    (batch_norm, IMAGES, {}, (0, 1, 2), 1e-5),
    (batch_norm, np.moveaxis(IMAGES, -1, 1), {"axis": 1, "epsilon": 0.1}, (0, 2, 3), 0.1),
    (layer_norm, X, {}, 1, 1e-6),
    (layer_norm, IMAGES, {"reduction_axes": (1, 2, 3), "epsilon": 0.1}, (1, 2, 3), 0.1),
    (layer_norm, np.moveaxis(IMAGES, -1, 1), {"reduction_axes": (1,), "feature_axes": 1}, 1, 1e-6),
]


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(("make", "x", "arguments", "axes", "eps"), FORWARD)
def test_forward_is_the_formula(make, x, arguments, axes, eps, jit):
    layer = make(**arguments)
    gamma, beta = RNG.normal(size=8).astype(np.float32), RNG.normal(size=8).astype(np.float32)
    layer.scale[...], layer.bias[...] = gamma, beta
    features = np.flatnonzero(
        [arguments.get("axis", arguments.get("feature_axes", -1)) % x.ndim == a for a in range(9)]
    )
    shape = [8 if a in features else 1 for a in range(x.ndim)]
    y = (nnx.jit(lambda layer, x: layer(x)) if jit else lambda layer, x: layer(x))(layer, x)
    close(y, normalized(x, axes, eps, gamma=gamma.reshape(shape), beta=beta.reshape(shape)))
    assert y.dtype == jnp.float32


@pytest.mark.parametrize("mask", [MASK, ENTRIES], ids=["examples", "entries"])
def test_masked_forward(mask):
    close(batch_norm()(X, mask=mask), normalized(X, 0, 1e-5, mask))
    units = mask.T if mask is MASK else mask  # LayerNorm over the rows of X.T, or over the entries that count
    x = X.T if mask is MASK else X
    close(layer_norm(x.shape[1])(x, mask=units), normalized(x, 1, 1e-6, units))


@pytest.mark.parametrize("mean", [1e4, 1e5])
@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_forward_at_a_large_mean_where_flax_is_wrong(make, mean):
    x = (RNG.normal(size=(512, 512)) + mean).astype(np.float32)
    axes = 0 if make is batch_norm else 1
    eps = 1e-5 if make is batch_norm else 1e-6
    close(make(512)(x), normalized(x, axes, eps))
    peer = (nnx.BatchNorm if make is batch_norm else nnx.LayerNorm)(512, rngs=nnx.Rngs(0))
    assert np.abs(peer(x) - normalized(x, axes, eps)).max() > 1


@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_without_scale_and_bias(make):
    layer = make(use_scale=False, use_bias=False)
    assert layer.scale is None
    assert layer.bias is None
    assert not jax.tree.leaves(nnx.state(layer, nnx.Param))
    close(layer(X), make()(X))


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_gradients_match_finite_differences(make, masked):
    with jax.enable_x64(True):
        layer = make(3, param_dtype=jnp.float64)
        graphdef, state = nnx.split(layer)
        x = jnp.asarray(RNG.normal(1, 2, (5, 3)))
        mask = jnp.array([True, True, False, True, True])[:, None] if masked and make is batch_norm else None
        if masked and make is layer_norm:
            mask = jnp.array([True, False, True])
        weights = RNG.normal(size=(5, 3))

        @jax.jit
        def loss(x, gamma, beta):
            layer = nnx.merge(graphdef, state, copy=True)
            layer.scale[...], layer.bias[...] = gamma, beta
            return jnp.sum(weights * jnp.sin(layer(x, mask=mask)))

        point = (x, jnp.asarray(RNG.normal(size=3)), jnp.asarray(RNG.normal(size=3)))
        check_grads(loss, point, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
        gradient = jax.grad(loss)(*point)
        step = 1e-6
        for i in np.ndindex(x.shape):
            nudge = np.zeros(x.shape)
            nudge[i] = step
            difference = (loss(x + nudge, *point[1:]) - loss(x - nudge, *point[1:])) / (2 * step)
            np.testing.assert_allclose(gradient[i], difference, rtol=1e-6, atol=1e-8)


def test_layers_after_a_norm_get_the_same_keys_as_with_flax():
    kernels = []
    for make in (lo.BatchNorm, nnx.BatchNorm, lo.LayerNorm, nnx.LayerNorm):
        rngs = nnx.Rngs(0)
        make(3, rngs=rngs)
        kernels.append(np.asarray(nnx.Linear(3, 3, rngs=rngs).kernel[...]))
    assert all(np.array_equal(kernel, kernels[0]) for kernel in kernels)


def test_integer_inputs_are_float32():
    whole = RNG.integers(0, 256, (64, 8)).astype(np.uint8)
    for layer, axes, eps in ((batch_norm(), 0, 1e-5), (layer_norm(), 1, 1e-6)):
        y = layer(whole)
        assert y.dtype == jnp.float32
        close(y, normalized(whole, axes, eps))
    bare = batch_norm(use_scale=False, use_bias=False)
    assert bare(whole).dtype == jnp.float32


@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_no_implicit_promotion(make):
    with jax.numpy_dtype_promotion("strict"):
        for dtype, expected in ((None, jnp.float32), (jnp.bfloat16, jnp.bfloat16)):
            layer = make(dtype=dtype)
            assert layer(X).dtype == layer(X, mask=MASK).dtype == expected
            layer.eval()
            assert layer(X).dtype == expected


class Net(nnx.Module):
    def __init__(self, rngs, **arguments):
        self.first = nnx.Linear(8, 16, use_bias=False, rngs=rngs)
        self.norm = lo.BatchNorm(16, **arguments, rngs=rngs)
        self.inner = lo.LayerNorm(16, rngs=rngs)
        self.last = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.inner(nnx.relu(self.norm(self.first(x)))))[:, 0]


def train(key, rate, data, targets, **arguments):
    """Plain JAX: a scan over batches, parameters apart from the rest, the module merged anew inside the loss."""
    graphdef, params, rest = nnx.split(Net(nnx.Rngs(key), **arguments), nnx.Param, ...)

    def step(carry, batch):
        params, rest = carry

        def loss_of(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            loss = jnp.mean((model(batch[0]) - batch[1]) ** 2)
            return loss, nnx.state(model, nnx.Not(nnx.Param))

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return (jax.tree.map(lambda p, g: p - rate * g, params, gradients), rest), loss

    (params, rest), losses = jax.lax.scan(step, (params, rest), (data, targets))
    return losses, nnx.merge(graphdef, params, rest)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"window": 5}])
def test_training_under_jit_vmap_scan_and_grad(graph_mode, arguments):
    data, targets = batches()
    keys, rates = jax.random.split(jax.random.key(0), 3), jnp.array([0.01, 0.03, 0.1])

    def lane(key, rate):
        losses, model = train(key, rate, data, targets, **arguments)
        return losses, nnx.state(model)

    losses, states = jax.jit(jax.vmap(lane))(keys, rates)
    assert (losses[:, -10:].mean(1) < 0.8 * losses[:, :5].mean(1)).all()
    alone_losses, alone = jax.jit(lane)(keys[1], rates[1])
    close(losses[1], alone_losses, 1e-4)
    for one, many in zip(*map(jax.tree.leaves, (alone, states)), strict=True):
        close(many[1], one, 1e-3)


@pytest.mark.slow
def test_nnx_transformations(graph_mode):
    model = Net(nnx.Rngs(0), window=4)
    data, targets = batches(30)

    @nnx.jit
    def step(model, x, y):
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss_of(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return jnp.mean((model(x) - y) ** 2), nnx.state(model, nnx.BatchStat)

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients), statistics)
        return loss

    losses = [float(step(model, x, y)) for x, y in zip(data, targets, strict=True)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert int(model.norm.statistics().count[0]) == 4 * 32
    model.eval()
    close(nnx.jit(lambda m, x: m(x))(model, data[0]), model(data[0]), 1e-5)
    close(np.concatenate([model(data[0][i : i + 1]) for i in range(32)]), model(data[0]), 1e-5)


@pytest.mark.parametrize("make", [batch_norm, layer_norm, lambda: lo.Standardize(8)])
def test_wrong_feature_count(make):
    with pytest.raises(ValueError, match=r"num_features=8; got inputs of shape \(4, 7\) with 7 features on axis -1"):
        make()(jnp.ones((4, 7)))


@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_a_mask_that_does_not_fit(make):
    with pytest.raises(
        ValueError, match=r"mask must be broadcastable .*\(64, 8\), such as \(64, 1\); got shape \(64,\)"
    ):
        make()(X, mask=np.ones(64, bool))
    with pytest.raises(ValueError, match="mask must be broadcastable"):
        make()(X, mask=np.ones((1, 64, 8), bool))


def test_more_bad_arguments():
    for make in (batch_norm, layer_norm):
        with pytest.raises(ValueError, match="epsilon must be in"):
            make(epsilon=np.nan)
        with pytest.raises(TypeError, match="num_features must be a whole number"):
            make(8.0)
    with pytest.raises(ValueError, match="epsilon"):
        layer_norm(epsilon=-1.0)
    with pytest.raises(ValueError, match="num_features"):
        lo.Standardize(0)
    with pytest.raises(ValueError, match="use_running_average"):
        batch_norm(use_running_average=None)(X)
    for layer in (batch_norm(), lo.Standardize(8)):
        with pytest.raises(TypeError, match="complex"):
            layer(X.astype(np.complex64))


MAKERS = {"batch": batch_norm, "layer": layer_norm, "inputs": lambda **kwargs: lo.Standardize(8, **kwargs)}
WRONG = {
    "strings": (
        lambda make: make()(np.array([["a"] * 8])),
        TypeError,
        "inputs must be an array of numbers; got ndarray",
    ),
    "None": (lambda make: make()(None), TypeError, "inputs must be an array of numbers; got NoneType"),
    "cut to 32 bits": (
        lambda make: make()(np.full((4, 8), 2**40)),
        ValueError,
        "inputs must be whole numbers that fit",
    ),
    "dtype": (lambda make: make(dtype="real"), TypeError, "dtype must be a dtype of floating.* got 'real'"),
    "whole numbers as dtype": (lambda make: make(dtype=jnp.int32), TypeError, "dtype must be a dtype of floating"),
}
WRONG_AXES = {
    "float": (1.0, TypeError, "must be a whole number, or a few of them; got 1.0"),
    "text": ("last", TypeError, "must be a whole number, or a few of them; got 'last'"),
    "flag": (True, TypeError, "must be a whole number, or a few of them; got True"),
    "no such axis": (2, ValueError, "must be from -2 to 1, the axes of the inputs; got 2"),
    "twice": ((-1, 1), ValueError, r"must be different axes; got \(-1, 1\), of inputs with 2 axes"),
}
WRONG_MASKS = {
    "NaN": (np.nan, ValueError, "got nan"),
    "negative": (-1.0, ValueError, r"got -1\.0"),
    "infinite": (np.inf, ValueError, "got inf"),
    "negative whole number": (-1, ValueError, "got -1"),
    "text": ("yes", TypeError, "got ndarray of <U3"),
    "complex": (1j, TypeError, "got complex64"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("call", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_kinds(make, call, error, message):
    with pytest.raises(error, match=message):
        call(make)


@pytest.mark.parametrize(("axes", "error", "message"), WRONG_AXES.values(), ids=WRONG_AXES)
def test_wrong_axes(axes, error, message):
    """Of a wrong kind they are refused when the layer is made."""
    for name, make, call in (
        ("axis", batch_norm, lambda layer: layer(X)),
        ("feature_axes", layer_norm, lambda layer: layer(X)),
        ("reduction_axes", layer_norm, lambda layer: layer(X)),
        ("axis", MAKERS["inputs"], lambda layer: layer.fit(X)),
    ):
        layer = make(**{name: axes}) if error is ValueError else None
        with pytest.raises(error, match=f"{name} {message}"):
            call(layer) if layer else make(**{name: axes})


WRONG_PARAMETERS = {
    "seed": ({"rngs": 0}, TypeError, r"rngs must be an nnx\.Rngs, such as nnx\.Rngs\(0\); got 0"),
    "no rngs": ({"rngs": None}, TypeError, r"rngs must be an nnx\.Rngs, .* got None"),
    "key": ({"rngs": jax.random.key(0)}, TypeError, r"rngs must be an nnx\.Rngs, .* got Array"),
    "name of a bias": ({"bias_init": "zeros"}, TypeError, r"bias_init must be a function \(key.* got 'zeros' \(str\)"),
    "number": ({"scale_init": 3}, TypeError, r"scale_init must be a function .* got 3 \(int\)"),
    "unused": ({"use_bias": False, "bias_init": None}, TypeError, "bias_init must be a function .* got None"),
    "one too many": ({"scale_init": lambda *_: jnp.ones(9)}, ValueError, r"scale_init must return .*\(8,\);.* \(9,\)"),
    "no array": ({"bias_init": lambda *_: 0.0}, ValueError, r"bias_init must return an array of shape \(8,\); .* \(\)"),
    "metadata": ({"bias_metadata": 3}, TypeError, r"bias_metadata must be a dict of names and values; got 3"),
    "text": ({"scale_metadata": "x"}, TypeError, r"scale_metadata must be a dict of names and values; got 'x'"),
}


@pytest.mark.parametrize("layer", [lo.BatchNorm, lo.LayerNorm])
@pytest.mark.parametrize(("options", "error", "message"), WRONG_PARAMETERS.values(), ids=WRONG_PARAMETERS)
def test_wrong_parameters(layer, options, error, message):
    with pytest.raises(error, match=message):
        layer(8, **{"rngs": nnx.Rngs(0)} | options)


@pytest.mark.parametrize(("number", "error", "message"), WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_wrong_masks(number, error, message):
    mask = np.ones((64, 1), type(number) if not isinstance(number, str) else "<U3")
    mask[3] = number
    for call in (batch_norm(), layer_norm(), lo.Standardize(8).fit, lo.Standardize(8).partial_fit):
        with pytest.raises(error, match=f"mask must .*{message}"):
            call(X, mask=mask)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_a_traced_weight_that_is_none_counts_as_0(bad):
    spoiled = np.where(MASK, 1, bad)
    wanted = batch_norm()(X, mask=MASK), layer_norm(64)(X.T, mask=MASK.T), lo.Standardize(8).fit(X, MASK)(X)

    @jax.jit
    def all_of_them(mask):
        return batch_norm()(X, mask=mask), layer_norm(64)(X.T, mask=mask.T), lo.Standardize(8).fit(X, mask)(X)

    for found, expected in zip(all_of_them(spoiled), wanted, strict=True):
        close(found, expected, 1e-5)


@pytest.mark.parametrize(
    "mode", [pytest.param(m, id=name, marks=[pytest.mark.slow] * (name == "not compiled")) for name, m in MODES.items()]
)
def test_in_every_mode_of_jax(mode):
    """Without any weight, and constant inputs, where what is divided by is 0."""

    def layers(x, mask):
        windowed, layer, inputs = batch_norm(3, window=2), layer_norm(3), lo.Standardize(3)
        y = windowed(x, mask=mask) + layer(x, mask=mask) + windowed(x, use_running_average=True)
        z = inputs.fit(x, mask).partial_fit(x)(x)
        return jnp.sum((y + z) ** 2)

    with mode():
        value, gradient = jax.jit(jax.value_and_grad(layers))(jnp.ones((4, 3)), jnp.zeros((4, 1), bool))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_moments_of_features_alone_fit_under_strict_ranks():
    learned = norms.Moments(*(jnp.asarray(m) for m in (4.0, [1.0, 2.0], [4.0, 9.0])))
    with jax.numpy_rank_promotion("raise"):
        y = norms.standardized(jnp.ones((3, 5, 2)), learned)
    close(y, np.broadcast_to([0, -1 / 3], (3, 5, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_a_variance_that_overflows_is_seen(make):
    assert np.isnan(make()(X * np.float32(1e25))).all()
