"""The step along the gradient: u = -epsilon_k g."""

from typing import NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree


class ScaleByLearningRateState(NamedTuple):
    """The state of `scale_by_learning_rate`.

    Attributes:
        count: int32[], the number of steps taken.
        step_size: float32[], the learning rate of the last step. In compiled steps, a rate that is a constant is not
            written again: it stands there from `init` on.
    """

    count: Array
    step_size: Array


def scale_by_learning_rate(learning_rate: numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Turns a direction into a step downhill.

    .. math:: u_k = -\epsilon_k g_k

    Unlike in Optax's link of the same name, the rate may be traced, and the rate that was used can be read from the
    state, which is how the training history knows it.

    Args:
        learning_rate: epsilon, at least 0, in units of weight per unit of the incoming update: a number, an array of
            shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        A link for `optax.chain`. `state.step_size` is the rate of the last step. Its updates have the wider of the
        incoming update's and the parameter's dtype (the incoming update's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN.
        TypeError: if learning_rate is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.scale_by_learning_rate(0.5)
        >>> updates, state = link.update(jnp.array([2.0, -4.0]), link.init(jnp.zeros(2)))
        >>> print(updates, state.step_size)
        [-1.  2.] 0.5

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.1.
    """
    checks.check_hyperparameter("learning_rate", learning_rate, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> ScaleByLearningRateState:
        del params
        return ScaleByLearningRateState(numerics.first_step(), numerics.at_step(learning_rate, 0))

    def update(updates, state, params=None, **extra):
        del extra
        count = optax.safe_increment(state.count)
        rate = numerics.at_last_step(learning_rate, count)
        (updates,) = numerics.map_leaves(lambda g, step: (step * g,), updates, params=params, step=-rate)
        step_size = numerics.record_number(learning_rate, rate, state.step_size, count)
        return updates, ScaleByLearningRateState(count, step_size)

    return optax.GradientTransformationExtraArgs(init, update)
