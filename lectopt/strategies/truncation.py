"""Truncation selection: the worst of a population go on from the best."""

from typing import NamedTuple

import jax.numpy as jnp

from lectopt._internal.types import Array


class Truncation(NamedTuple):
    """So many of the worst each take the place of one of as many of the best, drawn at random.

    What has no score (NaN) is the worst, and all of it is replaced. Of equal scores, the first is the better.
    """

    size: int

    def parents(self, losses: Array, uniforms: Array) -> Array:
        """Returns int32[n]: from which member each one goes on; lower is better, and uniforms choose among the best."""
        members = jnp.arange(len(losses), dtype=jnp.int32)
        order = jnp.argsort(losses, stable=True).astype(jnp.int32)  # NaN last
        rank = jnp.zeros_like(members).at[order].set(members)
        best = jnp.minimum(self.size, jnp.isfinite(losses).sum())
        drawn = order[jnp.minimum((uniforms * best).astype(jnp.int32), jnp.maximum(best - 1, 0))]
        replaced = (rank >= len(losses) - self.size) | ~jnp.isfinite(losses)
        return jnp.where(replaced & (best > 0), drawn, members)
