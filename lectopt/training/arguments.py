"""The arguments that `train` and `fit` share, as one value, and the checks of single ones."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lectopt._internal import checks
from lectopt._internal.host import check_callbacks
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.shapes import output_shapes
from lectopt._internal.trees import paths, same_structure
from lectopt.data.batches import Batch
from lectopt.tasks.task import Task
from lectopt.training.layer_statistics import Watch
from lectopt.training.optimizer_recipe import Optimizer


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingArguments:
    """The arguments of `train`, as the user gave them, with the same defaults."""

    task: Task
    optimizer: Optimizer
    train: Any
    _: dataclasses.KW_ONLY
    valid: Any = None
    validate_every: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    max_epochs: int | None = None
    steps: int | None = None
    shuffle: bool = True
    key: Any
    hyperparameters: Mapping[str, Any] | None = None
    start: Any = None
    patience: int | None = None
    best_by: str | None = None
    direction: str | None = None
    min_delta: float = 0.0
    weights: Any = None
    weight_validation: bool = False
    augment: Callable[[jax.Array, Batch], Batch] | None = None
    watch: Watch | int | None = None


def as_batch_size(batch_size: Any, count: int) -> int:
    """Returns the batch size, which has to be given where examples are arrays, at most their number; warns if so."""
    if batch_size is None:
        raise TypeError("batch_size must be given with arrays: the number of examples in a minibatch")
    batch_size = checks.check_count("batch_size", batch_size)
    if batch_size > count:
        warnings.warn(
            f"batch_size {batch_size} is larger than the {count} training examples: "
            "each epoch is one batch of all of them",
            stacklevel=4,
        )
    return min(batch_size, count)


def epoch_limit(epochs: Any, max_epochs: Any, validate_every: Any) -> Any:
    """Returns after how many epochs, perhaps traced, a training ends that has room for more; None without max_epochs.

    Raises:
        ValueError: if it is more than max_epochs, or there are no epochs, or validations at other steps.
        TypeError: if epochs is traced without max_epochs, or one of them is no whole number.
    """
    if max_epochs is None:
        if checks.is_traced(epochs):
            raise TypeError("epochs must be a whole number; a traced one needs max_epochs, the most that it may be")
        return None
    if epochs is None:
        raise ValueError("max_epochs is the most that epochs may be: give it together with epochs")
    if validate_every is not None:
        raise ValueError("max_epochs needs validations at the ends of epochs; got validate_every too")
    epochs, most = checks.check_traceable_count("epochs", epochs), checks.check_count("max_epochs", max_epochs)
    if not checks.is_traced(epochs) and epochs > most:
        raise ValueError(f"epochs must be at most max_epochs, {most}; got {epochs}")
    return epochs


def step_count(epochs: Any, steps: Any, per_epoch: int) -> int:
    """Returns the number of updates, given exactly one of epochs and steps."""
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs and steps must be given; got epochs={epochs}, steps={steps}")
    return checks.check_count("epochs", epochs) * per_epoch if steps is None else checks.check_count("steps", steps)


def check_callable(augment: Any) -> None:
    """Raises TypeError unless `augment` is None or a function."""
    if augment is not None and not callable(augment):
        raise TypeError(f"augment must be a function (key, batch) -> batch; got {type(augment).__name__}")


def check_augmented(augment: Callable[[jax.Array, Batch], Batch], batch: Batch) -> None:
    """Raises ValueError unless `augment` returns batches of the same structure, shapes and dtypes."""
    program, key = cached_jit(_augmented, augment), jax.random.key(0)
    augmented = output_shapes("augment must be a function (key, batch) -> batch", program, key, batch)
    check_callbacks("augment", program, key, batch)
    if not same_structure(batch, augmented):
        raise ValueError("augment must return a batch of the same structure, a tuple of as many arrays")
    for path, old, new in zip(paths(batch), jax.tree.leaves(batch), jax.tree.leaves(augmented), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"augment must keep shapes and dtypes, since validation and prediction get the batch without it; it "
                f"turns array {'/'.join(path)} of the batch, {old.dtype}{list(old.shape)}, into {new.dtype}"
                f"{list(new.shape)}"
            )


def _augmented(augment: Callable[[jax.Array, Batch], Batch], key: jax.Array, batch: Batch) -> Batch:
    return augment(key, batch)
