"""The overfit check: whether a model can learn a few examples by heart, whatever floor its loss has."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.types import Array
from lectopt.data.subsets import as_subset
from lectopt.monitoring.findings import RECIPE, Finding
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.optim.optimizers import adam
from lectopt.optim.schedules import linear_decay
from lectopt.tasks import prediction
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import Task
from lectopt.training.run import Run
from lectopt.training.training import train

EXAMPLES = 8
"""As many examples every model must be able to learn by heart."""
STEPS = 300
LEARNING_RATES = 1e-4, 1e-3, 1e-2, 1e-1

Outcome = tuple[list[Finding | None], list[str]]
"""Findings, and notes of what was found to be well."""


class _Losses(NamedTuple):
    """Of one training on a few examples, at the rate that was best for it."""

    first: float  # the mean loss before the first update
    late: float  # after two thirds of the steps
    last: float
    outputs_alike: bool  # at every rate, the outputs are the same for all examples


def memorization(task: Task, sample: Any, key: jax.Array) -> Outcome:
    """Trains on a few examples, and judges the loss by what constant outputs and by what each example alone reach."""
    examples = jax.tree.map(lambda a: a[:EXAMPLES], sample)
    count = len(jax.tree.leaves(examples)[0])
    rows = np.arange(count)
    # One program for all: the examples as they are, each alone, and with the inputs of the first for all targets.
    train_on = functools.partial(cached_jit(_train_at_rates, task), examples, key)
    together = _at_best_rate(train_on(rows, rows))
    known = task.baseline_loss(as_subset(examples))
    baseline = None if known is None else float(known)
    evidence = f"the loss of {count} examples went from {together.first:.3g} to {together.last:.3g} in {STEPS} steps"
    near_zero = THRESHOLDS.floor_error * together.first
    if baseline is not None and baseline > 0:
        near_zero = THRESHOLDS.memorizing_rest * baseline
    if 0 <= together.last <= near_zero:  # the floor, which can only be 0, need not be asked for
        return [], [f"Learned by heart: {evidence}."]
    floor = float(np.mean([_at_best_rate(train_on(np.full(count, i), np.full(count, i))).last for i in rows]))
    evidence += f"; each of them alone reaches {floor:.3g} on average"
    if not together.first - min(floor, together.last) > THRESHOLDS.floor_error * abs(together.first):
        return [_cannot_learn(evidence)], []
    if not task.has_targets:
        return _judge_objective(together, floor, evidence)
    constant = _at_best_rate(train_on(np.zeros(count, int), rows)).last if baseline is None else baseline
    evidence += f", constant outputs {constant:.3g}"
    return _judge_loss(together, floor, constant, evidence, bounded=baseline is not None)


def _judge_loss(together: _Losses, floor: float, constant: float, evidence: str, *, bounded: bool) -> Outcome:
    fall = together.first - together.last
    allowed = max(THRESHOLDS.memorizing_rest * (constant - floor), THRESHOLDS.floor_error * fall)
    # Together far better than alone: the loss of an example depends on the others, as over a wrong axis.
    if abs(together.last - floor) <= allowed:
        return [], [f"Learned by heart: {evidence}."]
    if together.outputs_alike:
        return [_ignores_inputs(evidence)], []
    late_fall = together.late - together.last
    still_falling = together.last < constant and late_fall > THRESHOLDS.memorizing_fall * fall
    if still_falling and not bounded and floor < together.last:
        return [], [f"Not learned by heart yet, but still falling: {evidence}."]
    return [_cannot_learn(evidence)], []


def _judge_objective(together: _Losses, floor: float, evidence: str) -> Outcome:
    """Judges an objective, which need not allow memorization: variational autoencoders pay for it."""
    if together.last - floor <= THRESHOLDS.memorizing_rest * (together.first - floor):
        return [], [f"Learned by heart: {evidence}."]
    if together.outputs_alike:
        return [_ignores_inputs(evidence)], []
    return [], [f"An objective may have a floor, which is not known: {evidence}."]


def _ignores_inputs(evidence: str) -> Finding:
    remedy = "Look for a bug: the inputs are lost on their way through the model."
    return Finding("outputs ignore the inputs", f"they are the same for all examples, and {evidence}", remedy, RECIPE)


def _cannot_learn(evidence: str) -> Finding:
    remedy = (
        "Look for a bug: activations that are not there, a loss of the wrong axis, weights that no gradient reaches; "
        "or take a larger model, or less noise (dropout)."
    )
    return Finding("cannot learn by heart", evidence, remedy, RECIPE)


def _train_at_rates(task: Task, sample: Any, key: jax.Array, inputs: Array, targets: Array) -> tuple[Array, Any]:
    """Returns float32[rates, steps]: the losses of trainings on these rows, and the outputs after each."""
    indexed = [(array, inputs if place < task.inputs else targets) for place, array in enumerate(sample)]
    examples = tuple(jax.tree.map(lambda a, rows=rows: a[rows], array) for array, rows in indexed)

    def at_rate(rate: Array) -> tuple[Array, Any]:
        run = train(task, adam(linear_decay(rate, STEPS)), examples, batch_size=len(inputs), steps=STEPS, key=key)
        return run.history.steps["loss"], _outputs(task, run, examples, key)

    return jax.lax.map(at_rate, jnp.array(LEARNING_RATES))


def _outputs(task: Task, run: Run, examples: Any, key: jax.Array) -> Any:
    """Returns the model's outputs; of an objective, which may call it in any way, those of the last layer."""
    if task.has_targets:
        return prediction.predict(task, run.params, run.model_state, task.inputs_of(examples))
    if not task.adapter.has_layers:
        return None
    probe = Probe()
    watched(task, probe).scores(run.params, run.model_state, examples, key, training=False)
    return probe.outputs[probe.layers()[-1]] if probe.layers() else None


def _at_best_rate(trained: tuple[Array, Any]) -> _Losses:
    losses = np.asarray(trained[0], np.float64)
    last = np.mean(losses[:, -10:], axis=1)
    best = int(np.argmin(np.where(np.isnan(last), np.inf, last)))
    middle = 2 * STEPS // 3
    late = float(losses[best, middle - 5 : middle + 5].mean())
    return _Losses(float(losses[best, 0]), late, float(last[best]), _all_alike(trained[1]))


def _all_alike(outputs: Any) -> bool:
    """Returns whether the outputs [rates, examples, ...] are the same for all examples at each rate."""
    of_examples = [a for a in jax.tree.leaves(outputs) if a.shape[1:2] == (EXAMPLES,)]
    arrays = [np.asarray(a).reshape(len(LEARNING_RATES), EXAMPLES, -1) for a in of_examples]
    return bool(arrays) and all(_spread(a) <= THRESHOLDS.same_outputs for of_rates in arrays for a in of_rates)


def _spread(a: np.ndarray) -> float:
    """Returns the largest distance of a row from the mean row, over the largest number."""
    return float(np.abs(a - a.mean(axis=0)).max() / max(np.abs(a).max(), np.finfo(np.float32).tiny)) if a.size else 0.0
