"""Layer-sequential unit variance: initial weights rescaled by what they do to real examples."""

from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal.keys import as_key
from lectopt._internal.trees import paths
from lectopt.data.subsets import as_subset
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import Task, widen
from lectopt.training.setup import fresh


def rescale(task: Task, examples: Any, *, key: Any = 0) -> Params:
    r"""Initial parameters with which every layer's outputs have standard deviation 1 on these examples.

    One pass through the layers, in the order in which they are called: weights and biases of layer l are divided by
    the standard deviation of its outputs, with the layers before it rescaled already. For networks that the
    heuristics, which know nothing of the inputs and the activations, do not save.

    Args:
        task: the task; its model is an NNX or Linen one.
        examples: a minibatch, a tuple of arrays or a Subset; a hundred or more examples.
        key: an int or a `jax.random.key`, for the initial weights: the one that training gets, to start alike.

    Returns:
        Parameters for `fit(..., start=...)`. These stay as they are: layers whose outputs are all alike, layers
        without a kernel or an embedding of their own, and what is inside of a scan, vmap, remat or jit. A layer that
        is called several times is rescaled by its first call.

    Raises:
        TypeError: if task is no Task, or its model a pair of functions. ValueError: if the examples do not fit it.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs))
        >>> x, y = lo.datasets.digits()
        >>> task = lo.classification(net)
        >>> start = lo.rescale(task, (x[:256], y[:256]))
        >>> run = lo.fit(task, lo.sgd(0.1), (x, y), batch_size=32, epochs=1, key=0, start=start)

    Source: Mishkin and Matas (2016), "All you need is a good init".
    """
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    subset, key = as_subset(examples), as_key(key)
    check_examples(task, subset, "examples")
    batch = subset.examples()
    params, state = fresh(task, key, subset)

    called: dict[str, tuple[str, ...]] = {}

    @jax.jit
    def deviations(params: Params) -> dict[str, jax.Array]:
        probe = Probe()
        watched(task, probe).scores(params, state, batch, key, training=True)
        called.update({name: probe.paths[name] for name in probe.layers()})
        return {name: jnp.std(widen(probe.outputs[name])) for name in called}

    deviations(params)
    first_call: dict[tuple[str, ...], str] = {}
    for name, path in called.items():
        first_call.setdefault(path, name)
    for path, name in first_call.items():
        params = _divide(params, path, deviations(params)[name])
    return params


def _divide(params: Params, path: tuple[str, ...], deviation: jax.Array) -> Params:
    """The parameters, those of the layer at `path` divided, if it has a kernel that its outputs are linear in."""
    keys = paths(params)
    mine = [k for k in keys if k[: len(path)] == path and len(k) == len(path) + 1]
    if not any(k[-1] in ("kernel", "embedding") for k in mine):
        return params
    factor = jnp.where((deviation > 0) & jnp.isfinite(deviation), deviation, 1)
    leaves, treedef = jax.tree.flatten(params)
    return jax.tree.unflatten(treedef, [w / factor if k in mine else w for k, w in zip(keys, leaves, strict=True)])
