"""What the tests of the norms share: inputs, the formulas in float64 NumPy with two passes, and how close is close."""

import numpy as np
import pytest
from flax import nnx

import lectopt as lo

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (64, 8)).astype(np.float32)
IMAGES = RNG.normal(-1.0, 2.0, (6, 5, 4, 8)).astype(np.float32)
MASK = RNG.uniform(size=(64, 1)) < 0.6
ENTRIES = RNG.uniform(size=(64, 8)) < 0.6  # a mask of its own for each feature
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws():
    """Every test draws the same numbers, alone or among others."""
    RNG.bit_generator.state = START


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


def batches(steps=60):
    data = RNG.normal(size=(steps, 32, 8)).astype(np.float32)
    return data, np.sin(data.sum(-1))
