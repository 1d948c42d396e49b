"""A stochastic gradient h w + z_k of very different sizes, so that a misplaced eps shows; and how close is close."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import lectopt as lo

STEPS = 500
TREE = {"kernel": np.zeros((4, 3)), "bias": np.zeros(3), "none": None, "scale": np.zeros(())}
SIZE = 16
_random = np.random.default_rng(0)
CURVATURE = np.geomspace(1e-3, 1, SIZE).astype(np.float32)
NOISE = (CURVATURE * _random.normal(size=(STEPS, SIZE))).astype(np.float32)
START = _random.normal(size=SIZE).astype(np.float32)
TURN = np.exp(1j * _random.uniform(0, 6, SIZE)).astype(np.complex64)  # makes the noise complex


def tree_of(flat: chex.Array) -> chex.ArrayTree:
    return ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, flat.dtype), TREE))[1](flat)


def flat_of(tree: chex.ArrayTree) -> jax.Array:
    return ravel_pytree(tree)[0]


def run(optimizer, dtype: Any = jnp.float32, steps: int = STEPS, loop=jax.lax.scan, noise=NOISE) -> jax.Array:
    """[steps, 2, SIZE]: w and the held parameters after each step."""
    turn = TURN if np.issubdtype(dtype, np.complexfloating) else 1

    def step(carry, noise):
        params, state = carry
        gradients = tree_of(jnp.asarray(CURVATURE, dtype) * flat_of(params) + noise)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.stack([flat_of(lo.eval_params(state, params)), flat_of(params)])

    params = tree_of(jnp.asarray(START, dtype))
    return loop(step, (params, optimizer.init(params)), jnp.asarray(noise[:steps] * turn, dtype))[1]


def python_loop(step, carry, xs):
    outs = []
    for x in xs:
        carry, out = step(carry, x)
        outs.append(out)
    return carry, jnp.stack(outs)


def assert_close(actual, desired, tolerance):
    """Per step, relative to the largest entry."""
    error = np.abs(np.asarray(actual) - desired).max(-1) / np.abs(desired).max(-1)
    assert error.max() <= tolerance, (
        f"relative error {error.max():.2e} at step {np.unravel_index(error.argmax(), error.shape)}"
    )
