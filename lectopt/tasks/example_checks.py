"""Whether examples fit a task: checked before anything compiles."""

import numpy as np

from lectopt._internal.checks import is_traced
from lectopt.data.batches import batch_shapes
from lectopt.data.subsets import Subset, check_finite
from lectopt.norms import moment_checks
from lectopt.tasks.evaluation import SCORED_AT_ONCE
from lectopt.tasks.task import Task


def check_examples(task: Task, subset: Subset, name: str, batch_size: int = SCORED_AT_ONCE) -> None:
    """Raises ValueError, before anything compiles, unless the examples are finite and fit the task."""
    batch = batch_shapes(subset, batch_size)
    known = not is_traced(subset.arrays)
    task.validate(batch, subset.arrays[-1] if known else None, name)
    check_finite(subset, name)


def check_learnable(task: Task, train: Subset, name: str) -> None:
    """Raises ValueError if a task that standardises could not learn the moments of these concrete inputs."""
    if task.standardize and not is_traced((train.arrays, train.indices, train.size)):
        x, rows = np.asarray(train.arrays[0]), np.asarray(train.indices)[: len(train)]
        moment_checks.check_learnable(f"{name}[0]", x if len(rows) == len(x) else x[rows])
