"""Standardize: statistics of the training set, learned at once or in parts, and what they do to inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from norm_cases import (
    ENTRIES,
    IMAGES,
    RNG,
    X,
    close,
    moments_of,
    normalized,
    same_draws,  # noqa: F401, for every test
)

import lectopt as lo
from lectopt import norms


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
    for part in np.split(data, [1, 2, 2, 499, 996]):  # one of them empty
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
        for part in np.split(data, [100, 200]):
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
    for part in np.split(x, [250]):
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


@pytest.mark.slow
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


def test_standardize_refuses_nan_unless_masked():
    spoiled = X.copy()
    spoiled[2:5, 3] = np.nan
    with pytest.raises(ValueError, match=r"3 entries that are NaN or infinite.*Leave them out with mask"):
        lo.Standardize(8).fit(spoiled)
    with pytest.raises(ValueError, match="mask must be broadcastable"):
        lo.Standardize(8).fit(X, np.ones(64, bool))
    assert np.isfinite(lo.Standardize(8).fit(spoiled, ~np.isnan(spoiled)).mean[...]).all()


def in_parts(rows, size, n):
    """The statistics of `rows(i)`, i < n, learned in parts of `size` in one compiled program."""
    graphdef, fresh = nnx.split(lo.Standardize(1))

    @jax.jit
    def learn(state):
        def step(state, i):
            standardize = nnx.merge(graphdef, state, copy=True).partial_fit(rows(i * size + jnp.arange(size))[:, None])
            return nnx.split(standardize)[1], None

        return jax.lax.scan(step, state, jnp.arange(n // size))[0]

    return nnx.merge(graphdef, learn(fresh)).statistics()


@pytest.mark.parametrize(("n", "size"), [(1_000_000, 32), (20_000_000, 250)])
def test_many_ordered_parts_are_learned_as_at_once(n, size):
    """A late part changes the mean by less than float32 can say of it; and 2^24 + 1 rows are no number of float32."""
    count, mean, var = in_parts(lambda i: 1e5 + i.astype(jnp.float32) * (100 / n), size, n)
    np.testing.assert_allclose(count, n, rtol=1e-7)
    np.testing.assert_allclose(mean, 100050, rtol=2e-7)
    np.testing.assert_allclose(np.sqrt(var), 100 / np.sqrt(12), rtol=1e-5)


def test_counts_go_on_one_by_one():
    """In float32, 2^24 + 1 is 2^24: the state is put there, not trained there."""
    standardize = lo.Standardize(1).store(norms.Moments(*(jnp.full(1, x, jnp.float32) for x in (2.0**24, 0, 1))))
    for _ in range(6):
        standardize.partial_fit(np.zeros((1, 1), np.float32))
    assert standardize.count[0] == 2**24 + 6


def test_storing_forgets_what_was_missing():
    standardize = lo.Standardize(8).partial_fit(X).partial_fit(X + 1e5)
    standardize.store(lo.Standardize(8).fit(X).statistics())
    assert not np.any(standardize.errors[...])


@pytest.mark.parametrize("scale", [3e18, 1e18, 1e-16, 1e-17])
def test_statistics_of_large_and_small_numbers(scale):
    x = X * np.float32(scale)
    standardize = lo.Standardize(8).fit(x)
    close(standardize(x), normalized(x, 0, 0), 1e-5)
    close(np.float64(standardize.var[...]) / scale**2, moments_of(X)[2][0], 1e-5)
    halves = lo.Standardize(8).partial_fit(x[:20]).partial_fit(x[20:])
    close(halves(x), normalized(x, 0, 0), 1e-5)
    spoiled = np.where(ENTRIES, x, np.inf)
    masked = np.float64(lo.Standardize(8).fit(spoiled, ENTRIES).var[...])
    close(masked / scale**2, moments_of(X, 0, ENTRIES)[2][0], 1e-5)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_standard_deviations_out_of_range_are_refused(scale):
    x = X.copy()
    x[:, 5] *= np.float32(scale)
    for learn in (lo.Standardize(8).fit, lo.Standardize(8).partial_fit):
        with pytest.raises(ValueError, match=r"from 1.1e-19 to 1.8e\+19,.*that of feature 5 is .*Rescale it"):
            learn(x)
    with pytest.raises(ValueError, match="that of feature 5"):
        lo.Standardize(8, axis=0).fit(x.T.reshape(8, 64, 1), np.ones((1, 64, 1)))


def test_a_variance_that_overflows_while_traced_is_seen():
    y = jax.jit(lambda x: lo.Standardize(8).fit(x)(x))(X * np.float32(1e25))
    assert np.isnan(y).all()


@pytest.mark.slow
def test_whole_numbers_that_float32_cannot_tell_apart():
    seconds = 1_700_000_000 + 60 * np.arange(100, dtype=np.int32)[:, None]
    for times in (seconds, seconds.astype(np.float64)):
        with pytest.raises(
            ValueError, match=r"inputs must differ by more than float32.* of 100 different values 47 are"
        ):
            lo.Standardize(1).fit(times)
    assert lo.Standardize(1).fit(seconds - 1_700_000_000)(seconds - 1_700_000_000).std() == pytest.approx(1, abs=1e-5)
