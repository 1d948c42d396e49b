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
    convergence theorem of stochastic gradient descent requires (`robbins_monro` does). The horizon stands second, as
    in Optax's `cosine_decay_schedule` and `exponential_decay`; `momentum_ramp` has it third, as `linear_schedule`.

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


def cosine_decay(init_value: Numeric, decay_steps: Numeric, alpha: Numeric = 0.0) -> numerics.Schedule:
    r"""Decreases a learning rate along half a cosine until step tau and keeps it constant from then on.

    .. math::
        \epsilon_k = \epsilon_0 \left( (1 - a) \frac{1 + \cos(\pi k / \tau)}{2} + a \right) \quad (k < \tau), \qquad
        \epsilon_k = a \epsilon_0 \quad (k \ge \tau)

    The lecture decreases it along a line (`linear_decay`); a cosine leaves it high for longer, and low for longer.

    Args:
        init_value: epsilon_0, at least 0: a number, an array of shape () or a traced value.
        decay_steps: tau, at least 1, in steps: a number, an array of shape () or a traced value.
        alpha: a, in [0, 1], the last rate as a fraction of the first: a number, an array of shape () or a traced value.

    Returns:
        A function from the step (int32[]) to the learning rate (float32[]), to be passed wherever an optimizer takes
        one.

    Raises:
        ValueError: if a concrete init_value is negative, infinite or NaN, decay_steps is below 1, or alpha is outside
            [0, 1].
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.cosine_decay(0.1, decay_steps=100)
        >>> print([f"{rate(k):.4f}" for k in (0, 25, 50, 100, 1000)])
        ['0.1000', '0.0854', '0.0500', '0.0000', '0.0000']

    Source: I. Loshchilov and F. Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", ICLR, eq. 5; R.
    Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate".
    """
    checks.check_number("init_value", init_value, checks.NON_NEGATIVE)
    checks.check_number("decay_steps", decay_steps, _STEPS)
    checks.check_number("alpha", alpha, checks.Interval(0, 1))
    return jax.tree_util.Partial(_half_cosine, *map(numerics.as_constant, (init_value, decay_steps, alpha)))


def exponential_decay(
    init_value: Numeric, transition_steps: Numeric, decay_rate: Numeric, end_value: Numeric | None = None
) -> numerics.Schedule:
    r"""Multiplies a learning rate by the same factor in the course of every tau steps.

    .. math:: \epsilon_k = \epsilon_0 \gamma^{k / \tau}

    and no further than :math:`\epsilon_\text{end}`. Without that, the rates add up to a finite number: training comes
    to rest wherever it is.

    Args:
        init_value: epsilon_0, at least 0: a number, an array of shape () or a traced value.
        transition_steps: tau, at least 1, in steps: a number, an array of shape () or a traced value.
        decay_rate: gamma, above 0, the factor after tau steps; above 1 the rate grows: a number, an array of shape ()
            or a traced value.
        end_value: epsilon_end, at least 0, the least rate (the largest, where gamma is above 1): a number, an array of
            shape () or a traced value; None for no bound.

    Returns:
        A function from the step (int32[]) to the learning rate (float32[]), to be passed wherever an optimizer takes
        one.

    Raises:
        ValueError: if a concrete init_value or end_value is negative, infinite or NaN, transition_steps is below 1, or
            decay_rate is not positive.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.exponential_decay(0.1, transition_steps=10, decay_rate=0.5, end_value=0.01)
        >>> print([f"{rate(k):.4f}" for k in (0, 10, 20, 1000)])
        ['0.1000', '0.0500', '0.0250', '0.0100']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate"; Y.
    Bengio (2012), "Practical recommendations for gradient-based training of deep architectures", section 3.1.1.
    """
    checks.check_number("init_value", init_value, checks.NON_NEGATIVE)
    checks.check_number("transition_steps", transition_steps, _STEPS)
    checks.check_number("decay_rate", decay_rate, checks.POSITIVE)
    numbers = [init_value, transition_steps, decay_rate]
    if end_value is not None:
        checks.check_number("end_value", end_value, checks.NON_NEGATIVE)
        numbers.append(end_value)
    rule = _exponential if end_value is None else _bounded_exponential
    return jax.tree_util.Partial(rule, *map(numerics.as_constant, numbers))


def constant(value: Numeric) -> numerics.Schedule:
    """Keeps a number as it is: as a part of `join`, or where a schedule is to be varied.

    Args:
        value: the number, at least 0: a number, an array of shape () or a traced value.

    Returns:
        A function from the step (int32[]) to the number (float32[]), to be passed wherever an optimizer takes one.

    Raises:
        ValueError: if a concrete value is negative, infinite or NaN.
        TypeError: if it is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.join([lo.constant(0.1), lo.constant(0.01)], boundaries=[1000])
        >>> print(f"{rate(999):.2f} {rate(1000):.2f}")
        0.10 0.01

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)".
    """
    checks.check_number("value", value, checks.NON_NEGATIVE)
    return jax.tree_util.Partial(_constant, numerics.as_constant(value))


def _line(start: jax.Array, steps: jax.Array, end: jax.Array, count: Numeric) -> jax.Array:
    done = jnp.minimum(jnp.asarray(count, start.dtype) / steps, 1)
    return (1 - done) * start + done * end


def _power_law(start: jax.Array, power: jax.Array, steps: jax.Array, count: Numeric) -> jax.Array:
    return start / (1 + jnp.asarray(count, start.dtype) / steps) ** power


def _half_cosine(start: jax.Array, steps: jax.Array, alpha: jax.Array, count: Numeric) -> jax.Array:
    left = jnp.maximum(steps - jnp.asarray(count, start.dtype), 0) / steps
    # (1 + cos(pi (1 - left))) / 2, to all digits where it is small.
    return start * ((1 - alpha) * jnp.sin(jnp.pi / 2 * left) ** 2 + alpha)


def _exponential(start: jax.Array, steps: jax.Array, rate: jax.Array, count: Numeric) -> jax.Array:
    return start * rate ** (jnp.asarray(count, start.dtype) / steps)


def _bounded_exponential(
    start: jax.Array, steps: jax.Array, rate: jax.Array, end: jax.Array, count: Numeric
) -> jax.Array:
    value = _exponential(start, steps, rate, count)
    return jnp.where(rate < 1, jnp.maximum(value, end), jnp.minimum(value, end))


def _constant(value: jax.Array, count: Numeric) -> jax.Array:
    del count
    return numerics.as_scalar(value)
