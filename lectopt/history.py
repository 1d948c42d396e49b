"""What was recorded while training."""

import dataclasses
from typing import TYPE_CHECKING

import jax

from lectopt._types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """The course of a training, step by step and epoch by epoch; NaN where nothing was done."""

    steps: dict[str, Array]
    """float32[steps]: "loss" (of the batch, without penalties), "gradient_norm" (before clipping) and, where the
    optimizer is lectopt's, "learning_rate"."""
    epochs: dict[str, Array]
    """float32[epochs]: "train_loss" (mean over the epoch of the losses as they were met), "valid_loss" and
    "valid_<metric>" at the end of the epoch."""
    steps_per_epoch: int = dataclasses.field(metadata={"static": True})

    def plot(self) -> "Figure":
        """Losses, metrics, gradient norm and learning rate as curves; returns a matplotlib figure."""
        from lectopt.monitoring.plots import plot_history  # noqa: PLC0415, matplotlib is heavy

        return plot_history(self)
