"""The Run that a training returns, from its carry."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.checks import is_traced
from lectopt._internal.types import Array
from lectopt.tasks.models import Params
from lectopt.training.carry import Carry, Data, Learner
from lectopt.training.history import History
from lectopt.training.layer_statistics import LayerRecords
from lectopt.training.run import Run
from lectopt.training.setup import Setup

_TOLD = (
    "step", "epoch", "metrics", "has_metrics", "running", "ended", "diverged_at", "step_records", "epoch_records",
    "layer_records", "validations",
)  # fmt: skip
"""The fields of a carry that tell of the training."""


def as_run(setup: Setup, carry: Carry, eval_params: Callable[[Learner], Params] = Learner.eval_params) -> Run:
    """Returns the run after the last step, or as far as the training has come.

    `eval_params` is `Learner.eval_params`, perhaps compiled.
    """
    plan = setup.plan
    learner = carry.learner if carry.best is None else carry.best
    traced = is_traced((carry, setup.data.train.size))
    xp, (told, data) = (jnp if traced else np), _told(setup, carry, fetch=not traced)
    ended = xp.where(told.running, told.step, told.ended)
    step, epoch = xp.arange(plan.steps), xp.arange(plan.epochs)
    # Not the batches that hold no example of this part, because other parts are larger.
    done = (step < ended) & data.holds_examples(step % plan.steps_per_epoch, plan.batch_size)
    losses = told.step_records["loss"].reshape(-1)[: plan.steps]
    lasted = xp.where(told.running, told.epoch, -(-ended // plan.steps_per_epoch))
    lasted = lasted - (told.diverged_at >= 0).astype(lasted.dtype)
    known = (told.diverged_at < 0) & (True if data.epochs is None else data.epochs <= plan.epochs)
    return Run(
        params=eval_params(learner),
        model_state=learner.state,
        opt_state=learner.opt_state,
        lookahead_params=learner.params,
        metrics={name: _nan_unless(told.has_metrics[name] & known, x) for name, x in told.metrics.items()},
        history=History(
            steps={name: _nan_unless(done, r.reshape(-1)[: plan.steps]) for name, r in told.step_records.items()},
            epochs={name: _nan_unless(epoch < lasted, record) for name, record in told.epoch_records.items()},
            validations={}
            if told.validations is None
            else {name: _nan_unless(told.validations.done, record) for name, record in told.validations.values.items()},
            validated_every=plan.validate_every or 0,
            layers=OrderedDict()
            if told.layer_records is None
            else _by_layer(told.layer_records, done & ~xp.isnan(losses)),
            baseline_loss=carry.baseline_loss,
            diverged_at=carry.diverged_at,
            steps_per_epoch=plan.steps_per_epoch,
            batch_size=plan.batch_size,
            watched_every=0 if plan.watch is None else plan.watch.every,
        ),
        diverged_at=carry.diverged_at,
        task=plan.task,
        inputs=plan.inputs,
    )


def _told(setup: Setup, carry: Carry, *, fetch: bool) -> tuple[Carry, Data]:
    """Returns the carry, and the data; what they tell of the training is fetched to the host."""
    fields, size = {name: getattr(carry, name) for name in _TOLD}, setup.data.train.size
    if fetch:
        fields, size = jax.device_get((fields, size))
    return carry._replace(**fields), setup.data._replace(train=dataclasses.replace(setup.data.train, size=size))


def trimmed(run: Run, steps: int, epochs: int, validations: int) -> Run:
    """Returns the run with a history of so many steps, epochs and validations, and scalars as Python numbers."""
    history = run.history
    return dataclasses.replace(
        run,
        metrics={name: float(value) for name, value in run.metrics.items()},
        history=dataclasses.replace(
            history,
            steps={name: _first(steps, record) for name, record in history.steps.items()},
            epochs={name: _first(epochs, record) for name, record in history.epochs.items()},
            diverged_at=int(run.diverged_at),
            layers=jax.tree.map(lambda record: _first(-(-steps // history.watched_every), record), history.layers),
            validations={name: _first(validations, record) for name, record in history.validations.items()},
        ),
        diverged_at=int(run.diverged_at),
    )


def _by_layer(records: LayerRecords, done: Array) -> OrderedDict[str, dict[str, Array]]:
    """Returns the records by layer; NaN at steps that were not done, after divergence and after patience ran out."""
    recorded = done[:: records.every][: len(records.values)]
    return jax.tree.map(lambda record: _nan_unless(recorded, record), records.by_layer())


def _nan_unless(condition: Array, values: Array) -> Array:
    if is_traced((values, condition)):
        return jnp.where(condition, values, jnp.nan)
    # On the host: `jax_debug_nans` is to complain of what was computed, and this was not.
    return jax.device_put(np.where(condition, values, np.float32(np.nan)))


def _first(count: int, record: Array) -> Array:
    # On the host: `jax_debug_nans` would take the NaN of what was not recorded for a fault of the slicing.
    return jax.device_put(np.asarray(record)[:count])
