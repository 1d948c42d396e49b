"""What both estimators share: parameters, the split for early stopping, training, prediction's inputs, pickling."""

import dataclasses
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import optax
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from lectopt._internal import checks
from lectopt._internal.arrays import as_examples
from lectopt._internal.trees import to_numpy
from lectopt.data.holdouts import holdout
from lectopt.data.subsets import view
from lectopt.optim.optimizers import adam
from lectopt.sklearn.networks import as_network, interned, task_of
from lectopt.tasks.task import Task
from lectopt.training.fitting import fit
from lectopt.training.run import Run

FLOATS = [np.float64, np.float32]
"""What inputs are kept as; others are converted to the first."""
_NESTED = "hyperparameters__"
_SHARE = checks.Interval(0, 1, low_open=True, high_open=True)


class Rows(NamedTuple):
    """Which rows are trained on, and which ones decide when to stop."""

    train: np.ndarray
    valid: np.ndarray | None


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Estimator(BaseEstimator):
    """The parameters of an estimator and its training; no logic in the constructor, as `sklearn.clone` asks."""

    model: Any = (100,)
    optimizer: Any = adam
    learning_rate: Any = 1e-3
    hyperparameters: Mapping[str, Any] | None = None
    batch_size: int = 32
    epochs: int = 50
    patience: int | None = None
    validation_fraction: float = 0.1
    standardize: bool = True
    compute_dtype: Any = None
    random_state: Any = None
    verbose: Any = False

    def set_params(self, **params: Any) -> "Estimator":
        """Sets parameters, also single hyperparameters of the optimizer: `set_params(hyperparameters__momentum=0.9)`.

        Args:
            **params: {name: value}, of the parameters and of `hyperparameters__<name>`.

        Returns:
            The estimator itself.

        Raises:
            ValueError: if there is no such parameter.
        """
        super().set_params(**{name: value for name, value in params.items() if not name.startswith(_NESTED)})
        nested = {name.removeprefix(_NESTED): v for name, v in params.items() if name.startswith(_NESTED)}
        if nested:
            self.hyperparameters = {**(self.hyperparameters or {}), **nested}
        return self

    @property
    def loss_curve_(self) -> np.ndarray:
        """The training loss of each epoch, float32[epochs]; `run_.history` holds all that was recorded."""
        check_is_fitted(self)
        return np.asarray(self.run_.history.epochs["train_loss"])

    def _split(self, labels: np.ndarray, *, stratify: bool) -> Rows:
        """Returns all rows to train on; under patience, a share of them to validate on."""
        checks.check_number("validation_fraction", self.validation_fraction, _SHARE)
        if self.patience is None:
            return Rows(np.arange(len(labels)), None)
        examples = (labels if stratify else np.arange(len(labels)),)
        parts = holdout(examples, self.validation_fraction, key=self._key(), stratify=stratify)
        return Rows(*(np.asarray(part.indices) for part in parts))

    def _train(
        self, define: Callable[..., Task], outputs: int, x: np.ndarray, y: np.ndarray, weights: Any, rows: Rows
    ) -> Any:
        """Trains a network of so many outputs, keeps the run, and returns the estimator."""
        if not isinstance(self.verbose, (np.bool_, numbers.Real)):
            raise TypeError(f"verbose must be True, False or a number; got {checks.value_and_type(self.verbose)}")
        network = as_network(define, self.model, x.shape[1], outputs, self.standardize, self.compute_dtype)
        arrays = (as_examples("X", x), as_examples("y", y))
        self.run_ = fit(
            task_of(network),
            interned("optimizer", self.optimizer),
            view(arrays, rows.train),
            valid=None if rows.valid is None else view(arrays, rows.valid),
            batch_size=self.batch_size,
            epochs=self.epochs,
            key=self._key(),
            hyperparameters=self._numbers(),
            patience=self.patience,
            weights=weights,
            progress=bool(self.verbose),
        )
        self._network = network
        return self

    def _numbers(self) -> dict[str, Any]:
        """Returns what the optimizer is called with."""
        numbers = {} if self.hyperparameters is None else self.hyperparameters
        if not isinstance(numbers, Mapping):
            raise TypeError(f"hyperparameters must be a dictionary; got {checks.value_and_type(numbers)}")
        if self.learning_rate is None:
            return dict(numbers)
        made = isinstance(self.optimizer, (optax.GradientTransformation, optax.MultiSteps))
        if made or "learning_rate" in numbers:
            where = "the optimizer" if made else "hyperparameters"
            raise ValueError(f"learning_rate must be None if {where} holds it; got {self.learning_rate}")
        return {"learning_rate": self.learning_rate, **numbers}

    def _key(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _inputs(self, x: Any) -> np.ndarray:
        """Returns inputs to predict from, checked to be of the kind that was fitted."""
        check_is_fitted(self)
        return validate_data(self, x, reset=False, dtype=FLOATS)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled: of the run its arrays, since what was compiled cannot be."""
        state = dict(super().__getstate__())
        if "run_" in state:
            archive = self.run_.to_arrays()
            trees: Any = {name: {path: to_numpy(a) for path, a in tree.items()} for name, tree in archive.trees.items()}
            state["run_"] = archive._replace(trees=trees)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "run_" in state:
            self.run_ = Run.from_arrays(state["run_"], task_of(self._network))
