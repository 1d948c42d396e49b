"""What the lecture says of its optimizers; that they are exact is in test_laws.py."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from noisy_quadratic import run

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

DEFAULTS = {
    lo.sgd: {},
    lo.momentum: {"momentum": 0.9},
    lo.nesterov: {"momentum": 0.9},
    lo.adagrad: {"eps": 1e-7},
    lo.rmsprop: {"decay": 0.9, "eps": 1e-6},
    lo.rmsprop_nesterov: {"decay": 0.9, "momentum": 0.9, "eps": 1e-6},
    lo.adam: {"learning_rate": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": None},
    lo.scale_by_adagrad: {"eps": 1e-7},
    lo.scale_by_rmsprop: {"decay": 0.9, "eps": 1e-6},
    lo.scale_by_adam: {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": None},
    lo.adamw: {
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "eps_root": None,
        "mask": None,
    },
    lo.clip_by_norm: {"nonfinite": "propagate", "axis_name": None},
    lo.clip_layers_by_norm: {"nonfinite": "propagate"},
    lo.add_l2: {"mask": None},
    lo.decay_weights: {"mask": None},
    lo.average_params: {"decay": None},
}


@pytest.mark.parametrize("make", DEFAULTS, ids=lambda make: make.__name__)
def test_defaults_are_the_lectures(make):
    parameters = inspect.signature(make).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == DEFAULTS[make]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (lo.momentum(0.1, 0.0), lo.sgd(0.1)),
        (lo.nesterov(0.1, 0.0), lo.sgd(0.1)),
        (lo.rmsprop_nesterov(0.01, momentum=0.0), lo.rmsprop(0.01)),
        (lo.adam(), optax.chain(lo.scale_by_adam(), lo.sgd(1e-3))),
        (lo.rmsprop_nesterov(0.01), optax.chain(lo.scale_by_rmsprop(), lo.nesterov(0.01))),
        (lo.momentum(0.1), optax.chain(lo.scale_by_learning_rate(0.1), lo.trace_momentum(0.9))),
        (lo.nesterov(0.1), optax.chain(lo.scale_by_learning_rate(0.1), lo.trace_nesterov(0.9))),
    ],
    ids=["momentum 0", "nesterov 0", "rmsprop_nesterov 0", "adam", "rmsprop_nesterov", "momentum", "nesterov"],
)
def test_optimizers_are_chains_of_links(short, long):
    np.testing.assert_allclose(run(short, steps=50), run(long, steps=50), rtol=1e-6, atol=1e-7)


def test_the_first_adam_step_without_correction_is_too_large():
    """(1 - b1) g / sqrt((1 - b2) g^2) = 0.1 / sqrt(0.001) = 3.16 rates, where one rate is meant."""
    gradient = jnp.array([1e-3, -7.0])
    optimizer = lo.adam(0.01)
    update, (moments, _) = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(update, [-0.01, 0.01], rtol=2e-5)
    uncorrected = -0.01 * moments.mean / jnp.sqrt(moments.mean_of_squares)
    np.testing.assert_allclose(uncorrected / update, [3.1623, 3.1623], rtol=1e-4)


def steps_to_converge(optimizer, curvature):
    """Steps until 1/2 sum h w^2 has fallen below 1e-8 of its start, for good."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(curvature * params, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.sum(curvature * lo.eval_params(state, params) ** 2)

    start = jnp.ones_like(curvature)
    _, losses = jax.lax.scan(step, (start, optimizer.init(start)), length=20_000)
    return int(np.flatnonzero(np.asarray(losses) > 1e-8 * float(curvature.sum()))[-1]) + 2


def test_nesterov_converges_faster_on_an_ill_conditioned_quadratic(x64):
    """Condition number kappa = 10^4 and Nesterov's own choices, rate 1 / L and alpha = (1 - q) / (1 + q), q =
    kappa^(-1/2): plain descent takes above 20,000 steps, momentum 911, and looking ahead, which damps it, 620."""
    curvature = jnp.geomspace(1e-4, 1, 20)
    alpha = (1 - 0.01) / (1 + 0.01)
    nesterov = steps_to_converge(lo.nesterov(1.0, alpha), curvature)
    momentum = steps_to_converge(lo.momentum(1.0, alpha), curvature)
    sgd = steps_to_converge(lo.sgd(1.0), curvature)
    assert nesterov < 0.7 * momentum
    assert momentum < 0.1 * sgd


def test_any_gradient_scale_gives_the_same_adaptive_steps():
    """Individual rates: a parameter whose gradients are a thousand times as large, or tiny, takes the same steps."""
    scales = jnp.array([1.0, 1e3, 1e-12])
    for optimizer in (lo.adagrad(0.1, eps=0.0), lo.rmsprop(0.1, eps=0.0), lo.adam(0.1, eps=0.0)):
        state = optimizer.init(scales)
        for gradient in (1.0, -0.3, 2.0):
            updates, state = optimizer.update(gradient * scales, state)
        np.testing.assert_allclose(updates, updates[:1] * np.ones(3), rtol=1e-5)
