"""Schedules made of schedules: one after the other, and a warm-up before one."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks, numerics
from lectopt._internal.types import Numeric
from lectopt.optim.schedules import constant


def join(schedules: Sequence[numerics.Hyperparameter], boundaries: Sequence[Numeric]) -> numerics.Schedule:
    r"""Follows one schedule after the other, each from its own step 0 on.

    .. math:: \epsilon_k = \epsilon^{(i)}_{k - b_i} \quad (b_i \le k < b_{i + 1}), \qquad b_0 = 0

    Args:
        schedules: at least one; each a function of the step, or a number of at least 0, which stays.
        boundaries: b_1, b_2, ..., in steps, at least 0 and in order, one fewer than schedules: numbers, arrays of shape
            () or traced values.

    Returns:
        A function from the step (int32[]) to the number (float32[]), to be passed wherever an optimizer takes one.

    Raises:
        ValueError: if there is no schedule, the numbers of schedules and boundaries do not fit, or concrete boundaries
            are negative, infinite, NaN or not in order.
        TypeError: if schedules or boundaries are not a list, a schedule is neither a function nor a number, or a
            boundary is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.join([0.1, lo.linear_decay(0.1, 100, 0.0)], boundaries=[50])
        >>> print([f"{rate(k):.2f}" for k in (0, 49, 100, 150)])
        ['0.10', '0.10', '0.05', '0.00']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate";
    after `optax.join_schedules`, whose boundaries cannot be traced.
    """
    for name, given in (("schedules", schedules), ("boundaries", boundaries)):
        if not isinstance(given, (list, tuple)):
            raise TypeError(f"{name} must be a list; got {checks.value_and_type(given)}")
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"schedules must be one more than boundaries; got {len(schedules)} schedules, {len(boundaries)} boundaries"
        )
    for i, boundary in enumerate(boundaries):
        checks.check_number(f"boundaries[{i}]", boundary, checks.NON_NEGATIVE)
    for before, after in itertools.pairwise(boundaries):
        if not checks.is_traced((before, after)) and after < before:
            raise ValueError(f"boundaries must be in order; got {before} before {after}")
    parts = [_as_schedule(f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules)]
    return jax.tree_util.Partial(_in_turn, parts, list(map(_as_steps, boundaries)))


def warmup(schedule: numerics.Hyperparameter, steps: Numeric, init_value: Numeric = 0.0) -> numerics.Schedule:
    r"""Raises a learning rate linearly to where a schedule begins, and follows that from its step 0 on.

    .. math::
        \epsilon_k = (1 - k / n) \epsilon_\text{init} + (k / n) \eta_0 \quad (k < n), \qquad
        \epsilon_k = \eta_{k - n} \quad (k \ge n)

    Small first steps, while momenta and individual rates have seen few gradients.

    Args:
        schedule: eta, a function of the step, or a number of at least 0, which stays.
        steps: n, at least 1, how long it takes: a number, an array of shape () or a traced value.
        init_value: epsilon_init, at least 0, the rate of the first step, which at 0 moves nothing: a number, an array
            of shape () or a traced value.

    Returns:
        A function from the step (int32[]) to the learning rate (float32[]), to be passed wherever an optimizer takes
        one.

    Raises:
        ValueError: if concrete steps are below 1, or init_value is negative, infinite or NaN.
        TypeError: if schedule is neither a function nor a number, or another argument is not a number.

    Example:
        >>> import lectopt as lo
        >>> rate = lo.warmup(lo.cosine_decay(0.1, decay_steps=100), steps=10)
        >>> print([f"{rate(k):.3f}" for k in (0, 5, 10, 60, 110)])
        ['0.000', '0.050', '0.100', '0.050', '0.000']

    Source: P. Goyal et al. (2017), "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv:1706.02677,
    section 2.2; R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning
    rate".
    """
    checks.check_number("steps", steps, checks.Interval(1, np.inf, high_open=True))
    checks.check_number("init_value", init_value, checks.NON_NEGATIVE)
    main = _as_schedule("schedule", schedule)
    rise = jax.tree_util.Partial(_rise, numerics.as_constant(init_value), _as_steps(steps), main)
    return join([rise, main], [steps])


def _as_schedule(name: str, value: Any) -> Callable[[Numeric], Numeric]:
    """Returns the schedule as a tree whose leaves are numbers."""
    if not callable(value):
        if value is None or isinstance(value, str):
            raise TypeError(f"{name} must be a function of the step, or a number; got {checks.value_and_type(value)}")
        checks.check_number(name, value, checks.NON_NEGATIVE)
        return constant(value)
    return value if isinstance(value, jax.tree_util.Partial) else jax.tree_util.Partial(value)


def _as_steps(value: Numeric) -> Numeric:
    """Returns a number of steps; whole ones stay so, and the schedule that follows gets whole steps."""
    if isinstance(value, jax.Array):
        return value.astype(jnp.int32) if jnp.issubdtype(value.dtype, jnp.integer) else numerics.as_constant(value)
    whole = isinstance(value, (int, np.integer)) and value <= np.iinfo(np.int32).max
    return np.int32(value) if whole else numerics.as_constant(value)


def _in_turn(schedules: list[Callable[..., Any]], boundaries: list[Numeric], count: Numeric) -> jax.Array:
    value = numerics.at_step(schedules[0], count)
    for schedule, boundary in zip(schedules[1:], boundaries, strict=True):
        since = jnp.asarray(count, jnp.result_type(boundary)) - boundary
        value = jnp.where(since < 0, value, numerics.at_step(schedule, jnp.maximum(since, 0)))
    return value


def _rise(start: jax.Array, steps: Numeric, schedule: Callable[..., Any], count: Numeric) -> jax.Array:
    done = jnp.minimum(jnp.asarray(count, start.dtype) / jnp.asarray(steps, start.dtype), 1)
    return (1 - done) * start + done * numerics.at_step(schedule, 0)
