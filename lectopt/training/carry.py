"""What a training is made of: what is fixed, what is read, what learns, and what is carried from step to step."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.data.subsets import Subset
from lectopt.tasks.models import Params
from lectopt.tasks.task import ModelState, Task
from lectopt.training.layer_statistics import Looks, Watch

NOTHING = np.finfo(np.float32).max
"""No validation loss has been finite so far: every one that is will be less."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is fixed when a loop compiles. Hashable: equal plans share what was compiled."""

    task: Task
    batch_size: int
    steps: int  # in all
    steps_per_epoch: int
    shuffle: bool
    patience: int | None
    augment: Callable[[jax.Array, Batch], Batch] | None
    watch: Watch | None
    inputs: str  # the shapes of a batch of inputs
    mesh: Mesh | None  # that batches are split over

    @property
    def epochs(self) -> int:
        """Passes through the examples, the last one perhaps not whole."""
        return math.ceil(self.steps / self.steps_per_epoch)


class Data(NamedTuple):
    """What the loop only reads."""

    train: Subset
    valid: Subset | None
    weights: Array | None  # float32[examples of `train.arrays`], with mean 1 over the training part
    key: jax.Array


class Learner(NamedTuple):
    """What learning changes."""

    params: Params  # as the optimizer holds them: the look-ahead point under Nesterov momentum
    state: ModelState  # what of the model is not trained
    opt_state: optax.OptState


class Carry(NamedTuple):
    """The loop's state between steps."""

    step: Array  # int32[], steps done
    epoch: Array  # int32[], epochs done
    learner: Learner
    before: Learner  # at the start of the epoch
    best: Learner | None  # at the best validation, under patience
    least: Array  # float32[], the validation loss that is to be beaten; `NOTHING` until one was finite
    failures: Array  # int32[], validations since the best one
    metrics: dict[str, Array]  # of what is to be returned: `best`, or the last finite epoch
    known: dict[str, Array]  # bool[], whether they are known yet
    running: Array  # bool[], neither diverged nor out of patience
    ended: Array  # int32[], steps done at the end of the last epoch in which it was running
    diverged_at: Array  # int32[], -1 while all is finite
    loss_sum: Array  # float32[], over the examples of this epoch so far
    counted: Array  # float32[], how many these are, or how many of their labels count
    step_records: dict[str, Array]  # float32[epochs, steps_per_epoch]; 0, here and below, where nothing was done
    epoch_records: dict[str, Array]  # float32[epochs]
    looks: Looks | None  # at the layers, if they are watched
    chance: Array | None  # float32[], the baseline loss; kept in directories under this name
    rows: Array | None  # int32[steps_per_epoch, batch_size], this epoch's examples, where it runs in several stretches
