"""The precision in which a model computes: what it is given is rounded to it, and what it returns is widened."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from lectopt._internal import checks
from lectopt._internal.numerics import widen
from lectopt._internal.types import ArrayTree
from lectopt.tasks.interception import LayerCall, intercept
from lectopt.tasks.models import Params, State

_CELLS = (nnx.RNNCellBase, linen.RNNCellBase)
_ALLOWED = ("bfloat16", "float16", "float32")


def as_compute_dtype(dtype: Any) -> jnp.dtype | None:
    """Converts what was given as `compute_dtype` to a dtype; None, for the model's own precision, stays.

    Raises:
        ValueError: if it is a dtype that models do not compute in.
        TypeError: if it is no dtype.
    """
    if dtype is None:
        return None
    try:
        converted = jnp.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise TypeError(f"compute_dtype must be one of {', '.join(_ALLOWED)}; got {dtype!r}") from error
    if converted.name not in _ALLOWED:
        raise ValueError(f"compute_dtype must be one of {', '.join(_ALLOWED)}; got {converted.name}")
    return converted


class RoundedAdapter:
    """An adapter of `lectopt.tasks.models` whose models compute in a dtype; what is kept of them stays as it is."""

    def __init__(self, adapter: Any, dtype: jnp.dtype):
        self._adapter = adapter
        self._dtype = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        """Calls the adapter's own `call` with rounded weights, and a model that rounds its inputs."""
        weights = _rounded(params, self._dtype)
        result, new = self._adapter.call(lambda m: self._rounding(m, function), weights, state, key, training)
        return result, jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, state)

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        """Computes the outputs for inputs x, in float32 or wider."""
        outputs = self._adapter.forward(model, x, training)
        return jax.tree.map(lambda a: widen(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, outputs)

    def _rounding(self, model: Any, function: Callable[[Any], Any]) -> Any:
        if self._adapter.has_layers:
            return intercept(model, function, self._call_layer)
        return function(lambda x: model(_rounded(x, self._dtype)))

    def _call_layer(self, call: LayerCall) -> Any:
        """Calls a layer with rounded inputs: the layers before it may have widened them, as batch norms do."""
        if issubclass(call.layer_class, _CELLS):  # what a scan carries is to keep its dtype
            return call.layer(*call.args, **call.kwargs)
        args, kwargs = _rounded((call.args, call.kwargs), self._dtype)
        return call.layer(*args, **kwargs)


def _rounded(tree: ArrayTree, dtype: jnp.dtype) -> ArrayTree:
    """Returns a tree with its floating-point arrays in this dtype."""

    def of_leaf(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise checks.ArgumentError(f"compute_dtype must be None for complex numbers; {dtype.name} has none")
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(of_leaf, tree)
