"""What labels mean: one of several classes, or yes and no; their cross-entropies, and what cannot be a label."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._internal import checks
from lectopt._internal.numerics import widen
from lectopt._internal.types import Array, Numeric


class Labels:
    """Labels of any kind: a share of each may be smoothed away, and one value may stand for no label."""

    activation: str

    def __init__(self, smoothing: Numeric = 0.0, ignored: int | None = None):
        """Keeps the smoothing, which may be traced, and the label that does not count."""
        self._smoothing = smoothing
        self._smooths = checks.is_traced(smoothing) or float(smoothing) > 0
        self._ignored = ignored

    def logits(self, outputs: Any) -> Array:
        """Returns the outputs with a row of classes, or one number, for each label, in float32 or wider."""
        return widen(outputs)

    def losses(self, outputs: Any, labels: Array) -> Array:
        """Computes the mean cross-entropy of the labels of each example that count: float[n]."""
        counted = self.counted(labels)
        return _mean(self._cross_entropies(self.logits(outputs), self._valid(labels, counted)), counted)

    def accuracy(self, outputs: Any, labels: Array) -> Array:
        """Computes the share of right ones among the labels of each example that count: float[n]."""
        return _mean(self._right(outputs, labels).astype(jnp.float32), self.counted(labels))

    def exact_match(self, outputs: Any, labels: Array) -> Array:
        """Returns 1 for examples all of whose labels that count are right, else 0: float[n]."""
        counted = self.counted(labels)
        right = self._right(outputs, labels)
        right = right if counted is None else right | ~counted
        return right.reshape(len(right), -1).all(axis=1).astype(jnp.float32)

    def counted(self, labels: Array) -> Array | None:
        """Tells which labels count, bool of their shape; None if all do."""
        if self._ignored is None or labels.dtype == bool:
            return None
        labels = labels if jnp.issubdtype(labels.dtype, jnp.floating) else labels.astype(jnp.int32)
        return labels != jnp.asarray(self._ignored, labels.dtype)

    def weigh(self, labels: Array, weights: Array) -> tuple[Array, Array]:
        """Returns the labels and their weights, float32: 0 if one does not count, else its example's."""
        counted = self.counted(labels)
        weights = jnp.broadcast_to(weights.reshape(-1, *[1] * (labels.ndim - 1)), labels.shape)
        return self._valid(labels, counted), weights if counted is None else jnp.where(counted, weights, 0)

    def baseline_loss(self, labels: Array, weights: Array, classes: Callable[[], int]) -> Array:
        """Computes the least mean cross-entropy of constant outputs, for what `weigh` returns: float[]."""
        raise NotImplementedError

    def smoothed_bias(self, bias: Array) -> Array:
        """Converts the output bias for labels as they are to that for smoothed labels."""
        raise NotImplementedError

    def check(self, outputs: jax.ShapeDtypeStruct, labels: Any) -> None:
        """Raises ValueError or TypeError unless the outputs and the labels fit each other."""
        if not hasattr(labels, "shape"):
            own = "write a lectopt.Task, whose loss and metrics take targets of any kind"
            raise TypeError(
                f"labels must be one array; got {checks.type_description(labels)}. Give one of them, or {own}"
            )
        if not jnp.issubdtype(outputs.dtype, jnp.floating):
            raise ValueError(f"the model's outputs must be real logits; got dtype {outputs.dtype}")
        self._check_shapes(outputs, labels)
        values = None if isinstance(labels, jax.ShapeDtypeStruct) else np.asarray(labels)
        if values is not None and self._ignored is not None:
            values = values[values != self._ignored]
            if not values.size:
                raise ValueError(f"labels must hold one that counts; all are ignore_label, {self._ignored}")
        self._check_values(values, labels.dtype, outputs)

    def classes(self, outputs: Any) -> Array:
        """Returns the most likely class for each label: int32."""
        raise NotImplementedError

    def _cross_entropies(self, logits: Array, labels: Array) -> Array:
        """Computes one cross-entropy for each label."""
        raise NotImplementedError

    def _check_shapes(self, outputs: Any, labels: Any) -> None:
        raise NotImplementedError

    def _check_values(self, values: np.ndarray | None, dtype: Any, outputs: Any) -> None:
        """Checks the values of the labels that count; None where they are being traced."""
        raise NotImplementedError

    def _right(self, outputs: Any, labels: Array) -> Array:
        return self.classes(outputs) == labels.astype(jnp.int32)

    def _valid(self, labels: Array, counted: Array | None) -> Array:
        """Replaces the labels that do not count by some class."""
        return labels if counted is None else jnp.where(counted, labels, 0)

    def _smoothed(self, shares: Array, classes: int) -> Array:
        smoothing = jnp.asarray(self._smoothing, shares.dtype)
        return (1 - smoothing) * shares + smoothing / classes if self._smooths else shares


class OneOf(Labels):
    """Each label is one of several classes, a whole number; the outputs are a row of logits for each."""

    activation = "softmax"

    def classes(self, outputs: Any) -> Array:
        """Returns the class with the greatest logit: int32."""
        return jnp.argmax(outputs, axis=-1).astype(jnp.int32)

    def _cross_entropies(self, logits: Array, labels: Array) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        if not self._smooths:
            return losses
        uniform = jax.nn.logsumexp(logits, axis=-1) - jnp.mean(logits, axis=-1)
        return losses + jnp.asarray(self._smoothing, losses.dtype) * (uniform - losses)

    def baseline_loss(self, labels: Array, weights: Array, classes: Callable[[], int]) -> Array:
        """Computes the entropy of the classes' (smoothed) frequencies."""
        # By the share of each label's class: how many classes there are, the model alone knows.
        order = jnp.argsort(labels.ravel())
        labels, weights = labels.ravel()[order], weights.ravel()[order]
        below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(weights)])
        counts = below[jnp.searchsorted(labels, labels, "right")] - below[jnp.searchsorted(labels, labels)]
        shares = jnp.where(weights > 0, counts / jnp.maximum(below[-1], 1), 1)
        per_class = weights / jnp.where(weights > 0, counts, 1)  # these add to 1 over the labels of a class
        number = classes() if self._smooths else 1
        occurring = jnp.sum(per_class * _entropy(self._smoothed(shares, number)))
        return occurring + (number - jnp.sum(per_class)) * _entropy(self._smoothed(jnp.float32(0), number))

    def smoothed_bias(self, bias: Array) -> Array:
        """Returns the logarithms of smoothed frequencies."""
        return jnp.log(self._smoothed(jax.nn.softmax(bias), bias.shape[-1])) if self._smooths else bias

    def _check_shapes(self, outputs: Any, labels: Any) -> None:
        wanted = outputs.shape[:-1] if outputs.shape else ()
        if len(wanted) > 0 and labels.shape[1:] == wanted[1:]:
            return
        found = f"got outputs {_shape(outputs)} for labels {_shape(labels)}"
        hint = ""
        if outputs.shape[1:] == labels.shape[1:] and labels.ndim > 1:
            hint = "; for one-hot rows take labels.argmax(-1), for several classes at once multilabel=True"
        elif outputs.shape[1:] in ((), (1,)):
            hint = "; for one logit and labels 0 and 1 give binary=True"
        elif labels.shape[1:] == (*wanted[1:], 1):
            hint = "; take labels[..., 0]"
        raise ValueError(f"the model's outputs must be one row of logits per label; {found}{hint}")

    def _check_values(self, values: np.ndarray | None, dtype: Any, outputs: Any) -> None:
        classes = outputs.shape[-1]
        _check_whole(dtype, f"[0, {classes})")
        if values is not None and (values.min() < 0 or values.max() >= classes):
            bad = values.min() if values.min() < 0 else values.max()
            hint = "; for one logit and labels 0 and 1 give binary=True" if classes == 1 else ""
            raise ValueError(
                f"labels must be in [0, {classes}), as the model has {classes} outputs; got {bad}{hint or _IGNORE}"
            )


class _YesNo(Labels):
    """Each label is 0 or 1, and has a logit of its own."""

    activation = "sigmoid"

    def classes(self, outputs: Any) -> Array:
        """Returns 1 where the probability is above one half: int32."""
        return (self.logits(outputs) > 0).astype(jnp.int32)

    def _cross_entropies(self, logits: Array, labels: Array) -> Array:
        return optax.sigmoid_binary_cross_entropy(logits, self._smoothed(labels.astype(logits.dtype), 2))

    def baseline_loss(self, labels: Array, weights: Array, classes: Callable[[], int]) -> Array:
        """Computes the mean entropy of the labels, each with its own (smoothed) frequency."""
        labels, weights = (a.astype(jnp.float32).reshape(-1, *labels.shape[1:][-1:]) for a in (labels, weights))
        counts = weights.sum(axis=0)
        shares = self._smoothed((weights * labels).sum(axis=0) / jnp.maximum(counts, 1), 2)
        return jnp.sum(counts * (_entropy(shares) + _entropy(1 - shares))) / jnp.maximum(counts.sum(), 1)

    def smoothed_bias(self, bias: Array) -> Array:
        """Returns the log odds of smoothed frequencies."""
        shares = self._smoothed(jax.nn.sigmoid(bias), 2)
        return jnp.log(shares) - jnp.log(1 - shares) if self._smooths else bias

    def _check_values(self, values: np.ndarray | None, dtype: Any, outputs: Any) -> None:
        if values is not None and not ((values == 0) | (values == 1)).all():
            bad = values[(values != 0) & (values != 1)][0]
            raise ValueError(f"labels must be 0 or 1; got {bad}{_IGNORE}")


class Binary(_YesNo):
    """One label for each example, whose logits are [n] or [n, 1]."""

    def logits(self, outputs: Any) -> Array:
        """Returns the one logit of each example, in float32 or wider."""
        return widen(outputs).reshape(outputs.shape[0])

    def _check_shapes(self, outputs: Any, labels: Any) -> None:
        if outputs.shape[1:] not in ((), (1,)):
            hint = "; for several labels at once give multilabel=True" if outputs.shape == labels.shape else ""
            raise ValueError(f"outputs must be one logit per example, (n,) or (n, 1); got {_shape(outputs)}{hint}")
        if labels.shape[1:] != ():
            hint = "; take labels[:, 0]" if labels.shape[1:] == (1,) else ""
            raise ValueError(f"labels must have shape (n,), one for each example; got {_shape(labels)}{hint}")

    def _check_values(self, values: np.ndarray | None, dtype: Any, outputs: Any) -> None:
        _check_whole(dtype, "[0, 1]")
        super()._check_values(values, dtype, outputs)


class AnyOf(_YesNo):
    """Several labels for each example, with as many logits."""

    def _check_shapes(self, outputs: Any, labels: Any) -> None:
        if outputs.shape[1:] != labels.shape[1:] or len(labels.shape) < 2:
            raise ValueError(
                "labels must have the shape of the model's outputs, (n, labels), with 0 or 1 for each; got labels "
                f"{_shape(labels)} for outputs {_shape(outputs)}"
            )


_IGNORE = "; a value that stands for no label can be given as ignore_label"


def _mean(values: Array, counted: Array | None) -> Array:
    """Averages over the labels of each example that count: float[n], 0 where none does."""
    values = values.reshape(values.shape[0], -1)
    if counted is None:
        return jnp.mean(values, axis=1)
    counts = counted.reshape(values.shape).astype(values.dtype)
    return jnp.sum(jnp.where(counts > 0, values, 0), axis=1) / jnp.maximum(jnp.sum(counts, axis=1), 1)


def _entropy(shares: Array) -> Array:
    """Computes -p log p of each share."""
    return -shares * jnp.log(jnp.where(shares > 0, shares, 1))


def _check_whole(dtype: Any, allowed: str) -> None:
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"labels must be whole numbers in {allowed}; got dtype {dtype}: take labels.astype(int)")


def _shape(array: Any) -> str:
    return f"of shape ({', '.join(['n', *map(str, array.shape[1:])])}{',' if array.ndim == 1 else ''})"
