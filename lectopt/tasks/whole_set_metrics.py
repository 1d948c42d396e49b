"""Ready metrics of whole sets: the area under the ROC curve, F1, balanced accuracy and R²."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal.arrays import as_array
from lectopt._internal.numerics import widen
from lectopt._internal.types import Array
from lectopt.tasks.metrics import WholeSetMetric

_maximized = functools.partial(WholeSetMetric, maximizes=True)


@_maximized
def roc_auc(outputs: Any, targets: Any, weights: Any = None) -> Array:
    r"""Computes the area under the ROC curve: how likely a positive example is to be ranked above a negative one.

    With the positive examples P, the negative ones N, and the scores s, which may tie,

    .. math:: \mathrm{AUC} = \frac{\sum_{i \in P} \sum_{j \in N} w_i w_j
        \left([s_i > s_j] + \frac{1}{2} [s_i = s_j]\right)}{\sum_{i \in P} w_i \, \sum_{j \in N} w_j}

    For three or more classes it is the mean of the areas of each class against the rest, by the probabilities of that
    class. It equals scikit-learn's `roc_auc_score`, with `multi_class="ovr"`. It is one of the metrics that a `Task`
    takes, such as `metrics={"auc": lo.roc_auc}`, and `best_by="valid_auc"` knows that more is better.

    Args:
        outputs: float[n] or float[n, 1], one logit per example (or any other score); or float[n, classes], logits.
        targets: int[n], the labels: 0 or 1 for one logit or two, otherwise from 0 up to the number of classes.
        weights: float[n], at least 0; examples of weight 0 do not count. None weights all alike.

    Returns:
        float32[] or wider: NaN where the area is undefined, since a class has no example or all of them; and if an
        output is NaN, or a label is none of the classes.

    Raises:
        ValueError: if outputs and targets are not of these shapes, or targets are not whole numbers.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> float(lo.roc_auc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([0, 0, 1, 1])))
        0.75

    Source: T. Fawcett (2006), "An introduction to ROC analysis", Pattern Recognition Letters 27(8).
    """
    of = _Labelled.of("roc_auc", outputs, targets, weights)
    if of.logits.ndim == 1:
        area = _area(of.logits, of.labels == 1, of.weights)
    else:
        # By the log odds of a class, which order as its probabilities do and do not round to 0 or 1.
        classes = jnp.arange(of.classes)
        areas = jax.lax.map(lambda c: _area(_log_odds(of.logits, c), of.labels == c, of.weights), classes)
        area = jnp.mean(areas)
    return of.checked(area)


@_maximized
def f1(outputs: Any, targets: Any, weights: Any = None) -> Array:
    r"""Computes the F1 score: the harmonic mean of precision and recall.

    With the weights TP of the true positives, FP of the false positives and FN of the false negatives of a class,

    .. math:: F_1 = \frac{2 \mathrm{TP}}{2 \mathrm{TP} + \mathrm{FP} + \mathrm{FN}}

    For two classes it is that of class 1; for three or more, the mean over the classes that occur among labels or
    predictions. It equals scikit-learn's `f1_score`, with `average="macro"` for three or more classes. It is one of the
    metrics that a `Task` takes, such as `metrics={"f1": lo.f1}`, and `best_by="valid_f1"` knows that more is better.

    Args:
        outputs: float[n] or float[n, 1], one logit per example, above 0 for class 1; or float[n, classes], logits.
        targets: int[n], the labels: 0 or 1 for one logit or two, otherwise from 0 up to the number of classes.
        weights: float[n], at least 0; examples of weight 0 do not count. None weights all alike.

    Returns:
        float32[] or wider: 0 for two classes if class 1 is neither among labels nor predictions; NaN if an output is
        NaN, or a label is none of the classes.

    Raises:
        ValueError: if outputs and targets are not of these shapes, or targets are not whole numbers.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> float(lo.f1(jnp.array([2.0, 1.0, -1.0, 3.0, -2.0]), jnp.array([1, 0, 1, 1, 0]))).__round__(4)
        0.6667

    Source: C. J. van Rijsbergen (1979), "Information Retrieval", 2nd edition, chapter 7.
    """
    of = _Labelled.of("f1", outputs, targets, weights)
    hits, labelled, predicted = of.class_weights()
    occurs = labelled + predicted > 0
    scores = jnp.where(occurs, 2 * hits / jnp.where(occurs, labelled + predicted, 1), 0)
    return of.checked(scores[1] if of.classes == 2 else jnp.mean(scores, where=occurs))


@_maximized
def balanced_accuracy(outputs: Any, targets: Any, weights: Any = None) -> Array:
    r"""Computes the mean over classes of the share of right predictions among the examples of a class.

    .. math:: \frac{1}{K} \sum_c \frac{\sum_i w_i [t_i = c] [\hat t_i = c]}{\sum_i w_i [t_i = c]}

    for predictions :math:`\hat t` and the K classes that occur among the labels. It equals scikit-learn's
    `balanced_accuracy_score`. It is one of the metrics that a `Task` takes, such as `metrics={"balanced":
    lo.balanced_accuracy}`, and `best_by="valid_balanced"` knows that more is better.

    Args:
        outputs: float[n] or float[n, 1], one logit per example, above 0 for class 1; or float[n, classes], logits.
        targets: int[n], the labels: 0 or 1 for one logit or two, otherwise from 0 up to the number of classes.
        weights: float[n], at least 0; examples of weight 0 do not count. None weights all alike.

    Returns:
        float32[] or wider: NaN if an output is NaN, or a label is none of the classes.

    Raises:
        ValueError: if outputs and targets are not of these shapes, or targets are not whole numbers.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> float(lo.balanced_accuracy(jnp.array([2.0, 1.0, 1.0, -3.0]), jnp.array([1, 1, 0, 0])))
        0.75

    Source: K. H. Brodersen, C. S. Ong, K. E. Stephan and J. M. Buhmann (2010), "The balanced accuracy and its posterior
    distribution", ICPR.
    """
    of = _Labelled.of("balanced_accuracy", outputs, targets, weights)
    hits, labelled, _ = of.class_weights()
    recalls = jnp.where(labelled > 0, hits / jnp.where(labelled > 0, labelled, 1), 0)
    return of.checked(jnp.mean(recalls, where=labelled > 0))


@_maximized
def r2(outputs: Any, targets: Any, weights: Any = None) -> Array:
    r"""Computes the coefficient of determination: the share of the targets' variance that outputs explain.

    .. math:: R^2 = 1 - \frac{\sum_i w_i (t_i - \hat y_i)^2}{\sum_i w_i (t_i - \bar t)^2}

    with the weighted mean :math:`\bar t` of the targets; for several outputs it is the mean over them. Targets that are
    all alike have 1 if outputs equal them, else 0. It equals scikit-learn's `r2_score`. It is one of the metrics that a
    `Task` takes, such as `metrics={"r2": lo.r2}`, and `best_by="valid_r2"` knows that more is better.

    Args:
        outputs: float[n, ...], the predictions.
        targets: the numbers to predict, of the same shape.
        weights: float[n], at least 0; examples of weight 0 do not count. None weights all alike.

    Returns:
        float32[] or wider, at most 1: NaN if fewer than two examples count, or an output is NaN.

    Raises:
        ValueError: if outputs and targets differ in shape; they are never broadcast.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> float(lo.r2(jnp.array([2.5, 0.0, 2.0, 8.0]), jnp.array([3.0, -0.5, 2.0, 7.0]))).__round__(4)
        0.9486

    Source: N. R. Draper and H. Smith (1998), "Applied Regression Analysis", 3rd edition, section 1.3.
    """
    outputs, targets = _as_arrays(outputs, targets)
    if outputs.shape != targets.shape or outputs.ndim == 0:
        raise ValueError(f"r2 takes targets of the shape of the outputs; got {targets.shape} for {outputs.shape}")
    weights = _as_weights("r2", weights, outputs)[:, None]
    outputs, targets = (a.reshape(len(a), -1).astype(outputs.dtype) for a in (outputs, targets))
    counted = weights > 0
    mean = jnp.sum(jnp.where(counted, weights * targets, 0), axis=0, keepdims=True) / jnp.sum(weights)
    rest, total = (
        jnp.sum(jnp.where(counted, weights * values**2, 0), axis=0) for values in (targets - outputs, targets - mean)
    )
    lowest = jnp.min(targets, axis=0, initial=jnp.inf, where=counted)
    # Targets that are all alike have no variance, although their mean is rounded.
    differ = lowest < jnp.max(targets, axis=0, initial=-jnp.inf, where=counted)
    scores = jnp.where(differ, 1 - rest / jnp.where(differ, total, 1), jnp.where(rest == 0, 1, rest * 0))
    return jnp.where(jnp.sum(counted) < 2, jnp.nan, jnp.mean(scores))


class _Labelled(NamedTuple):
    """Logits, labels and weights of examples; what does not count has logits and labels of 0."""

    logits: Array  # float[n] for two classes, else float[n, classes]
    labels: Array  # int32[n]
    weights: Array  # float[n]
    classes: int
    known: Array  # bool[], whether all that counts has a label that is one of the classes, and logits that are numbers

    @classmethod
    def of(cls, metric: str, outputs: Any, targets: Any, weights: Any) -> "_Labelled":
        outputs, targets = _as_arrays(outputs, targets)
        whole = jnp.issubdtype(targets.dtype, jnp.integer) or targets.dtype == bool
        if outputs.ndim not in (1, 2) or targets.shape != outputs.shape[:1] or not whole:
            raise ValueError(
                f"{metric} takes outputs of shape (n,), (n, 1) or (n, classes), and whole labels of shape (n,); got "
                f"outputs of shape {outputs.shape} for {targets.dtype} of shape {targets.shape}"
            )
        targets, weights = targets.astype(jnp.int32), _as_weights(metric, weights, outputs)
        classes = 2 if outputs.shape[1:] in ((), (1,)) else outputs.shape[1]
        logits = outputs.reshape(len(outputs), -1)
        if classes == 2:
            logits = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        fits = (targets >= 0) & (targets < classes) & ~jnp.isnan(logits).reshape(len(logits), -1).any(axis=1)
        counted = weights > 0
        logits = jnp.where(counted.reshape(-1, *[1] * (logits.ndim - 1)), logits, 0)
        labels = jnp.where(counted, targets, 0)
        return cls(logits, labels, weights, classes, jnp.all(fits | ~counted))

    def class_weights(self) -> tuple[Array, Array, Array]:
        """Returns the weights of each class among right predictions, labels, and predictions: float[classes] each."""
        predicted = jnp.argmax(self.logits, axis=-1) if self.logits.ndim > 1 else self.logits > 0
        classes = jnp.arange(self.classes, dtype=jnp.int32)[None]
        among_labels, among_predicted = (
            values.astype(jnp.int32)[:, None] == classes for values in (self.labels, predicted)
        )

        def total(which: Array) -> Array:
            return jnp.sum(jnp.where(which, self.weights[:, None], 0), axis=0)

        return total(among_labels & among_predicted), total(among_labels), total(among_predicted)

    def checked(self, value: Array) -> Array:
        """Returns the value, or NaN where it would be that of other labels, or of what is no number."""
        return jnp.where(self.known, value, jnp.nan)


def _as_arrays(outputs: Any, targets: Any) -> tuple[Array, Array]:
    """Returns both as arrays of at least one example, outputs as wide as sums need."""
    outputs, targets = as_array("outputs", outputs), as_array("targets", targets)
    if 0 in outputs.shape:
        raise ValueError(f"outputs must hold at least 1 example; got an array of shape {outputs.shape}")
    return widen(outputs), targets


def _as_weights(metric: str, weights: Any, outputs: Array) -> Array:
    weights = jnp.ones(outputs.shape[:1]) if weights is None else as_array("weights", weights)
    if weights.shape != outputs.shape[:1]:
        raise ValueError(f"{metric} takes one weight per example, of shape {outputs.shape[:1]}; got {weights.shape}")
    return weights.astype(outputs.dtype)


def _area(scores: Array, positive: Array, weights: Array) -> Array:
    """Computes the area under the ROC curve of one class: float[], NaN without positives or negatives."""
    order = jnp.argsort(scores)
    scores, positive, weights = scores[order], positive[order], weights[order]
    negatives, positives = jnp.where(positive, 0, weights), jnp.where(positive, weights, 0)
    through = jnp.cumsum(negatives / jnp.sum(negatives))  # the share of the negatives up to here
    before = jnp.concatenate([jnp.zeros(1, through.dtype), through[:-1]])
    changes, edge = scores[1:] != scores[:-1], jnp.ones(1, bool)
    # Equal scores share what lies below all of them, and what lies below or beside them; ties count one half.
    below = jax.lax.cummax(jnp.where(jnp.concatenate([edge, changes]), before, 0))
    beside = jax.lax.cummin(jnp.where(jnp.concatenate([changes, edge]), through, jnp.inf), reverse=True)
    return jnp.sum(positives * (below + beside) / 2) / jnp.sum(positives)


def _log_odds(logits: Array, label: Array) -> Array:
    """Computes the logarithm of p / (1 - p) for the probability p of a class: float[n]."""
    chosen = (jnp.arange(logits.shape[1]) == label)[None]
    others = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=1)
    return jnp.sum(jnp.where(chosen, logits, 0), axis=1) - others
