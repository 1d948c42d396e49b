"""Dropout with a traced rate, beside Flax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(5, 12)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("dims", [(), (1,), (-2,)])
def test_the_numbers_are_flaxs(rate, dims):
    theirs = nnx.Dropout(rate, broadcast_dims=dims, rngs=nnx.Rngs(3))(X)

    def ours(rate):
        return lo.Dropout(rate, broadcast_dims=dims, rngs=nnx.Rngs(3))(X)

    np.testing.assert_array_equal(ours(rate), theirs)
    for found in (ours(np.float32(rate)), jax.jit(ours)(rate)):
        np.testing.assert_allclose(found, theirs, rtol=3e-7)
        np.testing.assert_array_equal(found == 0, theirs == 0)


def test_gradients_are_finite_and_evaluation_drops_nothing():
    gradient = jax.jit(lambda rate: jax.grad(lambda x: lo.Dropout(rate, rngs=nnx.Rngs(0))(x).sum())(X))
    np.testing.assert_array_equal(gradient(1.0), 0)
    np.testing.assert_array_equal(gradient(0.0), 1)
    layer = lo.Dropout(jnp.float32(0.5), rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(X, deterministic=True), X)
    layer.eval()
    np.testing.assert_array_equal(layer(X), X)
    layer.train()
    assert (layer(X) == 0).any()
    assert layer(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert not np.array_equal(layer(X), layer(X))
    key = jax.random.key(1)
    np.testing.assert_array_equal(layer(X, rngs=key), nnx.Dropout(0.5)(X, rngs=key))


@pytest.mark.slow
def test_dropout_is_searched_in_one_program(capsys):
    train, valid = lo.holdout(lo.datasets.iris(), 0.3, key=0, stratify=True)

    def score(rate, key, dropout):
        def net(rngs):
            return nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), dropout(rate, rngs=rngs), nnx.Linear(8, 3, rngs=rngs))

        task = lo.classification(net)
        return lo.train(task, lo.sgd(0.1), train, valid=valid, batch_size=35, epochs=2, key=key)

    rates = [0.0, 0.5, 1.0]
    found = lo.sweep(lambda s, key: score(s["rate"], key, lo.Dropout), {"rate": rates}, minimize="valid_loss", key=0)
    assert "in 1 program(s)" in capsys.readouterr().err
    assert len(set(found.mean().tolist())) == 3
    right = score(0.5, jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0), nnx.Dropout)
    np.testing.assert_allclose(found.mean()[1], right.metrics["valid_loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("rate", "error"), [(-0.1, ValueError), (1.5, ValueError), (np.nan, ValueError), ("x", TypeError)]
)
def test_bad_input(rate, error):
    with pytest.raises(error, match="rate must be"):
        lo.Dropout(rate, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("rate", [np.ones(2, np.float32)])
def test_a_rate_for_each_input_is_refused(rate):
    with pytest.raises((ValueError, TypeError), match="rate must be"):
        lo.Dropout(rate, rngs=nnx.Rngs(0))


def test_no_stream():
    with pytest.raises(ValueError, match="rngs must be given"):
        lo.Dropout(jnp.float32(0.5))(X)


def test_a_rate_of_whole_numbers():
    np.testing.assert_array_equal(lo.Dropout(jnp.int32(1), rngs=nnx.Rngs(0))(X), 0)


WRONG = {
    "deterministic": ({"deterministic": "no"}, X, TypeError, "deterministic must be True or False"),
    "stream": ({"rng_collection": 3}, X, TypeError, "rng_collection must be the name of a random stream.*got 3"),
    "dims": ({"broadcast_dims": "a"}, X, TypeError, "broadcast_dims must be a list of dimensions"),
    "a dim": ({"broadcast_dims": (2,)}, X, ValueError, "broadcast_dims must be dimensions of the inputs, 2 .*got 2"),
    "integers": ({}, np.arange(3), TypeError, "inputs must be an array of floating-point numbers; got int64"),
    "a number": ({}, 1.0, TypeError, "inputs must be an array of floating-point numbers; got float"),
}


@pytest.mark.parametrize(("arguments", "inputs", "error", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("rate", [0.5, np.float32(0.5)])
def test_what_does_not_fit(rate, arguments, inputs, error, message):
    with pytest.raises(error, match=message):
        lo.Dropout(rate, rngs=nnx.Rngs(0), **arguments)(inputs)
