"""Looking into models that do not know of it: what each layer takes in and puts out during one call.

NNX layers get, for the time of the call, a subclass of their own class; Linen has interceptors. Perturbations that are
added to the outputs give the back-propagated gradients there.
"""

import copy
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.extend.core import get_opaque_trace_state

from lectopt._types import Array
from lectopt.models import Adapter, FunctionAdapter, Params, State
from lectopt.task import Task


class Probe:
    """Records the layers of one call, in the order in which they end.

    Layers inside of a `scan`, `vmap`, `remat` or `jit` cannot be seen from outside of it.
    """

    def __init__(self, perturbations: dict[str, Array] | None = None):
        self.inputs: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}
        self.kinds: dict[str, str] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self._perturbations = perturbations or {}
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._trace = get_opaque_trace_state()

    def watch(self, model: Any, function: Callable[[Any], Any]) -> Any:
        """What `function(model)` returns, with every layer recorded."""
        if isinstance(model, nnx.Module):
            _subclass_layers(model, self)
            return function(model)
        if isinstance(model, linen.Module):
            with linen.intercept_methods(functools.partial(_intercept, self)):
                return function(model)
        return function(model)

    def call(self, path: tuple[str, ...], kind: str, layer: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What `layer(*args, **kwargs)` returns, recorded and perturbed."""
        outputs = layer(*args, **kwargs)
        numbers = isinstance(outputs, jax.Array) and jnp.issubdtype(outputs.dtype, jnp.floating)
        if not numbers or get_opaque_trace_state() != self._trace:
            return outputs
        self._calls[path] += 1
        name = "/".join(path) or kind
        if self._calls[path] > 1:
            name += f" ({self._calls[path]})"
        self.kinds[name], self.paths[name] = kind, path
        if name in self._perturbations:
            outputs = outputs + self._perturbations[name]
        if args and isinstance(args[0], jax.Array):
            self.inputs[name] = args[0]
        self.outputs[name] = outputs
        return outputs

    def layers(self) -> list[str]:
        """The names of the innermost layers that were seen."""
        paths = set(self.paths.values())
        return [n for n, path in self.paths.items() if not any(p != path and p[: len(path)] == path for p in paths)]


def next_input(name: str, names: Sequence[str], inputs: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """What the next layer that takes this shape, or this shape flattened, gets: the outputs after their activation."""
    later = (inputs[n] for n in names[names.index(name) + 1 :] if n in inputs)
    fitting = (x for x in later if x.shape[:1] == shape[:1] and x.size == math.prod(shape))
    return next((x.reshape(shape) for x in fitting), None)


def watched(task: Task, probe: Probe) -> Task:
    """The task with its models watched by a probe.

    Raises:
        TypeError: if its model is a pair of functions.
    """
    if isinstance(task.adapter, FunctionAdapter):
        raise TypeError("task must have an NNX or Linen model, for its layers; got a pair of functions, which has none")
    task = copy.copy(task)
    task.adapter = _WatchedAdapter(task.adapter, probe)
    return task


class _WatchedAdapter:
    """An adapter whose models are watched by a probe."""

    def __init__(self, adapter: Adapter, probe: Probe):
        self.has_weights = adapter.has_weights
        self.init = adapter.init
        self.forward = adapter.forward
        self.present = adapter.present
        self.path = adapter.path
        self.specs = adapter.specs
        self._adapter = adapter
        self._probe = probe

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        """As the adapter's own."""
        return self._adapter.call(lambda model: self._probe.watch(model, function), params, state, key, training)


def _subclass_layers(module: nnx.Module, probe: Probe) -> None:
    for path, layer in nnx.iter_modules(module):
        if callable(layer):
            object.__setattr__(layer, "__class__", _watched(type(layer)))
            object.__setattr__(layer, "_lectopt_probe", (probe, tuple(map(str, path))))


@functools.cache
def _watched(layer_class: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        probe, path = self._lectopt_probe
        return probe.call(path, layer_class.__name__, functools.partial(layer_class.__call__, self), args, kwargs)

    return type(layer_class.__name__, (layer_class,), {"__call__": call})


def _intercept(probe: Probe, layer: Callable, args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
    if context.method_name != "__call__":
        return layer(*args, **kwargs)
    return probe.call(context.module.path, type(context.module).__name__, layer, args, kwargs)
