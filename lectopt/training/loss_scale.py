"""A dynamic scale of the loss, so that gradients in float16 neither underflow nor overflow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal.types import Array

_START = 2.0**15
_LARGEST = 2.0**24
_PATIENCE = 2000  # steps without an overflow until the scale is doubled: those of PyTorch's GradScaler


class LossScale(NamedTuple):
    """What the loss is multiplied by before it is differentiated."""

    scale: Array  # float32[]
    steps: Array  # int32[], since it changed


def initial_scale(compute_dtype: jnp.dtype | None) -> LossScale | None:
    """Returns the scale before the first step; None where the dtype has float32's range."""
    return LossScale(jnp.float32(_START), jnp.int32(0)) if compute_dtype == jnp.float16 else None


def value_and_grad(function: Callable[..., Any], scale: LossScale | None) -> Callable[..., Any]:
    """Returns `jax.value_and_grad` of (params, perturbations) -> (loss, aux), by both, of the loss times the scale."""
    if scale is None:
        return jax.value_and_grad(function, argnums=(0, 1), has_aux=True)

    def scaled(*arguments: Any) -> tuple[Array, Any]:
        value, aux = function(*arguments)
        return value * scale.scale.astype(value.dtype), (value, aux)

    def differentiate(*arguments: Any) -> tuple[Any, Any]:
        (_, result), gradients = jax.value_and_grad(scaled, argnums=(0, 1), has_aux=True)(*arguments)
        return result, jax.tree.map(lambda g: g / scale.scale.astype(g.dtype), gradients)

    return differentiate


def keep_unless_overflowed(
    scale: LossScale | None, before: Any, after: Any, records: dict[str, Array]
) -> tuple[Any, LossScale | None, dict[str, Array]]:
    """Returns what a step leaves, the scale for the next one, and the step's records with the scale.

    Where the scale made the gradient of a finite loss overflow, the step leaves what was there before it. At a scale
    of 1 it is not the scale: the training diverges.
    """
    if scale is None:
        return after, None, records
    norm = records["gradient_norm"]
    overflowed = jnp.isfinite(records["loss"]) & ~jnp.isfinite(norm) & (scale.scale > 1)
    left = jax.tree.map(lambda a, b: jnp.where(overflowed, a, b), before, after)
    records = records | {"gradient_norm": jnp.where(overflowed, 0, norm), "loss_scale": scale.scale}
    return left, next_scale(scale, overflowed), records


def next_scale(scale: LossScale, overflowed: Array) -> LossScale:
    """Returns the scale for the next step: half of it after an overflow, twice as much after many steps without."""
    grows = scale.steps + 1 >= _PATIENCE
    up = jnp.where(grows, jnp.minimum(2 * scale.scale, _LARGEST), scale.scale)
    steps = jnp.where(overflowed | grows, 0, scale.steps + 1)
    return LossScale(jnp.where(overflowed, jnp.maximum(scale.scale / 2, 1), up), steps)
