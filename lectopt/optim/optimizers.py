"""The lecture's optimizers: chains of a few lines each, ready for Optax, Flax and `lectopt.fit`."""

import optax

from lectopt._internal.numerics import Hyperparameter
from lectopt.optim.adagrad import scale_by_adagrad
from lectopt.optim.adam import scale_by_adam
from lectopt.optim.learning_rate import scale_by_learning_rate
from lectopt.optim.momentum import trace_momentum
from lectopt.optim.nesterov import trace_nesterov
from lectopt.optim.rmsprop import scale_by_rmsprop


def sgd(learning_rate: Hyperparameter) -> optax.GradientTransformation:
    r"""Stochastic gradient descent.

    .. math:: w \leftarrow w - \epsilon_k g

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN.
        TypeError: if it is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.sgd(lo.linear_decay(0.5, transition_steps=100))
        >>> updates, state = optimizer.update(jnp.array([1.0, -2.0]), optimizer.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.5  1. ]

    Source: the lecture, "Recap: Stochastic Gradient Descent".
    """
    return scale_by_learning_rate(learning_rate)


def momentum(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    r"""Gradient descent with momentum; the learning rate is inside the velocity.

    .. math:: v \leftarrow \alpha_k v - \epsilon_k g, \qquad w \leftarrow w + v

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        momentum: alpha in [0, 1), the same kinds of value; common choices are 0.5, 0.9 and 0.99.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN, or momentum is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import optax, lectopt as lo
        >>> optimizer = optax.chain(lo.clip_by_norm(1.0), lo.momentum(0.1, momentum=0.9))

    Source: the lecture, "(2) Momentum"; see `lectopt.trace_momentum`.
    """
    return optax.chain(scale_by_learning_rate(learning_rate), trace_momentum(momentum))


def nesterov(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    r"""Nesterov momentum: the gradient is taken where the velocity leads.

    .. math:: v \leftarrow \alpha_k v - \epsilon_k \nabla L(w + \alpha_k v), \qquad w \leftarrow w + v

    The parameters that you hold while training are the look-ahead point :math:`w + \alpha v`; `lectopt.eval_params`
    gives w. (`lectopt.fit` and `lectopt.train` do so by themselves.)

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        momentum: alpha in [0, 1), the same kinds of value.

    Returns:
        An Optax optimizer. In a chain it stands last.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN, or momentum is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.nesterov(0.1, momentum=0.9)
        >>> held = jnp.ones(3)
        >>> w = lo.eval_params(optimizer.init(held), held)

    Source: the lecture, "(3) Nesterov Momentum"; see `lectopt.trace_nesterov`.
    """
    return optax.chain(scale_by_learning_rate(learning_rate), trace_nesterov(momentum))


def adagrad(learning_rate: Hyperparameter, eps: Hyperparameter = 1e-7) -> optax.GradientTransformation:
    r"""AdaGrad: each weight's rate is divided by the root of the sum of its squared gradients.

    .. math:: r \leftarrow r + g \odot g, \qquad w \leftarrow w - \frac{\epsilon_k}{\delta + \sqrt r} \odot g

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        eps: delta, at least 0, the same kinds of value.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN.
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.adagrad(0.1)
        >>> print(optimizer.update(jnp.array([1.0, -5.0]), optimizer.init(jnp.zeros(2)))[0].round(3))
        [-0.1  0.1]

    Source: the lecture, "(4.1) AdaGrad"; see `lectopt.scale_by_adagrad`.
    """
    return optax.chain(scale_by_adagrad(eps), scale_by_learning_rate(learning_rate))


def rmsprop(
    learning_rate: Hyperparameter, decay: Hyperparameter = 0.9, eps: Hyperparameter = 1e-6
) -> optax.GradientTransformation:
    r"""RMSProp: as AdaGrad, with a running average that forgets the extreme past.

    .. math:: r \leftarrow \rho r + (1 - \rho) g \odot g, \qquad w \leftarrow w - \frac{\epsilon_k}{\sqrt{\delta + r}}
        \odot g

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        decay: rho in [0, 1), the same kinds of value.
        eps: delta, at least 0, the same kinds of value; inside the root.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN, or decay is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> optimizer = lo.rmsprop(1e-3, decay=0.99)

    Source: the lecture, "(4.2) RMSProp"; see `lectopt.scale_by_rmsprop`.
    """
    return optax.chain(scale_by_rmsprop(decay, eps), scale_by_learning_rate(learning_rate))


def rmsprop_nesterov(
    learning_rate: Hyperparameter,
    decay: Hyperparameter = 0.9,
    momentum: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
) -> optax.GradientTransformation:
    r"""RMSProp with Nesterov momentum.

    .. math:: g = \nabla L(w + \alpha_k v), \quad r \leftarrow \rho r + (1 - \rho) g \odot g, \quad
        v \leftarrow \alpha_k v - \frac{\epsilon_k}{\sqrt{\delta + r}} \odot g, \quad w \leftarrow w + v

    The lecture has no delta here, and so 0/0 at a zero gradient; ours is inside the root as in RMSProp. With `eps=0`
    the update is the lecture's, and 0/0 counts as 0. The parameters that you hold while training are the look-ahead
    point; `lectopt.eval_params` gives w.

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        decay: rho in [0, 1), the same kinds of value.
        momentum: alpha in [0, 1), the same kinds of value.
        eps: delta, at least 0, the same kinds of value.

    Returns:
        An Optax optimizer. In a chain it stands last.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN, or decay or momentum is outside
            [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import optax, lectopt as lo
        >>> optimizer = lo.rmsprop_nesterov(0.01)
        >>> same = optax.chain(lo.scale_by_rmsprop(), lo.nesterov(0.01, momentum=0.9))

    Source: the lecture, "(4.2) RMSProp with Nesterov Momentum", algorithm 8.6 of Goodfellow et al. (2016).
    """
    return optax.chain(scale_by_rmsprop(decay, eps), nesterov(learning_rate, momentum))


def adam(
    learning_rate: Hyperparameter = 1e-3,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
) -> optax.GradientTransformation:
    r"""Adam: momentum and RMSProp with moments freed of their zero start.

    .. math:: w \leftarrow w - \epsilon_k \frac{\hat s}{\sqrt{\hat r} + \delta}

    With bfloat16 parameters, `optax.inject_hyperparams` would round b2 to 1: give it `hyperparam_dtype=jnp.float32`.

    Args:
        learning_rate: epsilon, at least 0: a number, an array of shape (), a traced value, or a schedule.
        b1: rho_1 in [0, 1), the same kinds of value.
        b2: rho_2 in [0, 1), the same kinds of value.
        eps: delta, at least 0, the same kinds of value; outside the root.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN, or b1 or b2 is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> def first_step(rate):  # every hyperparameter may be traced
        ...     optimizer = lo.adam(rate)
        ...     return optimizer.update(jnp.array(3.0), optimizer.init(jnp.array(0.0)))[0]
        >>> print(jax.vmap(first_step)(jnp.array([0.1, 0.2])))
        [-0.1 -0.2]

    Source: the lecture, "(4.3) Adam"; see `lectopt.scale_by_adam`.
    """
    return optax.chain(scale_by_adam(b1, b2, eps), scale_by_learning_rate(learning_rate))
