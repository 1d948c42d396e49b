"""What became non-finite in a training, and where: `fit` warns of it, and `diagnose` finds it."""

from typing import NamedTuple

import numpy as np

from lectopt.training.history import History

BLOWN_UP = 2.0
"""A loss over the initial one, or that of constant outputs: below it, it had not grown."""
SLOWER = "Lower the learning rate (lo.suggest_learning_rate) or clip the gradient (lo.clip_by_norm)."
_NUMBERS = "a logarithm or root of 0, a division by 0, an overflow in half precision"


class NonFinite(NamedTuple):
    """What happened, and what to do about it."""

    name: str  # as `diagnose` calls it
    evidence: str
    remedy: str


def divergence(history: History) -> NonFinite | None:
    """Returns a divergence of the loss, its gradient or the weights: not every NaN is due to a large rate."""
    step = int(history.diverged_at)
    if step < 0:
        return None
    losses = np.asarray(history.steps["loss"], float)
    count = int(np.argmin(np.append(np.isfinite(losses), False)))  # of the steps with a finite loss
    if count == 0:
        return NonFinite(
            "not finite from the start",
            "the loss was not finite at step 0, before any update",
            "No learning rate changes that: look at the inputs, and at what augment makes of them, at ids beyond an "
            f"embedding, at the initial weights, and in the loss for {_NUMBERS}.",
        )
    losses, norms = losses[:count], np.asarray(history.steps["gradient_norm"], float)[:count]
    baseline = 0.0 if history.baseline_loss is None else np.nan_to_num(float(history.baseline_loss))
    calm = losses <= BLOWN_UP * max(abs(losses[0]), baseline)
    bad = int(np.argmin(np.append(np.isfinite(norms), False)))  # the first gradient that is not, if there is one
    if bad < count and calm[bad]:
        return NonFinite(
            "gradient not finite",
            f"at step {bad} the loss was {losses[bad]:.3g}, and its gradient not finite",
            f"No learning rate changes that: look in model and loss for what has no derivative there: {_NUMBERS}, a "
            "norm of zeros, a jnp.where whose other branch is NaN.",
        )
    return _by_steps(history, step, losses, grown=not calm.all())


def _by_steps(history: History, step: int, losses: np.ndarray, *, grown: bool) -> NonFinite:
    """Describes what the steps brought about, or one of the batches."""
    evidence = f"the loss or the weights were not finite at step {step}"
    rates = np.asarray(history.steps.get("learning_rate", []), float)[: len(losses)]
    if not np.isfinite(rates).all():
        return NonFinite("diverged", f"{evidence}, nor was the learning rate", "Look at its schedule.")
    remedy = SLOWER
    if len(losses) > 1 and not grown:
        evidence += f", though the loss had not grown before: it was {losses[-1]:.3g}"
        remedy += (
            f" If that does not help, look at this step's examples, at ids beyond an embedding, and for {_NUMBERS}."
        )
    return NonFinite("diverged", evidence, remedy)


def nonfinite_validation(history: History) -> NonFinite | None:
    """Returns a non-finite loss of the validation examples, while training went well."""
    if int(history.diverged_at) >= 0:
        return None
    found = (_nonfinite_losses(history, name) for name in history.validation_losses)
    return next((what for what in found if what is not None), None)


def _nonfinite_losses(history: History, name: str) -> NonFinite | None:
    steps, losses = history.validation_losses[name]
    epochs = np.searchsorted(history.epoch_ends, steps)  # that each is in
    trained = np.isfinite(np.asarray(history.epochs["train_loss"], float)[epochs])
    if name in history.validations:
        trained &= np.isfinite(np.asarray(history.steps["loss"], float)[steps - 1])
    bad = trained & ~np.isfinite(np.asarray(losses, float))
    if not bad.any():
        return None
    when = f"epochs, the first of them epoch {epochs[bad.argmax()] + 1}"
    if name in history.validations:
        when = f"validations, the first of them at step {steps[bad.argmax()]}"
    return NonFinite(
        "validation loss not finite",
        f"the {'validation loss' if name == 'valid_loss' else name} was not finite after {bad.sum()} of "
        f"{trained.sum()} {when}",
        "Look for validation examples that the model or the loss cannot take (ids beyond an embedding; "
        f"{_NUMBERS}), and at the running statistics of a normalisation.",
    )
