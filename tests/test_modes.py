"""Trainings under JAX's own modes for finding faults: healthy ones pass, and their numbers are the same."""

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.iris()
MODES = {
    "debug_nans": lambda: jax.debug_nans(True),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "no rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "tracer leaks": lambda: jax.check_tracer_leaks(True),
    "disable_jit": jax.disable_jit,
}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = lo.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(nnx.tanh(self.dropout(self.norm(x))))


TASKS = {
    "classification": lo.classification(Net, standardize=True),
    "a loss without chance": lo.Task(Net, lambda outputs, targets: (outputs**2).sum(axis=-1)),
}
OPTIMIZER = lo.nesterov(lo.linear_decay(0.1, 9))
OPTIONS = {"batch_size": 60, "epochs": 2, "key": 0, "weights": "balanced", "watch": 2, "patience": 1}


def trained(task, call):
    def train():
        return call(task, OPTIMIZER, (X, Y), valid=(X, Y), **OPTIONS)

    run = train() if call is lo.fit else jax.jit(train)()
    return [np.asarray(leaf) for leaf in jax.tree.leaves((run.params, run.model_state, run.metrics, run.history))]


@pytest.fixture(scope="module")
def normal():
    return {name: trained(task, lo.fit) for name, task in TASKS.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TASKS)
def test_fit(mode, name, normal):
    with MODES[mode]():
        numbers = trained(TASKS[name], lo.fit)
    tolerance = 1e-5 if mode == "disable_jit" else 0  # compiled, XLA fuses
    for a, b in zip(numbers, normal[name], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
