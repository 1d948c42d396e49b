"""The two standard tasks: classification and regression."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.numerics import widen
from lectopt._internal.types import Array, Numeric
from lectopt.data.subsets import Subset
from lectopt.tasks import task_checks
from lectopt.tasks.labels import AnyOf, Binary, Labels, OneOf
from lectopt.tasks.metrics import PerExample, WholeSetMetric
from lectopt.tasks.task import Task


class Classification(Task):
    """A task that knows what its labels mean."""

    def __init__(self, model: Any, labels: Labels, metrics: Mapping[str, PerExample | WholeSetMetric], **options: Any):
        super().__init__(model, labels.losses, metrics, activation=labels.activation, check=labels.check, **options)
        self._labels = labels

    def counts(self, targets: Any) -> Array | None:
        """Counts the labels of each example that are not ignored.

        Args:
            targets: int[n, ...], the labels of n examples.

        Returns:
            float32[n], or None if every label counts.
        """
        counted = self._labels.counted(targets)
        return None if counted is None else counted.reshape(len(targets), -1).sum(axis=1, dtype=jnp.float32)

    def output_bias_init(self, targets: Any, mask: Array) -> Callable[..., Array]:
        """Returns an initializer of the output bias, from the labels that count, smoothed as they are learned.

        Args:
            targets: int[n, ...], the labels of n examples.
            mask: bool[n], False for padding.
        """
        plain = super().output_bias_init(*self._labels.weigh(targets, mask.astype(jnp.float32)))
        return lambda key, shape, dtype: self._labels.smoothed_bias(plain(key, shape)).astype(dtype)

    def baseline_loss(self, examples: Subset) -> Array:
        """Computes the loss of the best constant outputs for these labels.

        Args:
            examples: a `Subset` of inputs and labels.

        Returns:
            float32[].
        """
        batch = examples.take(examples.indices)
        x, labels = self.inputs_of(batch), batch[-1]
        weights = examples.mask.astype(jnp.float32)

        def classes() -> int:
            outputs = jax.eval_shape(
                lambda key: self.outputs(*self.init(key, batch), x, key, False)[0], jax.random.key(0)
            )
            return outputs.shape[-1]

        return jnp.asarray(self._labels.baseline_loss(*self._labels.weigh(labels, weights), classes), jnp.float32)

    def probabilities(self, outputs: Any) -> Array:
        """Converts outputs to probabilities of the classes.

        Args:
            outputs: float[n, ...], the logits.

        Returns:
            Probabilities, float32[n, ...] or wider.
        """
        return super().probabilities(self._labels.logits(outputs))

    def classes(self, outputs: Any) -> Array:
        """Converts outputs to the most likely labels.

        Args:
            outputs: float[n, ...], the logits.

        Returns:
            int32[n, ...].
        """
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
    inputs: int = 1,
    compute_dtype: Any = None,
) -> Task:
    r"""Defines a classification task by cross-entropy: one of several classes, yes or no, or several labels at once.

    With logits z, the model's outputs, and a label t:

    | kind       | labels                 | logits             | loss of a label                                       |
    | ---------- | ---------------------- | ------------------ | ----------------------------------------------------- |
    | (default)  | int[n], or int[n, ...] | float[n, ..., K]   | :math:`-\log (\exp z_t / \sum_c \exp z_c)`            |
    | binary     | 0 or 1, int[n]         | float[n] or [n, 1] | :math:`-t \log \sigma(z) - (1-t) \log(1 - \sigma(z))` |
    | multilabel | 0 or 1, [n, ..., K]    | float[n, ..., K]   | that of binary, for each of the K labels              |

    The loss of an example is the mean over its labels.

    Args:
        model: the network, whose outputs are the logits; one of

            - a function rngs -> nnx.Module, such as a subclass of nnx.Module or a lambda;
            - an existing nnx.Module: training starts from its weights and leaves it unchanged;
            - a Linen module;
            - a pair of functions (init, apply): init(key, x) -> (params, state) and apply(params, state, x, key,
              training) -> (outputs, state).
        metrics: more metrics beside "accuracy", the share of right labels, and for multilabel "exact_match", the share
            of examples without a wrong one: {name: function}, each (outputs [batch, ...], targets [batch, ...]) ->
            float[batch], or marked by `whole_set`; None adds none.
        standardize: True to bring the inputs, numbers [n, ..., features], to zero mean and unit variance per feature,
            with the statistics of the training part that a run is given, and of nothing else.
        output_bias: where the output bias is, float[outputs], which is then set from the targets of the training part
            so that constant outputs have the right means: for NNX a function module -> variable, otherwise a path such
            as "Dense_1/bias"; None leaves it as the model initializes it. It becomes the one that gives the label
            frequencies.
        binary: True for one logit per example.
        multilabel: True for several labels per example, and a logit for each of them.
        label_smoothing: the share s, in [0, 1), of each label that is spread over all K classes (two, for 0 and 1): the
            loss is the cross-entropy of :math:`(1-s) [c = t] + s/K`, as in PyTorch's CrossEntropyLoss. A number or a
            traced value; a Run that is returned from a trace can predict, and be evaluated only if it comes from
            `select`. Losses under different s cannot be compared; accuracies can.
        ignore_label: a whole number that stands for no label; None if every label counts. Such a label has no loss and
            enters no mean: losses and metrics of a batch, or of all examples, are means over the labels that count (an
            example weighs as many as it has), like PyTorch's ignore_index. A batch without any has loss 0. Metrics
            marked by `whole_set` are given weight 0 for an example without any.
        inputs: how many arrays of an example, the first ones, are inputs of the model: with 2, examples are (x1, x2,
            targets), and modules are called with (x1, x2).
        compute_dtype: the precision that the model computes in, jnp.bfloat16, jnp.float16 or jnp.float32; weights,
            optimizer state and losses stay float32, see `Task`. None leaves it to the model.

    Returns:
        A `Task` for examples (x, labels), whose training raises ValueError (TypeError for trees) if the labels are not
        as above or do not fit the outputs.

    Raises:
        ValueError: if binary and multilabel are both given, or label_smoothing or ignore_label is out of range.
        TypeError: if model is of none of these kinds, or another argument of the wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
        >>> x, y = lo.datasets.digits()
        >>> odd = lo.classification(lambda rngs: nnx.Linear(64, 1, rngs=rngs), binary=True, standardize=True)
        >>> run = lo.fit(odd, lo.adam(0.01), (x, y % 2), weights="balanced", batch_size=32, epochs=5, key=0)
        >>> run.classes(x[:3]), run.probabilities(x[:3]).shape
        (Array([0, 1, 0], dtype=int32), (3,))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)",
    for an error E(w) to minimize; I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press,
    sections 6.2.2.2 and 6.2.2.3; C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna (2016), "Rethinking the
    inception architecture for computer vision", CVPR, section 7, for label smoothing.
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
    metrics = own | dict(metrics or {})
    options = {"standardize": standardize, "output_bias": output_bias, "inputs": inputs, "compute_dtype": compute_dtype}
    return Classification(model, labels, metrics, **options)


def regression(
    model: Any,
    *,
    metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
    standardize: bool = False,
    output_bias: Any = None,
    inputs: int = 1,
    compute_dtype: Any = None,
) -> Task:
    r"""Defines a regression task by squared error: the mean over examples of the sum over outputs.

    .. math:: L = \sum_j (\hat y_j - t_j)^2

    The lecture's E(w) is a sum over the N examples, not a mean, so its lambda is N times the coefficient of `add_l2`.

    Args:
        model: the network, whose outputs have the shape of the targets; one of

            - a function rngs -> nnx.Module, such as a subclass of nnx.Module or a lambda;
            - an existing nnx.Module: training starts from its weights and leaves it unchanged;
            - a Linen module;
            - a pair of functions (init, apply): init(key, x) -> (params, state) and apply(params, state, x, key,
              training) -> (outputs, state).
        metrics: more metrics beside "absolute_error", the mean over outputs of :math:`|\hat y_j - t_j|`: {name:
            function}, each (outputs [batch, ...], targets [batch, ...]) -> float[batch], or marked by `whole_set`; None
            adds none.
        standardize: True to bring the inputs, numbers [n, ..., features], to zero mean and unit variance per feature,
            with the statistics of the training part that a run is given, and of nothing else.
        output_bias: where the output bias is, float[outputs], which is then set from the targets of the training part
            so that constant outputs have the right means: for NNX a function module -> variable, otherwise a path such
            as "Dense_1/bias"; None leaves it as the model initializes it. It becomes the mean of the targets.
        inputs: how many arrays of an example, the first ones, are inputs of the model: with 2, examples are (x1, x2,
            targets), and modules are called with (x1, x2).
        compute_dtype: the precision that the model computes in, jnp.bfloat16, jnp.float16 or jnp.float32; weights,
            optimizer state and losses stay float32, see `Task`. None leaves it to the model.

    Returns:
        A `Task` for examples (x, targets), whose training raises ValueError if targets and outputs differ in shape;
        they are never broadcast.

    Raises:
        TypeError: if model is of none of these kinds, or another argument of the wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.regression(lambda rngs: nnx.Linear(10, 1, rngs=rngs))  # for targets of shape (n, 1)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Validation", for the squared error; I.
    Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, section 6.2.2.1.
    """
    task_checks.check_metrics(metrics)
    return Task(
        model,
        _squared_error,
        {"absolute_error": _absolute_error, **(metrics or {})},
        standardize=standardize,
        output_bias=output_bias,
        activation="identity",
        check=_check_targets,
        baseline_loss=_variance,
        inputs=inputs,
        compute_dtype=compute_dtype,
    )


def _squared_error(outputs: Array, targets: Array) -> Array:
    return _per_example((widen(outputs) - targets.astype(widen(outputs).dtype)) ** 2, jnp.sum)


def _absolute_error(outputs: Array, targets: Array) -> Array:
    return _per_example(jnp.abs(widen(outputs) - targets.astype(widen(outputs).dtype)), jnp.mean)


def _variance(targets: Array, weights: Array) -> Array:
    rows = widen(targets).reshape(targets.shape[0], -1)
    centered = rows - jnp.average(rows, axis=0, weights=weights, keepdims=True)
    variances = jnp.average(centered**2, axis=0, weights=weights)
    counted = weights[:, None] > 0
    lowest = jnp.min(rows, axis=0, initial=jnp.inf, where=counted)
    differ = lowest < jnp.max(rows, axis=0, initial=-jnp.inf, where=counted)
    # Targets that are all alike have none, although their mean is rounded.
    return jnp.sum(jnp.where(differ, variances, 0))


def _per_example(values: Array, reduce: Callable[..., Any]) -> Array:
    return reduce(values.reshape(values.shape[0], -1), axis=1)


def _check_targets(outputs: jax.ShapeDtypeStruct, targets: Any) -> None:
    if outputs.shape[1:] != targets.shape[1:]:
        hint = "; reshape the targets: y[:, None]" if outputs.shape[1:] == (1, *targets.shape[1:]) else ""
        raise ValueError(
            f"targets must have the shape of the model's outputs, (n, {', '.join(map(str, outputs.shape[1:]))}); "
            f"got (n, {', '.join(map(str, targets.shape[1:]))}){hint}"
        )
