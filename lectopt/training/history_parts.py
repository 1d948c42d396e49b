"""The trainings that a history joins, one after the other, and at which steps each has its records."""

from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """How much one training recorded, and how often; all of them ints."""

    steps: int
    epochs: int
    looks: int  # at the layers
    validations: int  # at steps of their own
    steps_per_epoch: int
    watched_every: int
    validated_every: int

    def first(self, steps: int) -> "Part":
        """Returns what of it was recorded in its first steps."""
        return self._replace(
            steps=steps,
            epochs=min(self.epochs, -(-steps // self.steps_per_epoch)),
            looks=int(np.sum(self.watched_steps < steps)),
            validations=int(np.sum(self.validated_steps <= steps)),
        )

    @property
    def epochs_done(self) -> np.ndarray:
        """How much of it is done after each step, in epochs: float64[steps]."""
        return np.arange(1, self.steps + 1) / self.steps_per_epoch

    @property
    def epoch_ends(self) -> np.ndarray:
        """How many steps are done at the end of each epoch: int[epochs]."""
        return np.minimum(np.arange(1, self.epochs + 1) * self.steps_per_epoch, self.steps)

    @property
    def watched_steps(self) -> np.ndarray:
        """The steps, counted from 0, at which the layers were recorded: int[looks]."""
        return np.arange(self.looks) * self.watched_every

    @property
    def validated_steps(self) -> np.ndarray:
        """How many steps are done at each validation: int[validations]."""
        return np.minimum(np.arange(1, self.validations + 1) * self.validated_every, self.steps)
