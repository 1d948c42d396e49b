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
    r"""Steps against the gradient: stochastic gradient descent.

    .. math:: w \leftarrow w - \epsilon_k g

    Args:
        learning_rate: epsilon, at least 0, in units of weight per unit of gradient: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN.
        TypeError: if learning_rate is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.sgd(lo.linear_decay(0.5, transition_steps=100))
        >>> updates, state = optimizer.update(jnp.array([1.0, -2.0]), optimizer.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.5  1. ]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.1.
    """
    return scale_by_learning_rate(learning_rate)


def momentum(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    r"""Descends with momentum: a velocity remembers earlier gradients.

    .. math:: v \leftarrow \alpha_k v - \epsilon_k g, \qquad w \leftarrow w + v

    The learning rate is inside the velocity, as in the lecture. PyTorch and `optax.trace` multiply the whole velocity
    by it: the same for a constant rate, another algorithm under a schedule.

    Args:
        learning_rate: epsilon, at least 0, in units of weight per unit of gradient: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        momentum: alpha, in [0, 1), how much of the velocity is kept; common choices are 0.5, 0.9 and 0.99: a number, an
            array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN, or a concrete momentum is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import optax, lectopt as lo
        >>> optimizer = optax.chain(lo.clip_by_norm(1.0), lo.momentum(0.1, momentum=0.9))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(2) Momentum"; B. T. Polyak (1964), "Some
    methods of speeding up the convergence of iteration methods", USSR Computational Mathematics and Mathematical
    Physics 4(5); I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.2.
    """
    return optax.chain(scale_by_learning_rate(learning_rate), trace_momentum(momentum))


def nesterov(learning_rate: Hyperparameter, momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    r"""Descends with Nesterov momentum: the gradient is taken where the velocity leads.

    .. math:: v \leftarrow \alpha_k v - \epsilon_k \nabla L(w + \alpha_k v), \qquad w \leftarrow w + v

    The parameters held while training are the look-ahead point :math:`w + \alpha v`; `lectopt.eval_params` computes w
    from them. (`lectopt.fit`, `lectopt.train` and the searches do so by themselves.)

    Args:
        learning_rate: epsilon, at least 0, in units of weight per unit of gradient: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        momentum: alpha, in [0, 1), how much of the velocity is kept: a number, an array of shape (), a traced value, or
            a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        An Optax optimizer. In a chain it must come last.

    Raises:
        ValueError: if a concrete learning_rate is negative, infinite or NaN, or a concrete momentum is outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.nesterov(0.1, momentum=0.9)
        >>> held = jnp.ones(3)
        >>> w = lo.eval_params(optimizer.init(held), held)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(3) Nesterov Momentum"; I. Sutskever, J.
    Martens, G. Dahl and G. Hinton (2013), "On the importance of initialization and momentum in deep learning", ICML,
    equations 3 and 4; I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.3.
    """
    return optax.chain(scale_by_learning_rate(learning_rate), trace_nesterov(momentum))


def adagrad(learning_rate: Hyperparameter, eps: Hyperparameter = 1e-7) -> optax.GradientTransformation:
    r"""Divides each weight's learning rate by the root of the sum of its squared gradients: AdaGrad.

    .. math:: r \leftarrow r + g \odot g, \qquad w \leftarrow w - \frac{\epsilon_k}{\delta + \sqrt r} \odot g

    Args:
        learning_rate: epsilon, at least 0, in units of weight: a number, an array of shape (), a traced value, or a
            schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the gradient, added outside the root (1e-7 in the lecture); weights for
            which both are 0 stay as they are: a number, an array of shape (), a traced value, or a schedule (a function
            of the step k = 0, 1, 2, ...).

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

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.1) AdaGrad", which is algorithm 8.4 of
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; J. Duchi, E. Hazan and Y. Singer
    (2011), "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12, section 3.
    """
    return optax.chain(scale_by_adagrad(eps), scale_by_learning_rate(learning_rate))


def rmsprop(
    learning_rate: Hyperparameter, decay: Hyperparameter = 0.9, eps: Hyperparameter = 1e-6
) -> optax.GradientTransformation:
    r"""Divides each weight's learning rate by the root mean square of its recent gradients: RMSProp.

    .. math::
        r \leftarrow \rho r + (1 - \rho) g \odot g, \qquad w \leftarrow w - \frac{\epsilon_k}{\sqrt{\delta + r}} \odot g

    Args:
        learning_rate: epsilon, at least 0, in units of weight: a number, an array of shape (), a traced value, or a
            schedule (a function of the step k = 0, 1, 2, ...).
        decay: rho, in [0, 1), how much of the running average r is kept: a number, an array of shape (), a traced
            value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the squared gradient, added inside the root (1e-6 in the lecture): a number,
            an array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN, or a concrete decay is outside [0,
            1).
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> optimizer = lo.rmsprop(1e-3, decay=0.99)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.2) RMSProp", which is algorithm 8.5 of
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; T. Tieleman and G. Hinton (2012),
    "Neural Networks for Machine Learning", Coursera, lecture 6.5.
    """
    return optax.chain(scale_by_rmsprop(decay, eps), scale_by_learning_rate(learning_rate))


def rmsprop_nesterov(
    learning_rate: Hyperparameter,
    decay: Hyperparameter = 0.9,
    momentum: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
) -> optax.GradientTransformation:
    r"""Combines RMSProp with Nesterov momentum.

    .. math::
        \begin{aligned}
            g &= \nabla L(w + \alpha_k v), & r &\leftarrow \rho r + (1 - \rho) g \odot g, \cr
            v &\leftarrow \alpha_k v - \frac{\epsilon_k}{\sqrt{\delta + r}} \odot g, & w &\leftarrow w + v
        \end{aligned}

    The lecture has no delta here, and so 0/0 at a zero gradient; ours is inside the root, as in RMSProp. With `eps=0`
    the update is the lecture's, and 0/0 counts as 0. The parameters held while training are the look-ahead point
    :math:`w + \alpha v`; `lectopt.eval_params` computes w from them. (`lectopt.fit`, `lectopt.train` and the searches
    do so by themselves.)

    Args:
        learning_rate: epsilon, at least 0, in units of weight: a number, an array of shape (), a traced value, or a
            schedule (a function of the step k = 0, 1, 2, ...).
        decay: rho, in [0, 1), how much of the running average r is kept: a number, an array of shape (), a traced
            value, or a schedule (a function of the step k = 0, 1, 2, ...).
        momentum: alpha, in [0, 1), how much of the velocity is kept: a number, an array of shape (), a traced value, or
            a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the squared gradient, added inside the root: a number, an array of shape (),
            a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).

    Returns:
        An Optax optimizer. In a chain it must come last.

    Raises:
        ValueError: if a concrete learning_rate or eps is negative, infinite or NaN, or a concrete decay or momentum is
            outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import optax, lectopt as lo
        >>> optimizer = lo.rmsprop_nesterov(0.01)
        >>> same = optax.chain(lo.scale_by_rmsprop(), lo.nesterov(0.01, momentum=0.9))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.2) RMSProp with Nesterov Momentum",
    which is algorithm 8.6 of I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press.
    """
    return optax.chain(scale_by_rmsprop(decay, eps), nesterov(learning_rate, momentum))


def adam(
    learning_rate: Hyperparameter = 1e-3,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    eps_root: Hyperparameter | None = None,
) -> optax.GradientTransformation:
    r"""Combines momentum with RMSProp and corrects both moments for their start at zero: Adam.

    .. math::
        \begin{aligned}
            s &\leftarrow \rho_1 s + (1 - \rho_1) g, & \hat s &= s / (1 - \rho_1^t), \cr
            r &\leftarrow \rho_2 r + (1 - \rho_2) g \odot g, & \hat r &= r / (1 - \rho_2^t), \cr
            w &\leftarrow w - \epsilon_k \frac{\hat s}{\sqrt{\hat r} + \delta}, & t &= k + 1 = 1, 2, \dots
        \end{aligned}

    With bfloat16 parameters, `optax.inject_hyperparams` would round b2 to 1: give it `hyperparam_dtype=jnp.float32`.

    Args:
        learning_rate: epsilon, at least 0, in units of weight (0.001 in the lecture): a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        b1: rho_1, in [0, 1), how much of the first moment s is kept (0.9 in the lecture): a number, an array of shape
            (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        b2: rho_2, in [0, 1), how much of the second moment r is kept (0.999 in the lecture): a number, an array of
            shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the gradient, added outside the root (1e-8 in the lecture): a number, an
            array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps_root: at least 0, in units of the squared gradient, added to r-hat inside the root, as in Optax (not in the
            lecture): a number, an array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2,
            ...); None adds nothing.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate, eps or eps_root is negative, infinite or NaN, or a concrete b1 or b2 is
            outside [0, 1).
        TypeError: if one of them is not a number.

    Example:
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> def first_step(rate):  # every hyperparameter may be traced
        ...     optimizer = lo.adam(rate)
        ...     return optimizer.update(jnp.array(3.0), optimizer.init(jnp.array(0.0)))[0]
        >>> print(jax.vmap(first_step)(jnp.array([0.1, 0.2])))
        [-0.1 -0.2]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.3) Adam", which is algorithm 8.7 of I.
    Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press; D. P. Kingma and J. Ba (2015), "Adam: a
    method for stochastic optimization", ICLR, algorithm 1.
    """
    return optax.chain(scale_by_adam(b1, b2, eps, eps_root), scale_by_learning_rate(learning_rate))
