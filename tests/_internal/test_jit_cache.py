"""What was compiled is shared by equal calls, and goes with the task or the optimizer that it is for."""

import dataclasses
import gc
import weakref
from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt._internal import jit_cache

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.iris()
X, Y = X[::3], Y[::3]
OF_FIT = 3
"""Programs of a training: the start, a stretch, and the parameters to evaluate at."""
OF_CHECKS = 4
"""Programs that are traced only, for a task: its initialization, its outputs, its scores in training and evaluation."""


class Big:
    """Something that the model closes over."""


def fit(task, optimizer, **options):
    return lo.fit(task, optimizer, (X, Y), **{"batch_size": 50, "epochs": 1, "key": 0} | options)


def test_nothing_of_a_training_outlives_it():
    closed_over = Big()

    def net(rngs, closed_over=closed_over):
        return nnx.Linear(4, 3, rngs=rngs)

    def augment(key, batch, closed_over=closed_over):
        return batch

    before = len(jit_cache._programs)
    task = lo.classification(net, standardize=True)
    rate = {"learning_rate": 0.1}
    run = fit(task, lo.nesterov, hyperparameters=rate, augment=augment, valid=(X, Y), watch=1)
    run.predict(X), run.classes(X), run.evaluate((X, Y))
    gone = [weakref.ref(thing) for thing in (task, net, closed_over, augment, run.params)]
    assert len(jit_cache._programs) == before + OF_FIT + OF_CHECKS + 1 + 3  # of augment, and of the run's readings
    del task, net, closed_over, augment, run
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)
    assert len(jit_cache._programs) == before


@pytest.mark.slow
def test_programs_go_with_the_optimizer_and_stay_with_the_task():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    before = len(jit_cache._programs)
    with jax.disable_jit():
        for rate in (0.1, 0.2):
            fit(task, lo.sgd(rate))  # a new optimizer, which nobody keeps
        gc.collect()
        before += OF_CHECKS
        assert len(jit_cache._programs) == before
        for rate in (0.1, 0.2):
            fit(task, lo.sgd, hyperparameters={"learning_rate": rate})
        fit(task, lo.sgd, hyperparameters={"learning_rate": 0.3}, key=7)
        assert len(jit_cache._programs) == before + OF_FIT
        fit(task, lo.sgd, hyperparameters={"learning_rate": 0.3}, epochs=2)
        fit(task, lo.momentum, hyperparameters={"learning_rate": 0.3})
        assert len(jit_cache._programs) == before + 3 * OF_FIT


class Augment:
    def __init__(self, factor):
        self.factor = factor

    def scale(self, key, batch):
        return (self.factor * batch[0], batch[1])


@pytest.mark.slow
def test_methods_are_known_again_and_kept_apart():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    one, ten = Augment(1.0), Augment(10.0)
    before = len(jit_cache._programs)
    with jax.disable_jit():
        losses = [fit(task, lo.sgd, hyperparameters={"learning_rate": 0.1}, augment=a.scale).metrics["train_loss"]
                  for a in (one, ten, one)]  # fmt: skip
    assert len(jit_cache._programs) == before + OF_CHECKS + 2 * (OF_FIT + 1)
    assert losses[0] == losses[2] != losses[1]
    del one
    gc.collect()
    assert len(jit_cache._programs) == before + OF_CHECKS + OF_FIT + 1
    assert np.isfinite(losses).all()


@dataclasses.dataclass(frozen=True)
class Plan:
    factor: int
    function: Callable
    pair: tuple


def apply(plan, x):
    return plan.factor * plan.function(x) + plan.pair[0]


def test_equal_plans_share_a_program_while_their_parts_are_there():
    traced = []

    def function(x):
        traced.append(x)
        return x + 1

    before = len(jit_cache._programs)
    call = [jit_cache.cached_jit(apply, Plan(2, function, (3, None))) for _ in range(2)]
    assert [float(c(1.0)) for c in call] == [7.0, 7.0]
    assert len(traced) == 1
    for other in (Plan(5, function, (3, None)), Plan(2, function, (4, None)), (2, function, (3, None))):
        assert jit_cache.cached_jit(apply, other).program is not call[0].program
    assert jit_cache.cached_jit(apply, call[0].static[0], donate=0).program is not call[0].program
    assert len(jit_cache._programs) == before + 5
    del function, call, other
    gc.collect()
    assert len(jit_cache._programs) == before
