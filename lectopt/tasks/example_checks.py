"""Whether examples fit a task: checked before anything compiles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import shapes
from lectopt._internal.checks import is_traced
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
        x, rows = np.asarray(train.arrays[0]), np.asarray(train.indices)[: len(train)]
        moment_checks.check_learnable(f"{name}[0]", x if len(rows) == len(x) else x[rows])


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
    if task.has_targets and len(batch) != 2:
        raise ValueError(f"{name} must be two arrays, inputs and targets, for a loss; got {len(batch)}")
    start = f"the model cannot start from inputs of {name}"
    params, state = shapes.output_shapes(start, task.init, key := jax.random.key(0), batch)
    task_checks.check_parameters(params)
    if task.has_targets:
        _check_outputs(task, params, state, batch, targets, name)
    checked = task.intercepted(task_checks.check_flags, call_flags.optional_flags)  # NNX layers that could be wrong
    for training in (True, False):
        scores, _ = shapes.output_shapes(
            f"the model, the loss, a metric or the objective does not fit {name}",
            lambda p, s, b, training=training: checked.scores(p, s, b, key, training), params, state, batch,
        )  # fmt: skip
    task_checks.check_metrics(scores.metrics, "an objective's metrics")
    count = jax.tree.leaves(batch)[0].shape[0]
    for label, values in {"loss": scores.losses, **scores.metrics}.items():
        task_checks.check_scores(label, values, count)
    for label, metric in task.metrics.items():
        if isinstance(metric, WholeSetMetric):
            weights = jax.ShapeDtypeStruct((count,), jnp.float32)
            problem = f"the metric {label!r} does not fit the model's outputs and the targets of {name}"
            value = shapes.output_shapes(problem, metric.function, scores.outputs, batch[1], weights)
            task_checks.check_scalar(label, value)


def _check_outputs(task: Task, params: Params, state: ModelState, batch: Batch, targets: Any, name: str) -> None:
    task.adapter.check_call()
    outputs, _ = shapes.output_shapes(
        f"the model does not fit the inputs of {name}, of shape {jax.tree.leaves(batch[0])[0].shape}",
        lambda p, s, x: task.outputs(p, s, x, jax.random.key(0), True), params, state, batch[0],
    )  # fmt: skip
    if task.activation is not None:
        task_checks.check_outputs(outputs)
    if task.output_bias is not None:
        check_bias(params, task.adapter.path(task.output_bias), outputs)
    if task.check is not None:
        task.check(outputs, batch[1])
        if targets is not None:
            task.check(outputs, targets)
