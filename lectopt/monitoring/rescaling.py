"""Layer-sequential unit variance: initial weights rescaled by what they do to real examples."""

from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal.keys import as_key
from lectopt._internal.numerics import widen
from lectopt._internal.trees import paths
from lectopt._internal.types import Array
from lectopt.data.subsets import as_subset
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import Task
from lectopt.training.starting import init_from_examples


def rescale(task: Task, examples: Any, *, key: Any = 0) -> Params:
    r"""Returns initial parameters with which the outputs of every layer have standard deviation 1 (LSUV).

    Layer by layer, in the order in which they are called, weights and biases are divided by the standard deviation of
    the layer's outputs :math:`z_l` on these examples, computed with the earlier layers already rescaled:

    .. math:: \sigma_l = \operatorname{std}(z_l), \qquad W_l \leftarrow W_l / \sigma_l, \qquad b_l \leftarrow b_l /
        \sigma_l

    It helps networks for which the heuristics fail, which know neither inputs nor activations. Left unchanged are
    layers with constant outputs, layers without a kernel or embedding of their own, and layers inside `scan`, `vmap`,
    `remat` or `jit`. A layer that is called several times is rescaled by its first call. Unlike in the paper, the
    weights are not made orthonormal first.

    Args:
        task: the `Task`; its model is an NNX or Linen module.
        examples: a minibatch, a tuple of arrays [n, ...], inputs first and targets last, or a `Subset`: a hundred
            examples or more.
        key: an int or a `jax.random.key`, by default 0, from which the initial weights are drawn. With the key of a
            training, they are the ones that it would start from.

    Returns:
        Parameters for the argument `start` of `lo.fit` and `lo.train`.

    Raises:
        ValueError: if the examples do not fit the task.
        TypeError: if `task` is not a `Task`, or its model is a pair of functions.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(nnx.Linear(4, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 3, rngs=rngs))
        >>> x, y = lo.datasets.iris()
        >>> task = lo.classification(net)
        >>> start = lo.rescale(task, (x, y))
        >>> round(float((x @ start["layers"][0]["kernel"] + start["layers"][0]["bias"]).std()), 3)
        1.0
        >>> run = lo.fit(task, lo.sgd(0.1), (x, y), batch_size=30, epochs=1, key=0, start=start)  # doctest: +SKIP

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics";
    Mishkin and Matas (2016), "All you need is a good init", ICLR, algorithm 1.
    """
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    subset, key = as_subset(examples), as_key(key)
    check_examples(task, subset, "examples")
    batch = subset.examples()
    params, state = init_from_examples(task, key, subset)

    called: dict[str, tuple[str, ...]] = {}

    @jax.jit
    def deviations(params: Params) -> dict[str, jax.Array]:
        probe = Probe()
        watched(task, probe).scores(params, state, batch, key, training=True)
        called.update({name: probe.paths[name] for name in probe.layers()})
        return {name: _deviation(widen(probe.outputs[name])) for name in called}

    deviations(params)
    first_call: dict[tuple[str, ...], str] = {}
    for name, path in called.items():
        first_call.setdefault(path, name)
    for path, name in first_call.items():
        params = _divide_layer(params, path, deviations(params)[name])
    return params


def _deviation(outputs: Array) -> Array:
    """Computes the standard deviation of a layer's outputs: 0 where it is no more than their rounding."""
    differ = jnp.ptp(outputs) > THRESHOLDS.same_outputs * jnp.max(jnp.abs(outputs))
    return jnp.where(differ, jnp.std(outputs), 0)


def _divide_layer(params: Params, path: tuple[str, ...], deviation: jax.Array) -> Params:
    """Divides the parameters of the layer at `path`, if it has a kernel that its outputs are linear in."""
    keys = paths(params)
    layer_keys = [k for k in keys if k[: len(path)] == path and len(k) == len(path) + 1]
    if not any(k[-1] in ("kernel", "embedding") for k in layer_keys):
        return params
    factor = jnp.where((deviation > 0) & jnp.isfinite(deviation), deviation, 1)
    leaves, treedef = jax.tree.flatten(params)
    return jax.tree.unflatten(
        treedef, [w / factor if k in layer_keys else w for k, w in zip(keys, leaves, strict=True)]
    )
