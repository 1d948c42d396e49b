"""What ceased to be finite in a training, in words: `fit` warns of it, and `diagnose` finds it."""

from typing import NamedTuple

import numpy as np

from lectopt.history import History


class Trouble(NamedTuple):
    """What happened, and what to do about it."""

    evidence: str
    remedy: str


def divergence(history: History) -> Trouble | None:
    """The loss, or the weights, in training."""
    step = int(history.diverged_at)
    if step < 0:
        return None
    if step == 0 and not np.isfinite(np.asarray(history.steps["loss"])[0]):
        return Trouble(
            "the loss was not finite at step 0, before any update",
            "No learning rate changes that: look at the weights that it started from, at the loss, and at what augment "
            "makes of the examples (an index beyond an embedding's rows gives NaN, and so does the log of 0).",
        )
    return Trouble(
        f"the loss or the weights were not finite at step {step}", "Lower the learning rate or clip the gradient."
    )


def bad_validations(history: History) -> Trouble | None:
    """The loss of the validation examples, while training went well."""
    if "valid_loss" not in history.epochs:
        return None
    valid, train = (np.asarray(history.epochs[name]) for name in ("valid_loss", "train_loss"))
    trained = np.isfinite(train)
    bad = trained & ~np.isfinite(valid)
    if not bad.any():
        return None
    return Trouble(
        f"the validation loss was not finite after {bad.sum()} of {trained.sum()} epochs, the first of them epoch "
        f"{bad.argmax() + 1}",
        "Look for validation examples that the model or the loss cannot take (an index beyond an embedding's rows, the "
        "log of 0).",
    )
