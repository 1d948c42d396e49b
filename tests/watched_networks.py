"""Networks whose layers are hard to watch: called twice, scanned, rematerialized, of Linen."""

import jax.numpy as jnp
from flax import linen, nnx

import lectopt as lo


class Mixed(nnx.Module):
    """Calls a layer twice, scans another, and has a norm and dropout."""

    def __init__(self, rngs):
        self.recurrent = nnx.RNN(nnx.SimpleCell(8, 12, rngs=rngs))
        self.shared = nnx.Linear(12, 12, rngs=rngs)
        self.norm = lo.BatchNorm(12, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = self.recurrent(x.reshape(-1, 8, 8))[:, -1]
        x = jnp.tanh(self.shared(jnp.tanh(self.shared(x))))
        return self.out(self.dropout(nnx.relu(self.norm(x))))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.tanh(linen.Dense(16, name="first")(x / 16))
        x = linen.Dropout(0.1, deterministic=not train)(x)
        return linen.Dense(10, name="last")(x)


class Stacked(nnx.Module):
    """Scans over stacked layers, whose calls cannot be seen from outside."""

    def __init__(self, rngs):
        self.stack = nnx.vmap(lambda rngs: nnx.Linear(64, 64, use_bias=False, rngs=rngs))(rngs.split(3))
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        scan = nnx.scan(lambda x, layer: jnp.tanh(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return self.out(scan(x, self.stack))


class Rematerialized(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(10, name="last")(linen.tanh(linen.remat(linen.Dense)(16, name="first")(x)))
