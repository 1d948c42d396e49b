"""A stage of pre-training: a network beside a decoder, and how well what went in is rebuilt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal.meshes import Specs
from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.pretraining.corruption import Corrupt
from lectopt.pretraining.network_layers import NetworkLayers
from lectopt.pretraining.renaming_rules import ModelPath
from lectopt.tasks.interception import LayerCall
from lectopt.tasks.models import Adapter, Params, State
from lectopt.tasks.probe import Probe
from lectopt.tasks.task import Task


def layer_reconstruction(
    task: Task, layers: NetworkLayers, name: str, decoder: Callable[..., nnx.Module], corrupt: Corrupt
) -> Task:
    """Returns the task of reconstructing the input of layer `name` from the next layer's, under corruption."""
    following = layers.next_weighted(name)

    def objective(models: Any, batch: Batch, key: jax.Array) -> tuple[Array, dict[str, Array]]:
        network, decode = models
        probe = _CorruptingProbe(layers.paths[name], lambda clean: _corrupted_like(corrupt, key, clean))
        outputs = network(batch[0], probe)
        return _squared_error(decode(outputs if following is None else probe.inputs[following]), probe.clean), {}

    return _with_decoder(task, decoder, objective)


def input_reconstruction(task: Task, decoder: Callable[..., nnx.Module], corrupt: Corrupt) -> Task:
    """Returns the task of reconstructing corrupted inputs from the network's outputs."""

    def objective(models: Any, batch: Batch, key: jax.Array) -> tuple[Array, dict[str, Array]]:
        network, decode = models
        return _squared_error(decode(network(_corrupted_like(corrupt, key, batch[0]), Probe())), batch[0]), {}

    return _with_decoder(task, decoder, objective)


class NetworkWithDecoder:
    """Two models side by side: the network, called as (x, probe), and the decoder."""

    has_weights = False
    has_layers = True

    def __init__(self, network: Adapter, decoder: Adapter):
        self._network = network
        self._decoder = decoder

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        """Parameters and variables of both, each under its name."""
        network, decoder = self._network.init(key, x), self._decoder.init(jax.random.fold_in(key, 1), x)
        params, variables = ({"network": n, "decoder": d} for n, d in zip(network, decoder, strict=True))
        return params, variables

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        """Returns what `function((network, decoder))` returns, and the state of both after it."""

        def beside(model: Any) -> Any:
            def network(x: Any, probe: Probe) -> Any:
                return probe.watch(model, lambda watched: self._network.forward(watched, x, training))

            return self._decoder.call(
                lambda decoder: function((network, decoder)), params["decoder"], state["decoder"], key, training
            )

        (result, decoder), network = self._network.call(beside, params["network"], state["network"], key, training)
        return result, {"network": network, "decoder": decoder}

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        """Returns the outputs of the network."""
        del training
        return model[0](x, Probe())

    def check_call(self) -> None:
        """Checks a call as the network's own adapter does."""
        self._network.check_call()

    def present(self, params: Params, state: State) -> Any:
        """Returns the network."""
        return self._network.present(params["network"], state["network"])

    def path(self, place: Any) -> ModelPath:
        """Returns the path to a parameter of the network."""
        return ("network", *self._network.path(place))

    def specs(self) -> Specs:
        """Returns None: pre-training is for one device."""
        return {}


class _CorruptingProbe(Probe):
    """Corrupts what one layer takes in, and keeps the clean."""

    def __init__(self, layer: ModelPath, corrupt: Callable[[Array], Array]):
        super().__init__()
        self.clean: Any = None
        self._layer = layer
        self._corrupt = corrupt

    def call(self, call: LayerCall) -> Any:
        """Returns what the layer returns, recorded; for the corrupted layer, from a corrupted input."""
        if call.path == self._layer and self.clean is None:
            # What stands before the layer is not changed by it.
            self.clean = jax.lax.stop_gradient(call.args[0])
            call = call._replace(args=(self._corrupt(self.clean), *call.args[1:]))
        return super().call(call)


def _with_decoder(task: Task, decoder: Callable[..., nnx.Module], objective: Callable[..., Any]) -> Task:
    stage = Task(decoder, objective=objective, standardize=task.standardize, compute_dtype=task.compute_dtype)
    stage.adapter = NetworkWithDecoder(task.adapter, stage.adapter)
    return stage


def _corrupted_like(corrupt: Corrupt, key: jax.Array, clean: Array) -> Array:
    corrupted = corrupt(key, clean)
    if jnp.shape(corrupted) != clean.shape:
        raise ValueError(
            f"corruption must return the shape that it is given, {list(clean.shape)}; got {list(jnp.shape(corrupted))}"
        )
    return corrupted


def _squared_error(reconstructed: Array, clean: Array) -> Array:
    """Returns float[batch]: the squared error of each example, averaged over its numbers."""
    if reconstructed.shape != clean.shape:
        raise ValueError(
            f"decoder must return the shape that it reconstructs, {list(clean.shape)}; got {list(reconstructed.shape)}"
        )
    return jnp.mean((reconstructed - clean) ** 2, axis=range(1, clean.ndim))
