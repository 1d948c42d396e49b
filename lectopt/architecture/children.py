"""The children of a round: trained side by side on all devices, each as masks of the one network."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.out_of_memory import warn_of_less
from lectopt._internal.types import Array
from lectopt.architecture.masked import MaskedNetwork
from lectopt.architecture.sizes import Size, size_of, sizes_worth_compiling, smallest
from lectopt.architecture.space import ArchitectureSpace
from lectopt.data.as_folds import as_folds
from lectopt.data.folds import Folds
from lectopt.data.subsets import Subset
from lectopt.engine.objective import checked_metric
from lectopt.engine.splitting import DeviceRow
from lectopt.optim.optimizers import adam
from lectopt.tasks.standard_tasks import classification, regression
from lectopt.tasks.task import Task
from lectopt.training.optimizer_recipe import Optimizer
from lectopt.training.run import Run
from lectopt.training.training import train

AT_ONCE = 8
"""Children side by side on a CPU device: what they compute stays in its cache. Other accelerators take all."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every network is trained, children and others."""

    task: Callable[[Any], Task]
    optimizer: Optimizer
    batch_size: int
    epochs: int

    def train(self, model: Any, examples: Subset, valid: Subset | None, key: jax.Array) -> Run:
        """Trains a model from beginning to end."""
        options: dict[str, Any] = {"batch_size": self.batch_size, "epochs": self.epochs, "key": key}
        return train(self.task(model), self.optimizer, examples, valid=valid, **options)


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a child is judged by."""

    metric: str
    """A metric of each epoch, such as "valid_accuracy"."""
    maximizes: bool
    last: int
    """The best of so many last epochs counts."""

    def score(self, run: Run) -> Array:
        """Returns float32[]: higher is better; NaN for a training that diverged."""
        epochs = run.history.epochs
        if self.metric not in epochs:
            argument, known = "maximize" if self.maximizes else "minimize", ", ".join(map(repr, epochs))
            raise ValueError(f"{argument} must be one of {known}; got {self.metric!r}")
        values = jnp.asarray(epochs[self.metric])[-self.last :]
        best = jnp.max(values) if self.maximizes else -jnp.min(values)
        return jnp.where((run.diverged_at < 0) & jnp.isfinite(best), best, jnp.nan)


@dataclasses.dataclass(frozen=True)
class Children:
    """Architectures in, scores out: what the search takes for its score."""

    space: ArchitectureSpace
    shape: tuple[int, ...]  # of one input
    outputs: int
    recipe: Recipe
    goal: Goal
    folds: Folds
    devices: Sequence[Any]
    at_once: int  # children side by side on a device
    sizes: tuple[Size, ...] = ()  # that they are trained in, from small to large; () for the largest only

    @classmethod
    def of(
        cls,
        space: Any,
        examples: Subset,
        *,
        task: Any = None,
        outputs: Any = None,
        optimizer: Any = None,
        batch_size: Any,
        epochs: Any,
        folds: Any,
        minimize: Any = None,
        maximize: Any = None,
        last: Any,
        chunk: Any = None,
        key: Any,
    ) -> "Children":
        """Checks the arguments of `search_architecture` and assembles the children's training."""
        if not isinstance(space, ArchitectureSpace):
            raise TypeError(f"space must be a lectopt.ArchitectureSpace; got {type(space).__name__}")
        recipe = Recipe(
            _task(examples) if task is None else _checked_task(task),
            adam(0.003) if optimizer is None else optimizer,
            checks.check_count("batch_size", batch_size),
            checks.check_count("epochs", epochs),
        )
        local = tuple(jax.local_devices())
        usual = AT_ONCE if local[0].platform == "cpu" else sys.maxsize
        return cls(
            space=space,
            shape=_shape(space, examples),
            outputs=_outputs(examples) if outputs is None else checks.check_count("outputs", outputs),
            recipe=recipe,
            goal=_goal(recipe, minimize, maximize, checks.check_count("last", last)),
            folds=as_folds(examples, folds, key),
            devices=local,
            at_once=usual if chunk is None else checks.check_count("chunk", chunk),
        )

    def sorted_for(self, count: int) -> "Children":
        """Returns the same for a search that trains so many, in sizes that are worth compiling."""
        seen = count * self.recipe.epochs * self.folds.train.indices.size
        return dataclasses.replace(self, sizes=sizes_worth_compiling(self.space, self.shape, self.outputs, seen))

    def model(self, vector: Array, size: Size | None = None) -> Callable[[nnx.Rngs], nnx.Module]:
        """Returns a child as masks, as a model for a task, cut to a size that it fits in."""
        return lambda rngs: MaskedNetwork(self.space, vector, self.shape, self.outputs, size=size, rngs=rngs)

    def __call__(self, vectors: Array, key: jax.Array) -> Array:
        """Returns float32[children]: the scores of int32[children, decisions], means over the folds.

        All start from one key: children differ by what they are, not by how their weights were drawn.
        """
        if len(self.used_sizes(vectors.shape[0])) > 1:
            return self._sorted(vectors, key)
        return self.side_by_side(lambda vector, key: self.score(self.model(vector), key), vectors, key)

    def _sorted(self, vectors: Array, key: jax.Array) -> Array:
        """Returns the scores; each chunk has children of like sizes, and shapes that suffice for them."""
        count, devices = vectors.shape[0], len(self.devices)
        chunks = -(-count // (devices * self.at_once))
        each = -(-count // (devices * chunks))
        needed = jax.vmap(functools.partial(size_of, self.space))(vectors)
        order = jnp.argsort(jax.vmap(lambda size: smallest(self.sizes, *size))(needed))
        # Padded with the smallest again; dealt out, so that all devices have as much to do.
        padded = jnp.resize(order, (chunks * each * devices,))
        padded = jnp.concatenate([padded[count:], padded[:count]])
        dealt = padded.reshape(chunks * each, devices).T.ravel()

        def trained_in(size: Size) -> Callable[[Array, jax.Array], Array]:
            return jax.vmap(lambda vector, key: self.score(self.model(vector, size), key), in_axes=(0, None))

        def chunk(rows: tuple[Array, Array], key: jax.Array) -> Array:
            vectors, needed = rows
            branches = [trained_in(size) for size in self.sizes]
            return jax.lax.switch(smallest(self.sizes, *jnp.max(needed, axis=0)), branches, vectors, key)

        def part(rows: tuple[Array, Array], key: jax.Array) -> Array:
            chunked = jax.tree.map(lambda leaf: leaf.reshape(chunks, each, -1), rows)
            return jax.lax.map(lambda rows: chunk(rows, key), chunked).ravel()

        split = DeviceRow(self.devices, "children").split(part, in_axes=(0, None), out_axes=0)
        scores = split((vectors[dealt], needed[dealt]), key)
        return jnp.zeros(count, scores.dtype).at[dealt].set(scores)

    def score(self, model: Any, key: jax.Array) -> Array:
        """Returns float32[]: the score of one network, the mean over the folds."""

        def on(fold: Array) -> Array:
            examples, valid = self.folds.at(fold)
            return self.goal.score(self.recipe.train(model, examples, valid, key))

        if len(self.folds) == 1:
            return on(jnp.int32(0))  # without the axis of folds, which makes normalization twice as slow
        return jnp.mean(jax.vmap(on)(jnp.arange(len(self.folds))))

    def plan(self, count: int) -> str:
        """Returns a line on a round of so many children: in what shapes they are trained, each compiled once."""
        sizes = self.used_sizes(count)
        shapes = ", ".join(map(str, sizes))
        return (
            f"{count} children a round on {len(self.devices)} device(s), sorted into {len(sizes)} size(s) of "
            f"layers x width, each compiled once: {shapes}"
        )

    def used_sizes(self, count: int) -> tuple[Size, ...]:
        """Returns the sizes that so many children are sorted into: one, where all of them are trained at once."""
        one_chunk = count <= len(self.devices) * self.at_once
        return (Size(self.space.deepest, max(self.space.width)),) if one_chunk or not self.sizes else self.sizes

    def halved(self, error: Exception) -> "Children":
        """Returns the same with half as many side by side, after a device ran out of memory.

        Raises:
            ValueError: if it did so with one.
        """
        warn_of_less(error, "children", self.at_once, self.at_once // 2)
        return dataclasses.replace(self, at_once=self.at_once // 2)

    def waste(self, vectors: np.ndarray) -> float:
        """Returns the share of multiplications that masks make useless, for these children."""
        needed = [self.space.decode(vector).multiplications(self.shape, self.outputs) for vector in vectors]
        return 1 - float(np.mean(needed)) / self.space.multiplications(self.shape, self.outputs)

    def side_by_side(self, function: Callable[[Array, jax.Array], Any], vectors: Array, key: jax.Array) -> Any:
        """Computes `function(vector, key)` for each vector, split over the devices."""
        count = vectors.shape[0]
        each = -(-count // len(self.devices))
        # Padded with the first ones again, so that each device has as many.
        rows = jnp.resize(vectors, (each * len(self.devices), *vectors.shape[1:]))

        def part(rows: Array, key: jax.Array) -> Any:
            size = min(self.at_once, each)
            return jax.lax.map(lambda row: function(row, key), rows, batch_size=size)

        split = DeviceRow(self.devices, "children").split(part, in_axes=(0, None), out_axes=0)
        return jax.tree.map(lambda leaf: leaf[:count], split(rows, key))


def _shape(space: ArchitectureSpace, examples: Subset) -> tuple[int, ...]:
    """Returns the shape of one input.

    Raises:
        ValueError: if it does not fit the space.
    """
    inputs = examples.arrays[0]
    shape = tuple(jnp.shape(inputs)[1:]) if hasattr(inputs, "shape") else ()
    dense = space.kernel_size is None
    if not (len(shape) == 1 if dense else len(shape) in (2, 3)):
        wanted = "(features,) for dense layers" if dense else "(length, channels) or (height, width, channels)"
        raise ValueError(f"examples must have inputs of shape {wanted}, which the space asks for; got {shape}")
    return shape


def _outputs(examples: Subset) -> int:
    """Returns how many outputs the targets require: the classes of whole numbers, or the numbers of an example."""
    targets = np.asarray(examples.arrays[-1])
    if np.issubdtype(targets.dtype, np.integer):
        return int(targets.max()) + 1
    return 1 if targets.ndim == 1 else int(targets.shape[1])


def _task(examples: Subset) -> Callable[[Any], Task]:
    """Chooses the task by the targets: whole numbers or not."""
    labelled = np.issubdtype(np.asarray(examples.arrays[-1]).dtype, np.integer)
    return functools.partial(classification if labelled else regression, standardize=True)


def _checked_task(task: Any) -> Callable[[Any], Task]:
    """Returns the function itself, after checking that it makes a Task of a model."""
    made = task(lambda rngs: nnx.Linear(1, 1, rngs=rngs)) if callable(task) else None
    if not isinstance(made, Task):
        raise TypeError(f"task must be a function model -> lectopt.Task, such as lectopt.regression; got {task!r}")
    return task


def _goal(recipe: Recipe, minimize: Any, maximize: Any, last: int) -> Goal:
    if minimize is None and maximize is None:
        has_accuracy = "accuracy" in recipe.task(lambda rngs: nnx.Linear(1, 1, rngs=rngs)).metrics
        minimize, maximize = (None, "valid_accuracy") if has_accuracy else ("valid_loss", None)
    return Goal(checked_metric(minimize, maximize), maximize is not None, min(last, recipe.epochs))
