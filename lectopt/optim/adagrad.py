"""AdaGrad: rates divided by the root of the sum of all squared gradients."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ScaleByAdagradState(NamedTuple):
    """The state of `scale_by_adagrad`.

    Attributes:
        count: int32[], the number of steps taken.
        sum_of_squares: r, a tree like the parameters, real, float32 or wider.
    """

    count: Array
    sum_of_squares: ArrayTree


def scale_by_adagrad(eps: numerics.Hyperparameter = 1e-7) -> optax.GradientTransformationExtraArgs:
    r"""Divides each entry by the root of the sum of its squares so far.

    .. math:: r_{k+1} = r_k + g_k \odot g_k, \qquad u_k = \frac{g_k}{\delta + \sqrt{r_{k+1}}}, \qquad r_0 = 0

    The constant is outside the root and the sum starts at 0, as in the lecture; no arguments of Optax's or Keras's
    AdaGrad give this. The sum is kept in float32: from about :math:`10^5` steps with gradients of one size on, what is
    added loses digits (1 % of the rate after :math:`10^6` such steps; none in float64).

    Args:
        eps: delta, at least 0, in units of the gradient, added outside the root (1e-7 in the lecture); an entry whose
            denominator is 0 (`eps=0` and no gradient so far) is not updated: a number, an array of shape (), a traced
            value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        A link for `optax.chain`, to be placed before the learning rate. Its state is float32 or wider; its updates have
        the wider of the gradient's and the parameter's dtype (the gradient's if `update` is given no parameters). The
        rate of each weight is epsilon / (delta + sqrt(r)), where r is `state.sum_of_squares`.

    Raises:
        ValueError: if a concrete eps is negative, infinite or NaN.
        TypeError: if eps is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.scale_by_adagrad()
        >>> state = link.init(jnp.zeros(2))
        >>> for _ in range(4):
        ...     updates, state = link.update(jnp.array([1.0, 100.0]), state)
        >>> print(updates)
        [0.5 0.5]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.1) AdaGrad", which is algorithm 8.4 of
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; J. Duchi, E. Hazan and Y. Singer
    (2011), "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12, section 3.
    """
    checks.check_hyperparameter("eps", eps, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> ScaleByAdagradState:
        return ScaleByAdagradState(numerics.first_step(), numerics.real_zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(g, r, delta):
            r = r + numerics.squared_magnitude(g)
            return numerics.safe_divide(g, delta + numerics.safe_sqrt(r)), r

        count = optax.safe_increment(state.count)
        delta = numerics.at_last_step(eps, count)
        updates, r = numerics.map_leaves(rule, updates, state.sum_of_squares, params=params, delta=delta)
        return updates, ScaleByAdagradState(count, r)

    return optax.GradientTransformationExtraArgs(init, update)
