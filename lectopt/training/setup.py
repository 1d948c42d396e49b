"""What is checked and put together before a training starts."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from lectopt._internal import checks, meshes, shapes
from lectopt._internal.arrays import as_array
from lectopt._internal.keys import as_key
from lectopt._internal.trees import paths, same_structure
from lectopt.data.batches import Batch, batch_shapes, steps_per_epoch
from lectopt.data.subsets import Subset, as_subset
from lectopt.tasks.example_checks import check_examples, check_learnable
from lectopt.tasks.models import Params
from lectopt.tasks.task import ModelState, Task
from lectopt.training.carry import Data, Learner, Plan
from lectopt.training.example_weights import as_weights
from lectopt.training.layer_statistics import Watch, as_watch
from lectopt.training.optimizer_recipe import Optimizer, OptimizerRecipe, as_recipe
from lectopt.training.origin import Origin
from lectopt.training.starting import as_origin, continued, resumed

_ROWS = 8  # of the inputs that a model is shown to be initialised


class Setup(NamedTuple):
    """A training, ready to start: what is static, then what is an array."""

    plan: Plan
    recipe: OptimizerRecipe
    numbers: dict[str, Any]
    data: Data
    origin: Origin


def prepare(
    task: Task,
    optimizer: Optimizer,
    train: Any,
    *,
    valid: Any,
    batch_size: int,
    epochs: int | None,
    steps: int | None,
    shuffle: bool,
    key: Any,
    hyperparameters: Mapping[str, Any] | None,
    start: Any,
    patience: int | None,
    weights: Any,
    augment: Callable[[jax.Array, Batch], Batch] | None,
    watch: Watch | int | None,
    mesh: Mesh | None = None,
) -> Setup:
    """Checks the arguments of `lectopt.train` and puts them together."""
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    recipe, numbers = as_recipe(optimizer, hyperparameters)
    train, valid = as_subset(train, "train"), None if valid is None else as_subset(valid, "valid", as_array)
    batch_size = _batch_size(batch_size, train)
    if mesh is not None:
        meshes.check_mesh(mesh, batch_size, task.adapter.specs())
    if patience is not None:
        patience = checks.check_count("patience", patience)
        if valid is None:
            raise ValueError("patience counts validations: give it together with valid")
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a function (key, batch) -> batch; got {type(augment).__name__}")
    plan = Plan(
        task=task,
        batch_size=batch_size,
        steps=step_count(epochs, steps, per_epoch := steps_per_epoch(train.capacity, batch_size)),
        steps_per_epoch=per_epoch,
        shuffle=checks.check_flag("shuffle", shuffle),
        patience=patience,
        augment=augment,
        watch=as_watch(watch),
        inputs=shapes.to_json(batch_shapes(train, batch_size)[0]),
        mesh=mesh,
    )
    key = as_key(key)
    check_examples(task, train, "train", batch_size)
    check_learnable(task, train, "train")
    if valid is not None:
        check_examples(task, valid, "valid")
    data = Data(train, valid, None if weights is None else as_weights(weights, train, task), key)
    if augment is not None:
        _check_augment(augment, batch_shapes(train, batch_size))
    return Setup(plan, recipe, numbers, data, as_origin(task, start, data.key, train.take(train.indices[:_ROWS])))


def fresh(task: Task, key: jax.Array, train: Subset) -> tuple[Params, ModelState]:
    """The parameters and model state that a training with this key and these examples starts from."""
    params, state = drawn(task, key, train)
    return task.learn_output_bias(params, train), state


def drawn(task: Task, key: jax.Array, examples: Subset) -> tuple[Params, ModelState]:
    """The same without what is learned from targets."""
    params, state = task.init(jax.random.fold_in(key, 2), examples.take(examples.indices[:_ROWS]))
    return params, task.learn_inputs(state, examples)


def begin(setup: Setup) -> Learner:
    """Parameters, model state and optimizer state before the first step."""
    plan, data, origin = setup.plan, setup.data, setup.origin
    params, state = fresh(plan.task, data.key, data.train)
    params, state = continued(origin, params, state)
    opt_state = resumed(origin, setup.recipe.make(setup.numbers).init(params))
    return Learner(params, state, opt_state)


def _batch_size(batch_size: Any, train: Subset) -> int:
    batch_size = checks.check_count("batch_size", batch_size)
    if batch_size > train.capacity:
        warnings.warn(
            f"batch_size {batch_size} is larger than the {train.capacity} training examples: "
            "each epoch is one batch of all of them",
            stacklevel=4,
        )
    return min(batch_size, train.capacity)


def step_count(epochs: Any, steps: Any, per_epoch: int) -> int:
    """The number of updates, of which exactly one of the two is given."""
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs and steps must be given; got epochs={epochs}, steps={steps}")
    return checks.check_count("epochs", epochs) * per_epoch if steps is None else checks.check_count("steps", steps)


def _check_augment(augment: Callable[[jax.Array, Batch], Batch], batch: Batch) -> None:
    try:
        changed = jax.eval_shape(augment, jax.random.key(0), batch)
    except Exception as error:
        raise ValueError(f"augment must be a function (key, batch) -> batch: {error}") from error
    if not same_structure(batch, changed):
        raise ValueError("augment must return a batch of the same structure, a tuple of as many arrays")
    for path, old, new in zip(paths(batch), jax.tree.leaves(batch), jax.tree.leaves(changed), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"augment must keep shapes and dtypes, since validation and prediction get the batch without it; it "
                f"turns array {'/'.join(path)} of the batch, {old.dtype}{list(old.shape)}, into {new.dtype}"
                f"{list(new.shape)}"
            )
