"""The ends of epochs, and validations elsewhere: what is recorded there, and what is frozen."""

from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array
from lectopt.tasks.models import Params
from lectopt.training.carry import Carry, Data, Plan
from lectopt.training.validation import judge, select, validate


def end_epoch(plan: Plan, data: Data, carry: Carry) -> Carry:
    """Ends the epoch here: records, freezes what diverged, and validates, unless that is done by steps."""
    finite, first_bad = _examine(plan, data, carry)
    healthy = carry.running & finite
    learner = select(healthy, carry.learner, carry.before)
    metrics = {"train_loss": carry.loss_sum / carry.counted}
    judged: dict[str, Any] = {"running": healthy}
    if plan.validate_every is None:
        metrics |= validate(plan, data, learner)
        better, verdict = judge(plan, data, carry, learner, healthy, metrics)
        judged = verdict._asdict()
    else:  # of an epoch in which patience ran out, the loss was recorded then
        record = carry.epoch_records["train_loss"]
        metrics["train_loss"] = jnp.where(carry.running, metrics["train_loss"], record[carry.epoch])
    return carry._replace(
        epoch=carry.epoch + 1,
        learner=learner,
        before=learner,
        **(_kept(carry, better, metrics) if plan.validate_every is None else {}),
        ended=jnp.where(carry.running, carry.step, carry.ended),
        diverged_at=jnp.where(carry.running & ~finite, first_bad, carry.diverged_at),
        loss_sum=jnp.float32(0),
        counted=jnp.float32(0),
        epoch_records={name: r.at[carry.epoch].set(metrics[name]) for name, r in carry.epoch_records.items()},
        **judged,
    )


def validate_here(plan: Plan, data: Data, carry: Carry) -> Carry:
    """Validates at a step of its own: records, and ends what is out of patience."""
    assert plan.validate_every is not None
    assert carry.validations is not None
    finite, _ = _examine(plan, data, carry)
    healthy = carry.running & finite
    metrics = {"train_loss": carry.loss_sum / carry.counted, **validate(plan, data, carry.learner)}
    better, verdict = judge(plan, data, carry, carry.learner, healthy, metrics)
    stops = healthy & ~verdict.running
    losses = carry.epoch_records["train_loss"]
    loss = jnp.where(stops, metrics["train_loss"], losses[carry.epoch])
    return carry._replace(
        **verdict._asdict() | {"running": carry.running & ~stops},  # what diverged is found at the end of the epoch
        **_kept(carry, better, metrics),
        ended=jnp.where(stops, carry.step, carry.ended),
        epoch_records={"train_loss": losses.at[carry.epoch].set(loss)},
        validations=carry.validations.store((carry.step - 1) // plan.validate_every, healthy, metrics),
    )


def _kept(carry: Carry, better: Array, metrics: dict[str, Array]) -> dict[str, Any]:
    """Returns the metrics of what is to be returned, after a validation that was better or not."""
    return {
        "metrics": select(better, metrics, carry.metrics),
        "has_metrics": {name: has | better for name, has in carry.has_metrics.items()},
    }


def _examine(plan: Plan, data: Data, carry: Carry) -> tuple[Array, Array]:
    """Tells whether the epoch was finite so far, and its first step that was not."""
    first = carry.epoch * plan.steps_per_epoch
    done = carry.step - first
    batch = jnp.arange(plan.steps_per_epoch)
    full = (batch < done) & data.holds_examples(batch, plan.batch_size)
    bad = full & ~jnp.isfinite(carry.step_records["loss"][carry.epoch])
    # A last step can leave weights that are not finite although no loss has shown it yet.
    bad_weights = ~_all_finite(carry.learner.params)
    first_bad = first + jnp.where(jnp.any(bad), jnp.argmax(bad), jnp.sum(full) - 1)
    return ~(jnp.any(bad) | bad_weights), first_bad.astype(jnp.int32)


def _all_finite(params: Params) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(p)) for p in jax.tree.leaves(params)] or [jnp.array(True)]))
