"""Ensembles: runs that predict together, each of the same weight."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import arrays, checks
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.numerics import widen
from lectopt._internal.types import Array, Numeric
from lectopt.data.subsets import Subset, as_subset, view
from lectopt.tasks import evaluation
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.task import Task
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Runs that predict together: what `lo.ensemble` returns.

    Attributes:
        runs: the runs, a tuple of `Run`s.
    """

    runs: tuple[Run, ...]
    _scored: Task  # which scores outputs

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """Computes the ensemble's predictions for inputs x, in evaluation mode.

        Args:
            x: the inputs, numbers [n, ...] or a tree of such arrays; raw ones, if the tasks standardize them.
            batch_size: the number of rows in a batch, a whole number of at least 1.

        Returns:
            The mean over the runs of what each predicts: of the probabilities [n, ..., classes] for classification (a
            task with the activation "softmax" or "sigmoid"), of the outputs [n, ...] otherwise.

        Raises:
            ValueError: if a model does not take x, or batch_size is below 1.
            TypeError: if x does not hold numbers, or batch_size is not a whole number.
        """
        outputs = self._outputs(x, batch_size)
        return self._scored.probabilities(outputs) if self._scored.knows_classes else outputs

    def classes(self, x: Any, batch_size: int = 1024) -> Array:
        """Computes the most likely labels for inputs x, by the mean probabilities.

        Args:
            x: the inputs, numbers [n, ...] or a tree of such arrays; raw ones, if the tasks standardize them.
            batch_size: the number of rows in a batch, a whole number of at least 1.

        Returns:
            int32[n, ...]: the class with the largest mean probability; for binary labels, and for several at once, 1
            for a mean probability above one half.

        Raises:
            ValueError: if the task was not made by `classification`, nor has an `activation` "softmax" or "sigmoid"; if
                a model does not take x, or batch_size is below 1.
            TypeError: if x does not hold numbers, or batch_size is not a whole number.
        """
        if not self._scored.knows_classes:
            raise ValueError(
                "classes are known for tasks made by lectopt.classification, or with activation='softmax' or "
                "'sigmoid'; this task has none of them"
            )
        return self._scored.classes(self._outputs(x, batch_size))

    def evaluate(self, examples: Any) -> dict[str, float]:
        """Computes the loss and the metrics of the ensemble's predictions, by the task of the first run.

        Args:
            examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`.

        Returns:
            {"loss": number, metric: number}. For classification the loss is that of the mean probabilities, which is
            never above the mean of the runs' losses.

        Raises:
            ValueError: if the examples do not fit the task, or it has an objective in place of a loss.
            TypeError: if examples are neither a tuple of arrays of numbers nor a Subset.
        """
        subset, task = as_subset(examples, "examples", arrays.as_array), self.runs[0].task
        if not task.has_targets:
            raise ValueError(
                "evaluate needs tasks with a loss of outputs; an objective scores a model, not predictions"
            )
        check_examples(task, subset, "examples")
        found = subset.examples()
        outputs = self._outputs(task.inputs_of(found), evaluation.SCORED_AT_ONCE)
        scores = cached_jit(_scores, self._scored)(view((outputs, found[-1]), np.arange(len(subset))))
        return {name: float(value) for name, value in scores.items()}

    def __repr__(self) -> str:
        return f"Ensemble({len(self.runs)} runs)"

    def _outputs(self, x: Any, batch_size: int) -> Any:
        """Returns outputs that stand for the mean prediction."""
        found = [run.predict(x, batch_size) for run in self.runs]
        return jax.tree.map(
            lambda *outputs: _MEANS.get(self._scored.activation or "", _mean)(jnp.stack(outputs)), *found
        )


def ensemble(runs: Iterable[Run]) -> Ensemble:
    r"""Makes an ensemble of trained runs, which predict by the mean of their predictions.

    For classification it is the mean of the K runs' probabilities,

    .. math:: p(y \mid x) = \frac{1}{K} \sum_{k=1}^{K} p_k(y \mid x),

    not of their outputs; for everything else, the mean of the outputs.

    Args:
        runs: one or more `Run`s, such as `Results.runs` returns: of any models and sizes, with tasks of one activation,
            whose outputs have one shape.

    Returns:
        An `Ensemble`, with the methods `predict`, `classes` and `evaluate`.

    Raises:
        ValueError: if there are none, one of them diverged or holds several trainings, or their tasks differ in their
            activation.
        TypeError: if runs holds anything but `Run`s.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> train, test = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> runs = [lo.fit(task, lo.sgd(0.1), train, batch_size=30, epochs=5, key=key) for key in range(3)]
        >>> together = lo.ensemble(runs)
        >>> together.predict(test.examples()[0]).shape, together.evaluate(test)["accuracy"] > 0.8
        ((30, 3), True)

    Source: Goodfellow, Bengio and Courville (2016), "Deep Learning", section 7.11; Lakshminarayanan, Pritzel and
    Blundell (2017), "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS.
    """
    if isinstance(runs, Run) or not checks.is_iterable(runs):
        raise TypeError(f"runs must be a list of lectopt.Run; got {type(runs).__name__}")
    found = tuple(runs)
    if not found:
        raise ValueError("runs must hold at least 1 run; got none")
    for i, run in enumerate(found):
        if not isinstance(run, Run):
            raise TypeError(f"runs must hold lectopt.Run; got {checks.type_description(run)}")
        run.check_single()
        if not checks.is_traced(run.diverged_at) and run.diverged_at >= 0:
            raise ValueError(f"runs must not have diverged; run {i} did at step {int(run.diverged_at)}")
    if len(activations := {run.task.activation for run in found}) > 1:
        raise ValueError(f"runs must have tasks of one activation; got {', '.join(map(str, activations))}")
    return Ensemble(found, found[0].task.of_outputs())


def _scores(task: Task, examples: Subset) -> dict[str, Numeric]:
    return evaluation.evaluate(task, {}, ModelState({}, None), examples)


def _mean(outputs: Array) -> Array:
    return jnp.mean(widen(outputs), axis=0)


def _log_mean(logarithms: Array) -> Array:
    return jax.nn.logsumexp(logarithms, axis=0) - jnp.log(len(logarithms))


def _softmax_mean(outputs: Array) -> Array:
    """Returns the logarithm of the mean probabilities, which are outputs of these probabilities."""
    return _log_mean(jax.nn.log_softmax(widen(outputs)))


def _sigmoid_mean(outputs: Array) -> Array:
    """Returns the logits of the mean probabilities."""
    outputs = widen(outputs)
    return _log_mean(jax.nn.log_sigmoid(outputs)) - _log_mean(jax.nn.log_sigmoid(-outputs))


_MEANS: dict[str, Callable[[Array], Array]] = {"softmax": _softmax_mean, "sigmoid": _sigmoid_mean}
