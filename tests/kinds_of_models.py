"""One network with batch statistics (decay 0.9) and dropout, in all three kinds of model: NNX, Linen, two functions."""

import jax
import jax.numpy as jnp
from flax import linen, nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(64, momentum=0.9, use_bias=False, use_scale=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.dropout(self.norm(x)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(momentum=0.9, use_bias=False, use_scale=False, use_running_average=not train)(x)
        return linen.Dense(10)(linen.Dropout(0.5, deterministic=not train)(x))


def init(key, x):
    params = {"w": jax.random.normal(key, (64, 10)) / 8}
    return params, {"mean": jnp.zeros(64), "var": jnp.ones(64)}


def apply(params, state, x, key, training):
    mean, var = (jnp.mean(x, 0), jnp.var(x, 0)) if training else (state["mean"], state["var"])
    if training:
        state = {"mean": 0.9 * state["mean"] + 0.1 * mean, "var": 0.9 * state["var"] + 0.1 * var}
    x = (x - mean) / jnp.sqrt(var + 1e-5)
    if training:
        x = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0)
    return x @ params["w"], state
