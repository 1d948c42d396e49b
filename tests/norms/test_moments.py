"""Means and variances against float64 NumPy, and pooled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from norm_cases import (
    ENTRIES,
    IMAGES,
    MASK,
    RNG,
    X,
    close,
    moments_of,
    same_draws,  # noqa: F401, for every test
)

from lectopt import norms


def adds_one_after_the_other():
    x = np.full((8, 28, 28, 16), 0.1, np.float32)
    return abs(jnp.sum(x, (0, 1, 2))[0] / (8 * 28 * 28 * np.float32(0.1)) - 1) > 1e-6


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4, 1e5, -1e5])
@pytest.mark.parametrize("shape_axes", [((4096, 16), 0), ((16, 1024), -1), ((8, 28, 28, 16), (0, 1, 2))])
def test_moments_have_their_digits_at_any_mean(mean, shape_axes):
    shape, axes = shape_axes
    if isinstance(axes, tuple) and adds_one_after_the_other():
        pytest.skip("XLA before that of jaxlib 0.10.2 loses digits where it sums over several axes")
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
