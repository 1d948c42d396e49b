"""Trainings under JAX's own modes for finding faults: healthy ones pass, and their numbers are the same."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from strict_modes import MODES

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.iris()


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = lo.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(nnx.tanh(self.dropout(self.norm(x))))


NO_BASELINE = "a loss without a baseline"
TASKS = {
    "classification": lo.classification(Net, standardize=True),
    NO_BASELINE: lo.Task(Net, lambda outputs, targets: (outputs**2).sum(axis=-1)),
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


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TASKS)
def test_fit(mode, name, normal):
    with MODES[mode]():
        numbers = trained(TASKS[name], lo.fit)
    tolerance = 1e-5 if mode == "not compiled" else 0  # compiled, XLA fuses
    for a, b in zip(numbers, normal[name], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def choose(task):
    def trial(setting, train, valid, key):
        return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=60, epochs=1, key=key)

    options = {"minimize": "valid_loss", "key": 0, "progress": False}
    return lo.cross_validate(trial, {"rate": [0.01, 0.1]}, lo.k_fold((X, Y), 4, key=0), **options)


def compiled(task):
    optimizer = optax.chain(lo.watch_norms("gradient"), lo.sgd(0.1), lo.watch_norms("update"))
    return jax.jit(lambda: lo.train(task, optimizer, (X, Y), batch_size=60, epochs=1, key=0).history)()


TOOLS = {
    "train": compiled,
    "inspect": lambda task: str(lo.inspect(task, (X, Y), key=0)),
    "rescale": lambda task: lo.rescale(task, (X, Y), key=0),
    "search": choose,
    "check": lambda task: lo.check(task, (X, Y), progress=False),
    "diagnose": lambda task: lo.diagnose(lo.fit(task, OPTIMIZER, (X, Y), **OPTIONS | {"patience": None})),
    "rate": lambda task: lo.suggest_learning_rate(task, lo.sgd, (X, Y), batch_size=60, key=0, steps=100, seeds=1),
}
DEAR = [("leaks", name) for name in ("check", "search", "rate", "diagnose")]
CALLS = [
    pytest.param(mode, name, task, marks=pytest.mark.exhaustive if (mode, name) in DEAR else ())
    for mode in MODES
    for name in TOOLS
    for task in TASKS
    if (mode, task) != ("leaks", NO_BASELINE)  # takes long, and what would leak there leaks with the other task too
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the best")  # one epoch says little of the rate
@pytest.mark.parametrize(("mode", "name", "task"), CALLS)
def test_tools(mode, name, task):
    with MODES[mode]():
        TOOLS[name](TASKS[task])


@pytest.mark.slow
def test_a_history_that_has_nan_for_an_unknown_baseline_loss(tmp_path):
    """As earlier versions wrote it."""
    task = TASKS[NO_BASELINE]
    history = lo.fit(task, OPTIMIZER, (X, Y), batch_size=60, epochs=1, key=0).history
    assert history.baseline_loss is None
    dataclasses.replace(history, baseline_loss=np.float32(np.nan)).save(tmp_path / "old")
    history.save(tmp_path / "new")
    assert lo.History.load(tmp_path / "old").baseline_loss is None
    assert lo.History.load(tmp_path / "new").baseline_loss is None
