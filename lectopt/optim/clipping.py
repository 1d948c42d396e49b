"""Gradient clipping by norm."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.tree_norm import tree_norm
from lectopt._internal.types import Array, ArrayTree


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
    max_norm: numerics.Hyperparameter, nonfinite: str = "propagate"
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

    Returns:
        A link for `optax.chain`. `state.norm` is the norm before clipping, `state.clipped` whether it exceeded nu,
        `state.threshold` nu itself. Its updates have the wider of the gradient's and the parameter's dtype (the
        gradient's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete max_norm is not positive, or nonfinite is neither "propagate" nor "zero".
        TypeError: if max_norm is not a number.

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
    checks.check_choice("nonfinite", nonfinite, ("propagate", "zero"))

    def init(params: ArrayTree) -> ClipByNormState:
        dtype = jax.eval_shape(tree_norm, params).dtype
        threshold = numerics.at_step(max_norm, 0).astype(dtype)
        return ClipByNormState(numerics.first_step(), jnp.zeros((), dtype), jnp.zeros((), bool), threshold)

    def update(updates, state, params=None, **extra):
        del extra
        norm = tree_norm(updates, state.norm.dtype)
        count = optax.safe_increment(state.count)
        threshold = numerics.at_last_step(max_norm, count).astype(norm.dtype)
        clipped = norm > threshold
        factor = jnp.where(clipped, threshold / jnp.where(clipped, norm, 1), 1)
        factor = jnp.where(jnp.isfinite(norm), factor, jnp.nan if nonfinite == "propagate" else 0)
        # Not a bare product: 0 times an infinite or NaN entry would be NaN.
        rule = lambda g, f: (jnp.where(f == 0, 0, f * g),)  # noqa: E731
        (updates,) = numerics.map_leaves(rule, updates, params=params, f=factor)
        return updates, ClipByNormState(
            count,
            numerics.record(norm.astype(state.norm.dtype), state.norm),
            numerics.record(clipped, state.clipped),
            numerics.record_number(max_norm, threshold, state.threshold, count),
        )

    return optax.GradientTransformationExtraArgs(init, update)
