"""A regressor of scikit-learn's kind, by squared error, of one target or several."""

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import _check_sample_weight, validate_data

from lectopt.sklearn.estimator import FLOATS, Estimator
from lectopt.tasks.standard_tasks import regression


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Regressor(RegressorMixin, Estimator):
    """A neural network for regression, as an estimator of scikit-learn.

    It goes wherever those go: `Pipeline`, `GridSearchCV`, `cross_val_score`, `clone`, joblib. `fit` is `lo.fit`:
    trainings of equal networks on as many examples compile once in a process, whatever the numbers given to their
    optimizer, so that a grid search compiles once for each shape. The tasks of the last 32 networks are kept for that.
    (For settings that train side by side, as one program: `lo.cross_validate`.)

    A fitted estimator can be pickled if its parameters can: a model that is a function must then be defined in a
    module.

    Args:
        model: the network: the widths of the hidden layers of a multilayer perceptron with rectified linear units, a
            tuple of whole numbers of at least 1 (an empty one is a linear model); or a function (features, outputs,
            rngs) -> nnx.Module, called with rngs by name, whose module takes inputs float[n, features] and returns
            numbers float[n, outputs]. Functions that are to share what was compiled must be the same object, or a
            `functools.partial` of it with equal arguments.
        optimizer: a function that returns an Optax optimizer, such as `lo.adam`, to be called with the numbers below;
            or an optimizer, with learning_rate=None.
        learning_rate: the optimizer's argument of this name, a number or a schedule; None leaves it out.
        hyperparameters: {name: value}, other arguments of the optimizer; None for none. A single one is a parameter
            `hyperparameters__<name>` of `set_params`, and so of the grids and distributions of searches.
        batch_size: the number of examples in a minibatch, at least 1.
        epochs: the number of passes through the examples, at least 1.
        patience: a whole number of at least 1: a share of the examples is held out to validate on after each epoch, and
            training ends, with the best parameters, after so many validations in a row without a lower loss. None holds
            out nothing and trains to the end.
        validation_fraction: the share that is held out under patience, a number in (0, 1).
        standardize: True to bring each feature, and each target, to zero mean and unit variance, with the statistics
            of the examples that are trained on; each counts once, whatever its weight. Predictions are in the targets'
            own units.
        compute_dtype: the precision that the model computes in, jnp.bfloat16, jnp.float16 or jnp.float32; None leaves
            it to the model.
        random_state: a whole number, for the same initial weights and minibatches in each call of `fit`; a NumPy
            RandomState, for others in each; None takes NumPy's global one.
        verbose: whether to show a progress bar, True or False (or a number, as elsewhere in scikit-learn).

    Attributes:
        run_: the training, a `lectopt.Run`: `run_.model` is the trained module, `run_.history` what was recorded. Its
            targets and outputs are standardized, if `standardize` is True.
        target_mean_: what was subtracted from the targets, float64[outputs].
        target_scale_: what they were then divided by, float64[outputs].
        loss_curve_: the training loss of each epoch, of these targets.
        n_features_in_: the number of features.
        feature_names_in_: their names, if the examples were a DataFrame with names that are strings.

    Example:
        >>> import lectopt as lo
        >>> from lectopt.sklearn import Regressor
        >>> from sklearn.model_selection import cross_val_score
        >>> x, y = lo.datasets.diabetes()
        >>> regressor = Regressor(model=(16,), epochs=20, learning_rate=0.003, random_state=0)
        >>> bool(cross_val_score(regressor, x, y.ravel(), cv=3).mean() > 0.4)
        True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    F. Pedregosa et al. (2011), "Scikit-learn: machine learning in Python", Journal of Machine Learning Research 12.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Regressor":
        """Trains a new network.

        Args:
            X: the inputs, finite numbers [n, features]: an array, a list or a DataFrame.
            y: the targets, finite numbers [n] or [n, outputs].
            sample_weight: the weight of each example in the loss, [n] numbers of at least 0, scaled to mean 1; None
                weighs all alike.

        Returns:
            The estimator itself, fitted.

        Raises:
            ValueError: before anything compiles, if X or y are not as above, or a parameter is out of range.
            TypeError: before anything compiles, if X is sparse, or a parameter is of the wrong type.
        """
        X, y = validate_data(self, X, y, dtype=FLOATS, multi_output=True, y_numeric=True)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        self._shape = y.shape[1:]
        targets = y.reshape(len(y), -1).astype(np.float64)
        rows = self._split(targets, stratify=False)
        self._learn_scale(targets[rows.train])
        targets = (targets - self.target_mean_) / self.target_scale_
        return self._train(regression, targets.shape[1], X, targets, weights, rows)

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the targets.

        Args:
            X: the inputs, finite numbers [n, features].

        Returns:
            float64[n] or float64[n, outputs], as the targets given to `fit`.

        Raises:
            ValueError: if X has other features than in `fit`, or the estimator is not fitted (`NotFittedError`).
        """
        X = self._inputs(X)
        outputs = np.asarray(self.run_.predict(X), np.float64) * self.target_scale_ + self.target_mean_
        return outputs.reshape(-1, *self._shape)

    def _learn_scale(self, targets: np.ndarray) -> None:
        self.target_mean_, self.target_scale_ = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        if self.standardize:
            self.target_mean_ = targets.mean(axis=0)
            # Targets that are all alike have no deviation, although their mean is rounded.
            self.target_scale_ = np.where(np.ptp(targets, axis=0) > 0, targets.std(axis=0), 1.0)

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: there may be several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
