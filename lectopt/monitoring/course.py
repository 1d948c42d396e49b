"""The course of a training in a few numbers, which do not depend on the units of its loss."""

import dataclasses
import math

import numpy as np

from lectopt.history import History

_STRETCHES = 20
_EXAMPLES = 32
"""The initial loss is the mean over so many examples at least: that of one small batch says little."""
_NEXT_TO_NOTHING = 0.1
"""Losses below such a part of chance may jump about as they like: relative to themselves they always do."""
_FEW = 5
"""With fewer epochs than these the training loss is averaged over stretches of steps instead."""


@dataclasses.dataclass(frozen=True)
class Course:
    """Losses in units of the loss of constant outputs (of the initial loss, where that is not known)."""

    unit: float
    initial: float  # before anything was learned
    train: np.ndarray  # mean losses, of epochs or stretches; up to the first that is not finite
    valid: np.ndarray  # of epochs; empty without validation, or after a divergence in the first one
    steps: int  # with a finite loss
    broken: bool  # a loss was not finite

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
    unit = float(history.chance) if history.chance > 0 else abs(initial) or 1.0
    train, valid = (_finite(history.epochs.get(name, [])) for name in ("train_loss", "valid_loss"))
    if count and len(train) < _FEW:
        train = np.array([part.mean() for part in np.array_split(losses[:count], min(count, _STRETCHES))])
    broken = int(history.diverged_at) >= 0
    return Course(unit, initial / unit, train / unit, valid / unit, count, broken)


def late_fall(losses: np.ndarray) -> float:
    """How much of its value a curve lost in the last fifth."""
    span = max(1, len(losses) // 5)
    return float(losses[-1 - span] / losses[-1] - 1) if len(losses) > span and losses[-1] > 0 else 0.0


def jumps(losses: np.ndarray) -> float:
    """The deviation of a curve's values from their neighbours' mean, over its mean; without its first third."""
    late = losses[len(losses) // 3 :]
    if len(late) < 3:
        return 0.0
    # The second difference of independent values has six times their variance.
    return float(np.sqrt(np.mean(np.diff(late, 2) ** 2) / 6) / max(late.mean(), _NEXT_TO_NOTHING))


def early_change(losses: np.ndarray) -> tuple[float, float]:
    """The means over the second tenth and over the last tenth."""
    tenth = max(1, len(losses) // 10)
    return float(losses[tenth : 2 * tenth].mean()), float(losses[-tenth:].mean())


def _finite(record: object) -> np.ndarray:
    values = np.asarray(record, float)
    finite = np.isfinite(values)
    return values if finite.all() else values[: int(np.argmin(finite))]
