"""How far a training has come: what is asked for after each chunk, and told by the bar."""

from typing import NamedTuple

import jax
import numpy as np

from lectopt.training.carry import Carry


class Status(NamedTuple):
    """A few numbers of a carry, fetched at once."""

    step: int
    epoch: int
    running: bool
    loss_sum: float
    counted: float
    train_losses: np.ndarray  # of the epochs that are done, then zeros
    valid_losses: np.ndarray | None

    def words(self, epochs: int, last: "Status") -> str:
        """Says which epoch it is, and the losses: of the last epoch if one has ended since `last`, else of this one."""
        said = f"epoch {min(self.epoch + 1, epochs)}/{epochs}"
        if self.counted and self.epoch == last.epoch:
            said += f", loss {self.loss_sum / self.counted:.4g}"
        elif self.epoch:
            said += f", loss {self.train_losses[self.epoch - 1]:.4g}"
        if self.valid_losses is not None and self.epoch:
            said += f", valid_loss {self.valid_losses[self.epoch - 1]:.4g}"
        return said


def status_of(carry: Carry) -> Status:
    """Returns the status of a training."""
    records = carry.epoch_records
    numbers = carry.step, carry.epoch, carry.running, carry.loss_sum, carry.counted
    found, losses = jax.device_get((numbers, (records["train_loss"], records.get("valid_loss"))))
    return Status(*(value.item() for value in found), *losses)
