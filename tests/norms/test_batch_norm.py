"""BatchNorm: its statistics, in training and for evaluation, on one device and on several; and its bad arguments."""

import math
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from norm_cases import (
    ENTRIES,
    MASK,
    RNG,
    X,
    batch_norm,
    batches,
    close,
    moments_of,
    normalized,
    same_draws,  # noqa: F401, for every test
)

import lectopt as lo


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


def test_gradient_flows_through_mean_and_variance():
    # The outputs do not change when all inputs of a unit move or are stretched together, so neither has a gradient.
    x = jnp.asarray(X)
    g = jax.grad(lambda x: jnp.sum(jnp.cos(batch_norm(use_scale=False, use_bias=False, epsilon=0.0)(x))))(x)
    np.testing.assert_allclose(g.sum(0), 0, atol=1e-5)
    np.testing.assert_allclose((g * (x - x.mean(0))).sum(0), 0, atol=1e-5)
    assert jnp.abs(g).max() > 1e-2


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
    assert "use_running_average: bool | None = None\n    True to evaluate" in nnx.view_info(
        layer
    )  # read from the docstring


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
