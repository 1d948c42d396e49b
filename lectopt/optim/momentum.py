"""Momentum: v <- alpha_k v + u."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class TraceMomentumState(NamedTuple):
    """The state of `trace_momentum`.

    Attributes:
        count: int32[], the number of steps taken.
        velocity: v, a tree like the parameters, float32 or wider.
    """

    count: Array
    velocity: ArrayTree


def trace_momentum(momentum: numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Turns steps into a velocity that remembers earlier ones; to be placed *after* the learning rate.

    `lectopt.momentum` has this order inside. With the incoming steps :math:`u_k = -\epsilon_k g_k`,

    .. math:: v_{k+1} = \alpha_k v_k + u_k, \qquad w_{k+1} = w_k + v_{k+1}

    The lecture's velocity holds the learning rate. Placed before the learning rate, as Optax users are used to placing
    `optax.trace`, the rate multiplies the whole velocity: the same for a constant rate, silently another algorithm
    under a schedule.

    Args:
        momentum: alpha, in [0, 1), how much of the velocity is kept: a number, an array of shape (), a traced value, or
            a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        A link for `optax.chain`. Its state is float32 or wider; its updates have the wider of the incoming update's and
        the parameter's dtype (the incoming update's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete momentum is outside [0, 1).
        TypeError: if momentum is not a number.

    Example:
        >>> import jax.numpy as jnp, optax, lectopt as lo
        >>> link = lo.momentum(0.1, momentum=0.9)  # scale_by_learning_rate(0.1), then trace_momentum(0.9)
        >>> state = link.init(jnp.array(0.0))
        >>> for _ in range(3):
        ...     velocity, state = link.update(jnp.array(1.0), state)
        >>> print(f"{velocity:.3f}")
        -0.271

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(2) Momentum"; B. T. Polyak (1964), "Some
    methods of speeding up the convergence of iteration methods", USSR Computational Mathematics and Mathematical
    Physics 4(5); I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.2.
    """
    checks.check_hyperparameter("momentum", momentum, checks.FRACTION)

    def init(params: ArrayTree) -> TraceMomentumState:
        return TraceMomentumState(numerics.first_step(), numerics.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(u, v, alpha):
            v = alpha * v + u
            return v, v

        count = optax.safe_increment(state.count)
        alpha = numerics.at_last_step(momentum, count)
        updates, velocity = numerics.map_leaves(rule, updates, state.velocity, params=params, alpha=alpha)
        return updates, TraceMomentumState(count, velocity)

    return optax.GradientTransformationExtraArgs(init, update)
