"""How far a training has come: what is asked for after each chunk, and told by the bar."""

from typing import NamedTuple

import jax
import numpy as np

from lectopt.training.carry import Carry, Plan


class Status(NamedTuple):
    """A few numbers of a carry, fetched at once."""

    step: int
    epoch: int
    running: bool
    loss_sum: float
    counted: float
    train_losses: np.ndarray  # of the epochs that are done, then zeros
    validations: np.ndarray  # of the metric that is shown, in turn

    @property
    def loss(self) -> float:
        """The mean of this epoch's losses so far, or that of the last epoch."""
        return self.loss_sum / self.counted if self.counted else float(self.train_losses[self.epoch - 1])

    def words(self, epochs: int, metric: str | None, last: "Status") -> str:
        """Says which epoch it is, the loss (of the last epoch if one has ended since `last`), and the validation."""
        said = f"epoch {min(self.epoch + 1, epochs)}/{epochs}"
        ended = self.epoch > last.epoch
        if self.counted or self.epoch:
            said += f", loss {self.train_losses[self.epoch - 1] if ended else self.loss:.4g}"
        if len(self.validations):
            said += f", {metric} {self.validations[-1]:.4g}"
        return said


def status_of(plan: Plan, carry: Carry) -> Status:
    """Returns the status of a training."""
    numbers = carry.step, carry.epoch, carry.running, carry.loss_sum, carry.counted
    name, by_steps = plan.shown_metric, carry.validations
    records = carry.epoch_records if by_steps is None else by_steps.values
    shown = None if name is None else records[name]
    found, losses, shown = jax.device_get((numbers, carry.epoch_records["train_loss"], shown))
    step, epoch, running, loss_sum, counted = (value.item() for value in found)
    rows = epoch if by_steps is None else by_steps.rows
    return Status(step, epoch, running, loss_sum, counted, losses, np.zeros(0) if shown is None else shown[:rows])
