"""The scores of a batch, and their mean."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from lectopt._internal.types import Array


class Scores(NamedTuple):
    """The loss and the metrics of a batch, example by example."""

    losses: Array  # float[batch], float32 or wider
    metrics: dict[str, Array]  # float[batch]
    outputs: Any  # the model's outputs, None for an objective
    counts: Array | None = None  # float[batch], how many labels of an example count; None where all count alike

    def mean_loss(self, weights: Array, mask: Array) -> tuple[Array, Array]:
        """Returns the weighted mean loss of the examples in the mask (of their labels that count) and their number."""
        counts = mask.astype(weights.dtype) * (1 if self.counts is None else self.counts)
        weights = weights * counts
        # Selected before it is weighted: 0 times a loss that is not finite would be NaN.
        losses, count = jnp.where(weights > 0, self.losses, 0), jnp.sum(counts)
        # A count below 1 is none, but where counts may be fractions.
        divisor = jnp.maximum(count, 1) if self.counts is None else jnp.where(count > 0, count, 1)
        return jnp.sum(losses * weights.astype(losses.dtype)) / divisor.astype(losses.dtype), count
