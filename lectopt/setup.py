"""What is checked and put together before a training starts."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lectopt import _checks, _shapes, meshes
from lectopt._keys import as_key
from lectopt._types import Array
from lectopt.evaluation import batch_shapes, check_examples
from lectopt.loop import Data, Learner, Plan
from lectopt.models import Params
from lectopt.origin import Origin
from lectopt.recipes import Optimizer, OptimizerRecipe, as_recipe
from lectopt.schedules import steps_per_epoch
from lectopt.starting import alike, as_origin, continued, resumed
from lectopt.statistics import Watch, as_watch
from lectopt.subsets import Subset, as_subset
from lectopt.task import Batch, ModelState, Task

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
    train, valid = as_subset(train, "train"), None if valid is None else as_subset(valid, "valid")
    batch_size = _batch_size(batch_size, train)
    if mesh is not None:
        meshes.check(mesh, batch_size, task.adapter.specs())
    if patience is not None:
        patience = _checks.check_count("patience", patience)
        if valid is None:
            raise ValueError("patience counts validations: give it together with valid")
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a function (key, batch) -> batch; got {type(augment).__name__}")
    plan = Plan(
        task=task,
        batch_size=batch_size,
        steps=step_count(epochs, steps, per_epoch := steps_per_epoch(train.capacity, batch_size)),
        steps_per_epoch=per_epoch,
        shuffle=_checks.check_flag("shuffle", shuffle),
        patience=patience,
        augment=augment,
        watch=as_watch(watch),
        inputs=_shapes.describe(batch_shapes(train, batch_size)[0]),
        mesh=mesh,
    )
    data = Data(train, valid, None if weights is None else _weights(weights, train), as_key(key))
    check_examples(task, train, "train", batch_size)
    if valid is not None:
        check_examples(task, valid, "valid")
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
    batch_size = _checks.check_count("batch_size", batch_size)
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
    return _checks.check_count("epochs", epochs) * per_epoch if steps is None else _checks.check_count("steps", steps)


def _weights(weights: Any, train: Subset) -> Array:
    """Weights of all examples of `train.arrays`, with mean 1 over the training part."""
    with jax.ensure_compile_time_eval():  # so that what is known can be checked under `jit` too
        values = _weights_of_classes(weights, train) if isinstance(weights, Mapping) else jnp.asarray(weights)
        values = values.astype(jnp.float32)
        count = jax.tree.leaves(train.arrays)[0].shape[0]
        if values.shape != (count,):
            raise ValueError(f"weights must have shape ({count},), one for each example; got {values.shape}")
        real = jnp.arange(train.capacity) < train.size
        total = jnp.sum(jnp.where(real, values[train.indices], 0))
        if not _checks.is_traced((values, total)) and not (jnp.all(values >= 0) and jnp.isfinite(total) and total > 0):
            raise ValueError("weights must be finite, at least 0, and not all 0 over the training examples")
        return values * (train.size / total)


def _weights_of_classes(weights: Mapping, train: Subset) -> Array:
    labels = train.arrays[-1]
    if not isinstance(labels, jax.Array) or not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
        raise ValueError("weights by class need labels: whole numbers of shape (n,) as the last array of train")
    values = jnp.ones(labels.shape)
    for label, weight in weights.items():
        if not _checks.is_traced(labels) and not np.any(np.asarray(labels) == label):
            raise ValueError(f"weights must be of classes that occur in train; {label!r} does not")
        _checks.check_number(f"weights[{label}]", weight, _checks.NON_NEGATIVE)
        values = jnp.where(labels == label, weight, values)
    return values


def _check_augment(augment: Callable[[jax.Array, Batch], Batch], batch: Batch) -> None:
    try:
        changed = jax.eval_shape(augment, jax.random.key(0), batch)
    except Exception as error:
        raise ValueError(f"augment must be a function (key, batch) -> batch: {error}") from error
    if not alike(batch, changed):
        raise ValueError("augment must return a batch of the same structure, a tuple of as many arrays")
