"""A small network as two functions, a few of the digits for it, and an optimizer that fails at one step."""

import jax
import jax.numpy as jnp
import optax

import lectopt as lo

X, Y = lo.datasets.digits()
X, Y = X[:110] / 16, Y[:110]
TRAIN, VALID = (X[:77], Y[:77]), (X[77:], Y[77:])


def init(key, x):
    """Weights of an MLP 64-6-10, in float64 under x64."""
    a, b = (0.3 * jax.random.normal(k, s) for k, s in zip(jax.random.split(key), [(64, 6), (6, 10)], strict=True))
    return {"a": a, "b": b}, ()


def apply(params, state, x, key, training):
    return jnp.tanh(x @ params["a"]) @ params["b"], state


def poison(step, rate=0.3):
    """An optimizer whose update is NaN at that step."""

    def update(updates, count, params=None):
        return jax.tree.map(lambda u: jnp.where(count == step, jnp.nan, u), updates), count + 1

    return optax.chain(lo.momentum(rate), optax.GradientTransformation(lambda params: jnp.int32(0), update))
