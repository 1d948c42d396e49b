"""Gradient clipping by the norm of the whole gradient."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.tree_norm import split_tree_norm, tree_norm
from lectopt._internal.types import Array, ArrayTree

NONFINITE = ("propagate", "zero")
"""What may become of a gradient whose norm is infinite or NaN."""


class ClipByNormState(NamedTuple):
    """The state of `clip_by_norm`.

    Attributes:
        count: int32[], the number of steps taken.
        norm: float32[], the norm of the last gradient, before clipping.
        clipped: bool[], whether the last gradient was clipped.
        threshold: float32[], nu at the last step; in compiled steps, a constant as `init` wrote it.
    """

    count: Array
    norm: Array
    clipped: Array
    threshold: Array


def clip_by_norm(
    max_norm: numerics.Hyperparameter,
    nonfinite: str = "propagate",
    axis_name: str | Sequence[str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Shortens gradients that are longer than a threshold and keeps their direction.

    .. math:: g \leftarrow g \min(1, \nu / \lVert g \rVert)

    The norm is that of all leaves together, summed in float32 or wider, and is right also where the squares overflow or
    underflow. The gradient is multiplied once by one scalar (which is 0 in float32 if the norm is :math:`10^{38}` times
    the threshold).

    Args:
        max_norm: nu, above 0, in units of the gradient: a number, an array of shape (), a traced value, or a schedule
            (a function of the step k = 0, 1, 2, ...).
        nonfinite: what becomes of a gradient whose norm is infinite or NaN: "propagate" makes every entry NaN, so that
            nobody overlooks it (`optax.apply_if_finite` then skips the step, lectopt's training stops); "zero" makes
            every entry 0.
        axis_name: the name of the axis of a mesh, or the names of several, over which the gradient's leaves are split
            where this runs in `jax.shard_map`: the norm is that of all parts together. Leaves that are the same on all
            devices count once, by `jax.shard_map`'s own account of them; with `check_vma=False`, and in `jax.vmap`,
            there is none, and all leaves must be split. None where nothing is, and under `jit`, which sees whole
            arrays.

    Returns:
        A link for `optax.chain`. `state.norm` is the norm before clipping, `state.clipped` whether it exceeded nu,
        `state.threshold` nu itself. Its updates have the wider of the gradient's and the parameter's dtype (the
        gradient's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete max_norm is not positive, or nonfinite is neither "propagate" nor "zero".
        TypeError: if max_norm is not a number, or axis_name neither a name nor several.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.clip_by_norm(1.0)
        >>> updates, state = link.update(jnp.array([3.0, 4.0]), link.init(jnp.zeros(2)))
        >>> print(updates, state.norm, state.clipped)
        [0.6 0.8] 5.0 True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Gradient Clipping"; R. Pascanu, T. Mikolov
    and Y. Bengio (2013), "On the difficulty of training recurrent neural networks", ICML, algorithm 1; I. Goodfellow,
    Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 10.11.1.
    """
    checks.check_hyperparameter("max_norm", max_norm, checks.POSITIVE)
    checks.check_choice("nonfinite", nonfinite, NONFINITE)
    axis_names = _as_names(axis_name)

    def init(params: ArrayTree) -> ClipByNormState:
        dtype = jax.eval_shape(tree_norm, params).dtype
        threshold = numerics.at_step(max_norm, 0).astype(dtype)
        return ClipByNormState(numerics.first_step(), jnp.zeros((), dtype), jnp.zeros((), bool), threshold)

    def update(updates, state, params=None, **extra):
        del extra
        norm = split_tree_norm(updates, axis_names, state.norm.dtype)
        count = optax.safe_increment(state.count)
        threshold = numerics.at_last_step(max_norm, count).astype(norm.dtype)
        clipped, factor = clip_factor(norm, threshold, nonfinite)
        (updates,) = numerics.map_leaves(lambda g, f: (scale(g, f),), updates, params=params, f=factor)
        return updates, ClipByNormState(
            count,
            numerics.record(norm.astype(state.norm.dtype), state.norm),
            numerics.record(clipped, state.clipped),
            numerics.record_number(max_norm, threshold, state.threshold, count),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def clip_factor(norm: Array, threshold: Array, nonfinite: str) -> tuple[Array, Array]:
    """Returns whether a gradient of this norm is clipped, and what it is multiplied by."""
    clipped = norm > threshold
    factor = jnp.where(clipped, threshold / jnp.where(clipped, norm, 1), 1)
    return clipped, jnp.where(jnp.isfinite(norm), factor, jnp.nan if nonfinite == "propagate" else 0)


def scale(g: Array, factor: Array) -> Array:
    """Multiplies by the factor, 0 if that is 0: as a bare product, 0 times an infinite or NaN entry would be NaN."""
    return jnp.where(factor == 0, 0, factor * g)


def _as_names(axis_name: Any) -> tuple[str, ...]:
    names = (axis_name,) if isinstance(axis_name, str) else () if axis_name is None else axis_name
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"axis_name must be the name of an axis, or several; got {checks.value_and_type(axis_name)}")
    return tuple(names)
