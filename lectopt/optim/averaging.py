"""Averages of the parameters, which are evaluated in place of the last ones: Polyak and Ruppert's, or exponential."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.evaluation_params import eval_params, register_eval_params


class AverageParamsState(NamedTuple):
    """The state of `average_params`.

    Attributes:
        count: int32[], the number of steps taken.
        average: the average of w, a tree like the parameters, float32 or wider; before the first step, w itself.
        optimizer_state: the state of the optimizer inside.
    """

    count: Array
    average: ArrayTree
    optimizer_state: optax.OptState


def average_params(
    optimizer: optax.GradientTransformation, decay: numerics.Hyperparameter | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Averages the weights along the way of an optimizer, which itself is left unchanged.

    .. math::
        \bar w_k = \bar w_{k-1} + \gamma_k (w_k - \bar w_{k-1}), \qquad
        \gamma_k = \frac1k \quad \text{or} \quad \frac{1 - \rho}{1 - \rho^k}, \qquad k = 1, 2, \dots

    With 1/k this is the mean of all :math:`w_1, \dots, w_k`; with a decay, the exponential average
    :math:`m_k = \rho m_{k-1} + (1 - \rho) w_k`, corrected for its start at zero: :math:`\bar w_k = m_k / (1 - \rho^k)`.

    The gradient's noise keeps stochastic gradient descent at a constant rate a distance from the minimum. There its
    steps go to and fro, so their mean comes closer and closer: on a quadratic with Hessian H and noise of covariance S,
    :math:`E \lVert \bar w_k - w^* \rVert^2` approaches :math:`\operatorname{tr}(H^{-1} S H^{-1}) / k` whatever the rate
    is, and nothing that sees k such gradients can be better.

    `lectopt.eval_params` returns the average, so that `lectopt.fit`, `lectopt.train` and the searches validate, return
    and save it: it is `run.params`. Training itself goes on from the last parameters, in `run.lookahead_params`, and so
    does `start=run`; `start=run.start` begins again from the average.

    It wraps an optimizer and is no link after one, since what it averages is w: a link sees what is held, which under
    Nesterov momentum is the look-ahead point. Whatever changes updates belongs inside of it, or before it in a chain.

    Statistics of batches, such as `BatchNorm` keeps, are those of the last weights and not of the average; one pass
    over the training examples measures them: `lectopt.update_batch_statistics`.

    Args:
        optimizer: an Optax optimizer, the whole of it.
        decay: rho, in [0, 1), how much of the average is kept at each step (0.999 averages about the last 1000 steps):
            a number, an array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...);
            None gives all steps the same weight. In float32, this stops after about :math:`10^6` steps, when a step
            adds less than the rounding: use a decay there.

    Returns:
        An Optax optimizer, whose updates are those of `optimizer`. It keeps one more copy of the parameters.

    Raises:
        ValueError: if a concrete decay is outside [0, 1); at `update`, if no parameters are given.
        TypeError: if optimizer is not an Optax optimizer, or decay is not a number.

    Example:
        >>> import jax, jax.numpy as jnp, optax, lectopt as lo
        >>> optimizer = lo.average_params(lo.sgd(1.0))
        >>> w = jnp.array(0.0)
        >>> state = optimizer.init(w)
        >>> for noise in (1.0, -1.0, 1.0, -1.0):
        ...     updates, state = optimizer.update(w + noise, state, w)
        ...     w = optax.apply_updates(w, updates)
        >>> print(w, lo.eval_params(state, w))
        1.0 0.0

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate" (the
    noise); B. T. Polyak and A. B. Juditsky (1992), "Acceleration of stochastic approximation by averaging", SIAM
    Journal on Control and Optimization 30(4); D. Ruppert (1988), "Efficient estimations from a slowly convergent
    Robbins-Monro process", Cornell University, technical report 781.
    """
    checks.check_optimizer("optimizer", optimizer)
    if decay is not None:
        checks.check_hyperparameter("decay", decay, checks.FRACTION)
    inner = optax.with_extra_args_support(optimizer)

    def init(params: ArrayTree) -> AverageParamsState:
        average = jax.tree.map(lambda p: jnp.array(p, numerics.working_dtype(p)), params)
        return AverageParamsState(numerics.first_step(), average, inner.init(params))

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("average_params needs the parameters: call update(gradients, state, params)")
        updates, optimizer_state = inner.update(updates, state.optimizer_state, params, **extra)

        def rule(u, mean, w, t, rho=None):
            newest = 1 / t if rho is None else (1 - rho) / numerics.one_minus_power(rho, t)
            return u, mean + newest * (w - mean), w

        t = optax.safe_increment(state.count)
        numbers = {} if decay is None else {"rho": numerics.at_last_step(decay, t)}
        w = eval_params(optimizer_state, _apply(updates, params))
        updates, average, _ = numerics.map_leaves(rule, updates, state.average, w, params=params, t=t, **numbers)
        return updates, AverageParamsState(t, average, optimizer_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _apply(updates: ArrayTree, params: ArrayTree) -> ArrayTree:
    """Returns the parameters after the step, as `optax.apply_updates` will; those without an update stay."""

    def at_leaf(u: Any, p: Any) -> Any:
        return p if u is None else optax.apply_updates(p, u)

    with numerics.standard_promotion():
        return jax.tree.map(at_leaf, updates, params, is_leaf=lambda u: u is None)


register_eval_params(
    AverageParamsState,
    lambda state, params: state.average,
    like="average",
    inner=("optimizer_state",),
    includes_inner=True,
)
