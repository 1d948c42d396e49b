"""Nesterov momentum without a second gradient: the parameters that a user holds are the look-ahead point."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.evaluation_params import register_eval_params


class TraceNesterovState(NamedTuple):
    """The state of `trace_nesterov`.

    Attributes:
        count: int32[], the number of steps taken.
        lookahead: alpha v, a tree like the parameters, float32 or wider: the parameters that are held are w + alpha v.
    """

    count: Array
    lookahead: ArrayTree


def trace_nesterov(momentum: numerics.Hyperparameter) -> optax.GradientTransformationExtraArgs:
    r"""Turns steps into a velocity that looks ahead; to be placed *after* the learning rate, and *last*.

    `lectopt.nesterov` has this order inside. Nesterov's method takes the gradient where the velocity leads:

    .. math:: v_{k+1} = \alpha_k v_k - \epsilon_k \nabla L(w_k + \alpha_k v_k), \qquad w_{k+1} = w_k + v_{k+1}

    A chain only sees gradients at the parameters that it is given. So those are the look-ahead point
    :math:`\varphi_k = w_k + \alpha_k v_k`, and with :math:`u_k = -\epsilon_k \nabla L(\varphi_k)` the same method reads

    .. math:: v_{k+1} = \alpha_k v_k + u_k, \qquad \varphi_{k+1} = \varphi_k + u_k + \alpha_{k+1} v_{k+1}

    exactly, also where both :math:`\epsilon` and :math:`\alpha` are scheduled. `lectopt.eval_params` computes w from
    the look-ahead point. The state keeps :math:`\alpha_k v_k`, the way from w to the point at which the gradient is
    taken. So w stays right where something outside, such as `optax.inject_hyperparams`, changes alpha between steps:
    the new alpha takes effect with the next look-ahead.

    Nothing that changes updates may follow this link in a chain, or w is lost. Penalties go before the learning rate,
    where they are part of g: `optax.chain(lo.add_l2(1e-4), lo.nesterov(0.1))`. What `optax.add_decayed_weights(d)` adds
    before `lo.nesterov` enters the velocity like a gradient; `lectopt.decay_weights` lets w itself decay.

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
        >>> import jax, jax.numpy as jnp, optax, lectopt as lo
        >>> link = lo.nesterov(0.1, momentum=0.9)  # scale_by_learning_rate(0.1), then trace_nesterov(0.9)
        >>> held = jnp.array(1.0)
        >>> state = link.init(held)
        >>> for _ in range(2):
        ...     updates, state = link.update(jax.grad(lambda w: w**2 / 2)(held), state, held)
        ...     held = optax.apply_updates(held, updates)
        >>> print(f"{held:.4f} {lo.eval_params(state, held):.4f}")  # the look-ahead point, and w
        0.5751 0.7290

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(3) Nesterov Momentum"; I. Sutskever, J.
    Martens, G. Dahl and G. Hinton (2013), "On the importance of initialization and momentum in deep learning", ICML,
    equations 3 and 4; I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.3.
    """
    checks.check_hyperparameter("momentum", momentum, checks.FRACTION)

    def init(params: ArrayTree) -> TraceNesterovState:
        return TraceNesterovState(numerics.first_step(), numerics.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del extra

        def rule(u, lookahead, alpha_next):
            # A sum, not alpha_next * v, which XLA would compute twice, and copy what both read.
            lookahead = alpha_next * lookahead + alpha_next * u
            return u + lookahead, lookahead

        count = optax.safe_increment(state.count)
        alpha_next = numerics.at_step(momentum, count)
        updates, lookahead = numerics.map_leaves(rule, updates, state.lookahead, params=params, alpha_next=alpha_next)
        return updates, TraceNesterovState(count, lookahead)

    return optax.GradientTransformationExtraArgs(init, update)


def _params_without_lookahead(state: TraceNesterovState, params: ArrayTree) -> ArrayTree:
    def at_leaf(p: Array, lookahead: Array) -> Array:
        dtype = numerics.working_dtype(p)
        return jnp.asarray(p, dtype) - jnp.asarray(lookahead, dtype)

    return jax.tree.map(at_leaf, params, state.lookahead)


register_eval_params(TraceNesterovState, _params_without_lookahead, like="lookahead")
