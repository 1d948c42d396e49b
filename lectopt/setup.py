"""What is checked and put together before a training starts."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from lectopt import _checks, _shapes, meshes
from lectopt._keys import as_key
from lectopt._leaves import fill, paths
from lectopt._types import Array, Numeric
from lectopt.evaluation import batch_shapes, check_examples
from lectopt.loop import Data, Learner, Plan
from lectopt.models import Params, State
from lectopt.norms import Moments
from lectopt.run import Run
from lectopt.schedules import steps_per_epoch
from lectopt.statistics import Watch, as_watch
from lectopt.subsets import Subset, as_subset
from lectopt.task import Batch, ModelState, Task

_ROWS = 8  # of the inputs that a model is shown to be initialised

Optimizer: TypeAlias = optax.GradientTransformation | Callable[..., optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class OptimizerRecipe:
    """How to make the optimizer from numbers. Hashable: what was compiled for one serves for all its numbers."""

    optimizer: Optimizer
    fixed: tuple[tuple[str, Any], ...]  # hyperparameters that are not numbers

    def make(self, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
        """The optimizer with these hyperparameters."""
        if isinstance(self.optimizer, optax.GradientTransformation):
            return self.optimizer
        return self.optimizer(**dict(self.fixed), **numbers)


class Origin(NamedTuple):
    """Where to start from; None is drawn, learned from the training examples, or made, afresh."""

    params: Params | None = None
    variables: State | None = None
    inputs: Moments | None = None
    opt_state: optax.OptState | None = None  # a bare list of arrays after `load`

    @property
    def known(self) -> bool:
        """Whether the training starts from parameters that were given."""
        return self.params is not None


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
    recipe, numbers = _recipe(optimizer, hyperparameters)
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
    return Setup(plan, recipe, numbers, data, _origin(task, start, data, batch_size))


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
    if origin.params is not None:
        if paths(origin.params) != paths(params):
            names = " and ".join(", ".join(map("/".join, paths(tree))) for tree in (params, origin.params))
            raise ValueError(f"start must have the parameters of this task; they are {names}")
        params = fill("start for this task", jax.tree.leaves(origin.params), params)
    if origin.variables is not None:
        kept = fill("the model state of start, for this task,", jax.tree.leaves(origin.variables), state.variables)
        state = state._replace(variables=kept)
    if origin.inputs is not None:
        if _shapes_of(origin.inputs) != _shapes_of(state.inputs):
            raise ValueError(
                "start holds how inputs are standardised, which the task must do too (standardize=True), with as many "
                f"features; start has {origin.inputs.mean.shape}, the task "
                f"{'none' if state.inputs is None else state.inputs.mean.shape}"
            )
        state = state._replace(inputs=origin.inputs)
    opt_state = setup.recipe.make(setup.numbers).init(params)
    if origin.opt_state is not None:
        if not isinstance(origin.opt_state, list) and not _alike(origin.opt_state, opt_state):
            raise ValueError(
                "start must be a run of this optimizer, for its state; give start=run.params to begin with a new one"
            )
        leaves = jax.tree.leaves(origin.opt_state)
        opt_state = fill("the optimizer state of start, for this optimizer,", leaves, opt_state)
    return Learner(params, state, opt_state)


def _recipe(optimizer: Optimizer, hyperparameters: Mapping[str, Any] | None) -> tuple[OptimizerRecipe, dict[str, Any]]:
    if isinstance(optimizer, optax.GradientTransformation):
        if hyperparameters:
            raise ValueError("hyperparameters go with a function such as lo.momentum, not with what it returned")
        return OptimizerRecipe(optimizer, ()), {}
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be an Optax GradientTransformation, or a function that returns one, such as lo.momentum; "
            f"got {type(optimizer).__name__}"
        )
    hyperparameters = dict(hyperparameters or {})
    _check_names(optimizer, hyperparameters)
    made = optimizer(**hyperparameters)
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(f"optimizer must return an Optax GradientTransformation; it returned {type(made).__name__}")
    numbers = {name: value for name, value in hyperparameters.items() if _is_numbers(value)}
    fixed = tuple((name, value) for name, value in hyperparameters.items() if name not in numbers)
    for name, value in fixed:
        if not isinstance(value, Hashable):
            raise TypeError(f"hyperparameters[{name!r}] must be numbers or hashable; put it into a function instead")
    return OptimizerRecipe(optimizer, fixed), jax.tree.map(_as_array, numbers)


def _check_names(optimizer: Callable, hyperparameters: dict[str, Any]) -> None:
    parameters = inspect.signature(optimizer).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [name for name in hyperparameters if name not in parameters]
        if unknown:
            raise ValueError(f"hyperparameters must be among {', '.join(parameters)}; got {', '.join(unknown)}")
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in hyperparameters
    ]
    if missing:
        raise ValueError(f"hyperparameters must hold {', '.join(missing)}, which the optimizer has no default for")


def _is_numbers(value: Any) -> bool:
    """Numbers, arrays and lectopt's schedules, whose numbers are their leaves, but not strings, flags or functions."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(
        not isinstance(leaf, bool) and not callable(leaf) and not isinstance(leaf, str) for leaf in leaves
    )


def _as_array(value: Numeric) -> Array:
    # One dtype for all numbers, whatever was typed, so that 1 compiles nothing after 0.1.
    return jnp.asarray(value, jnp.result_type(float))


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
    if not _alike(batch, changed):
        raise ValueError("augment must return a batch of the same structure, a tuple of as many arrays")


def _shapes_of(tree: Any) -> list[tuple[int, ...]]:
    return [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _alike(a: Any, b: Any) -> bool:
    one: Any = jax.tree.structure(a)  # mypy does not know that these compare
    return one == jax.tree.structure(b)


def _origin(task: Task, start: Any, data: Data, batch_size: int) -> Origin:
    if isinstance(start, Origin):
        return start
    if isinstance(start, Run):
        variables, inputs = start.model_state
        return Origin(start.lookahead_params, variables, inputs, start.opt_state)
    params = None if start is None else nnx.as_pure(start)
    if not task.adapter.has_weights:
        return Origin(params)
    there, state = task.init(data.key, data.train.take(data.train.indices[:batch_size]))
    return Origin(there if params is None else params, state.variables)
