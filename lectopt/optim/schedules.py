"""Schedules: pure functions of the step k = 0, 1, 2, ...

A schedule is a `jax.tree_util.Partial`: a function whose numbers are the leaves of a pytree. So it can be made, and
passed, under `jit` and `vmap`, in every argument, and one with other numbers compiles nothing again.
"""

import math

import jax
import jax.numpy as jnp

from lectopt._internal import checks, numerics
from lectopt._internal.types import Numeric

_POWERS = checks.Interval(0.5, 1, low_open=True)
_STEPS = checks.Interval(1, math.inf, high_open=True)


def linear_decay(init_value: Numeric, transition_steps: Numeric, end_value: Numeric | None = None) -> numerics.Schedule:
    r"""Decreases a learning rate linearly until step tau and keeps it constant from then on.

    .. math::
        \epsilon_k = (1 - k / \tau) \epsilon_0 + (k / \tau) \epsilon_\tau \quad (k < \tau), \qquad
        \epsilon_k = \epsilon_\tau \quad (k \ge \tau)

    The constant tail is common in practice; it does not satisfy :math:`\sum_k \epsilon_k^2 < \infty`, which the
    convergence theorem of stochastic gradient descent requires (`robbins_monro` does).

    Args:
        init_value: epsilon_0, at least 0: a number, an array of shape () or a traced value. The lecture: higher than
            what performs best in the first iterations, lower than what makes them unstable.
        transition_steps: tau, at least 1, in steps: a number, an array of shape () or a traced value. The lecture: a
            few passes through the data, such as `10 * steps_per_epoch(examples, batch_size)`.
        end_value: epsilon_tau, at least 0: a number, an array of shape () or a traced value; None means 1 % of
            init_value, the lecture's advice.

    Returns:
        A function from the step (int32[]) to the learning rate (float32[]), to be passed wherever an optimizer takes
        one.

    Raises:
        ValueError: if a concrete init_value or end_value is negative, infinite or NaN, or a concrete transition_steps
            is below 1.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.linear_decay(0.1, transition_steps=10)
        >>> print([f"{rate(k):.4f}" for k in (0, 5, 10, 1000)])
        ['0.1000', '0.0505', '0.0010', '0.0010']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate"; I.
    Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, equation 8.14.
    """
    checks.check_number("init_value", init_value, checks.NON_NEGATIVE)
    checks.check_number("transition_steps", transition_steps, _STEPS)
    if end_value is not None:
        checks.check_number("end_value", end_value, checks.NON_NEGATIVE)
    start = numerics.as_constant(init_value)
    end = 0.01 * start if end_value is None else numerics.as_constant(end_value)
    return jax.tree_util.Partial(_line, start, numerics.as_constant(transition_steps), end)


def momentum_ramp(init_value: Numeric, end_value: Numeric, transition_steps: Numeric) -> numerics.Schedule:
    r"""Changes a momentum linearly until step tau and keeps it constant from then on.

    .. math::
        \alpha_k = (1 - k / \tau) \alpha_0 + (k / \tau) \alpha_\tau \quad (k < \tau), \qquad
        \alpha_k = \alpha_\tau \quad (k \ge \tau)

    The lecture: often adapted over time, starting with a small value that is then increased.

    Args:
        init_value: alpha_0, in [0, 1): a number, an array of shape () or a traced value.
        end_value: alpha_tau, in [0, 1): a number, an array of shape () or a traced value.
        transition_steps: tau, at least 1, in steps: a number, an array of shape () or a traced value.

    Returns:
        A function from the step (int32[]) to the momentum (float32[]), to be passed wherever an optimizer takes one.

    Raises:
        ValueError: if a concrete init_value or end_value is outside [0, 1), or a concrete transition_steps is below 1.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> ramp = lo.momentum_ramp(0.5, 0.9, transition_steps=100)
        >>> optimizer = lo.momentum(0.1, momentum=ramp)
        >>> print(f"{ramp(50):.2f}")
        0.70

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(2) Momentum"; I. Goodfellow, Y. Bengio and
    A. Courville (2016), "Deep Learning", MIT Press, section 8.3.2.
    """
    checks.check_number("init_value", init_value, checks.FRACTION)
    checks.check_number("end_value", end_value, checks.FRACTION)
    checks.check_number("transition_steps", transition_steps, _STEPS)
    return jax.tree_util.Partial(_line, *map(numerics.as_constant, (init_value, transition_steps, end_value)))


def robbins_monro(init_value: Numeric, power: Numeric = 1.0, transition_steps: Numeric = 1) -> numerics.Schedule:
    r"""Decreases a learning rate so that stochastic gradient descent is guaranteed to converge.

    .. math:: \epsilon_k = \frac{\epsilon_0}{(1 + k / \tau)^p}, \qquad \tfrac12 < p \le 1

    Up to p = 1 the rates add up to infinity, so that any distance can be covered; above p = 1/2 their squares add up to
    a finite number, so that the noise of the minibatches dies out. Outside this range one of the two fails, so such
    powers are refused.

    Args:
        init_value: epsilon_0, at least 0: a number, an array of shape () or a traced value.
        power: p, in (0.5, 1]: a number, an array of shape () or a traced value.
        transition_steps: tau, at least 1, in steps, about how long the rate stays near its start: a number, an array of
            shape () or a traced value.

    Returns:
        A function from the step (int32[]) to the learning rate (float32[]), to be passed wherever an optimizer takes
        one.

    Raises:
        ValueError: if a concrete init_value is negative, infinite or NaN, a concrete power is outside (0.5, 1], or a
            concrete transition_steps is below 1.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> print([f"{lo.robbins_monro(1.0)(k):.2f}" for k in range(4)])
        ['1.00', '0.50', '0.33', '0.25']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate"; H.
    Robbins and S. Monro (1951), "A stochastic approximation method", Annals of Mathematical Statistics 22(3).
    """
    checks.check_number("init_value", init_value, checks.NON_NEGATIVE)
    checks.check_number("power", power, _POWERS)
    checks.check_number("transition_steps", transition_steps, _STEPS)
    return jax.tree_util.Partial(_power_law, *map(numerics.as_constant, (init_value, power, transition_steps)))


def _line(start: jax.Array, steps: jax.Array, end: jax.Array, count: Numeric) -> jax.Array:
    done = jnp.minimum(jnp.asarray(count, start.dtype) / steps, 1)
    return (1 - done) * start + done * end


def _power_law(start: jax.Array, power: jax.Array, steps: jax.Array, count: Numeric) -> jax.Array:
    return start / (1 + jnp.asarray(count, start.dtype) / steps) ** power
