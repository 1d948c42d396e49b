"""Intercepting the calls of layers in models that know nothing of it.

NNX layers get, for the time of the call, a subclass of their own class; Linen has interceptors.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from flax import linen, nnx

_INTERCEPTION = "_lectopt_interception"


class LayerCall(NamedTuple):
    """A call of a layer that is about to be made."""

    path: tuple[str, ...]  # of the layer within the model
    layer_class: type
    layer: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Handler: TypeAlias = Callable[[LayerCall], Any]
"""Makes the call, and returns what the layer is to return."""


def intercept(
    model: Any, function: Callable[[Any], Any], handler: Handler, wanted: Callable[[type], bool] = callable
) -> Any:
    """Returns what `function(model)` returns, while the handler gets every call of a layer, that of the model included.

    Args:
        model: an nnx.Module that nothing else uses, or a bound Linen module; of others no layers are known.
        function: what to do with it.
        handler: what to do with a call.
        wanted: of which classes of NNX layers the calls are.
    """
    if isinstance(model, nnx.Module):
        _subclass_layers(model, handler, wanted)
    if isinstance(model, linen.Module):
        with linen.intercept_methods(functools.partial(_intercept, handler)):
            return function(model)
    return function(model)


class InterceptedAdapter:
    """An adapter of `lectopt.tasks.models` whose models have the calls of their layers intercepted."""

    def __init__(self, adapter: Any, handler: Handler, wanted: Callable[[type], bool] = callable):
        self._adapter = adapter
        self._handler = handler
        self._wanted = wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def call(self, function: Callable[[Any], Any], *arguments: Any) -> Any:
        """Calls the adapter's own `call` with intercepted layers."""
        return self._adapter.call(lambda model: intercept(model, function, self._handler, self._wanted), *arguments)


def _subclass_layers(module: nnx.Module, handler: Handler, wanted: Callable[[type], bool]) -> None:
    for path, layer in nnx.iter_modules(module):
        if (before := vars(layer).get(_INTERCEPTION)) is not None:
            object.__setattr__(layer, _INTERCEPTION, (functools.partial(_around, handler, before[0]), before[1]))
        elif callable(layer) and wanted(type(layer)):
            object.__setattr__(layer, "__class__", _intercepted(type(layer)))
            object.__setattr__(layer, _INTERCEPTION, (handler, tuple(map(str, path))))


def _around(outer: Handler, inner: Handler, call: LayerCall) -> Any:
    """Makes a call that two handlers want: `outer`, which came later, gets it first."""
    return outer(call._replace(layer=lambda *args, **kwargs: inner(call._replace(args=args, kwargs=kwargs))))


@functools.cache
def _intercepted(layer_class: type) -> type:
    @functools.wraps(layer_class.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        handler, path = getattr(self, _INTERCEPTION)
        layer = functools.partial(layer_class.__call__, self)
        return handler(LayerCall(path, layer_class, layer, args, kwargs))

    return type(layer_class.__name__, (layer_class,), {"__call__": call})


def _intercept(
    handler: Handler, layer: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    if context.method_name != "__call__":
        return layer(*args, **kwargs)
    return handler(LayerCall(context.module.path, type(context.module), layer, args, kwargs))
