"""Validating: on which examples, how a validation is judged, and what patience makes of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array
from lectopt.tasks.evaluation import evaluate
from lectopt.training.carry import NO_LOSS, Carry, Data, Learner, Plan


class Verdict(NamedTuple):
    """What a validation changes in a carry."""

    running: Array
    best: Learner | None
    least: Array
    failures: Array


def validate(plan: Plan, data: Data, learner: Learner) -> dict[str, Array]:
    """Returns the loss and the metrics of the validation examples, at the parameters w; nothing without examples."""
    if data.valid is None:
        return {}
    batch_size = plan.batch_size if plan.task.in_batch else None
    scores = evaluate(plan.task, learner.eval_params(), learner.state, data.valid, plan.mesh, batch_size)
    return {f"valid_{name}": jnp.asarray(value, jnp.float32) for name, value in scores.items()}


def judge(
    plan: Plan, carry: Carry, learner: Learner, healthy: Array, metrics: dict[str, Array]
) -> tuple[Array, Verdict]:
    """Returns whether the learner is to be kept as the best one so far, and what follows from that.

    `healthy` tells whether it is finite and still running, `metrics` are its own.
    """
    if plan.patience is None:
        return healthy, Verdict(healthy, carry.best, carry.least, carry.failures)
    loss = comparable(metrics["valid_loss"])
    lower = healthy & (loss < carry.least)
    better = lower | (healthy & (carry.least == NO_LOSS))  # with nothing to compare, what was trained longest
    best = select(better, learner, carry.best)
    least = jnp.where(lower, loss, carry.least)
    failures = jnp.where(lower, 0, carry.failures + 1)
    return better, Verdict(healthy & (failures < plan.patience), best, least, failures)


def comparable(loss: Array) -> Array:
    """Returns the loss, or `NO_LOSS` where it is not finite."""
    return jnp.where(jnp.isfinite(loss), loss, NO_LOSS)


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Returns one tree where the condition holds, and the other where it does not."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
