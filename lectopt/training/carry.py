"""The parts of a training: what is fixed, what is read, what learns, and what is carried from step to step."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.data.subsets import Subset
from lectopt.optim.evaluation_params import eval_params
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training.layer_statistics import LayerRecords, Watch
from lectopt.training.loss_scale import LossScale

NO_LOSS = np.finfo(np.float32).max
"""Stands for the validation loss until one was finite: every one that is will be less."""


class Judge(NamedTuple):
    """By which metric of a validation the best weights are known, and when patience is out."""

    metric: str
    maximizes: bool
    patience: int | None  # validations without a gain; None never ends the training, unless `Data` has a traced one
    min_delta: float  # what a gain has to exceed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is fixed when a loop compiles. Hashable: equal plans share what was compiled."""

    task: Task
    batch_size: int
    steps: int  # in all
    steps_per_epoch: int
    shuffle: bool
    valid_names: tuple[str, ...]  # of the validation sets, in the order given
    judge: Judge | None  # None returns what was trained last
    validate_every: int | None  # in steps; None validates at the end of each epoch
    augment: Callable[[jax.Array, Batch], Batch] | None
    watch: Watch | None
    inputs: str  # the shapes of a batch of inputs
    mesh: Mesh | None  # that batches are split over

    @property
    def shown_metric(self) -> str | None:
        """The metric of validations that tells how the training goes: the one that is judged, or the first loss."""
        if self.judge is not None:
            return self.judge.metric
        return f"{self.valid_names[0]}_loss" if self.valid_names else None

    @property
    def epochs(self) -> int:
        """The number of passes through the examples, the last one perhaps incomplete."""
        return math.ceil(self.steps / self.steps_per_epoch)


class Window(NamedTuple):
    """Batches of a stream that are on the device: some in a row, of one epoch."""

    arrays: Batch  # [batches, batch_size, ...]
    weights: Array  # float32[batches, batch_size], 1 for an example, 0 for padding
    first: Array  # int32[], the place in the epoch of the first batch

    def at(self, place: Array) -> tuple[Array, Array]:
        """Returns the number of the batch at this place of the epoch, and the weights of its rows."""
        number = place - self.first
        return number, self.weights[number]

    def take(self, rows: Array) -> Batch:
        """Returns the batch of this number, as a `Subset` returns rows."""
        return jax.tree.map(lambda a: a[rows], self.arrays)


class Data(NamedTuple):
    """What the loop reads only."""

    train: Subset  # of a stream the first batch, for its shapes
    valid: dict[str, Subset]  # by name; empty where nothing is validated
    weights: Array | None  # float32[examples of `train.arrays`], with mean 1; of a window, float32[batches, batch_size]
    key: jax.Array
    window: Window | None = None  # if the examples come from a stream
    valid_weights: dict[str, Array] | None = None  # float32[examples of the arrays of each]
    epochs: Array | None = None  # int32[], after how many it ends, where that is less than the plan has room for
    patience: Array | None = None  # int32[], where it is traced

    def holds_examples(self, batch: Array, batch_size: int) -> Array:
        """Tells which batches of an epoch hold an example; some do not where other parts are larger."""
        return batch * batch_size < self.train.size if self.window is None else batch >= 0


class Learner(NamedTuple):
    """What learning changes."""

    params: Params  # as the optimizer holds them: the look-ahead point under Nesterov momentum
    state: ModelState  # what of the model is not trained
    opt_state: optax.OptState

    def eval_params(self) -> Params:
        """Returns the parameters w, which are evaluated and returned."""
        return eval_params(self.opt_state, self.params)


class Validations(NamedTuple):
    """Records of validations at steps of their own."""

    done: Array  # bool[validations]
    values: dict[str, Array]  # float32[validations]

    @property
    def rows(self) -> int:
        """The number of rows up to the last one that is done; of records that are not traced."""
        return int(np.max(np.flatnonzero(self.done), initial=-1)) + 1

    def store(self, row: Array, done: Array, metrics: dict[str, Array]) -> "Validations":
        """Returns these records with one more."""
        values = {name: record.at[row].set(metrics[name]) for name, record in self.values.items()}
        return Validations(self.done.at[row].set(done), values)


class Carry(NamedTuple):
    """The loop's state between steps."""

    step: Array  # int32[], steps done
    epoch: Array  # int32[], epochs done
    learner: Learner
    before: Learner  # at the start of the epoch
    best: Learner | None  # at the best validation, where there is a judge
    least: Array  # float32[], the validation loss to be less than; `NO_LOSS` until one was finite
    failures: Array  # int32[], validations since the last gain
    metrics: dict[str, Array]  # of what is to be returned: `best`, or the last finite epoch
    has_metrics: dict[str, Array]  # bool[], whether they have been computed yet
    running: Array  # bool[], neither diverged nor out of patience
    ended: Array  # int32[], steps done at the end of the last epoch in which it was running
    diverged_at: Array  # int32[], -1 while all is finite
    loss_sum: Array  # float32[], over the examples of this epoch so far
    counted: Array  # float32[], how many these are, or how many of their labels count
    step_records: dict[str, Array]  # float32[epochs, steps_per_epoch]; 0, here and below, where nothing was done
    epoch_records: dict[str, Array]  # float32[epochs]
    layer_records: LayerRecords | None  # if layers are watched
    baseline_loss: Array | None  # float32[], see `History`
    rows: Array | None  # int32[steps_per_epoch, batch_size], of this epoch's batches, where it may run in parts
    loss_scale: LossScale | None  # if the model computes in float16
    bar: Array | None = None  # float32[], the validation loss that a gain starts from, if it has to exceed something
    validations: Validations | None = None  # if they are at steps of their own


_STORED_AS = {"has_metrics": "known", "layer_records": "looks", "baseline_loss": "chance"}
"""Fields that directories, and their fingerprints, know by the names that they had when the format was made."""


def _with_keys(carry: Carry) -> tuple[list[tuple[Any, Any]], None]:
    keys = (jax.tree_util.GetAttrKey(_STORED_AS.get(name, name)) for name in carry._fields)
    return list(zip(keys, carry, strict=True)), None


jax.tree_util.register_pytree_with_keys(Carry, _with_keys, lambda _, fields: Carry(*fields))
