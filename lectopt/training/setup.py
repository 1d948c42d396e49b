"""Assembling a training: from the checked arguments to a loop and what it starts from."""

from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from lectopt._internal import checks, meshes, shapes
from lectopt._internal.keys import as_key
from lectopt.data.batches import batch_shapes, steps_per_epoch
from lectopt.data.subsets import as_subset
from lectopt.tasks.example_checks import check_examples, check_learnable
from lectopt.tasks.task import Task
from lectopt.training import starting
from lectopt.training.arguments import (
    TrainingArguments,
    as_batch_size,
    check_augmented,
    check_callable,
    epoch_limit,
    step_count,
)
from lectopt.training.carry import Data, Learner, Plan
from lectopt.training.example_weights import as_weights
from lectopt.training.history import History
from lectopt.training.joining import history_to_join
from lectopt.training.layer_statistics import as_watch
from lectopt.training.loop import Loop
from lectopt.training.optimizer_recipe import OptimizerRecipe, as_recipe
from lectopt.training.optimizer_states import check_opt_state
from lectopt.training.run import Run
from lectopt.training.starting import Start
from lectopt.training.validation_arguments import (
    as_judge,
    as_valid,
    as_validate_every,
    as_weights_of_validation,
    valid_name,
)

_GOES_ON = 3
"""What of a key no training begins with: 0 to 2 are for shuffling, what the model draws, and weights."""


class Setup(NamedTuple):
    """A training, ready to start: what is static, then what is an array."""

    plan: Plan
    recipe: OptimizerRecipe
    numbers: dict[str, Any]  # hyperparameters of the optimizer
    data: Data
    start: Start
    earlier: History | None = None  # of the training that it goes on from

    def loop(self) -> Loop:
        """Returns the loop with its optimizer and its data."""
        return Loop(self.plan, self.recipe.make(self.numbers), self.data)

    def learner(self) -> Learner:
        """Returns parameters, model state and optimizer state before the first step."""
        params, state = starting.init_from_examples(self.plan.task, self.data.key, self.data.train, self.start.targets)
        params, state = starting.replace_model(self.start, params, state)
        opt_state = self.recipe.make(self.numbers).init(params)
        check_opt_state(opt_state)
        opt_state = starting.replace_opt_state(self.start, opt_state)
        return Learner(params, state, opt_state)


def prepare(given: TrainingArguments, mesh: Mesh | None = None) -> Setup:
    """Checks the arguments of a training and assembles them."""
    task = given.task
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    recipe, numbers = as_recipe(given.optimizer, given.hyperparameters)
    train = as_subset(given.train, "train")
    valid = as_valid(given.valid)
    batch_size = as_batch_size(given.batch_size, train.capacity)
    if mesh is not None:
        meshes.check_mesh(mesh, batch_size, task.adapter.specs())
    limit = epoch_limit(given.epochs, given.max_epochs, given.validate_every)
    epochs = given.epochs if limit is None else given.max_epochs
    judge = as_judge(given.patience, given.best_by, given.direction, given.min_delta, valid, task)
    check_callable(given.augment)
    plan = Plan(
        task=task,
        batch_size=batch_size,
        steps=step_count(epochs, given.steps, per_epoch := steps_per_epoch(train.capacity, batch_size)),
        steps_per_epoch=per_epoch,
        shuffle=checks.check_flag("shuffle", given.shuffle),
        valid_names=tuple(valid),
        judge=judge,
        validate_every=as_validate_every(given.validate_every, valid),
        augment=given.augment,
        watch=as_watch(given.watch),
        inputs=shapes.to_json(task.inputs_of(batch_shapes(train, batch_size))),
        mesh=mesh,
    )
    if task.in_batch and not plan.inputs:
        raise ValueError("in_batch needs inputs that are arrays, or tuples, lists and dictionaries of arrays")
    key = as_key(given.key)
    check_examples(task, train, "train", batch_size)
    check_learnable(task, train, "train")
    for name, part in valid.items():
        check_examples(task, part, valid_name(valid, name))
    weights = None if given.weights is None else as_weights(given.weights, train, task)
    valid_weights = as_weights_of_validation(given.weight_validation, given.weights, valid, train, task)
    patience: Any = given.patience if checks.is_traced(given.patience) else None
    data = Data(train, valid, weights, key, valid_weights=valid_weights, epochs=limit, patience=patience)
    if given.augment is not None:
        check_augmented(given.augment, batch_shapes(train, batch_size))
    earlier = earlier_history(given.start)
    start = _resume(given.start) if isinstance(given.start, Run) else given.start
    start = starting.as_start(task, start, key, train)._replace(history=None)
    return Setup(plan, recipe, numbers, data._replace(key=training_key(key, earlier)), start, earlier)


def earlier_history(start: Any) -> History | None:
    """Returns the history that goes on, of what was given as `start`."""
    if isinstance(start, Run):
        start.check_single()
    return history_to_join(start.history) if isinstance(start, (Run, Start)) else None


def training_key(key: Any, earlier: History | None) -> jax.Array:
    """Returns the key of a training; where it goes on, batches are others than before, also with the same key."""
    key = as_key(key)
    return key if earlier is None else jax.random.fold_in(jax.random.fold_in(key, _GOES_ON), earlier.length)


def _resume(run: Run) -> Start:
    """Returns what a run continues from: its optimizer's state, and the parameters that belong to it."""
    run.check_single()
    return run.start._replace(params=run.lookahead_params, opt_state=run.opt_state)
