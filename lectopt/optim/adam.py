"""Adam: bias-corrected first and second moments."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: Array  # int32[], t, the number of steps taken
    mean: ArrayTree  # s, like the parameters, float32 or wider
    mean_of_squares: ArrayTree  # r, real, like the parameters, float32 or wider


def scale_by_adam(
    b1: numerics.Hyperparameter = 0.9,
    b2: numerics.Hyperparameter = 0.999,
    eps: numerics.Hyperparameter = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    r"""Divides a running average of the gradient by the root of one of its squares, both freed of their zero start.

    .. math::
        s_t &= \rho_1 s_{t-1} + (1 - \rho_1) g_t, & \hat s_t &= s_t / (1 - \rho_1^t) \\
        r_t &= \rho_2 r_{t-1} + (1 - \rho_2) g_t \odot g_t, & \hat r_t &= r_t / (1 - \rho_2^t) \\
        u_t &= \hat s_t / (\sqrt{\hat r_t} + \delta), & t &= 1, 2, \dots

    :math:`1 - \rho` and :math:`1 - \rho^t` are derived from the same rounded :math:`\rho`, so that the update is right
    to float32's last digits at :math:`\rho_2 = 0.99999` too, whether :math:`\rho_2` is a number or traced.

    Args:
        b1: rho_1 in [0, 1): a number, an array of shape (), a traced value, or a function of the step.
        b2: rho_2 in [0, 1), the same kinds of value.
        eps: delta, at least 0, in units of the gradient, outside the root; the same kinds of value. An entry whose
            denominator is 0 (eps = 0 and no gradient so far) is not updated.

    Returns:
        A link for `optax.chain`, to stand before the learning rate. Its state is float32 or wider; its updates come
        back in the wider of the gradient's and the parameter's dtype (the gradient's where `update` is given no
        parameters).

    Raises:
        ValueError: if a concrete b1 or b2 is outside [0, 1), or eps negative, infinite or NaN.
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.scale_by_adam()
        >>> updates, state = link.update(jnp.array([1.0, -100.0]), link.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 1. -1.]

    Source: the lecture, "(4.3) Adam", algorithm 8.7 of Goodfellow et al. (2016); Kingma and Ba (2015).
    """
    checks.check_hyperparameter("b1", b1, checks.FRACTION)
    checks.check_hyperparameter("b2", b2, checks.FRACTION)
    checks.check_hyperparameter("eps", eps, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> ScaleByAdamState:
        return ScaleByAdamState(numerics.first_step(), numerics.zeros_like(params), numerics.real_zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(g, s, r, rho1, rho2, delta, t):
            s = rho1 * s + (1 - rho1) * g
            r = rho2 * r + (1 - rho2) * numerics.squared_magnitude(g)
            s_hat, r_hat = s / numerics.one_minus_power(rho1, t), r / numerics.one_minus_power(rho2, t)
            return numerics.divide(s_hat, numerics.root(r_hat) + delta), s, r

        t = optax.safe_increment(state.count)
        rho1, rho2, delta = (numerics.at_step(h, state.count) for h in (b1, b2, eps))
        updates, s, r = numerics.map_leaves(
            rule,
            updates,
            state.mean,
            state.mean_of_squares,
            params=params,
            rho1=rho1,
            rho2=rho2,
            delta=delta,
            t=t,
        )
        return updates, ScaleByAdamState(t, s, r)

    return optax.GradientTransformationExtraArgs(init, update)
