"""The layers of a network, as pre-training sees them."""

from typing import Any

import jax

from lectopt._internal.types import Array
from lectopt.pretraining.decoders import LayerShapes
from lectopt.pretraining.model_arrays import model_paths
from lectopt.pretraining.renaming_rules import ModelPath
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe
from lectopt.tasks.task import Task


class NetworkLayers:
    """The layers of a task's network that have weights, in the order in which they are called."""

    def __init__(self, task: Task, x: Any):
        if not task.adapter.has_layers:
            raise TypeError("task must have an NNX or Linen model, for its layers; got a pair of functions")
        self.order: list[str] = []  # of all innermost layers
        self.paths: dict[str, ModelPath] = {}
        self.shapes: dict[str, LayerShapes] = {}  # of those with weights

        def forward(key: jax.Array, x: Array) -> None:
            params, state = task.init(key, (x,))
            probe = Probe()
            outputs, _ = task.adapter.call(
                lambda model: probe.watch(model, lambda m: task.adapter.forward(m, x, True)),
                params,
                state.variables,
                key,
                True,
            )
            self._record_calls(probe, params, outputs)

        jax.eval_shape(forward, jax.random.key(0), x)

    def _record_calls(self, probe: Probe, params: Params, outputs: Array) -> None:
        named = zip(model_paths(params), jax.tree.leaves(params), strict=True)
        kernels = {path[:-1]: leaf for path, leaf in named if path[-1:] == ("kernel",)}
        self.order = probe.layers()
        self.paths = {name: probe.paths[name] for name in self.order}

        def has_weights(name: str) -> bool:
            kernel = kernels.get(probe.paths[name])
            supported = kernel is not None and (kernel.ndim == 2 or probe.kinds[name] == "Conv")
            return supported and name == ("/".join(probe.paths[name]) or probe.kinds[name])  # the first call of a layer

        weighted = list(filter(has_weights, self.order))
        _check_calls(probe, weighted, outputs)
        for i, name in enumerate(weighted):
            inputs, layer_outputs = probe.inputs[name], probe.outputs[name]
            code = probe.inputs[weighted[i + 1]] if i + 1 < len(weighted) else outputs
            window = kernels[probe.paths[name]].shape[:-2]
            self.shapes[name] = LayerShapes(inputs.shape[1:], layer_outputs.shape[1:], code.shape[1:], window)

    def next_weighted(self, name: str) -> str | None:
        """Returns the next layer with weights."""
        later = list(self.shapes)[list(self.shapes).index(name) + 1 :]
        return later[0] if later else None

    def before_first_weighted(self) -> set[ModelPath]:
        """Returns the paths of what precedes the first layer with weights, such as a norm of the inputs."""
        return {self.paths[n] for n in self.order[: self.order.index(next(iter(self.shapes)))]}

    def block(self, name: str) -> set[ModelPath]:
        """Returns the paths of this layer and of what stands between it and the next one with weights."""
        first, following = self.order.index(name), self.next_weighted(name)
        last = len(self.order) if following is None else self.order.index(following)
        return {self.paths[n] for n in self.order[first:last]}


def _check_calls(probe: Probe, weighted: list[str], outputs: Any) -> None:
    if not hasattr(outputs, "shape"):
        raise ValueError(f"task must have a network that returns one array; got {type(outputs).__name__}")
    for name in weighted:
        if name not in probe.inputs:
            raise ValueError(
                f"task must have a network that calls its layers as layer(x); {name} is given x as a keyword argument"
            )
