"""What one layer does on one minibatch, in numbers."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.trees import paths
from lectopt._internal.types import Array
from lectopt.tasks.models import Params
from lectopt.tasks.probe import next_input
from lectopt.training.layer_statistics import BOUNDS, could_be_gated, is_flat

_BINS = 40

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "gelu, exact": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "relu6": jax.nn.relu6,
}
"""Activations are plain functions that nobody can watch; they are told by what they do to a layer's output."""


class LayerReport(NamedTuple):
    """The statistics of one layer on one minibatch.

    `z` stands for the outputs of the layer, all units for all examples, and a for z after the activation.

    Attributes:
        name: the path of the layer in the model, such as "layers/0".
        kind: the name of its class.
        shape: the shape of z, [batch, ...].
        activation: name of the function applied to z before the next layer, "identity" if there is none, "" if it is
            not known.
        output_mean: the mean of z.
        output_std: the standard deviation of z.
        distinct: the share of the variance of z that is between examples, not between units, in [0, 1].
        histogram: the counts and bin edges of the finite values of z, as `numpy.histogram` returns them.
        dead: the share of units with a = 0 for all examples.
        saturated: the share of values of a within 1 % of a bound of the activation; 0 for unbounded ones.
        gradient_mean: the mean of the gradient of the mean loss with respect to z.
        gradient_std: its standard deviation.
        weight_std: the standard deviation of the largest weight array of the layer; NaN if it has none.
        weight_gradient_mean: the mean of the gradient with respect to those weights; NaN if there are none.
        weight_gradient_std: its standard deviation; NaN if there are none.
        symmetric: number of units whose incoming weights, and their gradients, equal those of another unit: no gradient
            step will ever distinguish them.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    activation: str
    output_mean: float
    output_std: float
    distinct: float
    histogram: tuple[np.ndarray, np.ndarray]
    dead: float
    saturated: float
    gradient_mean: float
    gradient_std: float
    weight_std: float
    weight_gradient_mean: float
    weight_gradient_std: float
    symmetric: int


class Signals(NamedTuple):
    """Outputs and gradients of the layers of a model, on one minibatch."""

    names: list[str]  # in the order in which they are called
    kinds: dict[str, str]
    paths: dict[str, tuple[str, ...]]
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    output_gradients: dict[str, Array]
    params: Params
    weight_gradients: Params


def layer_report(name: str, signals: Signals) -> LayerReport:
    """Returns the report on one layer."""
    z, g = (np.asarray(of[name], np.float64) for of in (signals.outputs, signals.output_gradients))
    activation, a = _activation(z, _next_input(name, signals, z))
    weights = _weights_of(signals.paths[name], signals.params, signals.weight_gradients)
    w, dw = (np.asarray([np.nan]),) * 2 if weights is None else weights
    return LayerReport(
        name=name,
        kind=signals.kinds[name],
        shape=z.shape,
        activation=activation,
        output_mean=float(z.mean()),
        output_std=float(z.std()),
        distinct=float(z.var(axis=0).mean() / z.var()) if z.var() > 0 and len(z) > 1 else 1.0,
        histogram=np.histogram(z[np.isfinite(z)], _BINS),
        dead=float(np.mean(np.all(a.reshape(-1, a.shape[-1]) == 0, axis=0))),
        saturated=_saturated(a, activation),
        gradient_mean=float(g.mean()),
        gradient_std=float(g.std()),
        weight_std=float(w.std()),
        weight_gradient_mean=float(dw.mean()),
        weight_gradient_std=float(dw.std()),
        symmetric=0 if weights is None else _count_symmetric(w, dw),
    )


def _next_input(name: str, signals: Signals, z: np.ndarray) -> np.ndarray | None:
    after = next_input(name, signals.names, signals.inputs, z.shape)
    return None if after is None else np.asarray(after, np.float64)


def _activation(z: np.ndarray, after: np.ndarray | None) -> tuple[str, np.ndarray]:
    """Returns the name of the activation, and the outputs after it."""
    if after is None:
        return "", z
    if np.array_equal(z, after, equal_nan=True):
        return "identity", z
    for name, function in _ACTIVATIONS.items():
        if np.allclose(np.asarray(function(jnp.asarray(z, jnp.float32))), after, rtol=1e-3, atol=1e-5):
            return name, after
    return "", after if could_be_gated(z, after) else z


def _saturated(a: np.ndarray, activation: str) -> float:
    return float(np.mean(is_flat(a, *BOUNDS[activation]))) if activation in BOUNDS else 0.0


def _weights_of(path: tuple[str, ...], params: Params, gradients: Params) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the largest weight array of the layer at `path` (not its biases), and its gradient."""
    leaves = zip(paths(params), jax.tree.leaves(params), jax.tree.leaves(gradients), strict=True)
    found = [
        (_as_real_rows(w), _as_real_rows(dw)) for names, w, dw in leaves if names[: len(path)] == path and w.ndim >= 2
    ]
    return max(found, key=lambda pair: pair[0].size, default=None)


def _as_real_rows(weights: Array) -> np.ndarray:
    """Returns the weights in float64; complex ones as their real parts above their imaginary ones."""
    a = np.asarray(weights)
    parts = [a.real, a.imag] if np.iscomplexobj(a) else [a]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def _count_symmetric(w: np.ndarray, dw: np.ndarray) -> int:
    """Units that no gradient step will ever tell from another one."""
    columns = np.concatenate([w.reshape(-1, w.shape[-1]), dw.reshape(-1, w.shape[-1])])
    return w.shape[-1] - len(np.unique(columns, axis=1).T)
