"""The course of a training in a few numbers, which do not depend on the units of its loss."""

import dataclasses
import math

import numpy as np

from lectopt.training.history import History

_STRETCHES = 20
_EXAMPLES = 32
"""The initial loss is the mean over so many examples at least: that of one small batch says little."""
_NEXT_TO_NOTHING = 0.1
"""Losses below such a part of the baseline loss may jump about as they like: relative to themselves they always do."""
_FEW = 5
"""With fewer epochs than these the training loss is averaged over stretches of steps instead."""
SHORT = 100
"""Of fewer steps than these the curve says little: Goodfellow et al. look at the first hundred to choose a rate."""
_EPOCHS = 10
"""... unless they are as many epochs, of few large batches, whose losses are hardly noisy."""
_TRAINED = 0.8
"""An initial loss below such a part of the baseline loss is none of fresh weights."""
_DECAYED = 0.5
"""A rate that ends below such a part of its largest value was let decrease."""


@dataclasses.dataclass(frozen=True)
class Course:
    """Losses in units of the loss of constant outputs; where that is not known, of the initial loss, or of the whole
    fall where it is larger (of losses that become negative).
    """

    unit: float
    known: bool  # the unit is the loss of constant outputs
    initial: float  # before anything was learned
    train: np.ndarray  # mean losses, of epochs or stretches; up to the first that is not finite
    valid: np.ndarray  # of epochs; empty without validation, or where one of them was not finite
    epochs: int
    steps: int  # with a finite loss
    broken: bool  # a loss was not finite
    rate_left: float  # the last learning rate over the largest one; 1 where it is not known

    @property
    def short(self) -> bool:
        """Too short for the curves to say much."""
        return self.steps < SHORT and self.epochs < _EPOCHS

    @property
    def decayed(self) -> bool:
        """Whether the rate was let decrease: then the losses settle, or fall, since it does."""
        return self.rate_left < _DECAYED

    @property
    def went_on(self) -> bool:
        """Whether the training seems to have begun with weights that were trained: its loss was below the baseline."""
        return self.known and self.initial < _TRAINED

    @property
    def drop(self) -> float:
        """How far the training loss fell from its first mean to its last one."""
        return float(self.train[0] - self.train[-1])

    @property
    def straightness(self) -> float:
        """The share of the fall that came in the second half: a half for a straight line."""
        return float((self.train[len(self.train) // 2] - self.train[-1]) / self.drop) if self.drop > 0 else 0.0

    @property
    def watched_loss(self) -> np.ndarray:
        """The validation loss, or the training loss where there is none."""
        return self.valid if len(self.valid) else self.train


def course(history: History) -> Course:
    """The course of one training."""
    losses = np.asarray(history.steps["loss"], float)
    finite = np.isfinite(losses)
    count = len(losses) if finite.all() else int(np.argmin(finite))
    first = losses[: min(count, math.ceil(_EXAMPLES / history.batch_size))]
    initial = float(first.mean()) if len(first) else np.nan
    train, valid = _finite(history.epochs.get("train_loss", [])), _whole(history)
    epochs = len(train)
    if count and epochs < _FEW:
        train = np.array([part.mean() for part in np.array_split(losses[:count], min(count, _STRETCHES))])
    baseline = 0.0 if history.baseline_loss is None else float(history.baseline_loss)
    known = baseline > 0
    unit = baseline if known else _largest([abs(initial), initial - train.min(initial=initial)])
    broken = int(history.diverged_at) >= 0
    left = _rate_left(history, count)
    return Course(unit, known, initial / unit, train / unit, valid / unit, epochs, count, broken, left)


def _largest(sizes: list[float]) -> float:
    return max((size for size in sizes if size > 0), default=1.0)


def _whole(history: History) -> np.ndarray:
    """The validation losses of the epochs that were trained, if all are finite."""
    trained = np.isfinite(np.asarray(history.epochs.get("train_loss", []), float))
    valid = np.asarray(history.epochs.get("valid_loss", []), float)
    done = valid[trained] if len(trained) == len(valid) else valid
    return done if np.isfinite(done).all() else np.empty(0)


def _rate_left(history: History, count: int) -> float:
    rates = np.asarray(history.steps.get("learning_rate", []), float)[:count]
    return float(rates[-1] / rates.max()) if len(rates) and np.isfinite(rates).all() and rates.max() > 0 else 1.0


def late_fall(losses: np.ndarray) -> float:
    """How much of its value a curve lost in the last fifth."""
    span = max(1, len(losses) // 5)
    return float(losses[-1 - span] / losses[-1] - 1) if len(losses) > span and losses[-1] > 0 else 0.0


def jumps(losses: np.ndarray) -> float:
    """The deviation of a curve's values from their neighbours' mean, over its mean; without its first third. Only where
    it turns: the bend of a curve that falls, and then falls less, is no jump.
    """
    late = losses[len(losses) // 3 :]
    if len(late) < 3:
        return 0.0
    steps = np.diff(late)
    # The second difference of independent values has six times their variance.
    turns = np.where(steps[1:] * steps[:-1] < 0, np.diff(steps), 0)
    return float(np.sqrt(np.mean(turns**2) / 6) / max(abs(late.mean()), _NEXT_TO_NOTHING))


def early_change(losses: np.ndarray) -> tuple[float, float]:
    """The means over the second tenth and over the last tenth."""
    tenth = max(1, len(losses) // 10)
    return float(losses[tenth : 2 * tenth].mean()), float(losses[-tenth:].mean())


def _finite(record: object) -> np.ndarray:
    values = np.asarray(record, float)
    finite = np.isfinite(values)
    return values if finite.all() else values[: int(np.argmin(finite))]
