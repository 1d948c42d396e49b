"""Nesterov momentum without a second gradient: the parameters that a user holds are the look-ahead point."""

from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from lectopt import _checks, _numerics
from lectopt._types import Array, ArrayTree


class TraceNesterovState(NamedTuple):
    """State of `trace_nesterov`."""

    count: Array  # int32[], the number of steps taken
    lookahead: Array  # float32[], c: the held parameters are w + c v
    velocity: ArrayTree  # v, like the parameters, float32 or wider


def trace_nesterov(momentum: _numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Stands *after* the learning rate and *last*; take `lectopt.nesterov`, which has the order inside.

    Nesterov's method takes the gradient where the velocity leads:

    .. math:: v_{k+1} = \alpha_k v_k - \epsilon_k \nabla L(w_k + \alpha_k v_k), \qquad w_{k+1} = w_k + v_{k+1}

    A chain only sees gradients at the parameters that it is handed. So those are :math:`\varphi_k = w_k + \alpha_k
    v_k`, and with :math:`u_k = -\epsilon_k \nabla L(\varphi_k)` the same method reads

    .. math:: v_{k+1} = \alpha_k v_k + u_k, \qquad \varphi_{k+1} = \varphi_k + u_k + \alpha_{k+1} v_{k+1}

    exactly, also with both :math:`\epsilon` and :math:`\alpha` scheduled. `eval_params` gives w back. The state keeps
    the look-ahead c that the gradient was taken at, and it is :math:`\alpha_k` in the velocity too, so w stays right
    where something outside, such as `optax.inject_hyperparams`, changes alpha between steps: the new alpha takes
    effect with the next look-ahead.

    Nothing that changes updates may follow this link in a chain, or w is lost. Penalties go before the rate, where
    they are part of g: `optax.chain(lo.add_l2(1e-4), lo.nesterov(0.1))`. So does decoupled weight decay: what
    `optax.add_decayed_weights(d)` adds before `lo.nesterov` enters the velocity like a gradient.

    Args:
        momentum: alpha in [0, 1): a number, an array of shape (), a traced value, or a function of the step.

    Returns:
        A link for `optax.chain`. Its state is float32 or wider; its updates have the incoming dtype.

    Raises:
        ValueError: if a concrete momentum is outside [0, 1).
        TypeError: if it is not a number.

    Example:
        >>> import jax, jax.numpy as jnp, optax, lectopt as lo
        >>> link = lo.nesterov(0.1, momentum=0.9)  # scale_by_learning_rate(0.1), then trace_nesterov(0.9)
        >>> held = jnp.array(1.0)
        >>> state = link.init(held)
        >>> for _ in range(2):
        ...     updates, state = link.update(jax.grad(lambda w: w**2 / 2)(held), state, held)
        ...     held = optax.apply_updates(held, updates)
        >>> print(f"{held:.4f} {lo.eval_params(state, held):.4f}")  # the look-ahead point, and w
        0.5751 0.7290

    Source: the lecture, "(3) Nesterov Momentum"; Sutskever et al. (2013), equations 3 and 4.
    """
    _checks.check_hyperparameter("momentum", momentum, _checks.FRACTION)

    def init(params: ArrayTree) -> TraceNesterovState:
        alpha = _numerics.at_step(momentum, 0)
        return TraceNesterovState(_numerics.first_step(), alpha, _numerics.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del params, extra

        def rule(u, v, lookahead, alpha_next):
            # Both from the new v: were the old one read twice, XLA would copy all of it before overwriting it.
            v = lookahead * v + u
            return u + alpha_next * v, v

        count = optax.safe_increment(state.count)
        alpha_next = _numerics.at_step(momentum, count)
        updates, velocity = _numerics.map_leaves(
            rule, updates, state.velocity, lookahead=state.lookahead, alpha_next=alpha_next
        )
        return updates, TraceNesterovState(count, alpha_next, velocity)

    return optax.GradientTransformationExtraArgs(init, update)


def eval_params(opt_state: Any, params: ArrayTree) -> ArrayTree:
    r"""The parameters w to evaluate and to keep, from those that are held while training.

    Where the optimizer looks ahead (`nesterov`, `rmsprop_nesterov`), :math:`w = \varphi - c v`; where it does not,
    w is `params`. The look-ahead is found through `optax.chain`, `masked`, `partition`, `MultiSteps`,
    `inject_hyperparams`, `apply_if_finite` and in the state of an `nnx.Optimizer`.

    Args:
        opt_state: the optimizer's state.
        params: the parameters that go with it, any pytree (for an `nnx.Optimizer`: `nnx.state(model, nnx.Param)`).

    Returns:
        A tree like `params`, with its dtypes.

    Raises:
        ValueError: if two look-aheads cover the same parameters, or one does not have their structure and shapes.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> params = {"w": jnp.ones(3)}
        >>> print(lo.eval_params(lo.adam().init(params), params)["w"])
        [1. 1. 1.]

    Source: see `trace_nesterov`.
    """
    leaves, treedef = jax.tree.flatten(params, is_leaf=_is_variable)
    moved = set()
    for state in jax.tree.leaves(opt_state, is_leaf=_is_lookahead):
        if not _is_lookahead(state):
            continue
        for i, velocity in enumerate(_velocities(state.velocity, params)):
            if velocity is None:
                continue
            if i in moved:
                raise ValueError("opt_state holds two Nesterov look-aheads for the same parameters; one is allowed")
            moved.add(i)
            leaves[i] = _step_back(leaves[i], _value(state.lookahead), velocity)
    return jax.tree.unflatten(treedef, leaves)


def _velocities(velocity: ArrayTree, params: ArrayTree) -> list[Array | None]:
    """One velocity for each leaf of `params`, None where a mask leaves a leaf, or a whole subtree, out."""
    plain_params, plain_velocity = (
        jax.tree.map(_value, tree, is_leaf=lambda x: _is_variable(x) or _is_masked(x)) for tree in (params, velocity)
    )

    def spread(v: Any, below: ArrayTree) -> ArrayTree:
        return jax.tree.map(lambda _: v, below)

    try:
        whole = jax.tree.map(spread, plain_velocity, plain_params, is_leaf=_is_masked)
    except ValueError as error:
        raise ValueError("opt_state does not belong to params: their structures differ") from error
    return [None if _is_masked(v) else v for v in jax.tree.leaves(whole, is_leaf=_is_masked)]


def _step_back(p: Any, lookahead: Array, velocity: Array) -> Any:
    value = _value(p)
    if lookahead.shape != () or velocity.shape != value.shape:
        raise ValueError(
            f"opt_state does not belong to params: a velocity has shape {velocity.shape} and its look-ahead "
            f"{lookahead.shape}, the parameter {value.shape}; where both have a batch axis, use jax.vmap(eval_params)"
        )
    dtype = _numerics.working_dtype(value)
    lookahead = lookahead.astype(_numerics.real_dtype(value))
    stepped = (value.astype(dtype) - lookahead * velocity.astype(dtype)).astype(value.dtype)
    return p.replace(stepped) if _is_variable(p) else stepped


def _value(x: Any) -> Any:
    return x.get_value() if _is_variable(x) else x


def _is_variable(x: Any) -> bool:
    return isinstance(x, nnx.Variable)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _is_lookahead(x: Any) -> bool:
    return isinstance(x, TraceNesterovState)
