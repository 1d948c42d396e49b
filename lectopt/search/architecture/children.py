"""The children of a round: trained side by side on all devices, each as masks of the one network."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from lectopt._types import Array
from lectopt.run import Run
from lectopt.search.architecture.masked import MaskedNetwork
from lectopt.search.architecture.space import ArchitectureSpace
from lectopt.setup import Optimizer
from lectopt.splits import Folds
from lectopt.subsets import Subset
from lectopt.task import Task
from lectopt.training import train


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every network is trained, children and others."""

    task: Callable[[Any], Task]
    optimizer: Optimizer
    batch_size: int
    epochs: int

    def train(self, model: Any, examples: Subset, valid: Subset | None, key: jax.Array) -> Run:
        """A training from beginning to end."""
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
        """float32[]: higher is better; NaN for a training that diverged."""
        values = jnp.asarray(run.history.epochs[self.metric])[-self.last :]
        best = jnp.max(values) if self.maximizes else -jnp.min(values)
        return jnp.where(run.diverged_at < 0, best, jnp.nan)


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

    def model(self, vector: Array) -> Callable[[nnx.Rngs], nnx.Module]:
        """A child as masks, as a model for a task."""
        return lambda rngs: MaskedNetwork(self.space, vector, self.shape, self.outputs, rngs=rngs)

    def __call__(self, vectors: Array, key: jax.Array) -> Array:
        """float32[children]: the scores of int32[children, decisions], means over the folds.

        All start from one key: children differ by what they are, not by how their weights were drawn.
        """
        return self.side_by_side(lambda vector, key: self.score(self.model(vector), key), vectors, key)

    def score(self, model: Any, key: jax.Array) -> Array:
        """float32[]: the score of one network, the mean over the folds."""

        def on(fold: Array) -> Array:
            examples, valid = self.folds.at(fold)
            return self.goal.score(self.recipe.train(model, examples, valid, key))

        return jnp.mean(jax.vmap(on)(jnp.arange(len(self.folds))))

    def side_by_side(self, function: Callable[[Array, jax.Array], Any], vectors: Array, key: jax.Array) -> Any:
        """function(vector, key) for each vector, split over the devices."""
        count = vectors.shape[0]
        each = -(-count // len(self.devices))
        # Filled up with the first ones again, so that each device has as many.
        rows = jnp.resize(vectors, (each * len(self.devices), *vectors.shape[1:]))
        mesh = jax.make_mesh((len(self.devices),), ("children",), (AxisType.Auto,), devices=self.devices)

        def part(rows: Array, key: jax.Array) -> Any:
            size = min(self.at_once, each)
            return jax.lax.map(lambda row: function(row, key), rows, batch_size=size)

        split = jax.shard_map(part, mesh=mesh, in_specs=(P("children"), P()), out_specs=P("children"), check_vma=False)
        return jax.tree.map(lambda leaf: leaf[:count], split(rows, key))


def checked_shape(space: ArchitectureSpace, examples: Subset) -> tuple[int, ...]:
    """The shape of one input.

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


def outputs_of(examples: Subset) -> int:
    """How many outputs the targets ask for: classes of whole numbers, or numbers of each example."""
    targets = np.asarray(examples.arrays[-1])
    if np.issubdtype(targets.dtype, np.integer):
        return int(targets.max()) + 1
    return 1 if targets.ndim == 1 else int(targets.shape[1])
