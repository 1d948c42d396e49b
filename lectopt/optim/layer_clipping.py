"""Gradient clipping, layer by layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import checks, numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.clipping import NONFINITE, clip_factor, scale
from lectopt.optim.layers import first_norms, layer_names, norms_by_layer


class ClipLayersByNormState(NamedTuple):
    """The state of `clip_layers_by_norm`.

    Attributes:
        count: int32[], the number of steps taken.
        norms: {layer: float32[]}, the norms of the last gradient, before clipping.
    """

    count: Array
    norms: dict[str, Array]


def clip_layers_by_norm(
    max_norm: numerics.Hyperparameter, nonfinite: str = "propagate"
) -> optax.GradientTransformationExtraArgs:
    r"""Shortens the gradient of each layer that is longer than a threshold.

    .. math:: g_l \leftarrow g_l \min(1, \nu / \lVert g_l \rVert) \quad \text{for each layer } l

    One layer that explodes leaves the others their steps, whereas `clip_by_norm` shortens all alike; in return, the
    direction of the whole gradient changes. A layer is what lies below one path, such as a kernel and its bias; a leaf
    at the top of the tree is a layer of its own.

    Args:
        max_norm: nu, above 0, in units of the gradient: a number, an array of shape (), a traced value, or a schedule
            (a function of the step k = 0, 1, 2, ...).
        nonfinite: what becomes of a layer's gradient whose norm is infinite or NaN: "propagate" makes every entry of
            the layer NaN, so that nobody overlooks it; "zero" makes every entry of it 0.

    Returns:
        A link for `optax.chain`. `state.norms` are the norms before clipping. Its updates have the wider of the
        gradient's and the parameter's dtype (the gradient's if `update` is given no parameters).

    Raises:
        ValueError: if a concrete max_norm is not positive, or nonfinite is neither "propagate" nor "zero".
        TypeError: if max_norm is not a number.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> link = lo.clip_layers_by_norm(1.0)
        >>> gradient = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.1])}
        >>> print(link.update(gradient, link.init(gradient))[0])
        {'a': Array([0.6, 0.8], dtype=float32), 'b': Array([0.1], dtype=float32)}

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Gradient Clipping"; R. Pascanu, T. Mikolov
    and Y. Bengio (2013), "On the difficulty of training recurrent neural networks", ICML, algorithm 1, for each layer.
    """
    checks.check_hyperparameter("max_norm", max_norm, checks.POSITIVE)
    checks.check_choice("nonfinite", nonfinite, NONFINITE)

    def init(params: ArrayTree) -> ClipLayersByNormState:
        return ClipLayersByNormState(numerics.first_step(), first_norms(params))

    def update(updates, state, params=None, **extra):
        del extra
        count = optax.safe_increment(state.count)
        threshold = numerics.at_last_step(max_norm, count)
        norms = norms_by_layer(updates)
        by_layer = {layer: clip_factor(x, threshold.astype(x.dtype), nonfinite)[1] for layer, x in norms.items()}
        factors = jax.tree.unflatten(jax.tree.structure(updates), [by_layer[name] for name in layer_names(updates)])
        updates, _ = numerics.map_leaves(lambda g, f: (scale(g, f), f), updates, factors, params=params)
        # Layers without a gradient (None) have none here.
        new = {layer: norms.get(layer, jnp.zeros(())).astype(old.dtype) for layer, old in state.norms.items()}
        return updates, ClipLayersByNormState(count, jax.tree.map(numerics.record, new, state.norms))

    return optax.GradientTransformationExtraArgs(init, update)
