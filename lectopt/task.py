"""Tasks: a model and what it is to be good at."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._types import Array, Numeric
from lectopt.models import Params, State, adapt

Batch: TypeAlias = tuple[Any, ...]
PerExample: TypeAlias = Callable[[Any, Any], Array]
"""(outputs [batch, ...], targets [batch, ...]) -> float[batch]"""


class Scores(NamedTuple):
    """What a batch is worth, example by example."""

    losses: Array  # float[batch], float32 or wider
    metrics: dict[str, Array]  # float[batch]
    outputs: Any  # the model's outputs, None for an objective


class WholeSetMetric:
    """A metric of all outputs at once; see `whole_set`."""

    def __init__(self, function: Callable[[Any, Any, Array], Numeric]):
        self.function = function


def whole_set(function: Callable[[Any, Any, Array], Numeric]) -> WholeSetMetric:
    """Marks a metric that is not a mean over examples, such as an F score or an area under a curve.

    Args:
        function: (outputs [n, ...], targets [n, ...], weights float32[n]) -> a scalar, in JAX. Examples of weight 0
            only fill up the shape and must not count.

    Returns:
        Something to stand among the metrics of a `Task`.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> @lo.whole_set
        ... def explained_variance(outputs, targets, weights):
        ...     mean = jnp.average(targets, axis=0, weights=weights)
        ...     rest = jnp.sum((targets - outputs) ** 2 * weights[:, None])
        ...     return 1 - rest / jnp.sum((targets - mean) ** 2 * weights[:, None])
    """
    return WholeSetMetric(function)


class Task:
    """A model, its loss and its metrics: what `fit`, `train` and the search train.

    Args:
        model: one of
            a function rngs -> nnx.Module, whose module is called with (x);
            an nnx.Module that is there: training starts from its weights and leaves it as it is;
            a Linen module, called with (x) or (x, train=bool);
            a pair (init(key, x) -> (params, state), apply(params, state, x, key, training) -> (outputs, state)).
        loss: (outputs, targets) -> float[batch], one number per example.
        metrics: {name: the same kind of function, or one marked by `whole_set`}.
        objective: instead of a loss, for what needs the model itself (a variational or denoising autoencoder):
            (module, batch, key) -> (float[batch], {name: float[batch]}). The module is an nnx.Module, a bound Linen
            module, or for functions a function of x; batch is the tuple of arrays.
        check: called with the shapes of the outputs and with the targets where they are known; raises ValueError if
            they do not fit.

    Raises:
        TypeError: if model is none of these.
        ValueError: if not exactly one of loss and objective is given.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Linear(3, 1, rngs=rngs)
        >>> huber = lo.Task(net, lambda outputs, targets: jnp.sum(jnp.abs(outputs - targets), axis=-1))

    A task compares by identity: reuse the same object, and what was compiled for it is reused too.
    """

    def __init__(
        self,
        model: Any,
        loss: PerExample | None = None,
        metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
        *,
        objective: Callable[[Any, Batch, jax.Array], tuple[Array, dict[str, Array]]] | None = None,
        check: Callable[[jax.ShapeDtypeStruct, Any], None] | None = None,
    ):
        if (loss is None) == (objective is None):
            raise ValueError("Task takes exactly one of loss and objective")
        if objective is not None and metrics:
            raise ValueError("metrics go with a loss; an objective returns its own metrics")
        self.adapter = adapt(model)
        self.metrics = dict(metrics or {})
        self._loss = loss
        self._objective = objective
        self._check = check

    def init(self, key: jax.Array, batch: Batch) -> tuple[Params, State]:
        """Fresh parameters, and the variables that are not trained."""
        return self.adapter.init(key, batch[0])

    def scores(
        self, params: Params, state: State, batch: Batch, key: jax.Array, training: bool
    ) -> tuple[Scores, State]:
        """Loss and metrics of each example, and the model's state afterwards."""
        if self._objective is not None:
            objective = self._objective
            (losses, metrics), state = self.adapter.call(
                lambda model: objective(model, batch, key), params, state, jax.random.fold_in(key, 0), training
            )
            return Scores(_wide(losses), metrics, None), state
        outputs, state = self.outputs(params, state, batch[0], key, training)
        means = {name: m(outputs, batch[1]) for name, m in self.metrics.items() if not isinstance(m, WholeSetMetric)}
        return Scores(_wide(self._loss(outputs, batch[1])), means, outputs), state  # type: ignore[misc]

    def outputs(self, params: Params, state: State, x: Any, key: jax.Array, training: bool) -> tuple[Any, State]:
        """The model's outputs for inputs x, and its state afterwards."""
        return self.adapter.call(lambda model: self.adapter.forward(model, x, training), params, state, key, training)

    def validate(self, batch: Batch, targets: Any, name: str) -> None:
        """Raises ValueError before anything compiles if model, loss and examples do not fit.

        Args:
            batch: a batch of examples, or its shapes.
            targets: all targets, None where they are being traced.
            name: what the examples are called.
        """
        count = jax.tree.leaves(batch)[0].shape[0]
        if self._objective is None and len(batch) != 2:
            raise ValueError(f"{name} must be two arrays, inputs and targets, for a loss; got {len(batch)}")
        key = jax.random.key(0)
        params, state = _shapes(f"the model cannot start from inputs of {name}", self.init, key, batch)
        if self._objective is None:
            outputs, _ = _shapes(
                f"the model does not fit the inputs of {name}, of shape {jax.tree.leaves(batch[0])[0].shape}",
                lambda p, s, x: self.outputs(p, s, x, key, True), params, state, batch[0],
            )  # fmt: skip
            if self._check is not None:
                self._check(outputs, batch[1])
                if targets is not None:
                    self._check(outputs, targets)
        scores, _ = jax.eval_shape(lambda p, s, b: self.scores(p, s, b, key, True), params, state, batch)
        for label, values in {"loss": scores.losses, **scores.metrics}.items():
            if values.shape != (count,):
                raise ValueError(
                    f"the {label} must be one number per example, of shape ({count},) for a batch of {count}; "
                    f"got shape {values.shape}"
                )


def classification(model: Any, *, metrics: Mapping[str, PerExample | WholeSetMetric] | None = None) -> Task:
    r"""Classification by cross-entropy of a softmax, scored by accuracy.

    .. math:: L = -\log \frac{\exp z_t}{\sum_c \exp z_c}

    Args:
        model: see `Task`; its outputs are logits z, float[batch, classes], or float[batch, ..., classes] where an
            example has several labels (their losses are averaged).
        metrics: more metrics beside "accuracy", the share of right labels.

    Returns:
        A task for examples (x, labels); labels are whole numbers from 0, int[n] or int[n, ...].

    Raises:
        TypeError: if model is of none of the kinds that `Task` lists. When training: ValueError if labels are not
            whole numbers, lie outside the classes, or do not fit the shape of the outputs.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs))
    """
    return Task(model, _cross_entropy, {"accuracy": _accuracy, **(metrics or {})}, check=_check_labels)


def regression(model: Any, *, metrics: Mapping[str, PerExample | WholeSetMetric] | None = None) -> Task:
    r"""Regression by squared error: the mean over examples of the sum over outputs.

    .. math:: L = \sum_j (\hat y_j - t_j)^2

    The lecture's E(w) sums over the examples; see `add_l2` for what that means for lambda.

    Args:
        model: see `Task`; its outputs have the shape of the targets.
        metrics: more metrics beside "absolute_error", the mean over outputs of :math:`|\hat y_j - t_j|`.

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
    return Task(model, _squared_error, {"absolute_error": _absolute_error, **(metrics or {})}, check=_check_targets)


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return _per_example(optax.softmax_cross_entropy_with_integer_labels(_wide(logits), labels), jnp.mean)


def _accuracy(logits: Array, labels: Array) -> Array:
    return _per_example((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32), jnp.mean)


def _squared_error(outputs: Array, targets: Array) -> Array:
    return _per_example((_wide(outputs) - targets.astype(_wide(outputs).dtype)) ** 2, jnp.sum)


def _absolute_error(outputs: Array, targets: Array) -> Array:
    return _per_example(jnp.abs(_wide(outputs) - targets.astype(_wide(outputs).dtype)), jnp.mean)


def _per_example(values: Array, reduce: Callable) -> Array:
    return reduce(values.reshape(values.shape[0], -1), axis=1)


def _wide(values: Array) -> Array:
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _check_labels(outputs: jax.ShapeDtypeStruct, labels: Any) -> None:
    classes = outputs.shape[-1] if outputs.shape else 0
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be whole numbers in [0, {classes}); got dtype {labels.dtype}")
    if outputs.shape[1:-1] != labels.shape[1:] or len(outputs.shape) != len(labels.shape) + 1:
        raise ValueError(
            f"the model's outputs must be one row of logits per label; got outputs {outputs.shape} for labels of shape "
            f"(batch, {', '.join(map(str, labels.shape[1:]))})"
        )
    if not isinstance(labels, jax.ShapeDtypeStruct):
        low, high = np.asarray(labels).min(), np.asarray(labels).max()
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels must be in [0, {classes}), as the model has {classes} outputs; got {low if low < 0 else high}"
            )


def _check_targets(outputs: jax.ShapeDtypeStruct, targets: Any) -> None:
    if outputs.shape[1:] != targets.shape[1:]:
        hint = "; reshape the targets: y[:, None]" if outputs.shape[1:] == (1, *targets.shape[1:]) else ""
        raise ValueError(
            f"targets must have the shape of the model's outputs, (n, {', '.join(map(str, outputs.shape[1:]))}); "
            f"got (n, {', '.join(map(str, targets.shape[1:]))}){hint}"
        )


def _shapes(problem: str, function: Callable, *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        raise ValueError(f"{problem}: {error}") from error
