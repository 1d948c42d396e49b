"""A classifier of scikit-learn's kind, by cross-entropy over any labels."""

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from lectopt.sklearn.estimator import FLOATS, Estimator
from lectopt.tasks.standard_tasks import classification


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Classifier(ClassifierMixin, Estimator):
    """A neural network that classifies, as an estimator of scikit-learn.

    It goes wherever those go: `Pipeline`, `GridSearchCV`, `cross_val_score`, `clone`, joblib. Labels may be strings or
    numbers of any kind. `fit` is `lo.fit`: trainings of equal networks on as many examples compile once in a process,
    whatever the numbers given to their optimizer, so that a grid search compiles once for each shape. The tasks of the
    last 32 networks are kept for that. (For settings that train side by side, as one program: `lo.cross_validate`.)

    A fitted estimator can be pickled if its parameters can: a model that is a function must then be defined in a
    module.

    Args:
        model: the network: the widths of the hidden layers of a multilayer perceptron with rectified linear units, a
            tuple of whole numbers of at least 1 (an empty one is a linear model); or a function (features, outputs,
            rngs) -> nnx.Module, called with rngs by name, whose module takes inputs float[n, features] and returns
            logits float[n, outputs]. Functions that are to share what was compiled must be the same object, or a
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
        standardize: True to bring each feature to zero mean and unit variance, with the statistics of the examples
            that are trained on; each counts once, whatever its weight.
        compute_dtype: the precision that the model computes in, jnp.bfloat16, jnp.float16 or jnp.float32; None leaves
            it to the model.
        random_state: a whole number, for the same initial weights and minibatches in each call of `fit`; a NumPy
            RandomState, for others in each; None takes NumPy's global one.
        verbose: whether to show a progress bar, True or False (or a number, as elsewhere in scikit-learn).
        class_weight: {label: weight}, of examples in the loss (1 for a label that is not named); "balanced", such that
            all classes weigh alike; None weighs all examples alike. It multiplies the `sample_weight` given to `fit`.

    Attributes:
        classes_: the labels, sorted.
        run_: the training, a `lectopt.Run`: `run_.model` is the trained module, `run_.history` what was recorded.
        loss_curve_: the training loss of each epoch.
        n_features_in_: the number of features.
        feature_names_in_: their names, if the examples were a DataFrame with names that are strings.

    Example:
        >>> import lectopt as lo
        >>> from lectopt.sklearn import Classifier
        >>> from sklearn.model_selection import GridSearchCV
        >>> x, y = lo.datasets.iris()
        >>> classifier = Classifier(model=(16,), optimizer=lo.momentum, epochs=20, random_state=0)
        >>> grid = {"learning_rate": [0.001, 0.01, 0.1], "hyperparameters__momentum": [0.5, 0.9]}
        >>> search = GridSearchCV(classifier, grid, cv=3).fit(x, y)
        >>> bool(search.best_score_ > 0.9), search.predict(x[:2]), search.predict_proba(x[:2]).shape
        (True, array([0, 0], dtype=int32), (2, 3))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    F. Pedregosa et al. (2011), "Scikit-learn: machine learning in Python", Journal of Machine Learning Research 12.
    """

    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Classifier":
        """Trains a new network.

        Args:
            X: the inputs, finite numbers [n, features]: an array, a list or a DataFrame.
            y: the labels [n], strings or numbers, of at least 2 classes.
            sample_weight: the weight of each example in the loss, [n] numbers of at least 0, scaled to mean 1; None
                weighs all alike.

        Returns:
            The estimator itself, fitted.

        Raises:
            ValueError: before anything compiles, if X or y are not as above, or a parameter is out of range.
            TypeError: before anything compiles, if X is sparse, or a parameter is of the wrong type.
        """
        X, y = validate_data(self, X, y, dtype=FLOATS)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least 2 classes; got 1 class, {self.classes_[0]}")
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        if self.class_weight is not None:
            weights = compute_sample_weight(self.class_weight, y) * (1 if weights is None else weights)
        rows = self._split(labels, stratify=True)
        return self._train(classification, len(self.classes_), X, labels.astype(np.int32), weights, rows)

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the most likely labels.

        Args:
            X: the inputs, finite numbers [n, features].

        Returns:
            Labels [n], of the kind given to `fit`.

        Raises:
            ValueError: if X has other features than in `fit`, or the estimator is not fitted (`NotFittedError`).
        """
        X = self._inputs(X)
        return self.classes_[np.asarray(self.run_.classes(X))]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predicts the probabilities of the classes.

        Args:
            X: the inputs, finite numbers [n, features].

        Returns:
            float32[n, classes], in the order of `classes_`.

        Raises:
            ValueError: if X has other features than in `fit`, or the estimator is not fitted (`NotFittedError`).
        """
        X = self._inputs(X)
        return np.asarray(self.run_.probabilities(X))
