"""Whether examples fit a task: checked before anything compiles."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import shapes
from lectopt._internal.array_checks import check_once
from lectopt._internal.checks import is_traced
from lectopt._internal.host import check_callbacks
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.types import Array
from lectopt.data.batches import Batch, batch_shapes
from lectopt.data.subsets import Subset, check_finite
from lectopt.norms import moment_checks
from lectopt.tasks import call_flags, task_checks
from lectopt.tasks.evaluation import SCORED_AT_ONCE
from lectopt.tasks.metrics import WholeSetMetric
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.output_bias import check_bias
from lectopt.tasks.task import Task


def check_examples(task: Task, subset: Subset, name: str, batch_size: int = SCORED_AT_ONCE) -> None:
    """Raises ValueError, before anything compiles, unless the examples are finite and fit the task."""
    batch = batch_shapes(subset, batch_size)
    targets = None if is_traced(subset.arrays) else subset.arrays[-1]
    check_fit(task, batch, targets, name)
    check_finite(subset, name)


def check_learnable(task: Task, train: Subset, name: str) -> None:
    """Raises ValueError if a task that standardizes could not learn the moments of these concrete inputs."""
    if task.standardize and not is_traced((train.arrays, train.indices, train.size)):
        x, rows = train.arrays[0], np.asarray(train.indices)[: len(train)]
        is_whole = np.array_equal(rows, np.arange(len(x)))
        check = functools.partial(_check_moments, f"{name}[0]", x, None if is_whole else rows)
        check_once(check, [x] if is_whole else [x, train.indices, train.size], "moments")


def _check_moments(name: str, x: Array, rows: np.ndarray | None) -> None:
    numbers = np.asarray(x)
    moment_checks.check_learnable(name, numbers if rows is None else numbers[rows])


def check_fit(task: Task, batch: Batch, targets: Any, name: str) -> None:
    """Checks that model, loss, metrics and examples fit each other, before anything compiles.

    Args:
        task: the task.
        batch: a batch of examples, or its shapes.
        targets: all targets; None where they are being traced.
        name: what messages call the examples.

    Raises:
        ValueError: if they do not fit.
        TypeError: if one of them is of the wrong type.
    """
    _check_arrays(task, len(batch), name)
    start = f"the model cannot start from inputs of {name}"
    params, state = shapes.output_shapes(start, cached_jit(_init, task), jax.random.key(0), batch)
    task_checks.check_parameters(params)
    if task.has_targets:
        _check_outputs(task, params, state, batch, targets, name)
    problem = f"the model, the loss, a metric or the objective does not fit {name}"
    for training in (True, False):
        program = cached_jit(_scores, task, training)
        scores = shapes.output_shapes(problem, program, params, state, batch)
        check_callbacks("the model, the loss or a metric", program, params, state, batch)
    task_checks.check_metrics(scores.metrics, "an objective's metrics")
    count = jax.tree.leaves(batch)[0].shape[0]
    counts = {} if scores.counts is None else {"counts": scores.counts}
    for label, values in {"loss": scores.losses, **scores.metrics, **counts}.items():
        task_checks.check_scores(label, values, count)
    if counts and targets is not None:
        check_once(functools.partial(_check_counts, task, targets, name), jax.tree.leaves(targets), task, "counts")
    for label, metric in task.metrics.items():
        if isinstance(metric, WholeSetMetric):
            weights = jax.ShapeDtypeStruct((count,), jnp.float32)
            problem = f"the metric {label!r} does not fit the model's outputs and the targets of {name}"
            value = shapes.output_shapes(problem, cached_jit(_metric, task, label), scores.outputs, batch[-1], weights)
            task_checks.check_scalar(label, value)


def _check_outputs(task: Task, params: Params, state: ModelState, batch: Batch, targets: Any, name: str) -> None:
    task.adapter.check_call()
    x, targets_like = task.inputs_of(batch), batch[-1]
    shape = " and ".join(str(leaf.shape) for leaf in jax.tree.leaves(x))
    problem = f"the model does not fit the inputs of {name}, of shape {shape}"
    outputs = shapes.output_shapes(problem, cached_jit(_outputs, task), params, state, x)
    if task.activation is not None:
        task_checks.check_outputs(outputs)
    if task.output_bias is not None:
        check_bias(params, task.adapter.path(task.output_bias), outputs)
    if task.check is not None:
        task.check(outputs, targets_like)
        if targets is not None:
            check_targets = functools.partial(task.check, outputs, targets)
            check_once(check_targets, jax.tree.leaves(targets), task, repr(outputs))


def target_check(task: Task, first: Batch) -> Callable[[Batch], None] | None:
    """Returns what checks the targets of batches like this one, which has been checked; None if nothing is to be."""
    counted = task.has_targets and jax.eval_shape(task.counts, first[-1]) is not None
    if not task.has_targets or (task.check is None and not counted):
        return None
    check = task.check
    params, state = cached_jit(_init, task).eval_shape(jax.random.key(0), first)
    outputs = cached_jit(_outputs, task).eval_shape(params, state, task.inputs_of(first))

    def check_batch(batch: Batch) -> None:
        # Together with the first: of a batch alone it may be that no label counts, which is no mistake.
        targets = jax.tree.map(lambda *parts: np.concatenate(parts), batch[-1], first[-1])
        if check is not None:
            check(outputs, targets)
        if counted:
            _check_counts(task, targets, "its targets")

    return check_batch


def _check_counts(task: Task, targets: Any, name: str) -> None:
    """Raises ValueError unless these targets count something, and none of them less than nothing."""
    with jax.ensure_compile_time_eval():
        counts = np.asarray(task.counts(targets))
    if (bad := ~np.isfinite(counts) | (counts < 0)).any():
        raise ValueError(f"counts must be finite and at least 0; for {name} got {counts[bad][0]} in row {bad.argmax()}")
    if not counts.any():
        raise ValueError(f"counts must be above 0 for some example of {name}; all are 0")


def _check_arrays(task: Task, count: int, name: str) -> None:
    """Raises ValueError unless examples are of so many arrays as the task asks for."""
    if task.has_targets and count != task.inputs + 1:
        wanted = "two arrays, inputs" if task.inputs == 1 else f"{task.inputs + 1} arrays, {task.inputs} inputs"
        raise ValueError(f"{name} must be {wanted} and targets, for a loss; got {count}")
    if count < task.inputs:
        raise ValueError(f"{name} must be at least {task.inputs} arrays, the inputs; got {count}")


def _init(task: Task, key: jax.Array, batch: Batch) -> tuple[Params, ModelState]:
    return task.init(key, batch)


def _outputs(task: Task, params: Params, state: ModelState, x: Any) -> Any:
    return task.outputs(params, state, x, jax.random.key(0), True)[0]


def _scores(task: Task, training: bool, params: Params, state: ModelState, batch: Batch) -> Any:
    checked = task.intercepted(task_checks.check_flags, call_flags.optional_flags)  # NNX layers that could be wrong
    return checked.scores(params, state, batch, jax.random.key(0), training)[0]


def _metric(task: Task, label: str, *arguments: Any) -> Any:
    return task.metrics[label].function(*arguments)  # type: ignore[union-attr]
