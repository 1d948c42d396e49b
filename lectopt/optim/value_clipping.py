"""Gradient clipping, entry by entry."""

from typing import NamedTuple

import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ClipByValueState(NamedTuple):
    """The state of `clip_by_value`.

    Attributes:
        count: int32[], the number of steps taken.
    """

    count: Array


def clip_by_value(max_value: numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Cuts each entry of the gradient to a range around 0.

    .. math:: g_i \leftarrow \max(-\nu, \min(\nu, g_i))

    Unlike clipping by a norm, this changes the direction of the gradient, towards the diagonal. Infinite entries become
    finite, so that a divergence may go unnoticed; NaN stays NaN.

    Args:
        max_value: nu, above 0, in units of the gradient: a number, an array of shape (), a traced value, or a schedule
            (a function of the step k = 0, 1, 2, ...).

    Returns:
        A link for `optax.chain`. Of complex entries, the magnitude is cut. Its updates have the wider of the gradient's
        and the parameter's dtype (the gradient's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete max_value is not positive.
        TypeError: if max_value is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.clip_by_value(1.0)
        >>> print(link.update(jnp.array([3.0, -0.5, -4.0]), link.init(jnp.zeros(3)))[0])
        [ 1.  -0.5 -1. ]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Gradient Clipping"; T. Mikolov (2012),
    "Statistical language models based on neural networks", PhD thesis, Brno University of Technology, section 3.2.2; I.
    Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 10.11.1.
    """
    checks.check_hyperparameter("max_value", max_value, checks.POSITIVE)

    def init(params: ArrayTree) -> ClipByValueState:
        del params
        return ClipByValueState(numerics.first_step())

    def update(updates, state, params=None, **extra):
        del extra

        def rule(g, nu):
            if not jnp.iscomplexobj(g):
                return (jnp.clip(g, -nu, nu),)
            size = jnp.abs(g)
            return (jnp.where(size > nu, nu * (g / jnp.where(size > nu, size, 1)), g),)

        count = optax.safe_increment(state.count)
        nu = numerics.at_last_step(max_value, count)
        (updates,) = numerics.map_leaves(rule, updates, params=params, nu=nu)
        return updates, ClipByValueState(count)

    return optax.GradientTransformationExtraArgs(init, update)
