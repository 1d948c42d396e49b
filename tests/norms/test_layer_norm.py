"""LayerNorm: each example by itself, in a batch, in a recurrent cell and split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from norm_cases import (
    IMAGES,
    RNG,
    X,
    close,
    layer_norm,
    normalized,
    same_draws,  # noqa: F401, for every test
)

import lectopt as lo


def test_layer_norm_does_not_depend_on_the_batch_nor_the_mode():
    layer = layer_norm()
    together = layer(X)
    layer.eval()
    close(together, np.concatenate([layer(X[i : i + 1]) for i in range(64)]), 1e-6)


@pytest.mark.parametrize(
    "arguments", [{}, {"use_scale": False}, {"reduction_axes": (1, 2, 3)}, {"dtype": jnp.bfloat16}, {"epsilon": 0.5}]
)
def test_parity_with_flax_layer_norm(arguments):
    ours, peer = layer_norm(**arguments), nnx.LayerNorm(8, **arguments, use_fast_variance=False, rngs=nnx.Rngs(0))
    y, expected = ours(IMAGES), peer(IMAGES)
    assert y.dtype == expected.dtype
    close(y, expected, 2e-2 if "dtype" in arguments else 2e-6)
    assert jax.tree.structure(nnx.state(ours)) == jax.tree.structure(nnx.state(peer))


class NormalizedCell(nnx.Module):
    """h <- tanh(LayerNorm(W h + U x))."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(16, 16, use_bias=False, rngs=rngs)
        self.inputs = nnx.Linear(1, 16, use_bias=False, rngs=rngs)
        self.norm = lo.LayerNorm(16, rngs=rngs)
        self.readout = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, h, x):
        h = jnp.tanh(self.norm(self.hidden(h) + self.inputs(x)))
        return h, self.readout(h)


def test_a_recurrent_network_with_layer_norm_trains_at_batch_size_one(graph_mode):
    # Recall the sign of the input before this one; one sequence at a time. Chance has a loss of 1.
    sequences = jnp.asarray(RNG.normal(size=(1500, 1, 12, 1)), jnp.float32)
    graphdef, params = nnx.split(NormalizedCell(nnx.Rngs(0)))
    optimizer = lo.adam(3e-3)

    def loss_of(params, sequence):
        cell = nnx.merge(graphdef, params)
        _, outputs = jax.lax.scan(cell, jnp.zeros((1, 16)), sequence.swapaxes(0, 1))
        return jnp.mean((outputs.swapaxes(0, 1)[:, 1:] - jnp.sign(sequence[:, :-1])) ** 2)

    def step(carry, sequence):
        params, state = carry
        loss, gradients = jax.value_and_grad(loss_of)(params, sequence)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), loss

    _, losses = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), sequences))(params)
    assert losses[0] > 0.8
    assert losses[-100:].mean() < 0.1


def test_a_layer_split_over_a_named_axis():
    y = jax.vmap(layer_norm(4, axis_name="i"), in_axes=1, out_axes=1, axis_name="i")(X.reshape(64, 2, 4))
    close(y.reshape(64, 8), normalized(X, 1, 1e-6))
