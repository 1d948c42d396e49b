"""Validating: on which examples, how a validation is judged, and what patience makes of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array
from lectopt.tasks.evaluation import evaluate
from lectopt.training.carry import NO_LOSS, Carry, Data, Judge, Learner, Plan


class Verdict(NamedTuple):
    """What a validation changes in a carry."""

    running: Array
    best: Learner | None
    least: Array
    failures: Array
    bar: Array | None


def validate(plan: Plan, data: Data, learner: Learner) -> dict[str, Array]:
    """Returns the loss and the metrics of each validation set, at the parameters w; nothing without sets.

    Raises:
        ValueError: if two of them have one name, such as the loss of "a_b" and "b_loss" of "a".
    """
    if not data.valid:
        return {}
    batch_size = plan.batch_size if plan.task.in_batch else None
    params, found = learner.eval_params(), dict[str, Array]()
    for name, part in data.valid.items():
        weights = None if data.valid_weights is None else data.valid_weights[name]
        for metric, value in evaluate(plan.task, params, learner.state, part, plan.mesh, batch_size, weights).items():
            if f"{name}_{metric}" in found:
                raise ValueError(f"valid must name its sets so that metrics differ; two are {name}_{metric}")
            found[f"{name}_{metric}"] = jnp.asarray(value, jnp.float32)
    return found


def judge(
    plan: Plan, data: Data, carry: Carry, learner: Learner, healthy: Array, metrics: dict[str, Array]
) -> tuple[Array, Verdict]:
    """Returns whether the learner is to be kept as the best one so far, and what follows from that.

    `healthy` tells whether it is finite and still running, `metrics` are its own.
    """
    if plan.judge is None:
        return healthy, Verdict(healthy, carry.best, carry.least, carry.failures, carry.bar)
    loss = comparable(plan.judge, metrics)
    lower = healthy & (loss < carry.least)
    better = lower | (healthy & (carry.least == NO_LOSS))  # with nothing to compare, what was trained longest
    best = select(better, learner, carry.best)
    least = jnp.where(lower, loss, carry.least)
    # As Keras has it: small gains add up until together they are one that counts.
    gained = lower if carry.bar is None else healthy & (loss < carry.bar - plan.judge.min_delta)
    bar = None if carry.bar is None else jnp.where(gained, loss, carry.bar)
    failures = jnp.where(gained, 0, carry.failures + 1)
    patience = plan.judge.patience if data.patience is None else jnp.maximum(data.patience, 1)
    running = healthy if patience is None else healthy & (failures < patience)
    return better, Verdict(running, best, least, failures, bar)


def check_judged(judge: Judge, names: Any) -> None:
    """Raises ValueError unless the metric to judge by is among those of a validation."""
    if judge.metric not in names:
        raise ValueError(f"best_by must be one of {', '.join(map(repr, names))}; got {judge.metric!r}")


def comparable(judge: Judge, metrics: dict[str, Array]) -> Array:
    """Returns the metric to judge by, such that less is better, or `NO_LOSS` where it is not finite."""
    loss = -metrics[judge.metric] if judge.maximizes else metrics[judge.metric]
    return jnp.where(jnp.isfinite(loss), loss, NO_LOSS)


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Returns one tree where the condition holds, and the other where it does not."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
