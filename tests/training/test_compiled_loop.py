"""What XLA makes of the loop that `fit` calls for a chunk of steps."""

import jax
import jax.numpy as jnp
import numpy as np
from compiled_text import aliases, copies
from flax import nnx

import lectopt as lo
from lectopt.training import compiled_loop
from lectopt.training.arguments import TrainingArguments
from lectopt.training.setup import prepare

X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)


class Affine(nnx.Module):
    def __init__(self, rngs):
        self.kernel = nnx.Param(jnp.ones((5, 3)))
        self.bias = nnx.Param(jnp.float32(0))

    def __call__(self, x):
        return x @ self.kernel + self.bias


def test_what_is_carried_is_written_in_place():
    """A step copies no weights. The end of an epoch copies them once, since they are kept beside those that go on."""
    setup = prepare(
        TrainingArguments(
            lo.classification(Affine), lo.rmsprop_nesterov, (X, np.arange(64) % 3), batch_size=16, epochs=2, key=0,
            hyperparameters={"learning_rate": 0.01},
        )
    )  # fmt: skip
    carry = jax.eval_shape(lambda: compiled_loop.start(setup))
    program = compiled_loop._advancing(setup).lower(setup.numbers, setup.data, carry, jnp.int32(0), jnp.int32(0))
    text, size = program.compile().as_text(), len(jax.tree.leaves(carry))
    taken = aliases(text)
    read_only = taken[0]
    assert taken == {i: read_only + i for i in range(size)}
    assert copies(text).count("f32[5,3]") == len(("weights", "velocity", "mean of squares"))
