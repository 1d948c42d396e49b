"""The two tasks that most people have: classification and regression."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array, Numeric
from lectopt.data.subsets import Subset
from lectopt.tasks import task_checks
from lectopt.tasks.labels import AnyOf, Binary, Labels, OneOf
from lectopt.tasks.metrics import PerExample, WholeSetMetric
from lectopt.tasks.task import Task, widen


class Classification(Task):
    """A task that knows what its labels mean."""

    def __init__(self, model: Any, labels: Labels, metrics: Mapping[str, PerExample | WholeSetMetric], **options: Any):
        super().__init__(model, labels.losses, metrics, activation=labels.activation, check=labels.check, **options)
        self._labels = labels

    def counts(self, targets: Any) -> Array | None:
        """How many labels of each example count."""
        counted = self._labels.counted(targets)
        return None if counted is None else counted.reshape(len(targets), -1).sum(axis=1, dtype=jnp.float32)

    def output_bias_init(self, targets: Any, real: Array) -> Callable[..., Array]:
        """As for any task, from the labels that count, smoothed as they are learned."""
        plain = super().output_bias_init(*self._labels.weigh(targets, real.astype(jnp.float32)))
        return lambda key, shape, dtype: self._labels.smoothed_bias(plain(key, shape)).astype(dtype)

    def baseline_loss(self, examples: Subset) -> Array:
        """The loss of the best constant outputs for these labels."""
        x, labels = examples.take(examples.indices)
        real = (jnp.arange(examples.capacity) < examples.size).astype(jnp.float32)

        def classes() -> int:
            outputs = jax.eval_shape(
                lambda key: self.outputs(*self.init(key, (x,)), x, key, False)[0], jax.random.key(0)
            )
            return outputs.shape[-1]

        return jnp.asarray(self._labels.baseline_loss(*self._labels.weigh(labels, real), classes), jnp.float32)

    def probabilities(self, outputs: Any) -> Array:
        """The outputs as probabilities of the classes."""
        return super().probabilities(self._labels.logits(outputs))

    def classes(self, outputs: Any) -> Array:
        """The classes that the outputs tell."""
        return self._labels.classes(outputs)


def classification(
    model: Any,
    *,
    metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
    standardize: bool = False,
    output_bias: Any = None,
    binary: bool = False,
    multilabel: bool = False,
    label_smoothing: Numeric = 0.0,
    ignore_label: int | None = None,
) -> Task:
    r"""Classification by cross-entropy, scored by accuracy: one of several classes, yes or no, or several at once.

    With logits z, the model's outputs, and a label t:

    ============  =======================  ===================  ====================================================
    kind          labels                   logits               loss of a label
    ============  =======================  ===================  ====================================================
    (default)     int[n], or int[n, ...]   float[n, ..., K]     :math:`-\log (\exp z_t / \sum_c \exp z_c)`
    binary        0 or 1, int[n]           float[n] or [n, 1]   :math:`-t \log \sigma(z) - (1-t) \log(1 - \sigma(z))`
    multilabel    0 or 1, any [n, ..., K]  float[n, ..., K]     the same
    ============  =======================  ===================  ====================================================

    The loss of an example is the mean over its labels.

    Args:
        model: see `Task`; its outputs are the logits.
        metrics: more metrics beside "accuracy", the share of right labels, and for multilabel "exact_match", the share
            of examples that have no wrong one.
        standardize: see `Task`.
        output_bias: see `Task`; it becomes what gives the label frequencies.
        binary: one logit for each example.
        multilabel: several labels for each example, and a logit for each of them.
        label_smoothing: the share s in [0, 1) of each label that is spread over all K classes (two, for 0 and 1): the
            loss is the cross-entropy of :math:`(1-s) [c = t] + s/K`, as in PyTorch's CrossEntropyLoss. May be traced;
            a Run that is returned from there can predict, and be evaluated only if it comes from `select`. Losses under
            different s do not compare; accuracies do.
        ignore_label: a whole number that stands for no label. Such a label has no loss and is in no mean: losses and
            metrics of a batch, or of all examples, are means over the labels that count (an example's value weighs as
            many as it has), as PyTorch's ignore_index has it. A batch without any has loss 0. Metrics marked by
            `whole_set` are given weight 0 for an example without any.

    Returns:
        A task for examples (x, labels).

    Raises:
        ValueError: if binary and multilabel are both given, or label_smoothing or ignore_label is out of range.
        TypeError: if model is of none of the kinds that `Task` lists, or another argument of the wrong kind. When
            training: ValueError (TypeError for trees) if the labels are not as above or do not fit the outputs.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
        >>> x, y = lo.datasets.digits()
        >>> odd = lo.classification(lambda rngs: nnx.Linear(64, 1, rngs=rngs), binary=True, standardize=True)
        >>> run = lo.fit(odd, lo.adam(0.01), (x, y % 2), weights="balanced", batch_size=32, epochs=5, key=0)
        >>> run.classes(x[:3]), run.probabilities(x[:3]).shape
        (Array([0, 1, 0], dtype=int32), (3,))

    Source: the lecture, "Recap"; Szegedy et al. (2016), "Rethinking the Inception architecture", for label smoothing.
    """
    binary, multilabel = checks.check_flag("binary", binary), checks.check_flag("multilabel", multilabel)
    if binary and multilabel:
        raise ValueError("classification takes one of binary and multilabel, not both")
    task_checks.check_metrics(metrics)
    checks.check_number("label_smoothing", label_smoothing, checks.FRACTION)
    if ignore_label is not None:
        ignore_label = checks.check_count("ignore_label", ignore_label, least=-(2**31))
        if ignore_label >= 2**31 or ((binary or multilabel) and ignore_label in (0, 1)):
            allowed = "below 2**31, and neither 0 nor 1 where these are the labels"
            raise ValueError(f"ignore_label must be {allowed}; got {ignore_label}")
    labels = (Binary if binary else AnyOf if multilabel else OneOf)(label_smoothing, ignore_label)
    own = {"accuracy": labels.accuracy} | ({"exact_match": labels.exact_match} if multilabel else {})
    return Classification(model, labels, own | dict(metrics or {}), standardize=standardize, output_bias=output_bias)


def regression(
    model: Any,
    *,
    metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
    standardize: bool = False,
    output_bias: Any = None,
) -> Task:
    r"""Regression by squared error: the mean over examples of the sum over outputs.

    .. math:: L = \sum_j (\hat y_j - t_j)^2

    The lecture's E(w) sums over the examples; see `add_l2` for what that means for lambda.

    Args:
        model: see `Task`; its outputs have the shape of the targets.
        metrics: more metrics beside "absolute_error", the mean over outputs of :math:`|\hat y_j - t_j|`.
        standardize: see `Task`.
        output_bias: see `Task`; it becomes the mean of the targets.

    Returns:
        A task for examples (x, targets).

    Raises:
        TypeError: if model is of none of the kinds that `Task` lists. When training: ValueError if targets and
            outputs differ in shape; they are never broadcast.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.regression(lambda rngs: nnx.Linear(10, 1, rngs=rngs))  # for targets of shape (n, 1)

    Source: the lecture, "Validation".
    """
    return Task(
        model,
        _squared_error,
        {"absolute_error": _absolute_error, **(metrics or {})},
        standardize=standardize,
        output_bias=output_bias,
        activation="identity",
        check=_check_targets,
        baseline_loss=_variance,
    )


def _squared_error(outputs: Array, targets: Array) -> Array:
    return _per_example((widen(outputs) - targets.astype(widen(outputs).dtype)) ** 2, jnp.sum)


def _absolute_error(outputs: Array, targets: Array) -> Array:
    return _per_example(jnp.abs(widen(outputs) - targets.astype(widen(outputs).dtype)), jnp.mean)


def _variance(targets: Array, weights: Array) -> Array:
    rows = widen(targets).reshape(targets.shape[0], -1)
    centered = rows - jnp.average(rows, axis=0, weights=weights, keepdims=True)
    return jnp.sum(jnp.average(centered**2, axis=0, weights=weights))


def _per_example(values: Array, reduce: Callable) -> Array:
    return reduce(values.reshape(values.shape[0], -1), axis=1)


def _check_targets(outputs: jax.ShapeDtypeStruct, targets: Any) -> None:
    if outputs.shape[1:] != targets.shape[1:]:
        hint = "; reshape the targets: y[:, None]" if outputs.shape[1:] == (1, *targets.shape[1:]) else ""
        raise ValueError(
            f"targets must have the shape of the model's outputs, (n, {', '.join(map(str, outputs.shape[1:]))}); "
            f"got (n, {', '.join(map(str, targets.shape[1:]))}){hint}"
        )
