"""One look at one minibatch: what each layer puts out, what comes back to it, and what is wrong."""

import dataclasses
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.arrays import as_array
from lectopt._internal.keys import as_key
from lectopt._internal.product_rounding import product_rounding
from lectopt._internal.tables import as_html, as_text
from lectopt._internal.trees import paths
from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.data.subsets import as_subset
from lectopt.monitoring.findings import Finding
from lectopt.monitoring.inspection_findings import inspection_findings
from lectopt.monitoring.layer_reports import LayerReport, Signals, layer_report
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import Task
from lectopt.training.run import Run
from lectopt.training.starting import init_from_examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class Inspection:
    """The outputs and gradients of every layer on one minibatch: what `lo.inspect` returns.

    Print it, let a notebook show it, or call its method `plot`.

    Attributes:
        layers: a `LayerReport` of each layer, in the order in which they are called.
        loss: the mean loss over the minibatch.
        baseline_loss: the loss of the best constant outputs for these targets; None if the task does not know it.
        findings: the faults that were found, each a `Finding`.
        unseen: paths of weights that belong to none of the layers above.
    """

    layers: list[LayerReport]
    loss: float
    baseline_loss: float | None
    findings: list[Finding]
    unseen: list[str]

    def plot(self) -> "Figure":
        """Plots outputs, their histograms and the gradients, layer by layer.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.inspection import plot_inspection  # noqa: PLC0415, matplotlib is heavy

        statistics = ("output_std", "dead", "saturated", "gradient_std", "weight_gradient_std")
        return plot_inspection(
            [f"{layer.name}  {layer.kind}" for layer in self.layers],
            [layer.histogram for layer in self.layers],
            {name: [getattr(layer, name) for layer in self.layers] for name in statistics},
            [finding.name for finding in self.findings],
        )

    def __str__(self) -> str:
        return "\n".join([as_text(self._table()), "", self._loss_line(), *self._verdicts()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(verdict)}</li>" for verdict in self._verdicts())
        return f"{as_html(self._table())}<p>{escape(self._loss_line())}</p><ul>{items}</ul>"

    def _table(self) -> list[Sequence[str]]:
        return [_HEADINGS, *map(_cells, self.layers)]

    def _verdicts(self) -> list[str]:
        verdicts = [str(finding) for finding in self.findings] or ["Nothing found wrong."]
        if self.unseen:
            verdicts.append(f"Not seen, inside of a scan, vmap, remat or jit or of no layer: {', '.join(self.unseen)}.")
        return verdicts

    def _loss_line(self) -> str:
        baseline = "" if self.baseline_loss is None else f" (constant outputs would have {self.baseline_loss:.3g})"
        return f"loss {self.loss:.4g}{baseline}"


def inspect(task: Task | Run, examples: Any, *, key: Any = 0) -> Inspection:
    r"""Examines one minibatch: the outputs of every layer, and the gradients propagated back to it.

    For each layer, with outputs z of all units for all examples, it reports the mean, standard deviation and histogram
    of z; the share of the variance of z between examples (n) rather than between units (u),
    :math:`\operatorname{mean}_u(\operatorname{var}_n z_{nu}) / \operatorname{var}_{n,u} z_{nu}`; the share of dead
    units, 0 for every example after the activation, and of saturated values; and mean and standard deviation of
    :math:`\partial L / \partial z` and of the gradient of the weights. The model runs in training mode and stays as it
    is; products of float32 numbers are not rounded, as an accelerator otherwise would. Layers inside `scan`, `vmap`,
    `remat` or `jit` cannot be observed; the result names their weights.

    Args:
        task: a `Task`, examined with newly drawn weights; or a `Run`, examined with its trained ones.
        examples: the minibatch, a tuple of arrays [n, ...], inputs first and targets last, or a `Subset`: a hundred
            examples or more.
        key: an int or a `jax.random.key`, by default 0, for the initial weights and for the model's own random numbers.

    Returns:
        An `Inspection`. Its `findings` are among "symmetric units", "exploding outputs", "vanishing outputs",
        "exploding gradients", "vanishing gradients", "dead units", "saturated units", "examples look alike", and "wrong
        initial loss" or, of a run, "loss above baseline".

    Raises:
        ValueError: if the examples do not fit the task, or the run holds several trainings, as from `vmap`.
        TypeError: if `task` is neither a `Task` nor a `Run`, or its model is a pair of functions.

    Example:
        >>> import jax, lectopt as lo
        >>> from flax import nnx
        >>> zeros = jax.nn.initializers.zeros
        >>> def net(rngs):
        ...     first = nnx.Linear(4, 8, kernel_init=zeros, rngs=rngs)
        ...     return nnx.Sequential(first, nnx.tanh, nnx.Linear(8, 3, kernel_init=zeros, rngs=rngs))
        >>> inspection = lo.inspect(lo.classification(net), lo.datasets.iris())
        >>> [finding.name for finding in inspection.findings]
        ['symmetric units', 'vanishing outputs', 'vanishing gradients', 'dead units']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics";
    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", AISTATS,
    sections 3 and 4.
    """
    subset = as_subset(examples, "examples", as_array)
    key = as_key(key)
    trained = isinstance(task, Run)
    if isinstance(task, Run):
        task.check_single()
        params, state, task = task.params, task.model_state, task.task
        check_examples(task, subset, "examples")
    elif isinstance(task, Task):
        check_examples(task, subset, "examples")
        params, state = init_from_examples(task, key, subset)
    else:
        raise TypeError(f"task must be a lectopt.Task or a Run; got {type(task).__name__}")
    batch = subset.examples()
    with jax.default_matmul_precision("highest"):  # what is looked at is the network, not the device
        signals, loss = _signals_and_loss(task, params, state, batch, key)
        rounding = product_rounding()
    layers = [layer_report(name, signals) for name in signals.names]
    known = task.baseline_loss(subset)
    baseline = None if known is None else float(known) + 0.0  # an entropy of -0.0 is 0
    findings = inspection_findings(layers, loss, baseline, trained, rounding)
    return Inspection(layers, loss, baseline, findings, _unseen(signals))


def _signals_and_loss(
    task: Task, params: Params, state: ModelState, batch: Batch, key: jax.Array
) -> tuple[Signals, float]:
    traced = []  # of each call, but none of its arrays: they must not outlive their trace

    def forward(params: Params, perturbations: dict[str, Array]) -> tuple[Array, Any]:
        probe = Probe(perturbations)
        scores, _ = watched(task, probe).scores(params, state, batch, key, training=True)
        traced.append((probe.layers(), probe.kinds, probe.paths))
        ones = jnp.ones(scores.losses.shape)
        return scores.mean_loss(ones, ones > 0)[0], (probe.inputs, probe.outputs)

    _, (_, shapes) = jax.eval_shape(forward, params, {})
    names, kinds, layer_paths = traced[0]
    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}
    value_and_grad = jax.jit(jax.value_and_grad(forward, argnums=(0, 1), has_aux=True))
    (loss, (inputs, outputs)), (weight_gradients, output_gradients) = value_and_grad(params, zeros)
    signals = Signals(names, kinds, layer_paths, inputs, outputs, output_gradients, params, weight_gradients)
    return signals, float(loss)


def _unseen(signals: Signals) -> list[str]:
    """Returns the paths of the weights, not biases, that are in none of the layers."""
    layers = [signals.paths[name] for name in signals.names]
    weights = zip(paths(signals.params), jax.tree.leaves(signals.params), strict=True)
    uncovered = [
        path
        for path, w in weights
        if w.ndim > 1 and not any(path[: len(layer_path)] == layer_path for layer_path in layers)
    ]
    return ["/".join(path) for path in uncovered]


_HEADINGS = [
    "layer",
    "kind",
    "outputs",
    "activation",
    "mean",
    "sd",
    "dead",
    "saturated",
    "distinct",
    "gradient sd",
    "weights sd",
    "their gradient sd",
]


def _cells(layer: LayerReport) -> list[str]:
    return [
        layer.name,
        layer.kind,
        " x ".join(map(str, layer.shape[1:])),
        layer.activation or "-",
        f"{layer.output_mean:.2g}",
        f"{layer.output_std:.2g}",
        f"{layer.dead:.0%}",
        f"{layer.saturated:.0%}",
        f"{layer.distinct:.0%}",
        f"{layer.gradient_std:.2g}",
        "-" if np.isnan(layer.weight_std) else f"{layer.weight_std:.2g}",
        "-" if np.isnan(layer.weight_gradient_std) else f"{layer.weight_gradient_std:.2g}",
    ]
