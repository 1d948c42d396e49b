"""A training to keep on disk, whose optimizer has a random key in its state, and all of its numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lectopt as lo

X, Y = lo.datasets.digits()
X, Y = X[:77] / 16, Y[:77]
OPTIONS = {"batch_size": 32, "shuffle": False, "key": 0}


def noisy(rate):
    """An optimizer with a random key in its state."""
    return optax.chain(optax.add_noise(1e-3, 0.5, jax.random.key(1)), lo.nesterov(rate))


OPTIMIZER = noisy(0.05)


def numbers(tree):
    return [np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
            for x in map(jnp.asarray, jax.tree.leaves(tree))]  # fmt: skip
