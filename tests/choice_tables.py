"""A synthetic table over vectors of choices: main effects and interactions, with its optimum known by enumeration."""

import functools

import jax.numpy as jnp
import numpy as np

OPTIONS = (4,) * 8
PAIRS = [(i, i + 1) for i in range(7)] + [(0, 4), (2, 7), (1, 6)]
"""Decisions that interact: neighbours, and a few far apart."""


@functools.cache
def table(seed):
    """float32[4, ..., 4], scaled to [0, 1]: normal main effects and interactions, of equal size each."""
    random = np.random.default_rng(seed)
    grid = np.indices(OPTIONS)
    total = sum(random.normal(size=n)[grid[i]] for i, n in enumerate(OPTIONS))
    total = total + sum(random.normal(size=(OPTIONS[i], OPTIONS[j]))[grid[i], grid[j]] for i, j in PAIRS)
    return ((total - total.min()) / (total.max() - total.min())).astype(np.float32)


def lookup(values):
    """The score function of a table."""
    values = jnp.asarray(values)
    return lambda vectors: values[tuple(vectors.T)]
