"""Norms of gradients, updates and weights, layer by layer, in the optimizer's state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import numerics
from lectopt._internal.types import Array, ArrayTree
from lectopt.optim.layers import first_norms, norms_by_layer


class WatchNormsState(NamedTuple):
    """The state of `watch_norms`.

    Attributes:
        norms: `{"<name>_norm": {layer: float32[]}}`, those of the last step.
    """

    norms: dict[str, dict[str, Array]]


def watch_norms(*names: str) -> optax.GradientTransformationExtraArgs:
    """Records the norms of what passes through it, layer by layer, and changes nothing: for your own training loops.

    As the first link of a chain it sees the gradient, as the last one the update; under the name "weight" it measures
    the parameters instead. Read its norms from the optimizer's state by `optax.tree.get(state, "gradient_norm")`.
    (`train` and `fit` need no such link: pass them `watch=`.)

    Args:
        *names: one or more names for what passes through here, such as "gradient" or "update"; "weight" stands for the
            parameters. All links of a chain need different names, since `optax.tree.get` finds them by name.

    Returns:
        A link for `optax.chain`. `state.norms` is `{"<name>_norm": {layer: float32[]}}`: the root of the sum of squares
        over the leaves below one path, such as a layer's kernel and bias, in float32 or wider; 0 before the first step.

    Raises:
        ValueError: if there is no name, or one is given twice; at `update`, if no parameters are given where "weight"
            is to be measured, or there are layers that `init` was not given.
        TypeError: if a name is not a string.

    Example:
        >>> import jax.numpy as jnp, optax, lectopt as lo
        >>> optimizer = optax.chain(lo.watch_norms("gradient"), lo.sgd(0.1), lo.watch_norms("update", "weight"))
        >>> params = {"dense": {"kernel": jnp.array([3.0, 4.0])}}
        >>> updates, state = optimizer.update(params, optimizer.init(params), params)
        >>> print(optax.tree.get(state, "gradient_norm"), optax.tree.get(state, "update_norm"))
        {'dense': Array(5., dtype=float32)} {'dense': Array(0.5, dtype=float32)}

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Monitoring the Training Process".
    """
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"names must be strings such as 'gradient'; got {names}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be at least 1, each once; got {names}")

    def init(params: ArrayTree) -> WatchNormsState:
        return WatchNormsState({f"{name}_norm": first_norms(params) for name in names})

    def update(updates, state, params=None, **extra):
        del extra
        if params is None and "weight" in names:
            raise ValueError("update must be given params where watch_norms is to measure the weights")
        measured = {f"{name}_norm": norms_by_layer(params if name == "weight" else updates) for name in names}
        for name, layers in measured.items():
            if unknown := sorted(set(layers) - set(state.norms[name])):
                raise ValueError(
                    f"update must be given the layers that init was given, {', '.join(state.norms[name])}; got "
                    f"{', '.join(unknown)} as well"
                )
        # By the layers of the parameters: the gradient may lack some (None), and then is 0 there.
        norms = {
            name: {layer: measured[name].get(layer, jnp.zeros(())).astype(x.dtype) for layer, x in layers.items()}
            for name, layers in state.norms.items()
        }
        return updates, WatchNormsState(jax.tree.map(numerics.record, norms, state.norms))

    return optax.GradientTransformationExtraArgs(init, update)
