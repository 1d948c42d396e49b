"""Looking into models that know nothing of it: the inputs and outputs of each layer during one call.

Perturbations that are added to the outputs give the back-propagated gradients there.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from lectopt._internal.types import Array
from lectopt.tasks.interception import LayerCall, intercept
from lectopt.tasks.task import Task


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
        """Returns what `function(model)` returns, and records every layer."""
        return intercept(model, function, self.call)

    def call(self, call: LayerCall) -> Any:
        """Returns what the layer returns, recorded and perturbed."""
        outputs = call.layer(*call.args, **call.kwargs)
        numbers = isinstance(outputs, jax.Array) and jnp.issubdtype(outputs.dtype, jnp.floating) and outputs.size > 0
        if not numbers or get_opaque_trace_state() != self._trace:
            return outputs
        path, kind = call.path, call.layer_class.__name__
        self._calls[path] += 1
        name = "/".join(path) or kind
        if self._calls[path] > 1:
            name += f" ({self._calls[path]})"
        self.kinds[name], self.paths[name] = kind, path
        if name in self._perturbations:
            outputs = outputs + self._perturbations[name]
        if call.args and isinstance(call.args[0], jax.Array):
            self.inputs[name] = call.args[0]
        self.outputs[name] = outputs
        return outputs

    def layers(self) -> list[str]:
        """Returns the names of the innermost layers that were seen."""
        paths = set(self.paths.values())
        return [n for n, path in self.paths.items() if not any(p != path and p[: len(path)] == path for p in paths)]


def next_input(name: str, names: Sequence[str], inputs: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """Returns what the next layer of this shape, or this shape flattened, takes: the outputs after activation."""
    later = (inputs[n] for n in names[names.index(name) + 1 :] if n in inputs)
    fitting = (x for x in later if x.shape[:1] == shape[:1] and x.size == math.prod(shape))
    return next((x.reshape(shape) for x in fitting), None)


def watched(task: Task, probe: Probe) -> Task:
    """Returns the task with its models watched by a probe.

    Raises:
        TypeError: if its model is a pair of functions.
    """
    if not task.adapter.has_layers:
        raise TypeError("task must have an NNX or Linen model, for its layers; got a pair of functions, which has none")
    return task.intercepted(probe.call)
