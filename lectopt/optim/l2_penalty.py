"""The L2 penalty: g <- g + 2 lambda w."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.dict_masks import accept_dicts


class AddL2State(NamedTuple):
    """The state of `add_l2`.

    Attributes:
        count: int32[], the number of steps taken.
    """

    count: Array


def add_l2(
    coefficient: numerics.Hyperparameter, mask: Any | Callable[[ArrayTree], Any] | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of the penalty :math:`\lambda \lVert w \rVert^2` to that of the loss.

    .. math:: g \leftarrow g + 2 \lambda w

    The lecture's :math:`E(w) = \sum_{n=1}^N (\hat y^{(n)} - t^{(n)})^2 + \lambda \lVert w \rVert^2` *sums* over N
    examples, whereas lectopt's losses are means. So **the lecture's lambda is N times ours**: set
    `coefficient = lambda / N`.

    Args:
        coefficient: lambda, at least 0, in units of loss per squared unit of weight: a number, an array of shape (), a
            traced value, or a schedule (a function of the step k = 0, 1, 2, ...).
        mask: a tree of booleans like the parameters (or a prefix of it; plain dictionaries for an `nnx.State`), or a
            function from the parameters to such a tree, True where the penalty applies; None penalizes all parameters.
            Biases are commonly left out.

    Returns:
        A link for `optax.chain`, to be placed first, where updates are gradients. Its updates have the wider of the
        gradient's and the parameter's dtype.

    Raises:
        ValueError: if a concrete coefficient is negative, infinite or NaN; at `update`, if no parameters are given.
        TypeError: if coefficient is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.add_l2(0.5)
        >>> w = jnp.array([1.0, -2.0])
        >>> print(link.update(jnp.zeros(2), link.init(w), w)[0])
        [ 1. -2.]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Validation" (tuning the weight decay
    parameter); A. Krogh and J. Hertz (1991), "A simple weight decay can improve generalization", NIPS 4; I. Goodfellow,
    Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 7.1.1.
    """
    checks.check_hyperparameter("coefficient", coefficient, checks.NON_NEGATIVE)

    def init(params: ArrayTree) -> AddL2State:
        del params
        return AddL2State(numerics.first_step())

    def update(updates, state, params=None, **extra):
        del extra
        if params is None:
            raise ValueError("add_l2 needs the parameters: call update(gradients, state, params)")
        count = optax.safe_increment(state.count)
        weight = numerics.at_last_step(coefficient, count)
        rule = lambda g, w, weight: (g + 2 * weight * w, w)  # noqa: E731
        updates, _ = numerics.map_leaves(rule, updates, params, params=params, weight=weight)
        return updates, AddL2State(count)

    link = optax.GradientTransformationExtraArgs(init, update)
    return link if mask is None else accept_dicts(optax.masked(link, mask))
