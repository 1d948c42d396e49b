"""Momentum: v <- alpha_k v + u."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class TraceMomentumState(NamedTuple):
    """State of `trace_momentum`."""

    count: Array  # int32[], the number of steps taken
    velocity: ArrayTree  # v, like the parameters, float32 or wider


def trace_momentum(momentum: numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Stands *after* the learning rate; take `lectopt.momentum`, which has the order inside.

    Gives the parameters a mass: the update is a velocity that remembers earlier steps u_k = -\epsilon_k g_k.

    .. math:: v_{k+1} = \alpha_k v_k + u_k, \qquad w_{k+1} = w_k + v_{k+1}

    The lecture's velocity holds the learning rate. Before the learning rate, as Optax users are used to place
    `optax.trace`, the rate multiplies the whole velocity: the same for a constant rate, silently another algorithm
    under a schedule.

    Args:
        momentum: alpha in [0, 1): a number, an array of shape (), a traced value, or a function of the step.

    Returns:
        A link for `optax.chain`. Its state is float32 or wider; its updates come back in the wider of the
        incoming update's and the parameter's dtype (the former where `update` is given no parameters).

    Raises:
        ValueError: if a concrete momentum is outside [0, 1).
        TypeError: if it is not a number.

    Example:
        >>> import jax.numpy as jnp, optax, lectopt as lo
        >>> link = lo.momentum(0.1, momentum=0.9)  # scale_by_learning_rate(0.1), then trace_momentum(0.9)
        >>> state = link.init(jnp.array(0.0))
        >>> for _ in range(3):
        ...     velocity, state = link.update(jnp.array(1.0), state)
        >>> print(f"{velocity:.3f}")
        -0.271

    Source: the lecture, "(2) Momentum"; Polyak (1964).
    """
    checks.check_hyperparameter("momentum", momentum, checks.FRACTION)

    def init(params: ArrayTree) -> TraceMomentumState:
        return TraceMomentumState(numerics.first_step(), numerics.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(u, v, alpha):
            v = alpha * v + u
            return v, v

        alpha = numerics.at_step(momentum, state.count)
        updates, velocity = numerics.map_leaves(rule, updates, state.velocity, params=params, alpha=alpha)
        return updates, TraceMomentumState(optax.safe_increment(state.count), velocity)

    return optax.GradientTransformationExtraArgs(init, update)
