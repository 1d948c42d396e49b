"""The losses of a training as curves that do not depend on the units of its loss, and what describes their shape."""

import dataclasses
import math

import numpy as np

from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.training.history import History

_PARTS = 20
"""Parts of a short training whose mean losses are its curve."""


@dataclasses.dataclass(frozen=True)
class LossCurves:
    """Losses in units of the baseline loss; where that is not known, of the initial loss, or of the whole fall where it
    is larger (of losses that become negative).
    """

    unit: float
    has_baseline: bool  # the unit is the baseline loss
    initial: float  # before anything was learned
    train: np.ndarray  # mean losses, of epochs or parts; up to the first that is not finite
    valid: np.ndarray  # of epochs; empty without validation, or where one of them was not finite
    epochs: int
    steps: int  # with a finite loss
    diverged: bool  # a loss was not finite
    final_rate: float  # the last learning rate over the largest one; 1 where it is not known

    @property
    def short(self) -> bool:
        """Too short for the curves to say much."""
        return self.steps < THRESHOLDS.short_steps and self.epochs < THRESHOLDS.short_epochs

    @property
    def rate_decayed(self) -> bool:
        """Whether the rate was let decrease: then the losses settle, or fall, since it does."""
        return self.final_rate < THRESHOLDS.decayed_rate

    @property
    def started_trained(self) -> bool:
        """Whether the training seems to have begun with weights that were trained: its loss was below the baseline."""
        return self.has_baseline and self.initial < THRESHOLDS.trained_initial_loss

    @property
    def fall(self) -> float:
        """How far the training loss fell from its first mean to its last one."""
        return float(self.train[0] - self.train[-1])

    @property
    def straightness(self) -> float:
        """The share of the fall that came in the second half: a half for a straight line."""
        return float((self.train[len(self.train) // 2] - self.train[-1]) / self.fall) if self.fall > 0 else 0.0

    @property
    def monitored(self) -> np.ndarray:
        """The validation loss, or the training loss where there is none."""
        return self.valid if len(self.valid) else self.train


def loss_curves(history: History) -> LossCurves:
    """Returns the curves of one training."""
    losses = np.asarray(history.steps["loss"], float)
    finite = np.isfinite(losses)
    steps = len(losses) if finite.all() else int(np.argmin(finite))
    first_losses = losses[: min(steps, math.ceil(THRESHOLDS.initial_examples / history.batch_size))]
    initial = float(first_losses.mean()) if len(first_losses) else np.nan
    train, valid = _up_to_nonfinite(history.epochs.get("train_loss", [])), _validation_losses(history)
    epochs = len(train)
    if steps and epochs < THRESHOLDS.curve_epochs:
        train = np.array([part.mean() for part in np.array_split(losses[:steps], min(steps, _PARTS))])
    baseline = 0.0 if history.baseline_loss is None else float(history.baseline_loss)
    has_baseline = baseline > 0
    unit = baseline if has_baseline else _largest_positive([abs(initial), initial - train.min(initial=initial)])
    diverged = int(history.diverged_at) >= 0
    rate = _final_rate(history, steps)
    return LossCurves(unit, has_baseline, initial / unit, train / unit, valid / unit, epochs, steps, diverged, rate)


def late_fall(losses: np.ndarray) -> float:
    """Returns the relative fall of a curve in its last fifth."""
    span = max(1, len(losses) // 5)
    return float(losses[-1 - span] / losses[-1] - 1) if len(losses) > span and losses[-1] > 0 else 0.0


def jump_size(losses: np.ndarray) -> float:
    """Returns the deviation of a curve from the mean of its neighbours, over its mean, without the first third. Only
    where it turns: the bend of a curve whose fall slows down is not a jump.
    """
    late = losses[len(losses) // 3 :]
    if len(late) < 3:
        return 0.0
    steps = np.diff(late)
    # The second difference of independent values has six times their variance.
    turns = np.where(steps[1:] * steps[:-1] < 0, np.diff(steps), 0)
    return float(np.sqrt(np.mean(turns**2) / 6) / max(abs(late.mean()), THRESHOLDS.jump_floor))


def second_and_last_tenth(losses: np.ndarray) -> tuple[float, float]:
    """Returns the mean losses there."""
    tenth = max(1, len(losses) // 10)
    return float(losses[tenth : 2 * tenth].mean()), float(losses[-tenth:].mean())


def _largest_positive(sizes: list[float]) -> float:
    return max((size for size in sizes if size > 0), default=1.0)


def _validation_losses(history: History) -> np.ndarray:
    """Returns those of the epochs that were trained, if all are finite."""
    trained = np.isfinite(np.asarray(history.epochs.get("train_loss", []), float))
    _, record = next(iter(history.validation_losses.values()), (None, []))
    valid = np.asarray(record, float)
    of_trained = valid[trained] if len(trained) == len(valid) else valid
    return of_trained if np.isfinite(of_trained).all() else np.empty(0)


def _final_rate(history: History, steps: int) -> float:
    """Returns the last learning rate over the largest one."""
    rates = np.asarray(history.steps.get("learning_rate", []), float)[:steps]
    return float(rates[-1] / rates.max()) if len(rates) and np.isfinite(rates).all() and rates.max() > 0 else 1.0


def _up_to_nonfinite(record: object) -> np.ndarray:
    values = np.asarray(record, float)
    finite = np.isfinite(values)
    return values if finite.all() else values[: int(np.argmin(finite))]
