"""Adam: bias-corrected first and second moments."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ScaleByAdamState(NamedTuple):
    """The state of `scale_by_adam`.

    Attributes:
        count: int32[], t, the number of steps taken.
        mean: s, a tree like the parameters, float32 or wider.
        mean_of_squares: r, a tree like the parameters, real, float32 or wider.
    """

    count: Array
    mean: ArrayTree
    mean_of_squares: ArrayTree


def scale_by_adam(
    b1: numerics.Hyperparameter = 0.9,
    b2: numerics.Hyperparameter = 0.999,
    eps: numerics.Hyperparameter = 1e-8,
    eps_root: numerics.Hyperparameter | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Divides a running mean of gradients by the root of one of their squares, both corrected for their start at zero.

    .. math::
        \begin{aligned}
            s_t &= \rho_1 s_{t-1} + (1 - \rho_1) g_t, & \hat s_t &= s_t / (1 - \rho_1^t), \cr
            r_t &= \rho_2 r_{t-1} + (1 - \rho_2) g_t \odot g_t, & \hat r_t &= r_t / (1 - \rho_2^t), \cr
            u_t &= \hat s_t / (\sqrt{\hat r_t} + \delta), & t &= 1, 2, \dots
        \end{aligned}

    :math:`1 - \rho` and :math:`1 - \rho^t` are derived from the same rounded :math:`\rho`, so the update is right to
    float32's last digits at :math:`\rho_2 = 0.99999` too, whether :math:`\rho_2` is a number or traced.

    Args:
        b1: rho_1, in [0, 1), how much of the first moment s is kept (0.9 in the lecture): a number, an array of shape
            (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        b2: rho_2, in [0, 1), how much of the second moment r is kept (0.999 in the lecture): a number, an array of
            shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the gradient, added outside the root (1e-8 in the lecture); an entry whose
            denominator is 0 (`eps=0` and no gradient so far) is not updated: a number, an array of shape (), a traced
            value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps_root: at least 0, in units of the squared gradient, added to r-hat inside the root, as in Optax (not in the
            lecture), so that derivatives of the step stay bounded where gradients are 0: a number, an array of shape
            (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...); None adds nothing.

    Returns:
        A link for `optax.chain`, to be placed before the learning rate. Its state is float32 or wider; its updates have
        the wider of the gradient's and the parameter's dtype (the gradient's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete b1 or b2 is outside [0, 1), or a concrete eps or eps_root is negative, infinite or
            NaN.
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.scale_by_adam()
        >>> updates, state = link.update(jnp.array([1.0, -100.0]), link.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 1. -1.]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.3) Adam", which is algorithm 8.7 of I.
    Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; D. P. Kingma and J. Ba (2015), "Adam: a
    method for stochastic optimization", ICLR, algorithm 1.
    """
    checks.check_hyperparameter("b1", b1, checks.FRACTION)
    checks.check_hyperparameter("b2", b2, checks.FRACTION)
    checks.check_hyperparameter("eps", eps, checks.NON_NEGATIVE)
    if eps_root is not None:
        checks.check_hyperparameter("eps_root", eps_root, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> ScaleByAdamState:
        return ScaleByAdamState(numerics.first_step(), numerics.zeros_like(params), numerics.real_zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(g, s, r, rho1, rho2, delta, t, root=None):
            s = rho1 * s + (1 - rho1) * g
            r = rho2 * r + (1 - rho2) * numerics.squared_magnitude(g)
            s_hat, r_hat = s / numerics.one_minus_power(rho1, t), r / numerics.one_minus_power(rho2, t)
            r_hat = r_hat if root is None else r_hat + root
            return numerics.safe_divide(s_hat, numerics.safe_sqrt(r_hat) + delta), s, r

        t = optax.safe_increment(state.count)
        rho1, rho2, delta = (numerics.at_last_step(h, t) for h in (b1, b2, eps))
        inside = {} if eps_root is None else {"root": numerics.at_last_step(eps_root, t)}
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
            **inside,
        )
        return updates, ScaleByAdamState(t, s, r)

    return optax.GradientTransformationExtraArgs(init, update)
