"""What a training gives back."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from lectopt import _arrays, evaluation
from lectopt._checks import is_traced
from lectopt._types import Numeric
from lectopt.history import History
from lectopt.models import Params
from lectopt.origin import Origin
from lectopt.programs import compiled
from lectopt.subsets import as_subset
from lectopt.task import ModelState, Task


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

    def predict(self, x: Any) -> Any:
        """The model's outputs for inputs x [n, ...], in evaluation mode."""
        self.check_single()
        predict = compiled(evaluation.predict, self.task)
        return predict(self.params, self.model_state, _arrays.as_tree("x", x))

    def evaluate(self, examples: Any) -> dict[str, float]:
        """The mean loss and metrics over examples, a tuple of arrays or a Subset; traced ones inside a traced function,
        such as the trial of a search.

        Raises:
            ValueError: if the examples do not fit the task.
        """
        self.check_single()
        subset = as_subset(examples, "examples", _arrays.as_array)
        evaluation.check_examples(self.task, subset, "examples")
        scores = compiled(evaluation.evaluate, self.task)(self.params, self.model_state, subset)
        return {name: value if is_traced(value) else float(value) for name, value in scores.items()}

    def save(self, path: str | Path) -> None:
        """Writes the run to a new directory, from which `lectopt.load(path, task)` reads it.

        The directory appears when all is written. Its one file is NumPy's, arrays.npz; every array has a checksum.

        Raises:
            TypeError: if `path` is no string or `pathlib.Path`.
            ValueError: if there is something at `path`, or it cannot be written there.
        """
        from lectopt.checkpoints import write  # noqa: PLC0415, it imports this module

        write(self, path)

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
    from lectopt.checkpoints import read  # noqa: PLC0415, it imports this module

    return read(path, task)


def _shown(value: Numeric) -> str:
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return str(value)
    return f"{float(value):.4g}"
