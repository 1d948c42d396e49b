"""Decoupled weight decay: w decays, whatever looks ahead, and nothing else notices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from flax import nnx
from noisy_quadratic import CURVATURE, NOISE, START, assert_close, run

import lectopt as lo


def test_w_decays_under_a_look_ahead(x64):
    """w and the look-ahead point are those of the loop that takes its gradients there, all numbers scheduled."""
    ours, momentum = lo.linear_decay(0.05, 30), lo.momentum_ramp(0.5, 0.9, 30)
    decaying = lo.decay_weights(lo.nesterov(ours, momentum), lambda k: 0.5 * ours(k))
    rate, alpha = oracle.line(0.05, 0.0005, 30), oracle.line(0.5, 0.9, 30)
    gradient = lambda k, w: CURVATURE.astype(float) * w + NOISE[k]  # noqa: E731
    loop = oracle.nesterov(gradient, START.astype(float), 100, rate, alpha, lambda k: 0.5 * rate(k))
    assert_close(run(decaying, jnp.float64, 100), np.array(list(loop)), 1e-12)
    at_the_look_ahead = optax.chain(lo.nesterov(ours, momentum), optax.add_decayed_weights(lambda k: -0.5 * ours(k)))
    assert np.abs(run(at_the_look_ahead, jnp.float64, 100) - run(decaying, jnp.float64, 100)).max() > 1e-3


def test_without_a_gradient_nothing_but_the_decay_is_left():
    """By the same share whatever the rates of the weights are; a penalty's gradient is divided by them."""
    w = jnp.array([1.0, -100.0, 1e-3])
    optimizer = lo.adamw(0.1, 0.5)
    state, held = optimizer.init(w), w
    for _ in range(3):
        updates, state = optimizer.update(jnp.zeros(3), state, held)
        held = optax.apply_updates(held, updates)
    np.testing.assert_allclose(held, 0.95**3 * w, rtol=1e-6)


def test_a_mask_leaves_the_optimizer_alone():
    """Also plain dictionaries for an `nnx.State`; what does not decay moves as without decay."""
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda p: p + 1, nnx.state(model, nnx.Param))
    mask = {"kernel": True, "bias": False}
    for optimizer in (lo.decay_weights(lo.nesterov(0.1), 0.25, mask), lo.decay_weights(lo.nesterov(0.1), 0.25)):
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        plain, _ = lo.nesterov(0.1).update(params, lo.nesterov(0.1).init(params), params)
        share = {"kernel": 0.25, "bias": 0.25 if mask is None else 0.0}
        for name, c in share.items():
            np.testing.assert_allclose(updates[name][...], plain[name][...] - c * params[name][...], rtol=1e-6)
        chex.assert_trees_all_equal_structs(updates, params)
        mask = None


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: lo.decay_weights(0.1, 0.1), TypeError, "optimizer must be an Optax optimizer; got float"),
        (lambda: lo.decay_weights(lo.sgd(0.1), 1.0), ValueError, r"fraction must be in \[0, 1\)"),
        (lambda: lo.decay_weights(lo.sgd(0.1), 0.1, "kernel"), TypeError, r"mask must be True or False; got 'kernel'"),
        (lambda: lo.adamw(0.1, mask={"kernel": 1, "bias": 0}), TypeError, "mask must be True or False; got"),
        (lambda: lo.adamw(0.1, mask={"kernel": None}), TypeError, "mask must be True or False; got None"),
        (
            lambda: lo.adamw(0.1, mask=jnp.ndim).update(jnp.ones(2), lo.adamw(0.1).init(jnp.ones(2)), jnp.ones(2)),
            TypeError,
            "mask must be True or False; got 1",
        ),
        (lambda: lo.adamw(0.1, -1.0), ValueError, r"weight_decay must be in \[0, inf\)"),
        (lambda: lo.adamw(-0.1), ValueError, r"learning_rate must be in"),
        (lambda: lo.adamw(0.1, eps_root=-1e-8), ValueError, r"eps_root must be in \[0, inf\)"),
        (
            lambda: lo.decay_weights(lo.average_params(lo.sgd(0.1)), 0.1).init(jnp.ones(2)),
            ValueError,
            "decay_weights must stand inside of average_params",
        ),
        (
            lambda: lo.adamw(0.1).update(jnp.ones(2), lo.adamw(0.1).init(jnp.ones(2))),
            ValueError,
            "decay_weights needs the parameters",
        ),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()
