"""What a training gives back."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._internal import arrays, checks, shapes
from lectopt._internal.files import checked_path
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.trees import LeafPath, UntypedTree, leaves_by_path, outline, unflatten_in_order, unflatten_like
from lectopt._internal.types import Array, Numeric
from lectopt.data.subsets import as_subset
from lectopt.tasks import evaluation
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.models import Params
from lectopt.tasks.prediction import in_batches
from lectopt.tasks.task import ModelState, Task
from lectopt.training import checkpoints
from lectopt.training.archives import Archive
from lectopt.training.history import History
from lectopt.training.origin import Origin


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Run:
    """A finished training. A pytree: `jit(vmap(train))` returns one whose arrays have a leading axis."""

    params: Params
    """The parameters w, to evaluate and to keep (never the look-ahead point); under patience of the best validation,
    after divergence of the last finite epoch. So are the next three."""
    model_state: ModelState
    """Its `variables` are the model's others, such as batch statistics; its `inputs` how they are standardised."""
    opt_state: optax.OptState
    """The optimizer's state."""
    lookahead_params: Params
    """What the optimizer's state goes with: the look-ahead point under Nesterov momentum, otherwise w."""
    metrics: dict[str, Numeric]
    """Scalars at the returned parameters: "valid_loss", "valid_<metric>", and "train_loss" as it was met in that
    epoch. All NaN after divergence."""
    history: History
    """The course of the training."""
    diverged_at: Numeric
    """int32[]: the first step whose loss was not finite (or an epoch's last step, if it leaves weights that are not);
    -1 if there was none."""
    task: Task = dataclasses.field(metadata={"static": True})
    """What was trained."""
    inputs: str = dataclasses.field(metadata={"static": True})
    """The shapes of a batch of inputs, from which `load` rebuilds the model's structure."""

    @property
    def model(self) -> Any:
        """The trained nnx.Module in evaluation mode; (params, state) for Linen modules and functions."""
        self.check_single()
        return self.task.present(self.params, self.model_state)

    @property
    def start(self) -> Origin:
        """The weights w, the model's other variables and how inputs are standardised, without the optimizer's state:
        give it to `fit` or `train`, `start=run.start`, to go on with another optimizer.
        """
        return Origin(self.params, *self.model_state)

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """The model's outputs for inputs x, an array [n, ...] or a tree of them, in evaluation mode.

        Batches of `batch_size` rows go through one after the other, the last one filled up: one compiled program,
        however many rows there are (up to a batch, one for each power of two). Traced inputs pass, and NaN.

        Raises:
            TypeError: if x does not hold numbers. ValueError: if the model does not take it, or batch_size is below 1.
        """
        return self._in_batches(evaluation.predict, x, batch_size)

    def probabilities(self, x: Any, batch_size: int = 1024) -> Any:
        """The probabilities of the classes, float32[n, ..., classes], whose rows add to 1; for binary labels that of
        label 1, float32[n], and for several labels at once that of each of them, float32[n, ..., labels].

        Raises:
            ValueError, TypeError: as `predict`; if the task is none of `classification`, nor one whose `activation`
                is "softmax" or "sigmoid".
        """
        return self._in_batches(probabilities, x, batch_size)

    def classes(self, x: Any, batch_size: int = 1024) -> Any:
        """The most likely labels, int32[n, ...]: the class with the largest logit; 1 for a probability above one half.

        Raises:
            ValueError, TypeError: as `probabilities`.
        """
        return self._in_batches(classes, x, batch_size)

    def _in_batches(self, reading: Callable, x: Any, batch_size: int) -> Any:
        self.check_single()
        batch_size = checks.check_count("batch_size", batch_size)
        if reading is not evaluation.predict and not self.task.knows_classes:
            raise ValueError(
                f"{reading.__name__} are known for tasks made by lectopt.classification, or with activation='softmax' "
                "or 'sigmoid'; this task has none of them"
            )
        known = self.params, self.model_state
        read = functools.partial(cached_jit(reading, self.task), *known)
        traced = checks.is_traced((known, x, jnp.zeros(())))  # the last one is, inside of any `jit`
        return in_batches(read, x, batch_size, traced=traced)

    def evaluate(self, examples: Any) -> dict[str, float]:
        """The mean loss and metrics over examples, a tuple of arrays or a Subset; traced ones inside a traced function,
        such as the trial of a search.

        Raises:
            ValueError: if the examples do not fit the task.
        """
        self.check_single()
        subset = as_subset(examples, "examples", arrays.as_array)
        check_examples(self.task, subset, "examples")
        scores = cached_jit(evaluation.evaluate, self.task)(self.params, self.model_state, subset)
        return {name: value if checks.is_traced(value) else float(value) for name, value in scores.items()}

    def save(self, path: str | Path) -> None:
        """Writes the run to a new directory, from which `lectopt.load(path, task)` reads it.

        The directory, an Orbax checkpoint with a digest of each array, appears when all is written.

        Raises:
            TypeError: if `path` is no string or `pathlib.Path`.
            ValueError: if there is something at `path`, or it cannot be written there.
        """
        path = checked_path("path", path)
        if not self.inputs:
            raise ValueError("only runs on inputs that are arrays, or tuples, lists and dicts of arrays, can be saved")
        checkpoints.write(path, self.to_arrays())

    def to_arrays(self) -> Archive:
        """Takes the run apart for storage.

        Returns:
            Its arrays, in a tree of its own for each field, under their paths; and what is no array: the shapes of the
            inputs and the outline of the optimizer's state. Nothing is copied but the history.
        """
        kept = ("params", "model_state", "opt_state", "lookahead_params", "metrics")
        trees = {name: leaves_by_path(getattr(self, name)) for name in kept}
        trees |= {"history": self.history.to_arrays(), "diverged_at": leaves_by_path(self.diverged_at)}
        lines = outline(self.opt_state)
        return Archive(trees, {"inputs": self.inputs, "optimizer": list(lines) if lines else None})

    @staticmethod
    def from_arrays(archive: Archive, task: Task) -> "Run":
        """Puts together the run that `to_arrays` took apart.

        Args:
            archive: what `to_arrays` returned, perhaps read from a file since.
            task: the task that was trained, or one with a model of the same structure.

        Returns:
            The run; its `opt_state` is `UntypedTree`, since the archive knows no classes.

        Raises:
            ValueError: if the task's model has other parameters or variables; the message names them.
        """
        trees = archive.trees
        lanes = np.shape(trees["diverged_at"][()])  # of a run that came out of `vmap`
        params, state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(lanes + leaf.shape, leaf.dtype),
            jax.eval_shape(task.init, jax.random.key(0), (shapes.from_json(archive.facts["inputs"]),)),
        )
        lines = archive.facts["optimizer"]
        return Run(
            params=_filled("params of this task's model", trees["params"], params, archive.ordered),
            model_state=_filled("model_state of this task's model", trees["model_state"], state, archive.ordered),
            opt_state=UntypedTree(list(map(jnp.asarray, trees["opt_state"].values())), tuple(lines) if lines else None),
            lookahead_params=_filled("params of this task's model", trees["lookahead_params"], params, archive.ordered),
            metrics={name: _scalar(value) for (name,), value in trees["metrics"].items()},
            history=History.from_arrays(trees["history"]),
            diverged_at=_scalar(trees["diverged_at"][()]),
            task=task,
            inputs=archive.facts["inputs"],
        )

    def check_single(self) -> None:
        """Raises ValueError if this holds several trainings, as `jit(vmap(train))` returns them."""
        lanes = np.shape(self.diverged_at)
        if lanes:
            raise ValueError(f"this Run holds {lanes} trainings; take one: jax.tree.map(lambda leaf: leaf[0], run)")

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={_shown(value)}" for name, value in self.metrics.items())
        return f"Run({scores}, diverged_at={_shown(self.diverged_at)})"


def load(path: str | Path, task: Task) -> Run:
    """Reads a run that `Run.save` wrote, or a training that `fit(directory=)` keeps, as far as it came.

    Args:
        path: the directory.
        task: the task that was trained, or one with a model of the same structure: the names, shapes and dtypes of its
            parameters and other variables are those of the run.

    Returns:
        The run. Its `opt_state` holds bare arrays, which `fit(start=run)` gives to an optimizer of the kind that they
        come from. Of an unfinished training, its history ends where the last copy was made, its parameters are those
        of then (under patience of the best validation before), and its metrics those of the last validation, NaN
        before the first one; reading changes nothing in the directory, so that `fit` goes on there. Where the last
        copy is damaged, the one before is read, with a warning.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if it is not a run, or a damaged one (the message names the array), or the task's model has other
            parameters (the message names those that are missing and those that nobody asked for).

    Example:
        >>> import tempfile, lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> run = lo.fit(task, lo.sgd(0.01), lo.datasets.iris(), batch_size=30, epochs=1, key=0)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run.save(f"{directory}/run")
        ...     again = lo.load(f"{directory}/run", task)
        >>> again.metrics == run.metrics
        True
    """
    path = checked_path("path", path)
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    if not path.exists():
        raise FileNotFoundError(f"path must be a directory that Run.save wrote; there is nothing at {path}")
    return Run.from_arrays(checkpoints.read("path", path), task)


def probabilities(task: Task, params: Params, state: ModelState, x: Any) -> Array:
    """The probabilities for inputs x, in evaluation mode."""
    return task.probabilities(evaluation.predict(task, params, state, x))


def classes(task: Task, params: Params, state: ModelState, x: Any) -> Array:
    """The most likely labels for inputs x, in evaluation mode."""
    return task.classes(evaluation.predict(task, params, state, x))


def _filled(name: str, leaves: dict[LeafPath, Array], template: Any, ordered: bool) -> Any:
    """The leaves in the structure of `template`, by their paths, or in order where they have none."""
    if ordered:
        return unflatten_in_order(name, list(leaves.values()), template)
    filled = unflatten_like(name, leaves, template)
    for path, leaf in leaves_by_path(filled).items():
        if leaf.dtype != leaves[path].dtype and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"{name} must have {'/'.join(path)} of {leaves[path].dtype}, as it was saved; got {leaf.dtype}"
            )
    return filled


def _scalar(value: Any) -> Any:
    """A number of a single training as a Python number, as `fit` returns it."""
    return value if np.ndim(value) else np.asarray(value).item()


def _shown(value: Numeric) -> str:
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return str(value)
    return f"{float(value):.4g}"
