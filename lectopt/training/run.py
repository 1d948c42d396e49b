"""The outcome of a training, and how it is saved and loaded."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import arrays, checks, shapes
from lectopt._internal.files import checked_path
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.trees import LeafPath, UntypedTree, leaves_by_path, outline, unflatten_in_order, unflatten_like
from lectopt._internal.types import Array, ArrayTree, Numeric
from lectopt.data.subsets import Subset, as_subset
from lectopt.tasks import evaluation, prediction
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training import checkpoints
from lectopt.training.archives import Archive
from lectopt.training.best_epochs import best_epoch
from lectopt.training.history import History
from lectopt.training.starting import Start


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of a training.

    A pytree: `jit(vmap(train))` returns one whose arrays have a leading axis. With patience, params and the next three
    attributes are those of the best validation; after divergence, those of the last finite epoch.

    Attributes:
        params: the parameters w, to evaluate and to keep (never the look-ahead point; the average under
            `average_params`): a tree of arrays.
        model_state: a pair; its `variables` are the model's others, such as batch statistics, its `inputs` the moments
            by which inputs are standardized (None if they are not).
        opt_state: the optimizer's state; bare arrays after `lectopt.load`.
        lookahead_params: the parameters that belong to the optimizer's state: the look-ahead point under Nesterov
            momentum, the last parameters under `average_params`, otherwise w.
        metrics: {name: number}, scalars at the returned parameters: "valid_loss", `valid_<metric>`, and "train_loss",
            the mean over that epoch of the losses at the time of each step. All NaN after divergence.
        history: the course of the training, a `History`.
        diverged_at: int32[], the first step whose loss was not finite (or an epoch's last step, if it leaves weights
            that are not); -1 if there was none.
        task: the `Task` that was trained.
        inputs: the shapes of a batch of inputs as a string, from which `lectopt.load` rebuilds the model's structure.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> x, y = lo.datasets.iris()
        >>> run = lo.fit(task, lo.sgd(0.01), (x, y), batch_size=30, epochs=2, key=0)
        >>> run.classes(x[:5]).shape, sorted(run.metrics)
        ((5,), ['train_loss'])
    """

    params: Params
    model_state: ModelState
    opt_state: ArrayTree
    lookahead_params: Params
    metrics: dict[str, Numeric]
    history: History
    diverged_at: Numeric
    task: Task = dataclasses.field(metadata={"static": True})
    inputs: str = dataclasses.field(metadata={"static": True})

    @property
    def model(self) -> Any:
        """The trained nnx.Module in evaluation mode; (params, variables) for Linen modules and functions.

        With `standardize`, the module takes raw inputs.

        Raises:
            ValueError: if this holds several trainings.
        """
        self.check_single()
        return self.task.present(self.params, self.model_state)

    @property
    def best_epoch(self) -> Numeric:
        """The number of epochs that led to the returned parameters: int, or int32[] where it is traced.

        Under patience, or by `best_by`, those up to the best validation (an epoch that it lies in counts); otherwise
        all. 0 after divergence, or if nothing was better than what the training started from.
        """
        return best_epoch(self.metrics, self.history)

    @property
    def start(self) -> Start:
        """The weights w, the model's other variables and the moments of its inputs, without the optimizer's state.

        Pass it to `fit` or `train`, `start=run.start`, to continue with another optimizer; the history goes on.
        """
        return Start(self.params, *self.model_state, history=self.history)

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """Computes the model's outputs for inputs x, in evaluation mode.

        Batches of `batch_size` rows are computed one after the other, the last one padded: one compiled program,
        however many rows there are (up to one batch, one program for each power of two).

        Args:
            x: the inputs, numbers [n, ...] or a tree of such arrays; raw ones, if the task standardizes them. They may
                be traced, or NaN.
            batch_size: the number of rows in a batch, a whole number of at least 1.

        Returns:
            The outputs, an array [n, ...] or a tree of them.

        Raises:
            ValueError: if the model does not take x, batch_size is below 1, or this holds several trainings.
            TypeError: if x does not hold numbers, or batch_size is not a whole number.
        """
        return self._in_batches(prediction.predict, x, batch_size)

    def probabilities(self, x: Any, batch_size: int = 1024) -> Any:
        """Computes the probabilities of the classes for inputs x, in evaluation mode.

        Args:
            x: the inputs, numbers [n, ...] or a tree of such arrays; raw ones, if the task standardizes them. They may
                be traced, or NaN.
            batch_size: the number of rows in a batch, a whole number of at least 1.

        Returns:
            float32[n, ..., classes], whose rows add up to 1; for binary labels the probability of label 1, float32[n];
            for several labels at once that of each of them, float32[n, ..., labels].

        Raises:
            ValueError: if the task was not made by `classification`, nor has an `activation` "softmax" or "sigmoid"; if
                the model does not take x, batch_size is below 1, or this holds several trainings.
            TypeError: if x does not hold numbers, or batch_size is not a whole number.
        """
        return self._in_batches(prediction.probabilities, x, batch_size)

    def classes(self, x: Any, batch_size: int = 1024) -> Any:
        """Computes the most likely labels for inputs x, in evaluation mode.

        Args:
            x: the inputs, numbers [n, ...] or a tree of such arrays; raw ones, if the task standardizes them. They may
                be traced, or NaN.
            batch_size: the number of rows in a batch, a whole number of at least 1.

        Returns:
            int32[n, ...]: the class with the largest logit; for binary labels, and for several at once, 1 for a
            probability above one half.

        Raises:
            ValueError: if the task was not made by `classification`, nor has an `activation` "softmax" or "sigmoid"; if
                the model does not take x, batch_size is below 1, or this holds several trainings.
            TypeError: if x does not hold numbers, or batch_size is not a whole number.
        """
        return self._in_batches(prediction.classes, x, batch_size)

    def _in_batches(self, reading: Callable[..., Any], x: Any, batch_size: int) -> Any:
        self.check_single()
        batch_size = checks.check_count("batch_size", batch_size)
        if reading is not prediction.predict and not self.task.knows_classes:
            raise ValueError(
                f"{reading.__name__} are known for tasks made by lectopt.classification, or with activation='softmax' "
                "or 'sigmoid'; this task has none of them"
            )
        model = self.params, self.model_state
        read = functools.partial(cached_jit(reading, self.task), *model)
        traced = checks.is_traced((model, x, jnp.zeros(())))  # the last one is, inside of any `jit`
        return prediction.map_batches(read, x, batch_size, traced=traced)

    def evaluate(self, examples: Any) -> dict[str, float]:
        """Computes the mean loss and metrics over examples, in evaluation mode.

        Args:
            examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`. They may be traced, such as inside the
                trial of a search.

        Returns:
            {"loss": number, metric: number}, Python numbers unless they are traced.

        Raises:
            ValueError: if the examples do not fit the task, or this holds several trainings.
            TypeError: if examples are neither a tuple of arrays of numbers nor a Subset.
        """
        self.check_single()
        subset = as_subset(examples, "examples", arrays.as_array)
        check_examples(self.task, subset, "examples")
        batch_size = jax.tree.leaves(shapes.from_json(self.inputs))[0].shape[0] if self.task.in_batch else None
        scores = cached_jit(_evaluate, self.task, batch_size)(self.params, self.model_state, subset)
        return {name: value if checks.is_traced(value) else float(value) for name, value in scores.items()}

    def save(self, path: str | Path) -> None:
        """Writes the run to a new directory, from which `lectopt.load(path, task)` reads it.

        The directory, an Orbax checkpoint with a digest of each array, appears when all is written.

        Args:
            path: the path of the directory, a string or `pathlib.Path`.

        Raises:
            ValueError: if there is something at `path`, it cannot be written there, or the inputs were not arrays, or
                tuples, lists and dictionaries of them.
            TypeError: if path is neither a string nor a `pathlib.Path`.
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
            jax.eval_shape(task.init, jax.random.key(0), task.arrays_of(shapes.from_json(archive.facts["inputs"]))),
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
        """Checks that this holds a single training, unlike what `jit(vmap(train))` returns.

        Raises:
            ValueError: if it holds several.
        """
        lanes = np.shape(self.diverged_at)
        if lanes:
            raise ValueError(f"this Run holds {lanes} trainings; take one: jax.tree.map(lambda leaf: leaf[0], run)")

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={_shown(value)}" for name, value in self.metrics.items())
        return f"Run({scores}, diverged_at={_shown(self.diverged_at)})"


def load(path: str | Path, task: Task) -> Run:
    """Reads a run that `Run.save` wrote, or a training that `fit(directory=)` keeps, as far as it came.

    Args:
        path: the path of the directory, a string or `pathlib.Path`.
        task: the `Task` that was trained, or one with a model of the same structure: the names, shapes and dtypes of
            its parameters and other variables are those of the run.

    Returns:
        The `Run`. Its `opt_state` holds bare arrays, which `fit(start=run)` gives to an optimizer of the kind that they
        come from. The history of an unfinished training ends where the last copy was made, its parameters are those of
        that moment (with patience, of the best validation before), and its metrics those of the last validation, NaN
        before the first one; reading changes nothing in the directory, so that `fit` resumes there. If the last copy is
        damaged, the one before is read, with a warning.

    Raises:
        FileNotFoundError: if there is nothing at path.
        ValueError: if it is not a run, or a damaged one (the message names the array), or the task's model has other
            parameters (the message names those that are missing and those that are superfluous).
        TypeError: if path is neither a string nor a `pathlib.Path`, or task not a Task.

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


def _evaluate(
    task: Task, batch_size: int | None, params: Params, state: ModelState, subset: Subset
) -> dict[str, Numeric]:
    return evaluation.evaluate(task, params, state, subset, batch_size=batch_size)


def _filled(name: str, leaves: dict[LeafPath, Array], template: Any, ordered: bool) -> Any:
    """Returns the leaves in the structure of `template`, by their paths, or in order where they have none."""
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
    """Converts a number of a single training to a Python number, as `fit` returns it."""
    return value if np.ndim(value) else np.asarray(value).item()


def _shown(value: Numeric) -> str:
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return str(value)
    return f"{float(value):.4g}"
