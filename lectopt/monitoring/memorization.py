"""Whether a model can learn a few examples by heart, whatever floor its loss has."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.types import Array
from lectopt.data.subsets import as_subset
from lectopt.monitoring.findings import RECIPE, Finding
from lectopt.optim.optimizers import adam
from lectopt.optim.schedules import linear_decay
from lectopt.tasks import evaluation
from lectopt.tasks.models import FunctionAdapter
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import Task
from lectopt.training.run import Run
from lectopt.training.training import train

FEW = 8
"""Examples that every model must be able to learn by heart."""
STEPS = 300
RATES = 1e-4, 1e-3, 1e-2, 1e-1
LEARNED = 0.1
"""What may be left of the way from the loss of constant outputs to the floor."""
FALLING = 0.05
"""The share of the whole fall that came in the last third, of a loss that was still falling: too few steps for it, as
for a likelihood that has no bound, are no inability."""
_ROUNDING = 1e-3
"""A part of the whole fall: the floor is not known better than this."""
_SAME = 1e-6
"""Outputs whose deviation over examples is within such a part of their size do not depend on the input."""

Outcome = tuple[list[Finding | None], list[str]]
"""Findings, and notes of what was found to be well."""


class _Learned(NamedTuple):
    """One training on a few examples, at the rate that was best for it."""

    first: float  # the mean loss before the first update
    late: float  # after two thirds of the steps
    last: float
    alike: bool  # at every rate, the outputs are the same for all examples


def by_heart(task: Task, sample: Any, key: jax.Array) -> Outcome:
    """Trains on a few examples, and judges the loss by what constant outputs and by what each example alone reach."""
    few = jax.tree.map(lambda a: a[:FEW], sample)
    count = len(jax.tree.leaves(few)[0])
    every = np.arange(count)
    # One program for all: the examples as they are, each alone, and with the inputs of the first for all targets.
    learn = functools.partial(cached_jit(_learn, task), few, key)
    together = _best(learn(every, every))
    baseline = task.baseline_loss(as_subset(few))
    told = f"the loss of {count} examples went from {together.first:.3g} to {together.last:.3g} in {STEPS} steps"
    # Where the floor can only be 0.
    known = LEARNED * float(baseline) if baseline is not None and baseline > 0 else _ROUNDING * together.first
    if 0 <= together.last <= known:
        return [], [f"Learned by heart: {told}."]
    alone = float(np.mean([_best(learn(np.full(count, i), np.full(count, i))).last for i in every]))
    told += f"; each of them alone reaches {alone:.3g} on average"
    if not together.first - min(alone, together.last) > _ROUNDING * abs(together.first):
        return [_unable(told)], []
    if not task.has_targets:
        return _judge_objective(together, alone, told)
    constant = _best(learn(np.zeros(count, int), every)).last if baseline is None else float(baseline)
    told += f", constant outputs {constant:.3g}"
    return _judge(together, alone, constant, told, bounded=baseline is not None)


def _judge(together: _Learned, alone: float, constant: float, told: str, *, bounded: bool) -> Outcome:
    fall = together.first - together.last
    allowed = max(LEARNED * (constant - alone), _ROUNDING * fall)
    # Together far better than alone: the loss of an example depends on the others, as over a wrong axis.
    if abs(together.last - alone) <= allowed:
        return [], [f"Learned by heart: {told}."]
    if together.alike:
        return [_ignored(told)], []
    falling = together.last < constant and together.late - together.last > FALLING * fall
    if falling and not bounded and alone < together.last:
        return [], [f"Not learned by heart yet, but still falling: {told}."]
    return [_unable(told)], []


def _judge_objective(together: _Learned, alone: float, told: str) -> Outcome:
    """An objective need not have what one can learn by heart: a variational autoencoder pays for telling them apart."""
    if together.last - alone <= LEARNED * (together.first - alone):
        return [], [f"Learned by heart: {told}."]
    if together.alike:
        return [_ignored(told)], []
    return [], [f"An objective may have a floor, which is not known: {told}."]


def _ignored(told: str) -> Finding:
    remedy = "Look for a bug: the inputs are lost on their way through the model."
    return Finding("outputs ignore the inputs", f"they are the same for all examples, and {told}", remedy, RECIPE)


def _unable(told: str) -> Finding:
    remedy = (
        "Look for a bug: activations that are not there, a loss of the wrong axis, weights that no gradient reaches; "
        "or take a larger model, or less noise (dropout)."
    )
    return Finding("cannot learn by heart", told, remedy, RECIPE)


def _learn(task: Task, few: Any, key: jax.Array, inputs: Array, others: Array) -> tuple[Array, Any]:
    """float32[rates, steps]: the losses of trainings on these rows, and what the model puts out after each."""
    x, *rest = few
    rows = [(x, inputs), *((array, others) for array in rest)]
    examples = tuple(jax.tree.map(lambda a, at=at: a[at], array) for array, at in rows)

    def at_rate(rate: Array) -> tuple[Array, Any]:
        run = train(task, adam(linear_decay(rate, STEPS)), examples, batch_size=len(inputs), steps=STEPS, key=key)
        return run.history.steps["loss"], _outputs(task, run, examples, key)

    return jax.lax.map(at_rate, jnp.array(RATES))


def _outputs(task: Task, run: Run, examples: Any, key: jax.Array) -> Any:
    """The model's outputs; of an objective, which may call its model as it likes, those of the last layer seen."""
    if task.has_targets:
        return evaluation.predict(task, run.params, run.model_state, examples[0])
    if isinstance(task.adapter, FunctionAdapter):
        return None
    probe = Probe()
    watched(task, probe).scores(run.params, run.model_state, examples, key, training=False)
    return probe.outputs[probe.layers()[-1]] if probe.layers() else None


def _best(trained: tuple[Array, Any]) -> _Learned:
    losses = np.asarray(trained[0], np.float64)
    last = np.mean(losses[:, -10:], axis=1)
    best = int(np.argmin(np.where(np.isnan(last), np.inf, last)))
    middle = 2 * STEPS // 3
    late = float(losses[best, middle - 5 : middle + 5].mean())
    return _Learned(float(losses[best, 0]), late, float(last[best]), _all_alike(trained[1]))


def _all_alike(outputs: Any) -> bool:
    """Whether there are outputs [rates, examples, ...] of examples, and all of them are the same at each rate."""
    arrays = [np.asarray(a).reshape(len(RATES), FEW, -1) for a in jax.tree.leaves(outputs) if a.shape[1:2] == (FEW,)]
    return bool(arrays) and all(_spread(a) <= _SAME for of_rates in arrays for a in of_rates)


def _spread(a: np.ndarray) -> float:
    """The largest distance of a row from the mean row, over the largest number."""
    return float(np.abs(a - a.mean(axis=0)).max() / max(np.abs(a).max(), np.finfo(np.float32).tiny)) if a.size else 0.0
