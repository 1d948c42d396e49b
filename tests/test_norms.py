"""Normalisation against float64 NumPy, against Flax where Flax is right, and under JAX's and Flax's transformations."""

import math
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lectopt as lo
from lectopt import norms

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (64, 8)).astype(np.float32)
IMAGES = RNG.normal(-1.0, 2.0, (6, 5, 4, 8)).astype(np.float32)
MASK = RNG.uniform(size=(64, 1)) < 0.6
ENTRIES = RNG.uniform(size=(64, 8)) < 0.6  # a mask of its own for each feature
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_draws():
    """Every test draws the same numbers, alone or among others."""
    RNG.bit_generator.state = START


# --- the oracle: float64, two passes, nothing of lectopt -------------------------------------------------------------


def moments_of(x, axes=0, weights=None):
    x = np.asarray(x, np.float64)
    weights = np.ones_like(x) if weights is None else np.broadcast_to(np.asarray(weights, np.float64), x.shape)
    x = np.where(weights > 0, x, 0)
    count = weights.sum(axes, keepdims=True)
    mean = (weights * x).sum(axes, keepdims=True) / count
    var = (weights * (x - mean) ** 2).sum(axes, keepdims=True) / count
    return count, mean, var


def normalized(x, axes, eps, weights=None, gamma=1.0, beta=0.0):
    _, mean, var = moments_of(x, axes, weights)
    return gamma * (np.asarray(x, np.float64) - mean) / np.sqrt(var + eps) + beta


def close(actual, expected, tolerance=2e-6):
    """Largest deviation, relative to the largest number."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == np.broadcast_shapes(actual.shape, expected.shape)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(np.broadcast_to(expected, actual.shape)))
    assert np.nanmax(np.abs(actual - expected)) <= tolerance * max(np.nanmax(np.abs(expected)), 1e-30)


def batch_norm(features=8, **arguments):
    return lo.BatchNorm(features, **arguments, rngs=nnx.Rngs(0))


def layer_norm(features=8, **arguments):
    return lo.LayerNorm(features, **arguments, rngs=nnx.Rngs(0))


@pytest.fixture(params=[True, False], ids=["graph", "tree"])
def graph_mode(request):
    with nnx.set_graph_mode(request.param):
        yield


# --- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e5, -1e5])
@pytest.mark.parametrize("shape_axes", [((4096, 16), 0), ((16, 1024), -1), ((8, 28, 28, 16), (0, 1, 2))])
def test_moments_have_their_digits_at_any_mean(mean, shape_axes):
    shape, axes = shape_axes
    x = (RNG.normal(size=shape) + mean).astype(np.float32)
    _, true_mean, true_var = moments_of(x, axes)
    deviations, found = jax.jit(norms.center, static_argnums=1)(x, axes)
    np.testing.assert_allclose(found.var, true_var, rtol=2e-6)
    np.testing.assert_allclose(found.mean, true_mean, rtol=2e-7, atol=2e-6)
    np.testing.assert_allclose(deviations, x - true_mean, atol=3e-6)


def test_moments_survive_an_outlier_and_a_large_first_row():
    x = RNG.normal(size=(4096, 4)).astype(np.float32)
    x[0] = 1e5
    np.testing.assert_allclose(norms.center(x, 0)[1].var, moments_of(x)[2], rtol=2e-6)


@pytest.mark.parametrize("weights", [MASK, ENTRIES, RNG.uniform(size=(64, 1)), MASK[:, 0:1].astype(np.int32)])
def test_weighted_moments(weights):
    for call in (norms.center, jax.jit(norms.center, static_argnums=1)):
        deviations, found = call(X + 1e4, 0, weights)
        count, mean, var = moments_of(X + np.float32(1e4), 0, weights)
        np.testing.assert_allclose(found.count, np.broadcast_to(count, (1, 8)), rtol=1e-6)
        np.testing.assert_allclose(found.mean, mean, rtol=2e-7)
        np.testing.assert_allclose(found.var, var, rtol=3e-6)
        close(deviations, X + np.float32(1e4) - mean)


def test_weights_count_broadcast_axes_and_lower_rank():
    _, found = norms.center(IMAGES, (0, 1, 2), np.arange(6).reshape(6, 1, 1, 1) % 2)
    assert (found.count == 3 * 5 * 4).all()
    _, by_feature = norms.center(X, 0, np.arange(8) > 3)
    np.testing.assert_array_equal(by_feature.count[0], np.where(np.arange(8) > 3, 64, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_has_no_weight_has_no_influence_nor_gradient(bad):
    spoiled = np.where(MASK, X, np.float32(bad))

    def loss(x, gamma):
        deviations, found = norms.center(x, 0, MASK)
        y = gamma * deviations / jnp.sqrt(found.var)
        return jnp.sum(jnp.where(MASK, y, 0) ** 3)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(spoiled, jnp.ones(8))
    clean, expected = jax.value_and_grad(loss, argnums=(0, 1))(jnp.where(MASK, X, 0), jnp.ones(8))
    close(value, clean, 1e-5)
    close(gradients[0], expected[0], 1e-5)
    close(gradients[1], expected[1], 1e-5)
    assert (np.asarray(gradients[0])[~MASK[:, 0]] == 0).all()


def test_without_weight_the_moments_are_zero():
    deviations, found = norms.center(np.full((4, 2), np.nan, np.float32), 0, np.zeros((4, 1), bool))
    for number in (*found, deviations):
        assert (number == 0).all()


def test_moments_of_complex_numbers():
    z = (RNG.normal(5, 2, (100, 3)) + 1j * RNG.normal(size=(100, 3))).astype(np.complex64)
    _, found = norms.center(z, 0)
    np.testing.assert_allclose(found.var[0], z.astype(complex).var(0), rtol=1e-6)
    assert found.var.dtype == jnp.float32


def test_pool_is_the_moments_of_all():
    sizes = [3, 1, 40, 20]
    parts = np.split(X, np.cumsum(sizes)[:-1])
    batches = [norms.center(part + 1e4, 0)[1] for part in parts]
    pooled = norms.pool(norms.Moments(*(jnp.stack(field) for field in zip(*batches, strict=True))))
    count, mean, var = moments_of(X + np.float32(1e4))
    np.testing.assert_allclose(pooled.count, np.broadcast_to(count, (1, 8)))
    np.testing.assert_allclose(pooled.mean, mean, rtol=2e-7)
    np.testing.assert_allclose(pooled.var, var, rtol=1e-4)  # the batches' means are rounded at 1e4


def test_pool_leaves_out_what_has_no_count():
    batches = norms.Moments(jnp.array([0.0, 2.0]), jnp.array([jnp.nan, 3.0]), jnp.array([jnp.nan, 4.0]))
    assert [float(m) for m in norms.pool(batches)] == [2, 3, 4]


# --- BatchNorm and LayerNorm: forward --------------------------------------------------------------------------------

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


def test_gamma_sd_and_beta_mean_restore_the_input():
    _, mean, var = moments_of(X)
    layer = batch_norm()
    layer.scale[...], layer.bias[...] = np.sqrt(var[0] + 1e-5), mean[0]
    close(layer(X), X)


def test_mean_is_beta_and_sd_is_gamma_whatever_the_weights_before():
    gamma, beta = RNG.uniform(1, 2, 8).astype(np.float32), RNG.normal(size=8).astype(np.float32)
    layer = batch_norm(epsilon=0.0)
    layer.scale[...], layer.bias[...] = gamma, beta
    for scale in (1e-3, 1.0, 1e3):
        y = np.asarray(layer(X @ RNG.normal(0, scale, (8, 8)).astype(np.float32)), np.float64)
        np.testing.assert_allclose(y.mean(0), beta, atol=1e-5)
        np.testing.assert_allclose(y.std(0), gamma, rtol=1e-5)


def test_layer_norm_does_not_depend_on_the_batch_nor_the_mode():
    layer = layer_norm()
    together = layer(X)
    layer.eval()
    close(together, np.concatenate([layer(X[i : i + 1]) for i in range(64)]), 1e-6)


@pytest.mark.parametrize("make", [batch_norm, layer_norm])
def test_without_scale_and_bias(make):
    layer = make(use_scale=False, use_bias=False)
    assert layer.scale is None
    assert layer.bias is None
    assert not jax.tree.leaves(nnx.state(layer, nnx.Param))
    close(layer(X), make()(X))


# --- gradients -------------------------------------------------------------------------------------------------------


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
        jax.test_util.check_grads(loss, point, order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
        gradient = jax.grad(loss)(*point)
        step = 1e-6
        for i in np.ndindex(x.shape):
            nudge = np.zeros(x.shape)
            nudge[i] = step
            difference = (loss(x + nudge, *point[1:]) - loss(x - nudge, *point[1:])) / (2 * step)
            np.testing.assert_allclose(gradient[i], difference, rtol=1e-6, atol=1e-8)


def test_gradient_flows_through_mean_and_variance():
    # The outputs do not change when all inputs of a unit move or are stretched together, so neither has a gradient.
    x = jnp.asarray(X)
    g = jax.grad(lambda x: jnp.sum(jnp.cos(batch_norm(use_scale=False, use_bias=False, epsilon=0.0)(x))))(x)
    np.testing.assert_allclose(g.sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((g * (x - x.mean(0))).sum(0), 0, atol=1e-5)
    assert jnp.abs(g).max() > 1e-2


# --- statistics for evaluation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["decay", "momentum"])
def test_exponential_average(word):
    layer = batch_norm(**{word: 0.9})
    mean, var = np.zeros(8), np.ones(8)
    for _ in range(30):
        x = RNG.normal(5, 2, (16, 8)).astype(np.float32)
        layer(x)
        mean, var = 0.9 * mean + 0.1 * x.mean(0, np.float64), 0.9 * var + 0.1 * x.astype(np.float64).var(0)
    close(layer.mean[...], mean)
    close(layer.var[...], var)
    layer.eval()
    close(layer(X), (X - mean) / np.sqrt(var + 1e-5))
    close(layer.mean[...], mean)  # evaluation changes nothing


@pytest.mark.parametrize("batches", [1, 3, 4, 5, 11])
def test_window_pools_the_last_batches(batches):
    layer = batch_norm(window=4)
    data = RNG.normal(size=(batches, 16, 8)).astype(np.float32) + np.arange(batches)[:, None, None].astype(np.float32)
    for x in data:
        layer(x)
    count, mean, var = moments_of(data[-4:].reshape(-1, 8))
    found = layer.statistics()
    np.testing.assert_array_equal(found.count, np.broadcast_to(count[0], 8))
    close(found.mean, mean[0])
    close(found.var, var[0])
    layer.eval()
    close(layer(X), (X - mean) / np.sqrt(var + 1e-5))


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_window_of_an_epoch_is_the_data_set(mean):
    data = (RNG.normal(mean, 1, (320, 8))).astype(np.float32)
    layer = batch_norm(window=10)
    for _ in range(2):
        for x in np.split(data[RNG.permutation(320)], 10):
            layer(x)
    _, true_mean, true_var = moments_of(data)
    np.testing.assert_allclose(layer.statistics().mean, true_mean[0], rtol=2e-7, atol=1e-6)
    np.testing.assert_allclose(layer.statistics().var, true_var[0], rtol=1e-3 if mean else 2e-6)
    averaged = np.mean([part.var(0) for part in np.split(data.astype(np.float64), 10)], 0)  # what the slide says
    assert (averaged < true_var[0]).all()


def test_window_counts_masked_batches_by_what_counts():
    layer = batch_norm(window=3)
    data = [RNG.normal(i, 1 + i, (16, 8)).astype(np.float32) for i in range(5)]
    masks = [RNG.uniform(size=(16, 8)) < p for p in (0.5, 0.3, 0.9, 0.2, 0.6)]
    masks[3][:, 5] = False  # a unit that this batch says nothing of: it keeps three older ones
    for x, mask in zip(data, masks, strict=True):
        layer(x, mask=mask)
    for unit in range(8):
        kept = [1, 2, 4] if unit == 5 else [2, 3, 4]
        seen = np.concatenate([data[i][masks[i][:, unit], unit] for i in kept]).astype(np.float64)
        found = [float(m[unit]) for m in layer.statistics()]
        np.testing.assert_allclose(found, [seen.size, seen.mean(), seen.var()], rtol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"window": 2}])
def test_a_fully_masked_batch_leaves_the_statistics(arguments):
    layer = batch_norm(**arguments)
    none = np.zeros((64, 1), bool)
    for x, mask in ((X, none), (X, MASK), (X + 1, None), (np.full_like(X, np.nan), none), (X, none)):
        before = jax.tree.map(np.array, nnx.state(layer, nnx.BatchStat))
        y = layer(x, mask=mask)
        assert np.isfinite(y).all()
        after = jax.tree.map(np.array, nnx.state(layer, nnx.BatchStat))
        same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)]
        assert all(same) == (mask is none)


@pytest.mark.parametrize("arguments", [{}, {"window": 3}])
def test_before_any_batch_inputs_pass(arguments):
    layer = batch_norm(epsilon=0.0, **arguments)
    close(layer(X, use_running_average=True), X)


def test_nan_is_not_hidden_and_leaves_with_its_window():
    layer = batch_norm(window=2)
    spoiled = X.copy()
    spoiled[3, 5] = np.nan
    y = np.asarray(layer(spoiled))
    assert np.isnan(y[:, 5]).all()
    assert np.isfinite(np.delete(y, 5, 1)).all()
    layer(X)
    assert np.isnan(layer.statistics().mean[5])
    layer(X)
    close(layer.statistics().mean, moments_of(X)[1][0])


# --- parity with Flax ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [None, MASK, ENTRIES], ids=["all", "examples", "entries"])
@pytest.mark.parametrize("dtypes", [(None, np.float32), (jnp.bfloat16, np.float32), (None, np.int32)])
def test_parity_with_flax_batch_norm(mask, dtypes):
    dtype, input_dtype = dtypes
    arguments = {"momentum": 0.8, "epsilon": 1e-3, "dtype": dtype, "use_fast_variance": False}
    peer = nnx.BatchNorm(8, **arguments, rngs=nnx.Rngs(0))
    del arguments["use_fast_variance"]
    ours = batch_norm(**arguments)
    tolerance = 2e-2 if dtype == jnp.bfloat16 else 2e-6
    for x in (X.astype(input_dtype), (X * 2 + 1).astype(input_dtype)):
        y, expected = ours(x, mask=mask), peer(x, mask=mask)
        assert y.dtype == expected.dtype
        close(y, expected, tolerance)
    ours.eval(), peer.eval()
    close(ours(X), peer(X), tolerance)
    paths, leaves = zip(*nnx.to_flat_state(nnx.state(ours)), strict=True)
    expected_paths, expected = zip(*nnx.to_flat_state(nnx.state(peer)), strict=True)
    assert paths == expected_paths
    for ours_leaf, peer_leaf in zip(leaves, expected, strict=True):
        assert type(ours_leaf) is type(peer_leaf)
        assert ours_leaf.dtype == jnp.float32
        close(ours_leaf[...], peer_leaf[...], tolerance)


@pytest.mark.parametrize(
    "arguments", [{}, {"use_scale": False}, {"reduction_axes": (1, 2, 3)}, {"dtype": jnp.bfloat16}, {"epsilon": 0.5}]
)
def test_parity_with_flax_layer_norm(arguments):
    ours, peer = layer_norm(**arguments), nnx.LayerNorm(8, **arguments, use_fast_variance=False, rngs=nnx.Rngs(0))
    y, expected = ours(IMAGES), peer(IMAGES)
    assert y.dtype == expected.dtype
    close(y, expected, 2e-2 if "dtype" in arguments else 2e-6)
    assert jax.tree.structure(nnx.state(ours)) == jax.tree.structure(nnx.state(peer))


def test_layers_after_a_norm_get_the_same_keys_as_with_flax():
    kernels = []
    for make in (lo.BatchNorm, nnx.BatchNorm, lo.LayerNorm, nnx.LayerNorm):
        rngs = nnx.Rngs(0)
        make(3, rngs=rngs)
        kernels.append(np.asarray(nnx.Linear(3, 3, rngs=rngs).kernel[...]))
    assert all(np.array_equal(kernel, kernels[0]) for kernel in kernels)


def test_differences_from_flax_that_are_meant():
    peer = nnx.BatchNorm(8, rngs=nnx.Rngs(0))
    peer(X, mask=np.zeros((64, 1), bool))
    assert np.isnan(peer.mean[...]).all()  # ours: unchanged
    one = nnx.BatchNorm(8, rngs=nnx.Rngs(0))(X[:1])
    assert (one == 0).all()  # ours: an error
    half = nnx.BatchNorm(1, dtype=jnp.bfloat16, use_running_average=True, rngs=nnx.Rngs(0))
    half.mean[...] = jnp.array([1000.0 + 1.0])
    ours = lo.BatchNorm(1, dtype=jnp.bfloat16, use_running_average=True, rngs=nnx.Rngs(0))
    ours.mean[...] = half.mean[...]
    x = np.array([[1002.0]], np.float32)
    assert float(half(x)[0, 0]) != 1  # both are cast to bfloat16 before they are subtracted
    assert float(ours(x)[0, 0]) == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_stay_float32_under_half_precision(dtype):
    layer = batch_norm(window=2, dtype=dtype, param_dtype=dtype)
    x = jnp.asarray(RNG.normal(100, 1, (4096, 8)), dtype)
    y = layer(x)
    assert y.dtype == dtype
    close(y, normalized(np.asarray(x, np.float64), 0, 1e-5), 1e-2)
    np.testing.assert_allclose(layer.statistics().var, moments_of(x)[2][0], rtol=2e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer, nnx.BatchStat))} == {jnp.dtype(jnp.float32)}


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


# --- transformations -------------------------------------------------------------------------------------------------


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


def batches(steps=60):
    data = RNG.normal(size=(steps, 32, 8)).astype(np.float32)
    return data, np.sin(data.sum(-1))


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


def test_window_in_a_compiled_loop_is_that_of_eager_calls():
    data, _ = batches(7)
    eager = batch_norm(window=3)
    for x in data:
        eager(x)
    graphdef, state = nnx.split(batch_norm(window=3))

    def step(state, x):
        layer = nnx.merge(graphdef, state, copy=True)
        layer(x)
        return nnx.state(layer), None

    scanned, _ = jax.jit(lambda state: jax.lax.scan(step, state, data))(state)
    close(nnx.merge(graphdef, scanned).statistics().var, eager.statistics().var)
    close(eager.statistics().var, moments_of(data[-3:].reshape(-1, 8))[2][0])


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


@pytest.mark.parametrize("arguments", [{}, {"window": 3}])
def test_nnx_grad_of_a_module(graph_mode, arguments):
    def loss_of(layer):
        return jnp.sum(jnp.sin(layer(X)))

    gradient = nnx.grad(loss_of)(batch_norm(**arguments))
    y = normalized(X, 0, 1e-5)
    np.testing.assert_allclose(gradient.scale[...], (np.cos(y) * y).sum(0), rtol=1e-4, atol=1e-4)


def test_a_view_for_evaluation_shares_the_statistics(graph_mode):
    layer = batch_norm()
    view = nnx.view(layer, use_running_average=True)
    layer(X)
    assert not layer.use_running_average
    close(view(X), layer(X, use_running_average=True))


def test_decay_and_epsilon_can_be_traced_and_mapped():
    def statistics(decay, epsilon):
        layer = batch_norm(decay=decay, epsilon=epsilon)
        y = layer(X)
        return layer.mean[...], y

    decays, epsilons = jnp.array([0.0, 0.9]), jnp.array([1e-5, 10.0])
    means, ys = jax.jit(jax.vmap(statistics))(decays, epsilons)
    _, mean, _ = moments_of(X)
    close(means, np.stack([mean[0], 0.1 * mean[0]]))
    close(ys[1], normalized(X, 0, 10.0))


class NormalizedCell(nnx.Module):
    """h <- tanh(LayerNorm(W h + U x))."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.inputs = nnx.Linear(1, 16, use_bias=False, rngs=rngs)
        self.norm = lo.LayerNorm(16, rngs=rngs)
        self.readout = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, h, x):
        h = jnp.tanh(self.norm(self.hidden(h) + self.inputs(x)))
        return h, self.readout(h)


def test_a_recurrent_network_with_layer_norm_trains_at_batch_size_one(graph_mode):
    # Recall the sign of the input before this one; one sequence at a time. Chance has a loss of 1.
    sequences = jnp.asarray(RNG.normal(size=(1500, 1, 12, 1)), jnp.float32)
    graphdef, params = nnx.split(NormalizedCell(nnx.Rngs(0)))
    optimizer = lo.adam(3e-3)

    def loss_of(params, sequence):
        cell = nnx.merge(graphdef, params)
        _, outputs = jax.lax.scan(cell, jnp.zeros((1, 16)), sequence.swapaxes(0, 1))
        return jnp.mean((outputs.swapaxes(0, 1)[:, 1:] - jnp.sign(sequence[:, :-1])) ** 2)

    def step(carry, sequence):
        params, state = carry
        loss, gradients = jax.value_and_grad(loss_of)(params, sequence)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), loss

    _, losses = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), sequences))(params)
    assert losses[0] > 0.8
    assert losses[-100:].mean() < 0.1


@pytest.mark.parametrize("masked", [False, True])
def test_a_named_axis_is_reduced_over(masked):
    split = X.reshape(4, 16, 8)
    masks = (RNG.uniform(size=(4, 16, 1)) < np.array([0.9, 0.5, 0.1, 0.0])[:, None, None]) if masked else None

    def on_device(x, mask):
        layer = batch_norm(window=2, axis_name="devices")
        y = layer(x, mask=mask)
        return y, layer.statistics()

    y, found = jax.vmap(on_device, in_axes=(0, 0 if masked else None), axis_name="devices")(split, masks)
    whole = None if masks is None else masks.reshape(64, 1)
    close(y.reshape(64, 8), normalized(X, 0, 1e-5, whole))
    count, mean, var = moments_of(X, 0, whole)
    for device in range(4):
        close(found.count[device], np.broadcast_to(count[0], 8))
        close(found.mean[device], mean[0])
        close(found.var[device], var[0])


def test_one_example_on_each_of_several_devices_is_a_batch():
    def on_device(x):
        return batch_norm(axis_name="i")(x)

    y = jax.vmap(on_device, axis_name="i")(X[:, None])
    close(y[:, 0], normalized(X, 0, 1e-5))


def test_a_layer_split_over_a_named_axis():
    y = jax.vmap(layer_norm(4, axis_name="i"), in_axes=1, out_axes=1, axis_name="i")(X.reshape(64, 2, 4))
    close(y.reshape(64, 8), normalized(X, 1, 1e-6))


MESH_PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from flax import nnx
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    import lectopt as lo

    assert jax.device_count() == 8
    rng = np.random.default_rng(1)
    x = rng.normal(100, 3, (64, 6)).astype(np.float32)
    mask = rng.uniform(size=(64, 1)) < np.repeat(np.linspace(0, 1, 8), 8)[:, None]  # 0 to 8 of 8 on a device
    wide = x.astype(float)

    def check(axis_type, mask):
        mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
        put = lambda a: jax.device_put(a, NamedSharding(mesh, P("data")))
        with jax.set_mesh(mesh):
            layer = lo.BatchNorm(6, window=2, rngs=nnx.Rngs(0))
            graphdef, state = nnx.split(layer)

            @jax.jit
            def step(state, x, mask):
                def loss(x):
                    layer = nnx.merge(graphdef, state, copy=True)
                    y = layer(x, mask=mask)
                    return jnp.sum(jnp.sin(y)), (y, nnx.state(layer), layer.statistics())
                (_, aux), gradient = jax.value_and_grad(loss, has_aux=True)(x)
                return *aux, gradient

            y, _, found, gradient = step(state, put(x), None if mask is None else put(mask))
            scaler = lo.Standardize(6).fit(put(x), None if mask is None else put(mask))
        assert len(y.sharding.device_set) == 8
        used = wide if mask is None else wide[mask[:, 0]]
        np.testing.assert_allclose(found.count, len(used))
        for mean, var in (found[1:], (scaler.mean[...], scaler.var[...])):
            np.testing.assert_allclose(mean, used.mean(0), rtol=1e-6)
            np.testing.assert_allclose(var, used.var(0), rtol=1e-5)
        np.testing.assert_allclose(y, (wide - used.mean(0)) / np.sqrt(used.var(0) + 1e-5), rtol=1e-5, atol=1e-5)
        alone = step(jax.tree.map(np.asarray, state), x, mask)[-1]
        np.testing.assert_allclose(gradient, alone, rtol=1e-4, atol=1e-6)

    for axis_type in (AxisType.Auto, AxisType.Explicit):
        check(axis_type, None)
        check(axis_type, mask)

    # The same inside shard_map, where the axis has a name.
    mesh = jax.make_mesh((8,), ("data",))
    def on_device(x, mask):
        return lo.BatchNorm(6, axis_name="data", rngs=nnx.Rngs(0))(x, mask=mask)
    put = lambda a: jax.device_put(a, NamedSharding(mesh, P("data")))
    y = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=P("data")))(put(x), put(mask))
    used = wide[mask[:, 0]]
    np.testing.assert_allclose(y, (wide - used.mean(0)) / np.sqrt(used.var(0) + 1e-5), rtol=1e-5, atol=1e-5)
    print("checked")
"""


@pytest.mark.slow
def test_over_a_mesh_the_statistics_are_those_of_the_global_batch():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    program = [sys.executable, "-c", textwrap.dedent(MESH_PROGRAM)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "checked" in done.stdout


# --- Standardize -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 1e4, 1e5])
def test_standardize_brings_the_training_set_to_zero_mean_and_unit_variance(mean):
    x = (RNG.normal(size=(1000, 5)) * np.array([1, 2, 0.5, 10, 3]) + mean).astype(np.float32)
    standardize = lo.Standardize(5).fit(x)
    y = np.asarray(standardize(x), np.float64)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-6 + 1e-7 * mean / 0.5)
    _, true_mean, true_var = moments_of(x)
    np.testing.assert_allclose(standardize.var[...], true_var[0], rtol=2e-6)
    other = x[:7] + 5
    np.testing.assert_allclose(standardize(other), (other - true_mean) / np.sqrt(true_var), atol=1e-5 + 2e-7 * mean)


def test_partial_fit_merges_exactly():
    data = (RNG.normal(size=(997, 5)) + 1e3 + np.linspace(0, 5, 997)[:, None]).astype(np.float32)
    parts = lo.Standardize(5)
    for part in np.split(data, [1, 2, 40, 500, 996]):
        assert parts.partial_fit(part) is parts
    whole = lo.Standardize(5).fit(data)
    assert (parts.count[...] == 997).all()
    np.testing.assert_allclose(parts.mean[...], whole.mean[...], rtol=2e-7)
    np.testing.assert_allclose(parts.var[...], moments_of(data)[2][0], rtol=2e-5)


def test_partial_fit_with_masks():
    standardize = lo.Standardize(8)
    halves = zip(np.split(X, 2), np.split(ENTRIES, 2), strict=True)
    for part, mask in [*halves, (np.full_like(X, np.nan), np.zeros_like(ENTRIES))]:
        standardize.partial_fit(part, mask)
    for found, expected in zip(standardize.statistics(), moments_of(X, 0, ENTRIES), strict=True):
        close(found, expected[0], 1e-5)


def test_partial_fit_is_exact_in_float64():
    with jax.enable_x64(True):
        data = RNG.normal(1e5, 1, (300, 3)) + np.linspace(0, 9, 300)[:, None]
        parts = lo.Standardize(3)
        for part in np.split(data, [10, 100]):
            parts.partial_fit(part)
        np.testing.assert_allclose(parts.mean[...], data.mean(0), rtol=1e-14)
        np.testing.assert_allclose(parts.var[...], data.var(0), rtol=1e-10)


def test_fit_forgets_and_partial_fit_remembers():
    standardize = lo.Standardize(8).fit(X + 7)
    np.testing.assert_allclose(standardize.fit(X).mean[...], moments_of(X)[1][0], rtol=1e-6)
    assert (standardize.partial_fit(X).count[...] == 128).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e5, 1 / 3, 1e-20, 16777217.0])
def test_constant_features_pass_through_as_zeros(constant):
    x = np.stack([np.full(1000, constant), np.arange(1000.0)], 1).astype(np.float32)
    at_once, in_parts = lo.Standardize(2).fit(x), lo.Standardize(2)
    for part in np.split(x, [3, 100, 333]):
        in_parts.partial_fit(part)
    for standardize in (at_once, in_parts):
        y = standardize(x)
        assert (y[:, 0] == 0).all()
        assert np.std(y[:, 1]) == pytest.approx(1, rel=1e-4)
        assert (standardize(x + np.array([[1, 0]], np.float32))[:, 0] == 0).all()


def test_a_feature_that_varies_a_little_is_not_constant():
    x = np.stack([1000 + 1e-2 * RNG.normal(size=500), 1e-12 * RNG.normal(size=500)], 1).astype(np.float32)
    y = np.asarray(lo.Standardize(2).fit(x)(x), np.float64)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)


def test_standardize_before_any_data_passes_inputs():
    np.testing.assert_array_equal(lo.Standardize(8)(X), X)
    np.testing.assert_array_equal(lo.Standardize(8).fit(X, np.zeros((64, 1), bool))(X), X)


def test_standardize_with_masks():
    spoiled = np.where(ENTRIES, X, np.nan)
    standardize = lo.Standardize(8).fit(spoiled, ENTRIES)
    count, mean, var = moments_of(X, 0, ENTRIES)
    np.testing.assert_array_equal(standardize.count[...], count[0])
    close(standardize.mean[...], mean[0])
    close(standardize.var[...], var[0], 1e-5)
    assert np.array_equal(np.isnan(standardize(spoiled)), ~ENTRIES)


def test_standardize_in_a_compiled_program_learns_each_fold_alone():
    folds = np.stack([np.arange(64) % 4 != fold for fold in range(4)])

    def learn(weights):
        _, learned = norms.center(X, 0, weights[:, None])
        return norms.standardized(X, learned)

    learned = jax.jit(jax.vmap(learn))(folds)
    for fold, y in zip(folds, learned, strict=True):
        close(y, lo.Standardize(8).fit(X[fold])(X), 1e-5)
        close(y, normalized(X, 0, 0.0, fold[:, None]), 1e-5)


def test_standardize_statistics_are_kept_and_not_trained(graph_mode):
    standardize = lo.Standardize(8)
    nnx.jit(lambda module, x: module.fit(x) and None)(standardize, X)
    assert not jax.tree.leaves(nnx.state(standardize, nnx.Param))
    assert not jax.tree.leaves(nnx.state(standardize, nnx.BatchStat))
    restored = lo.Standardize(8)
    nnx.update(restored, nnx.state(standardize, norms.DataStat))
    np.testing.assert_array_equal(restored(X), standardize(X))
    graphdef, state = nnx.split(standardize)
    mapped = jax.jit(jax.vmap(nnx.merge(graphdef, state)))(X)
    close(mapped, standardize(X), 1e-6)


def test_standardize_axes_and_dtypes():
    channels = lo.Standardize(8).fit(IMAGES)
    close(channels(IMAGES), normalized(IMAGES, (0, 1, 2), 0), 1e-5)
    pixels = lo.Standardize(5 * 4 * 8, axis=(1, 2, 3)).fit(IMAGES)
    close(pixels(IMAGES), normalized(IMAGES, 0, 0), 1e-5)
    whole = RNG.integers(0, 256, (64, 8)).astype(np.uint8)
    assert lo.Standardize(8).fit(whole)(whole).dtype == jnp.float32
    close(lo.Standardize(8).fit(whole)(whole), normalized(whole, 0, 0), 1e-5)
    assert lo.Standardize(8)(jnp.ones((1, 8), jnp.bfloat16)).dtype == jnp.bfloat16
    assert lo.Standardize(8, dtype=jnp.bfloat16)(X).dtype == jnp.bfloat16


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8), (0, 8)])
def test_a_batch_of_one_is_an_error_that_points_to_layer_norm(shape):
    layer = batch_norm()
    with pytest.raises(ValueError, match=r"at least 2 values of each unit.*Use LayerNorm"):
        layer(jnp.ones(shape))
    with pytest.raises(ValueError, match="Use LayerNorm"):
        nnx.jit(lambda layer, x: layer(x))(layer, jnp.ones(shape))
    layer.eval()
    assert layer(jnp.ones(shape)).shape == shape
    assert batch_norm()(jnp.ones((1, 4, 4, 8))).shape == (1, 4, 4, 8)  # 16 values of each unit


def test_a_mask_with_one_example_is_finite():
    one = np.arange(64)[:, None] == 3
    layer = batch_norm(decay=0.0)
    assert np.isfinite(layer(X, mask=one)).all()
    close(layer.mean[...], X[3])
    close(layer.var[...], np.zeros(8))


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


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"window": 0}, ValueError, "window must be at least 1; got 0"),
        ({"window": 2.0}, TypeError, "window must be a whole number"),
        ({"decay": 1.5}, ValueError, r"decay must be in \[0, 1\]; got 1.5"),
        ({"momentum": -0.1}, ValueError, r"momentum must be in \[0, 1\]"),
        ({"decay": math.nan}, ValueError, "decay"),
        ({"epsilon": -1e-5}, ValueError, "epsilon"),
        ({"num_features": 0}, ValueError, "num_features"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        lo.BatchNorm(**({"num_features": 8} | arguments), rngs=nnx.Rngs(0))


def test_more_bad_arguments():
    with pytest.raises(ValueError, match="epsilon"):
        layer_norm(epsilon=-1.0)
    with pytest.raises(ValueError, match="num_features"):
        lo.Standardize(0)
    with pytest.raises(ValueError, match="use_running_average"):
        batch_norm(use_running_average=None)(X)
    for layer in (batch_norm(), lo.Standardize(8)):
        with pytest.raises(TypeError, match="complex"):
            layer(X.astype(np.complex64))


def test_standardize_refuses_nan_unless_masked():
    spoiled = X.copy()
    spoiled[2:5, 3] = np.nan
    with pytest.raises(ValueError, match=r"3 entries that are NaN or infinite.*Leave them out with mask"):
        lo.Standardize(8).fit(spoiled)
    with pytest.raises(ValueError, match="mask must be broadcastable"):
        lo.Standardize(8).fit(X, np.ones(64, bool))
    assert np.isfinite(lo.Standardize(8).fit(spoiled, ~np.isnan(spoiled)).mean[...]).all()
