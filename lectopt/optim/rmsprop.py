"""RMSProp: rates divided by the root of a running average of squared gradients."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ScaleByRmspropState(NamedTuple):
    """The state of `scale_by_rmsprop`.

    Attributes:
        count: int32[], the number of steps taken.
        mean_of_squares: r, a tree like the parameters, real, float32 or wider.
    """

    count: Array
    mean_of_squares: ArrayTree


def scale_by_rmsprop(
    decay: numerics.Hyperparameter = 0.9, eps: numerics.Hyperparameter = 1e-6
) -> optax.GradientTransformationExtraArgs:
    r"""Divides each entry by the root of a running average of its squares, which forgets the distant past.

    .. math::
        r_{k+1} = \rho r_k + (1 - \rho) g_k \odot g_k, \qquad u_k = \frac{g_k}{\sqrt{\delta + r_{k+1}}}, \qquad r_0 = 0

    The constant is *inside* the root, as in the lecture; in PyTorch it is outside.

    Args:
        decay: rho, in [0, 1), how much of the running average r is kept (the lecture has no default): a number, an
            array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the squared gradient, added inside the root (1e-6 in the lecture); an entry
            whose denominator is 0 (`eps=0` and no gradient so far) is not updated: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        A link for `optax.chain`, to be placed before the learning rate. Its state is float32 or wider; its updates have
        the wider of the gradient's and the parameter's dtype (the gradient's if `update` is given no parameters). The
        rate of each weight is epsilon / sqrt(delta + r), where r is `state.mean_of_squares`.

    Raises:
        ValueError: if a concrete decay is outside [0, 1), or a concrete eps is negative, infinite or NaN.
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.scale_by_rmsprop(decay=0.75)
        >>> updates, state = link.update(jnp.array([1.0, 100.0]), link.init(jnp.zeros(2)))
        >>> print(updates.round(3), state.mean_of_squares)
        [2. 2.] [2.5e-01 2.5e+03]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.2) RMSProp", which is algorithm 8.5 of
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; T. Tieleman and G. Hinton (2012),
    "Neural Networks for Machine Learning", Coursera, lecture 6.5.
    """
    checks.check_hyperparameter("decay", decay, checks.FRACTION)
    checks.check_hyperparameter("eps", eps, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> ScaleByRmspropState:
        return ScaleByRmspropState(numerics.first_step(), numerics.real_zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(g, r, rho, delta):
            r = rho * r + (1 - rho) * numerics.squared_magnitude(g)
            return numerics.safe_divide(g, numerics.safe_sqrt(delta + r)), r

        count = optax.safe_increment(state.count)
        rho, delta = numerics.at_last_step(decay, count), numerics.at_last_step(eps, count)
        updates, r = numerics.map_leaves(rule, updates, state.mean_of_squares, params=params, rho=rho, delta=delta)
        return updates, ScaleByRmspropState(count, r)

    return optax.GradientTransformationExtraArgs(init, update)
