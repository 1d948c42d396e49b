"""Statistics of each layer during training: sizes of gradients, updates and weights, and what the units do."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.jaxprs import primitives
from lectopt._internal.numerics import widen
from lectopt._internal.tree_norm import tree_norm
from lectopt._internal.trees import paths
from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe, next_input, watched
from lectopt.tasks.scores import Scores
from lectopt.tasks.task import Task

WEIGHT_STATISTICS = ("gradient_norm", "update_norm", "weight_norm", "update_ratio")
OUTPUT_STATISTICS = ("output_mean", "output_std", "output_gradient_std", "dead", "saturated")
BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "logistic": (0.0, 1.0)}
_FLAT = 0.01
"""An output of a squashing function is saturated if it is this near to its bound: its slope is a hundredth."""
_CLOSE, _CLOSE_NARROW = 64, 4
"""Two ways to the same tanh differ by less than so many times the precision of float32, or of narrower numbers."""
_SQUASHING = {"tanh": jnp.tanh, "logistic": jax.nn.sigmoid}
"""By the names of JAX's primitives: a model without them has nothing that could be saturated."""


@dataclasses.dataclass(frozen=True)
class Watch:
    """Which layers are recorded, and how often; made by `watch`."""

    every: int
    layers: tuple[str, ...] | None


def watch(every: int = 10, layers: Sequence[str] | None = None) -> Watch:
    r"""Selects what `train` and `fit` record of each layer during training, inside the compiled loop.

    At the steps k = 0, `every`, 2 `every`, ..., of the weights w of each layer (biases included):

    - "gradient_norm" :math:`\lVert g \rVert` of the loss's gradient, "update_norm" :math:`\lVert \Delta w \rVert` of
      what the optimizer adds, "weight_norm" :math:`\lVert w \rVert` before it, and their "update_ratio"
      :math:`\lVert \Delta w \rVert / \lVert w \rVert`, of which about 1e-3 is healthy (infinite where weights that are
      all 0 move, and 0 where they do not);

    and of its outputs z for the minibatch (layers of NNX and Linen models, in training mode):

    - "output_mean" and "output_std" over examples and units; "output_gradient_std", the standard deviation of
      :math:`\partial L / \partial z`, the gradient that is propagated back to it;
    - "dead", the share of the units that are 0 for every example after the activation, and "saturated", the share of
      the values after a tanh or sigmoid that are within 1 % of its bounds (other squashing functions count as 0).

    A layer that is called several times has one entry for each call. The inside of a scan, vmap, remat or jit cannot be
    seen from outside; the weights there are recorded under their own path. Of layers whose outputs are not real
    numbers, only the weights are recorded.

    Args:
        every: the number of steps from one record to the next, a whole number of at least 1.
        layers: the names of the layers to record, a list such as ["layers/0", "layers/2"]; None records all.

    Returns:
        A value for the argument `watch` of `train` and `fit`; a bare number there means `watch(number)`. The records
        are `run.history.layers[layer][statistic]`, float32[records]. Under `jax.grad` a watched training can only be
        differentiated in forward mode.

    Raises:
        ValueError: if every is below 1, or a layer is named twice; when training, if there is no such layer.
        TypeError: if every is not a whole number, or layers not a list of names.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.tanh, nnx.Linear(8, 3, rngs=rngs))
        >>> task, flowers = lo.classification(net), lo.datasets.iris()
        >>> run = lo.fit(task, lo.sgd(0.1), flowers, batch_size=30, epochs=4, key=0, watch=5)
        >>> sorted(run.history.layers), run.history.layers["layers/0"]["update_ratio"].shape
        (['layers/0', 'layers/2'], (4,))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Monitoring the Training Process"; A.
    Karpathy, CS231n course notes (Stanford), "Babysitting the learning process", for the ratio of updates to weights.
    """
    every = checks.check_count("every", every)
    if layers is None:
        return Watch(every, None)
    if not isinstance(layers, (list, tuple)) or not all(isinstance(name, str) for name in layers):
        raise TypeError(f"layers must be a list of names such as ['layers/0']; got {layers!r}")
    if len(set(layers)) < len(layers) or not layers:
        raise ValueError(f"layers must be names, each once, at least 1; got {list(layers)}")
    return Watch(every, tuple(layers))


def as_watch(value: Any) -> Watch | None:
    """Converts what was given as `watch=`: None, a number of steps, or what `watch` returns."""
    return value if value is None or isinstance(value, Watch) else Watch(checks.check_count("watch", value), None)


class Watcher:
    """Computes the statistics of the layers of a task's model."""

    def __init__(self, task: Task, chosen: Watch, params: Params, state: ModelState, batch: Batch):
        """Finds the layers, computing nothing; all but `task` and `chosen` may be shapes.

        Raises:
            ValueError: if a chosen layer is not there.
        """
        self._task = task
        self._every = chosen.every
        probes = []

        def outputs(params: Params, state: ModelState, batch: Batch, key: jax.Array) -> dict[str, Array]:
            probes.append(probe := Probe())  # it sees no other trace than the one that it was made in
            self._scores(probe, params, state, batch, key)
            traced = dict(probe.outputs)
            probe.inputs.clear()  # no tracer outlives the trace
            probe.outputs.clear()
            return traced

        program, shapes = jax.make_jaxpr(outputs, return_shape=True)(params, state, batch, jax.random.key(0))
        self._squashing = {name: f for name, f in _SQUASHING.items() if name in primitives(program.jaxpr)}
        probe = probes[0]
        called = probe.layers()
        owners = _owners(params, {probe.paths[name]: name for name in reversed(called)})
        layers = list(dict.fromkeys([*called, *owners]))
        if unknown := [name for name in chosen.layers or () if name not in layers]:
            raise ValueError(f"the layers to watch must be among {', '.join(layers)}; got {', '.join(unknown)}")
        wanted = layers if chosen.layers is None else [name for name in layers if name in chosen.layers]
        self._leaves = {name: [i for i, owner in enumerate(owners) if owner == name] for name in wanted}
        self.entries = tuple(
            (name, statistic)
            for name in wanted
            for statistic in WEIGHT_STATISTICS * bool(self._leaves[name]) + OUTPUT_STATISTICS * (name in called)
        )
        """(layer, statistic) for each number of a record."""

        self.perturbations = {n: jnp.zeros(shapes[n].shape, shapes[n].dtype) for n in called if n in wanted}
        """Zeros to be added to the layers' outputs, for the gradients there."""

    def no_records(self, steps: int) -> "LayerRecords":
        """Returns empty records for a training of so many steps."""
        values = jnp.zeros((math.ceil(steps / self._every), len(self.entries)), jnp.float32)
        return LayerRecords(values, self.entries, self._every)

    def scores(
        self,
        params: Params,
        perturbations: dict[str, Array],
        state: ModelState,
        batch: Batch,
        key: jax.Array,
        *,
        step: Array,
        mask: Array,
    ) -> tuple[Scores, ModelState, dict[tuple[str, str], Array]]:
        """Returns what `task.scores` does in training mode, and the statistics of the layers' outputs.

        `step` counts the steps before this one; `mask`, bool[batch], is False for the padding of the batch.
        """
        probe = Probe(perturbations)
        scores, state = self._scores(probe, params, state, batch, key, step=step, mask=mask)
        statistics = {name: _output_statistics(name, probe, mask, self._squashing) for name in self.perturbations}
        by_entry = {(name, s): x for name, numbers in statistics.items() for s, x in numbers.items()}
        return scores, state, by_entry

    def record(
        self,
        params: Params,
        gradients: Params,
        updates: Params,
        output_statistics: dict[tuple[str, str], Array],
        output_gradients: dict[str, Array],
        mask: Array,
    ) -> Array:
        """Computes the statistics of one step, float32[entries].

        `output_statistics` is from `scores`, `output_gradients` are those with respect to the perturbations.
        """
        numbers = dict(output_statistics)
        leaves = [jax.tree.leaves(tree) for tree in (gradients, updates, params)]
        for name, places in self._leaves.items():
            norms = [tree_norm([tree[i] for i in places]) for tree in leaves]
            numbers |= {(name, s): x for s, x in zip(WEIGHT_STATISTICS, [*norms, _ratio(*norms[1:])], strict=True)}
        numbers |= {
            (name, "output_gradient_std"): _deviation(widen(x), _example_mask(x, mask))
            for name, x in output_gradients.items()
        }
        return jnp.stack([numbers[entry].astype(jnp.float32) for entry in self.entries])

    def _scores(
        self, probe: Probe, params: Params, state: ModelState, batch: Batch, key: jax.Array, **known: Array
    ) -> tuple[Scores, ModelState]:
        task = watched(self._task, probe) if self._task.adapter.has_layers else self._task  # functions have weights
        return task.scores(params, state, batch, key, training=True, **known)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerRecords:
    """The records of the layers, one every `every` steps."""

    values: Array  # float32[records, entries]; 0 for those of steps that were not done
    entries: tuple[tuple[str, str], ...] = dataclasses.field(metadata={"static": True})
    every: int = dataclasses.field(metadata={"static": True})

    def store(self, row: Array, record: Array) -> "LayerRecords":
        """Returns the records with that of one more step."""
        return dataclasses.replace(self, values=self.values.at[row].set(record))

    def by_layer(self) -> OrderedDict[str, dict[str, Array]]:
        """Returns {layer: {statistic: float32[records]}}; a plain dictionary would be sorted by name under `jit`."""
        layers: OrderedDict[str, dict[str, Array]] = OrderedDict()
        for place, (layer, statistic) in enumerate(self.entries):
            layers.setdefault(layer, {})[statistic] = self.values[:, place]
        return layers


def could_be_gated(z: Any, after: Any) -> Any:
    """Tells whether `after` may be z behind an activation and dropout: nothing, or of the same sign."""
    return ((after == 0) | ((after > 0) == (z > 0))).all()


def is_flat(a: Any, low: float, high: float) -> Any:
    """Tells which outputs of a squashing function are within 1 % of a bound, where its slope nearly vanishes."""
    near = _FLAT * (high - low) / 2
    return (a - low < near) | (high - a < near)


def _example_mask(z: Array, mask: Array) -> Array:
    """Returns the mask of the examples, to be broadcast over z; all True if its first axis counts something else."""
    return mask.reshape(-1, *[1] * (z.ndim - 1)) if z.shape[:1] == mask.shape else jnp.ones([1] * z.ndim, bool)


def _ratio(update: Array, weights: Array) -> Array:
    """Computes update / weights: infinite where weights of 0 move, 0 where they do not."""
    quotient = update / jnp.where(weights == 0, 1, weights)
    return jnp.where(weights == 0, jnp.where(update == 0, 0, jnp.inf).astype(quotient.dtype), quotient)


def _deviation(x: Array, mask: Array) -> Array:
    """Computes the standard deviation under the mask, also where its squares would overflow or vanish."""
    mask = jnp.broadcast_to(mask, x.shape)
    size = jax.lax.stop_gradient(jnp.max(jnp.where(mask, jnp.abs(x), 0)))
    scale = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    # Two passes: the mean of the squares less the square of the mean is rounded away where the mean is large.
    return scale * jnp.std(x / scale, where=mask)


def _output_statistics(
    name: str, probe: Probe, mask: Array, squashing: Mapping[str, Callable[..., Any]]
) -> dict[str, Array]:
    precision = jnp.finfo(probe.outputs[name].dtype)
    close = (_CLOSE if precision.bits >= 32 else _CLOSE_NARROW) * float(precision.eps)
    z = widen(probe.outputs[name])
    after = next_input(name, probe.layers(), probe.inputs, z.shape)
    after = z if after is None else widen(after)
    a = jnp.where(could_be_gated(z, after), after, z)
    mask = _example_mask(z, mask)
    return {
        "output_mean": jnp.mean(z, where=mask),
        "output_std": _deviation(z, mask),
        "dead": jnp.mean(jnp.all(a == 0, axis=range(max(a.ndim - 1, min(a.ndim, 1))), where=mask)),
        "saturated": jnp.asarray(
            sum(_saturated(z, after, f, *BOUNDS[n], close, mask) for n, f in squashing.items()), jnp.float32
        ),
    }


def _saturated(z: Array, after: Array, function: Any, low: float, high: float, close: float, mask: Array) -> Array:
    """Computes the share of flat values, if `after` is what the function makes of z; else 0."""
    # Where all are 0, this is a relu of large negative numbers rather than their sigmoid.
    squashed = jnp.all(jnp.abs(function(z) - after) < close) & jnp.any(after != 0)
    return jnp.where(squashed, jnp.mean(is_flat(after, low, high), where=mask), 0.0)


def _owners(params: Params, layers: dict[tuple[str, ...], str]) -> list[str]:
    """Names, for each leaf of params, the layer that it is in, or the place where it is."""
    owners = []
    for path in paths(params):
        inside = [own for own in layers if path[: len(own)] == own]
        owners.append(layers[max(inside, key=len)] if inside else "/".join(path[:-1] or path))
    return owners
