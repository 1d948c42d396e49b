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
from lectopt._internal.tables import as_html, as_text
from lectopt._internal.trees import paths
from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.data.subsets import as_subset
from lectopt.monitoring.findings import Finding
from lectopt.monitoring.inspection_findings import judge
from lectopt.monitoring.layer_reports import LayerReport, Passage, report
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.models import Params
from lectopt.tasks.probe import Probe, watched
from lectopt.tasks.task import ModelState, Task
from lectopt.training.run import Run
from lectopt.training.setup import fresh

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class Inspection:
    """What `inspect` returns: print it, let a notebook show it, or call `.plot()`."""

    layers: list[LayerReport]  # in the order in which they are called
    loss: float  # mean over the minibatch
    baseline_loss: float | None  # the loss of the best constant outputs; None where the task does not know it
    findings: list[Finding]
    unseen: list[str]  # weights that no layer above has

    def plot(self) -> "Figure":
        """Outputs, their histograms and the gradients, layer by layer; returns a matplotlib figure."""
        from lectopt.plots.inspection import plot_inspection  # noqa: PLC0415, matplotlib is heavy

        return plot_inspection(self)

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
    r"""Looks at one minibatch: the outputs of every layer and the gradients that come back to it.

    For each layer, with outputs z of all its units for all examples: mean, standard deviation and histogram of z, the
    share of dead units (0 for every example after the activation) and of saturated values, mean and standard
    deviation of :math:`\partial L / \partial z` and of the gradient of its weights, and the size of the weights. The
    model runs in training mode, is not changed, and need not know of this. What is inside of a scan, vmap, remat or jit
    is not seen, and said to be so.

    Args:
        task: a task, looked at with fresh weights, or a run, with its present ones.
        examples: the minibatch, a tuple of arrays or a Subset; a hundred or more examples.
        key: an int or a `jax.random.key`, for the initial weights and what the model draws.

    Returns:
        An Inspection, with findings in words: vanishing or exploding outputs or gradients, dead, saturated or
        symmetric units, a loss far above that of constant outputs.

    Raises:
        TypeError: if task is neither, or its model a pair of functions. ValueError: if the examples do not fit it, or
            the run holds several trainings.

    Example:
        >>> import jax, lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     first, last = (
        ...         nnx.Linear(m, n, kernel_init=jax.nn.initializers.zeros, rngs=rngs) for m, n in ((64, 32), (32, 10))
        ...     )
        ...     return nnx.Sequential(first, nnx.tanh, last)
        >>> x, y = lo.datasets.digits()
        >>> look = lo.inspect(lo.classification(net), (x[:256], y[:256]))
        >>> [finding.name for finding in look.findings]
        ['symmetric units', 'vanishing outputs', 'vanishing gradients', 'dead units']

    Source: the lecture, "Parameter Initialization - Heuristics"; Glorot and Bengio (2010).
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
        params, state = fresh(task, key, subset)
    else:
        raise TypeError(f"task must be a lectopt.Task or a Run; got {type(task).__name__}")
    batch = subset.examples()
    passage, loss = _look(task, params, state, batch, key)
    layers = [report(name, passage) for name in passage.names]
    found = task.baseline_loss(subset)
    baseline = None if found is None else float(found) + 0.0  # an entropy of -0.0 is 0
    return Inspection(layers, loss, baseline, judge(layers, loss, baseline, trained), _unseen(passage))


def _look(task: Task, params: Params, state: ModelState, batch: Batch, key: jax.Array) -> tuple[Passage, float]:
    found = []  # of each call, but none of its arrays: they must not outlive their trace

    def forward(params: Params, perturbations: dict[str, Array]) -> tuple[Array, Any]:
        probe = Probe(perturbations)
        scores, _ = watched(task, probe).scores(params, state, batch, key, training=True)
        found.append((probe.layers(), probe.kinds, probe.paths))
        ones = jnp.ones(scores.losses.shape)
        return scores.mean_loss(ones, ones > 0)[0], (probe.inputs, probe.outputs)

    _, (_, shapes) = jax.eval_shape(forward, params, {})
    names, kinds, where = found[0]
    nothing = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}
    look = jax.jit(jax.value_and_grad(forward, argnums=(0, 1), has_aux=True))
    (loss, (inputs, outputs)), (weight_gradients, output_gradients) = look(params, nothing)
    passage = Passage(names, kinds, where, inputs, outputs, output_gradients, params, weight_gradients)
    return passage, float(loss)


def _unseen(passage: Passage) -> list[str]:
    """The paths of the weights, not biases, that are within none of the layers."""
    layers = [passage.paths[name] for name in passage.names]
    weights = zip(paths(passage.params), jax.tree.leaves(passage.params), strict=True)
    outside = [path for path, w in weights if w.ndim > 1 and not any(path[: len(own)] == own for own in layers)]
    return ["/".join(path) for path in outside]


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
