"""Other libraries: equal where they follow the same formula, and different where, and as much as, they do not."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from noisy_quadratic import CURVATURE, NOISE, START, TREE, assert_close, run

import lectopt as lo

SOME = {"kernel": True, "bias": False, "none": False, "scale": False}
DECAY = lo.linear_decay(0.05, 40)
STEPS = 100

SAME_AS_OPTAX = {
    "sgd": (lo.sgd(DECAY), optax.sgd(DECAY)),
    "momentum, constant rate": (lo.momentum(0.05), optax.sgd(0.05, momentum=0.9)),
    "momentum": (lo.momentum(DECAY), optax.chain(optax.scale_by_learning_rate(DECAY), optax.trace(0.9))),
    "nesterov": (lo.nesterov(DECAY), optax.chain(optax.scale_by_learning_rate(DECAY), optax.trace(0.9, nesterov=True))),
    "rmsprop": (lo.rmsprop(DECAY, 0.95), optax.rmsprop(DECAY, decay=0.95, eps=1e-6)),
    "rmsprop_nesterov, constant rate": (
        lo.rmsprop_nesterov(0.003),
        optax.rmsprop(0.003, decay=0.9, eps=1e-6, momentum=0.9, nesterov=True),
    ),
    "adam": (lo.adam(DECAY), optax.adam(DECAY)),
    "adam, eps_root": (lo.adam(DECAY, eps_root=1e-3), optax.adam(DECAY, eps_root=1e-3)),
    "adamw": (lo.adamw(DECAY, 0.3, eps_root=1e-3), optax.adamw(DECAY, weight_decay=0.3, eps_root=1e-3)),
    "adamw, masked": (lo.adamw(DECAY, 0.3, mask=SOME), optax.adamw(DECAY, weight_decay=0.3, mask=SOME)),
    "clip by value": (
        optax.chain(lo.clip_by_value(0.5), lo.sgd(0.1)),
        optax.chain(optax.clip(0.5), optax.sgd(0.1)),
    ),
    "clip layers": (
        optax.chain(lo.clip_layers_by_norm(0.5), lo.sgd(0.1)),
        optax.chain(
            *(optax.masked(optax.clip_by_global_norm(0.5), {name: name == one for name in TREE}) for one in TREE),
            optax.sgd(0.1),
        ),
    ),
    "clip": (
        optax.chain(lo.clip_by_norm(1.0), lo.sgd(0.1)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    ),
}
OTHER_THAN_OPTAX = {  # and by how much at least
    "momentum's rate outside": (lo.momentum(DECAY), optax.sgd(DECAY, momentum=0.9), 0.05),
    "adagrad": (lo.adagrad(0.05), optax.adagrad(0.05), 0.01),
    "adagrad, eps in the root": (lo.adagrad(0.05), optax.adagrad(0.05, initial_accumulator_value=0.0), 1e-9),
}


@pytest.mark.parametrize(("ours", "theirs"), SAME_AS_OPTAX.values(), ids=SAME_AS_OPTAX)
def test_same_as_optax(ours, theirs, x64):
    """In the parameters that are held: Optax has no way to read w."""
    assert_close(run(ours, jnp.float64, STEPS)[:, 1], run(theirs, jnp.float64, STEPS)[:, 1], 1e-7)


@pytest.mark.parametrize(("ours", "theirs", "least"), OTHER_THAN_OPTAX.values(), ids=OTHER_THAN_OPTAX)
def test_other_than_optax(ours, theirs, least, x64):
    difference = np.abs(run(ours, jnp.float64, STEPS) - run(theirs, jnp.float64, STEPS))[:, 1].max()
    assert difference > least


def test_optax_clip_loses_what_overflows():
    gradient = jnp.full(4, 1e20)
    theirs = optax.clip_by_global_norm(1.0)
    np.testing.assert_array_equal(theirs.update(gradient, theirs.init(gradient))[0], np.zeros(4))
    ours = lo.clip_by_norm(1.0)
    np.testing.assert_allclose(ours.update(gradient, ours.init(gradient))[0], np.full(4, 0.5), rtol=1e-6)


def run_torch(make):
    """What `run` holds, from a torch optimizer."""
    torch = pytest.importorskip("torch")
    w = torch.tensor(START.astype(float), requires_grad=True)
    optimizer, schedule = make(torch, w)
    for noise in NOISE[:STEPS].astype(float):
        w.grad = torch.tensor(CURVATURE.astype(float)) * w.detach() + torch.tensor(noise)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        yield w.detach().numpy().copy()


def in_torch(name, rate=0.05, schedule=None, **numbers):
    def make(torch, w):
        optimizer = getattr(torch.optim, name)([w], lr=1.0 if schedule else rate, **numbers)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if schedule else None

    return make


def decay(k):
    return float(np.interp(k, [0, 40], [0.05, 0.0005]))


SAME_AS_TORCH = {
    "sgd": (lo.sgd(0.05), in_torch("SGD")),
    "sgd, decreasing": (lo.sgd(DECAY), in_torch("SGD", schedule=decay)),
    "momentum, constant rate": (lo.momentum(0.05), in_torch("SGD", momentum=0.9)),
    "nesterov, constant rate": (lo.nesterov(0.05), in_torch("SGD", momentum=0.9, nesterov=True)),
    "adagrad": (lo.adagrad(0.05), in_torch("Adagrad", eps=1e-7)),
    "adam": (lo.adam(0.01), in_torch("Adam", rate=0.01)),
    "adam, decreasing": (lo.adam(DECAY), in_torch("Adam", schedule=decay)),
}
OTHER_THAN_TORCH = {
    "momentum's rate outside": (lo.momentum(DECAY), in_torch("SGD", schedule=decay, momentum=0.9), 0.05),
    "nesterov's rate outside": (lo.nesterov(DECAY), in_torch("SGD", schedule=decay, momentum=0.9, nesterov=True), 0.05),
    "rmsprop, eps outside the root": (lo.rmsprop(0.01, 0.9), in_torch("RMSprop", rate=0.01, alpha=0.9, eps=1e-6), 1e-6),
}


@pytest.mark.parametrize(("ours", "theirs"), SAME_AS_TORCH.values(), ids=SAME_AS_TORCH)
def test_same_as_torch(ours, theirs, x64):
    assert_close(run(ours, jnp.float64, STEPS)[:, 1], np.array(list(run_torch(theirs))), 2e-7)


@pytest.mark.parametrize(("ours", "theirs", "least"), OTHER_THAN_TORCH.values(), ids=OTHER_THAN_TORCH)
def test_other_than_torch(ours, theirs, least, x64):
    difference = np.abs(run(ours, jnp.float64, STEPS)[:, 1] - np.array(list(run_torch(theirs)))).max()
    assert difference > least


def test_torch_clips_a_little_shorter():
    """By nu / (||g|| + 1e-6)."""
    torch = pytest.importorskip("torch")
    w = torch.zeros(2, dtype=torch.float64)
    w.grad = torch.tensor([3e-4, 4e-4], dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([w], 1e-4)
    ours = lo.clip_by_norm(1e-4)
    gradient = jnp.array([3e-4, 4e-4])
    updates, _ = ours.update(gradient, ours.init(gradient))
    np.testing.assert_allclose(w.grad.numpy() / updates, np.full(2, 5e-4 / (5e-4 + 1e-6)), rtol=1e-6)
