"""Scoring a model on examples, in evaluation mode, in batches that fit."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lectopt._internal import meshes
from lectopt._internal.types import Array, Numeric
from lectopt.data.batches import Minibatches, minibatches
from lectopt.data.subsets import Subset
from lectopt.tasks.metrics import WholeSetMetric
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task

SCORED_AT_ONCE = 1024
"""Examples scored at once: enough to be fast, little beside what training keeps for its gradients."""


def evaluate(
    task: Task,
    params: Params,
    state: ModelState,
    subset: Subset,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
    weights: Array | None = None,
) -> dict[str, Numeric]:
    """Computes the mean loss and metrics over a part of the examples: {"loss": float32[], name: float32[]}.

    The examples are scored in batches of `batch_size`; None takes as many at once as fit. `weights`, of all examples of
    the arrays, enter the means and the metrics of all outputs; None weights all alike.
    """
    size = batch_size or _balanced(subset.capacity, meshes.num_shards(mesh))
    batches = minibatches(subset, size, shuffle=False)
    whole = {name: m.function for name, m in task.metrics.items() if isinstance(m, WholeSetMetric)}

    def score(_: None, batch: Minibatches) -> tuple[None, tuple[dict[str, Array], Array, Any]]:
        examples = meshes.shard_rows(mesh, subset.take(batch.indices))
        mask = None if task.has_targets else batch.weights > 0  # for objectives alone
        scores, _same = task.scores(params, state, examples, jax.random.key(0), training=False, mask=mask)
        # Selected, not multiplied: 0 times the NaN of a padding row would be NaN.
        values = {"loss": scores.losses, **scores.metrics}
        counts = batch.weights if scores.counts is None else batch.weights * scores.counts
        if weights is not None:
            counts = counts * weights[batch.indices]
        sums = {name: jnp.sum(jnp.where(counts > 0, v * counts.astype(v.dtype), 0)) for name, v in values.items()}
        return None, (sums, counts, scores.outputs if whole else None)

    _, (sums, counts, outputs) = jax.lax.scan(score, None, batches)
    total = jnp.sum(jnp.sum(counts, axis=1))  # batch by batch: float32 stops counting ones at 2^24
    means = {name: jnp.sum(values) / total for name, values in sums.items()}
    rows, counts, outputs = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (batches.indices, counts, outputs))
    targets = subset.take(rows)[-1] if whole else None
    by_row = (counts > 0).astype(jnp.float32) if weights is None else jnp.where(counts > 0, weights[rows], 0)
    return means | {name: metric(outputs, targets, by_row) for name, metric in whole.items()}


def _balanced(count: int, ways: int) -> int:
    """Returns the size of the smallest equal batches, at most `SCORED_AT_ONCE`, that hold `count` rows and split."""
    return math.ceil(count / math.ceil(count / SCORED_AT_ONCE) / ways) * ways
