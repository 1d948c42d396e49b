"""Decoupled weight decay: w <- (1 - c) w beside an optimizer's step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.averaging import AverageParamsState
from lectopt.optim.dict_masks import accept_dicts
from lectopt.optim.evaluation_params import eval_params
from lectopt.optim.optimizers import adam


class DecayWeightsState(NamedTuple):
    """The state of `decay_weights`.

    Attributes:
        count: int32[], the number of steps taken.
        optimizer_state: the state of the optimizer inside.
    """

    count: Array
    optimizer_state: optax.OptState


def decay_weights(
    optimizer: optax.GradientTransformation,
    fraction: numerics.Hyperparameter,
    mask: Any | Callable[[ArrayTree], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Takes a fraction of each weight away at each step, beside what an optimizer does: decoupled weight decay.

    .. math:: w_{k+1} = w_k + \Delta_k - c_k w_k

    where :math:`\Delta_k` is the step of the optimizer, which knows nothing of the decay: neither its velocity nor its
    individual rates do. So all weights decay alike, whereas the gradient of a penalty (`add_l2`) is divided by Adam's
    root like any other, and lives on in a velocity.

    It wraps an optimizer and is no link after one, since what decays is w. A link sees what is held, which under
    Nesterov momentum is the look-ahead point :math:`\varphi = w + \alpha v`; here :math:`\varphi` moves by
    :math:`-c_k w_k` too, so that the way from w to it stays what it is.

    Args:
        optimizer: an Optax optimizer.
        fraction: c, in [0, 1), how much of each weight is taken away at each step: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...). To decay with a rate that is a
            schedule, give `lambda k: 0.01 * rate(k)`.
        mask: a tree of booleans like the parameters (or a prefix of it; plain dictionaries for an `nnx.State`), or a
            function from the parameters to such a tree, True for weights that decay; None lets all decay. Biases and
            the scales of norms are commonly left out.

    Returns:
        An Optax optimizer. Whatever changes its updates belongs inside of it, or before it in a chain; to average
        weights, put all of it into `average_params`.

    Raises:
        ValueError: if a concrete fraction is outside [0, 1); at `init`, if the optimizer averages weights; at `update`,
            if no parameters are given.
        TypeError: if optimizer is not an Optax optimizer, or fraction is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.decay_weights(lo.nesterov(0.1), 0.25)
        >>> w = jnp.array([1.0, -2.0])
        >>> print(optimizer.update(jnp.zeros(2), optimizer.init(w), w)[0])
        [-0.25  0.5 ]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Validation" (tuning the weight decay
    parameter); I. Loshchilov and F. Hutter (2019), "Decoupled weight decay regularization", ICLR, algorithms 1 and 2;
    S. Hanson and L. Pratt (1988), "Comparing biases for minimal network construction with back-propagation", NIPS 1.
    """
    checks.check_optimizer("optimizer", optimizer)
    checks.check_hyperparameter("fraction", fraction, checks.FRACTION)
    inner = optax.with_extra_args_support(optimizer)
    decay = optax.GradientTransformationExtraArgs(optax.init_empty_state, _decay)
    if mask is not None:
        decay = accept_dicts(optax.masked(decay, _checked(mask)))

    def init(params: ArrayTree) -> DecayWeightsState:
        state = inner.init(params)
        is_average = lambda x: isinstance(x, AverageParamsState)  # noqa: E731
        if any(map(is_average, jax.tree.leaves(state, is_leaf=is_average))):
            raise ValueError("decay_weights must stand inside of average_params, or the averages would decay")
        return DecayWeightsState(numerics.first_step(), state)

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("decay_weights needs the parameters: call update(gradients, state, params)")
        w = eval_params(state.optimizer_state, params)
        updates, optimizer_state = inner.update(updates, state.optimizer_state, params, **extra)
        count = optax.safe_increment(state.count)
        c = numerics.at_last_step(fraction, count)
        updates, _ = decay.update(updates, decay.init(params), w, fraction=c)
        return updates, DecayWeightsState(count, optimizer_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _checked(mask: Any) -> Any:
    """Returns a mask whose leaves are flags, or a function that returns one: `optax.masked` takes "no" for True."""
    if callable(mask):
        return lambda params: _checked(mask(params))
    return jax.tree.map(functools.partial(checks.check_flag, "mask"), mask, is_leaf=lambda leaf: leaf is None)


def _decay(updates: ArrayTree, state: Any, w: ArrayTree, *, fraction: Array, **extra: Any) -> tuple[ArrayTree, Any]:
    del extra
    updates, _ = numerics.map_leaves(lambda u, w, c: (u - c * w, w), updates, w, params=w, c=fraction)
    return updates, state


def adamw(
    learning_rate: numerics.Hyperparameter = 1e-3,
    weight_decay: numerics.Hyperparameter = 1e-4,
    *,
    b1: numerics.Hyperparameter = 0.9,
    b2: numerics.Hyperparameter = 0.999,
    eps: numerics.Hyperparameter = 1e-8,
    eps_root: numerics.Hyperparameter | None = None,
    mask: Any | Callable[[ArrayTree], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Descends like Adam, and lets the weights decay beside it.

    .. math::
        w \leftarrow w - \epsilon_k \left( \frac{\hat s}{\sqrt{\hat r} + \delta} + \lambda w \right)

    with the moments of `adam`. The decay follows the schedule of the rate, and is multiplied by the rate itself, as in
    Optax and PyTorch (in the paper, by the schedule alone).

    Args:
        learning_rate: epsilon, at least 0, in units of weight: a number, an array of shape (), a traced value, or a
            schedule (a function of the step k = 0, 1, 2, ...).
        weight_decay: lambda, at least 0: the fraction epsilon_k lambda of each weight is taken away at each step; a
            number, an array of shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        b1: rho_1, in [0, 1), how much of the first moment s is kept: a number, an array of shape (), a traced value, or
            a schedule (a function of the step k = 0, 1, 2, ...).
        b2: rho_2, in [0, 1), how much of the second moment r is kept: a number, an array of shape (), a traced value,
            or a schedule (a function of the step k = 0, 1, 2, ...).
        eps: delta, at least 0, in units of the gradient, added outside the root: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        eps_root: at least 0, in units of the squared gradient, added to r-hat inside the root: a number, an array of
            shape (), a traced value, or a schedule (a function of the step k = 0, 1, 2, ...); None adds nothing.
        mask: a tree of booleans like the parameters (or a prefix of it; plain dictionaries for an `nnx.State`), or a
            function from the parameters to such a tree, True for weights that decay; None lets all decay. Biases and
            the scales of norms are commonly left out.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: if a concrete learning_rate, weight_decay, eps or eps_root is negative, infinite or NaN, or a
            concrete b1 or b2 is outside [0, 1); at `update`, if no parameters are given.
        TypeError: if one of them is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> optimizer = lo.adamw(0.1, weight_decay=0.5, mask={"kernel": True, "bias": False})
        >>> params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(updates["kernel"].round(3), updates["bias"].round(3))
        [-0.15 -0.15] [-0.1 -0.1]

    Source: I. Loshchilov and F. Hutter (2019), "Decoupled weight decay regularization", ICLR, algorithm 2; R.
    Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(4.3) Adam".
    """
    checks.check_hyperparameter("weight_decay", weight_decay, checks.NON_NEGATIVE)

    def fraction(k: Any) -> jax.Array:
        return numerics.at_step(learning_rate, k) * numerics.at_step(weight_decay, k)

    return decay_weights(adam(learning_rate, b1, b2, eps, eps_root), fraction, mask)
