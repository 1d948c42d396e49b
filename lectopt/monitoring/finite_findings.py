"""What ceased to be finite, or grew out of all bounds, and where that began: not every NaN is too high a rate."""

import numpy as np

from lectopt.history import History
from lectopt.monitoring.course import Course
from lectopt.monitoring.findings import Finding

BLOWN_UP = 2.0
"""The last loss over the least one, if it is above chance too: no training that only settles badly gets there."""
EXPLODED = 5.0
"""The same of single batches, over chance and the initial loss: a few of them say no more."""
_GOODFELLOW = "Goodfellow et al. 2016, section "
_SLOWER = "Lower the learning rate (lo.suggest_learning_rate), or clip the gradient (lo.clip_by_norm)."
_NUMBERS = "a logarithm or root of 0, a division by 0, an overflow in half precision"


def diverged(history: History, seen: Course) -> Finding | None:
    """The loss ceased to be finite, or grew far above what it had been."""
    if seen.broken:
        return _broken(history, seen)
    least, last = seen.train.min(), seen.train[-1]
    if last <= (EXPLODED * max(seen.initial, 1) if seen.short else max(BLOWN_UP * least, 1)):
        return None
    evidence = f"the training loss ended at {last * seen.unit:.3g}, and had been down to {least * seen.unit:.3g}"
    return Finding("diverged", evidence, _SLOWER, _GOODFELLOW + "8.2.4")


def _broken(history: History, seen: Course) -> Finding:
    """By what was the first not to be finite."""
    reference = _GOODFELLOW + "8.2.4"
    if seen.steps == 0:
        evidence = "the loss was NaN or infinite before any update, so no learning rate can be the cause"
        remedy = (
            f"Look at the inputs, at ids beyond an embedding, at the initial weights, and in the loss for {_NUMBERS}."
        )
        return Finding("not finite from the start", evidence, remedy, reference)
    losses, norms = (np.asarray(history.steps[name], float)[: seen.steps] for name in ("loss", "gradient_norm"))
    calm = losses / seen.unit <= BLOWN_UP * max(seen.initial, 1)
    bad = int(np.argmin(np.append(np.isfinite(norms), False)))  # the first gradient that is not finite, if there is one
    if bad < seen.steps and calm[bad]:
        evidence = f"in step {bad} the loss was {losses[bad]:.3g}, and its gradient NaN or infinite"
        remedy = (
            f"Look in model and loss for what has no derivative where it is taken: {_NUMBERS}, a norm of zeros, "
            "a jnp.where whose other branch is NaN. A lower learning rate does not mend it."
        )
        return Finding("gradient not finite", evidence, remedy, reference)
    evidence = f"the loss or the weights were not finite after {seen.steps} steps"
    rates = np.asarray(history.steps.get("learning_rate", []), float)
    if not np.isfinite(rates[: seen.steps]).all():
        return Finding("diverged", evidence + "; nor was the learning rate", "Look at its schedule.", reference)
    remedy = _SLOWER
    if seen.steps > 1 and calm.all():
        evidence += f", though the loss had not grown before: it was {losses[-1]:.3g}"
        remedy += (
            f" If that does not help, look at this step's examples, at ids beyond an embedding, and for {_NUMBERS}."
        )
    return Finding("diverged", evidence, remedy, reference)


def validation_not_finite(history: History, seen: Course) -> Finding | None:
    """What is NaN in evaluation alone: batch statistics, or examples that only validation has."""
    if seen.broken or "valid_loss" not in history.epochs:
        return None
    valid = np.asarray(history.epochs["valid_loss"], float)
    trained = np.isfinite(np.asarray(history.epochs["train_loss"], float))
    bad = trained & ~np.isfinite(valid)
    if not bad.any():
        return None
    evidence = (
        f"in {bad.sum()} of {trained.sum()} epochs, first in epoch {bad.argmax() + 1}; the training loss was finite"
    )
    remedy = (
        "Look at the validation part, at ids beyond an embedding, at the running statistics of a normalisation, and in "
        f"the loss for {_NUMBERS}. Without it no epoch is the best one for patience=."
    )
    return Finding("validation loss not finite", evidence, remedy, _GOODFELLOW + "11.5")
