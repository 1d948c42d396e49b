"""Predictions for each example by the models that have not seen it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt.data.folds import Folds
from lectopt.training.run import Run


def out_of_fold(folds: Folds, runs: Sequence[Run]) -> Any:
    """Returns the mean prediction for each row of the folds' arrays over the runs that left it out.

    The runs are those of all folds, equally many in a row for each. Rows that none left out are NaN, and so are those
    that one which diverged did.
    """
    rows_of_all, seeds = len(jax.tree.leaves(folds.valid.arrays)[0]), len(runs) // len(folds)
    counts, sums = np.zeros(rows_of_all), None
    for i, run in enumerate(runs):
        _, valid = folds[i // seeds]
        rows = np.unique(valid.indices)
        x = run.task.inputs_of(valid.take(jnp.asarray(rows)))
        outputs = run.probabilities(x) if run.task.knows_classes else run.predict(x)
        found = jax.tree.map(np.asarray if run.diverged_at < 0 else lambda a: np.full(a.shape, np.nan), outputs)
        if sums is None:
            sums = jax.tree.map(lambda a: np.zeros((rows_of_all, *a.shape[1:])), found)
        jax.tree.map(lambda total, part, rows=rows: np.add.at(total, rows, part), sums, found)
        counts[rows] += 1
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of rows that none left out
        return jax.tree.map(lambda a: (a / counts.reshape(-1, *[1] * (a.ndim - 1))).astype(np.float32), sums)
