"""Batch statistics that belong to the weights of a run, by one pass over its training examples."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from lectopt._internal import arrays, checks
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.keys import as_key
from lectopt._internal.types import Array
from lectopt.data.batches import Minibatches, minibatches
from lectopt.data.subsets import Subset, as_subset
from lectopt.norms.batch_norm import BatchNorm
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training.run import Run


def update_batch_statistics(run: Run, train: Any, *, batch_size: int = 1024, key: Any = 0) -> Run:
    r"""Measures the batch statistics of a run anew, at the weights that it returns.

    Under `average_params` the weights are an average, which no batch was ever seen with, whereas `BatchNorm` remembers
    the batches of training. This shows the model all training examples once, in training mode, in shuffled batches
    i = 1, ..., b of :math:`n_i` examples, and keeps

    .. math:: \mu = \frac{\sum_i n_i \mu_i}{\sum_i n_i}, \qquad
        \operatorname{var} = \frac{\sum_i n_i \operatorname{var}_i}{\sum_i n_i}

    in the `BatchNorm` layers of lectopt and of Flax (NNX and Linen), whatever their decay is; layers with a window pool
    the last batches that fit. Frozen layers stay as they are. Models that are functions, and other variables, follow
    their own rule once through the examples.

    Args:
        run: a `Run`.
        train: the examples to measure, usually those of the training: a tuple of arrays [n, ...] or a `Subset`. They
            may be traced, such as inside the trial of a search.
        batch_size: examples in a batch, a whole number of at least 1. With small ones the variance is smaller than that
            of all examples, by about a factor 1 - 1/batch_size.
        key: an int or a `jax.random.key`, for the order of the examples and for what the model draws.

    Returns:
        The run with these statistics in its `model_state`. Its `metrics` and its history are still those of the
        training: `run.evaluate` scores it. To go on training, start from the run as it was.

    Raises:
        ValueError: if the model keeps no statistics, the examples do not fit the task, batch_size is below 1, or this
            holds several trainings.
        TypeError: if run is not a Run, train neither a tuple of arrays nor a Subset, or batch_size not a whole number.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(lo.BatchNorm(4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs))
        >>> optimizer = lo.average_params(lo.momentum(0.01))
        >>> run = lo.fit(lo.classification(net), optimizer, lo.datasets.iris(), batch_size=30, epochs=2, key=0)
        >>> run = lo.update_batch_statistics(run, lo.datasets.iris())
        >>> [f"{mean:.2f}" for mean in run.model.layers[0].mean[...]]  # of the inputs
        ['5.84', '3.06', '3.76', '1.20']

    Source: P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov and A. G. Wilson (2018), "Averaging weights leads to
    wider optima and better generalization", UAI, section 3.2.
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be a lectopt.Run; got {type(run).__name__}")
    run.check_single()
    if not jax.tree.leaves(run.model_state.variables):
        raise ValueError("run must be of a model with batch statistics; this one has no variables beside its weights")
    batch_size = checks.check_count("batch_size", batch_size)
    subset = as_subset(train, "train", arrays.as_array)
    check_examples(run.task, subset, "train")
    measure = cached_jit(_measure, run.task, min(batch_size, subset.capacity))
    return dataclasses.replace(run, model_state=measure(run.params, run.model_state, subset, as_key(key)))


def _measure(
    task: Task, batch_size: int, params: Params, state: ModelState, subset: Subset, key: jax.Array
) -> ModelState:
    """Returns the model state after one pass over the examples."""

    def see(carry: tuple[Array, ModelState], batch: Minibatches) -> tuple[tuple[Array, ModelState], None]:
        seen, state = carry
        total = seen + jnp.sum(batch.weights)
        measuring = copy.copy(task)
        measuring.adapter = _MeasuringAdapter(task.adapter, seen / total)
        model_key = jax.random.fold_in(key, batch.indices[0])
        examples, mask = subset.take(batch.indices), batch.weights > 0
        _, state = measuring.scores(params, state, examples, model_key, training=True, mask=mask)
        return (total, state), None

    batches = minibatches(subset, batch_size, key=key)
    whole, rest = divmod(subset.capacity, batch_size)
    carry, _ = jax.lax.scan(see, (jnp.float32(0), state), jax.tree.map(lambda a: a[:whole], batches))
    if rest:  # without the examples that fill it up: layers would count them
        carry, _ = see(carry, jax.tree.map(lambda a: a[whole, :rest], batches))
    return carry[1]


class _MeasuringAdapter:
    """An adapter of `lectopt.tasks.models` whose `BatchNorm` layers keep `decay` of their statistics at each batch."""

    def __init__(self, adapter: Any, decay: Array):
        self._adapter = adapter
        self._decay = decay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def call(self, function: Callable[[Any], Any], *arguments: Any) -> Any:
        """Calls the adapter's own `call`."""
        return self._adapter.call(lambda model: self._measured(model, function), *arguments)

    def _measured(self, model: Any, function: Callable[[Any], Any]) -> Any:
        if isinstance(model, linen.Module):
            with linen.intercept_methods(self._intercept):
                return function(model)
        layers = [x for _, x in nnx.iter_modules(model)] if isinstance(model, nnx.Module) else []
        names = {BatchNorm: "decay", nnx.BatchNorm: "momentum"}
        kept = [(x, name, getattr(x, name)) for x in layers for kind, name in names.items() if isinstance(x, kind)]
        for layer, name, _ in kept:
            object.__setattr__(layer, name, self._decay)
            if isinstance(layer, BatchNorm) and layer.window is not None and not layer.use_running_average:
                layer.window_count[...] = jnp.where(self._decay > 0, layer.window_count[...], 0)
        result = function(model)
        for layer, name, decay in kept:
            object.__setattr__(layer, name, decay)
        return result

    def _intercept(self, layer: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        if isinstance(context.module, linen.BatchNorm):
            object.__setattr__(context.module, "momentum", self._decay)
        return layer(*args, **kwargs)
