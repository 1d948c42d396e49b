"""`Classifier` and `Regressor`: what scikit-learn asks of estimators, and that they train as `lo.fit` does."""

import functools
import importlib
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import compilations
from flax import nnx
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import lectopt as lo
from lectopt.sklearn import Classifier, Regressor, estimator, networks, requirement
from lectopt.training import compiled_loop
from lectopt.training.optimizer_recipe import OptimizerRecipe

X, Y = (np.asarray(array) for array in lo.datasets.iris())
ORDER = np.random.default_rng(0).permutation(len(X))
X, Y = X[ORDER], Y[ORDER]
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
THIRDS = KFold(3)  # 100 examples to train on, of which all fast tests have as many: they share what was compiled
ROWS = next(THIRDS.split(X))[0]
WEIGHTS = np.linspace(0, 2, 100)


def small(cls=Classifier, **parameters):
    return cls(
        **({"model": (8,), "batch_size": 50, "epochs": 3, "learning_rate": 0.01, "random_state": 0} | parameters)
    )


def seed(random_state=0):
    return int(np.random.RandomState(random_state).randint(2**31 - 1))


def leaves(fitted):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(fitted.run_.params)])


def wide(features, outputs, rngs, width=4):
    return nnx.Sequential(nnx.Linear(features, width, rngs=rngs), nnx.relu, nnx.Linear(width, outputs, rngs=rngs))


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X[ROWS], NAMES[ROWS], WEIGHTS)


@pytest.fixture
def passed(monkeypatch):
    """What `fit` of lectopt is called with, by an estimator that gets no further."""
    calls = []

    def record(*args, **kwargs):
        calls.append((args, kwargs))
        raise StopIteration

    monkeypatch.setattr(estimator, "fit", record)

    def fit(unfitted, *data):
        with pytest.raises(StopIteration):
            unfitted.fit(*data)
        return calls.pop()

    return fit


# What scikit-learn asks of all estimators. ---------------------------------------------------------------------------
UNEQUAL = {
    "check_sample_weight_equivalence_on_dense_data": "repeated examples are in other minibatches than weighted ones, "
    "and the statistics that standardize inputs count each example once"
}
WITHOUT_TRAINING = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
}


OF_REGRESSORS_ALONE = {
    "check_regressor_data_not_an_array",
    "check_regressor_multioutput",
    "check_regressors_int",
    "check_regressors_no_decision_function",
    "check_regressors_train",
}
all_checks = functools.partial(parametrize_with_checks, expected_failed_checks=lambda _: UNEQUAL, xfail_strict=True)
TRAINED = {"model": (20,), "epochs": 30, "learning_rate": 0.01}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@all_checks([Classifier(**TRAINED)])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")
@all_checks([Regressor(**TRAINED)])
def test_all_of_scikit_learns_checks_pass_for_regressors_too(estimator, check):
    check(estimator)


def pass_checks(unfitted, names):
    found = set()
    for own, check in estimator_checks_generator(unfitted):
        if getattr(check.func, "__name__", None) in names:
            check(own)
            found.add(check.func.__name__)
    assert found == names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_checks_of_regressors_alone_pass():
    pass_checks(Regressor(**TRAINED), OF_REGRESSORS_ALONE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [Classifier, Regressor])
def test_scikit_learns_checks_that_do_not_train_pass(cls):
    pass_checks(cls(), WITHOUT_TRAINING)


# Labels, frames, scores. ---------------------------------------------------------------------------------------------
def test_labels_may_be_strings(fitted):
    predicted, probabilities = fitted.predict(X), fitted.predict_proba(X)
    assert fitted.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (predicted == fitted.classes_[probabilities.argmax(axis=1)]).all()
    assert fitted.score(X, NAMES) == (predicted == NAMES).mean()


def test_frames_keep_the_names_of_their_columns():
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    fitted = small().fit(frame.iloc[ROWS], pd.Series(NAMES).iloc[ROWS], pd.Series(WEIGHTS))
    assert fitted.n_features_in_ == 4
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["b", "a", "c", "d"]])


def test_the_training_is_that_of_fit(fitted):
    labels = Y[ROWS].astype(np.int32)
    run = lo.fit(fitted.run_.task, lo.adam, (X[ROWS], labels), batch_size=50, epochs=3, key=seed(), weights=WEIGHTS,
                 hyperparameters={"learning_rate": 0.01}, progress=False)  # fmt: skip
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, run.params, fitted.run_.params)))
    np.testing.assert_array_equal(fitted.loss_curve_, run.history.epochs["train_loss"])


def test_arguments_are_passed_on(passed):
    unfitted = small(optimizer=lo.momentum, hyperparameters={"momentum": 0.5}, patience=2, verbose=1, standardize=False,
                     compute_dtype="bfloat16", batch_size=7, epochs=9)  # fmt: skip
    (task, optimizer, train), options = passed(unfitted, X, Y)
    assert (task.standardize, task.compute_dtype, optimizer) == (False, jnp.bfloat16, lo.momentum)
    assert (options["batch_size"], options["epochs"], options["patience"], options["progress"]) == (7, 9, 2, True)
    assert options["hyperparameters"] == {"learning_rate": 0.01, "momentum": 0.5}
    assert (len(train), options["weights"]) == (135, None)
    assert not passed(small(), X, Y)[1]["progress"]
    with pytest.raises(TypeError, match=r"verbose must be True, False or a number; got 'x' \(str\)"):
        passed(small(verbose="x"), X, Y)


def test_patience_holds_out_the_same_share_of_each_class(passed):
    (_, _, train), options = passed(small(patience=1, validation_fraction=0.2), X, NAMES)
    assert np.bincount(options["valid"].examples()[1]).tolist() == [10, 10, 10]
    assert np.bincount(train.examples()[1]).tolist() == [40, 40, 40]


@pytest.mark.slow
def test_patience_ends_the_training():
    fitted = small(patience=1, learning_rate=1.0, epochs=20).fit(X, Y)
    assert len(fitted.run_.history.epochs["valid_loss"]) == len(fitted.loss_curve_) < 20


def test_class_weights_multiply_sample_weights(passed):
    def weights(class_weight, *data):
        return passed(small(class_weight=class_weight), X[:8], labels, *data)[1]["weights"]

    labels = np.array(["a", "b", "b", "b", "a", "b", "b", "b"])
    np.testing.assert_array_equal(weights({"a": 3}), np.where(labels == "a", 3, 1))
    np.testing.assert_allclose(weights("balanced"), np.where(labels == "a", 2, 2 / 3))
    np.testing.assert_array_equal(weights({"a": 3}, np.arange(8)), np.arange(8) * np.where(labels == "a", 3, 1))
    np.testing.assert_array_equal(weights(None, np.arange(8)), np.arange(8))


@pytest.mark.slow
@pytest.mark.parametrize(("cls", "method"), [(Classifier, "predict_proba"), (Regressor, "predict")])
def test_a_weight_of_two_is_an_example_twice(cls, method):
    """In one batch of all; of standardization the statistics are of each example once."""
    counts = np.arange(150) % 3
    options = {"batch_size": 150, "standardize": False, "epochs": 20}
    weighted = small(cls, **options).fit(X, Y, sample_weight=counts)
    repeated = small(cls, **options).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts))
    np.testing.assert_allclose(getattr(weighted, method)(X), getattr(repeated, method)(X), atol=1e-4)


def test_random_states(passed):
    def key(random_state):
        return passed(small(random_state=random_state), X, Y)[1]["key"]

    shared = np.random.RandomState(3)
    assert key(3) == key(3) == seed(3) == key(shared) != key(shared)
    np.random.seed(5)  # noqa: NPY002, scikit-learn's None is NumPy's global state
    assert key(None) == seed(5) != key(None)


# Regression. ---------------------------------------------------------------------------------------------------------
def test_predictions_are_in_the_units_of_the_targets():
    targets = 1e9 + 1e6 * X[ROWS] @ np.array([1.0, 2.0, 0.0, 1.0])
    fitted = small(Regressor, model=(), epochs=100, learning_rate=0.1).fit(X[ROWS], targets)
    assert fitted.predict(X).shape == (150,)
    assert fitted.predict(X).dtype == np.float64
    assert fitted.score(X[ROWS], targets) > 0.999


@pytest.mark.slow
def test_several_targets():
    targets = X @ np.array([[1.0, 0.0], [2.0, 1e6], [0.0, 3e6], [1.0, 0.0]])
    fitted = small(Regressor, model=(), epochs=100, learning_rate=0.1).fit(X, targets)
    assert fitted.predict(X).shape == (150, 2)
    assert fitted.score(X, targets) > 0.999


def test_shapes_and_constants_of_targets(passed):
    (_, _, train), _ = passed(small(Regressor), X, np.stack([np.full(150, 0.1), Y], axis=1))
    constant, other = np.asarray(train.arrays[1]).T
    assert abs(constant).max() < 1e-6
    assert other.std() == pytest.approx(1, abs=1e-5)
    (_, _, train), _ = passed(small(Regressor, standardize=False), X, Y)
    np.testing.assert_array_equal(train.arrays[1][:, 0], Y)


def test_targets_are_standardized_by_the_training_part_alone(passed):
    targets = np.exp(X[:, 0])
    (_, _, train), options = passed(unfitted := small(Regressor, patience=1, validation_fraction=0.5), X, targets)
    assert unfitted.target_mean_ == pytest.approx(targets[np.asarray(train.indices)].mean())
    assert np.asarray(train.examples()[1]).std() == pytest.approx(1, abs=1e-5)
    assert len(options["valid"]) == 75
    assert not set(np.asarray(train.indices)) & set(np.asarray(options["valid"].indices))


# Searches, which compile once; copies. -------------------------------------------------------------------------------
def test_a_grid_search_compiles_once(fitted):
    fitted.score(X[:50], NAMES[:50])
    log, before = compilations(), len(compilations())
    weights = np.concatenate([WEIGHTS, WEIGHTS[:50]])
    search = GridSearchCV(small(), {"learning_rate": [0.001, 0.01, 0.1]}, cv=THIRDS, refit=False, error_score="raise")
    search.fit(X, NAMES, sample_weight=weights)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert len(log) == before


def test_hyperparameters_are_parameters_of_their_own(passed):
    given = {"nesterov": False}
    unfitted = make_pipeline(MinMaxScaler(), small(hyperparameters=given))
    unfitted.set_params(classifier__hyperparameters__momentum=0.5, classifier__epochs=4)
    copy = clone(unfitted)[-1]
    assert (copy.hyperparameters, copy.epochs, given) == ({"nesterov": False, "momentum": 0.5}, 4, {"nesterov": False})
    assert small().set_params(hyperparameters__b1=0.5).hyperparameters == {"b1": 0.5}
    with pytest.raises(ValueError, match="Invalid parameter"):
        small().set_params(momentum=0.5)


def test_equal_networks_are_one_task():
    def task(model, standardize=True, outputs=3):
        return networks.task_of(networks.as_network(lo.classification, model, 4, outputs, standardize, None))

    assert task((8, 6)) is task([8, 6]) is not task((6, 8))
    assert task(wide) is task(wide) is not task(wide, standardize=False)
    assert task(functools.partial(wide, width=5)) is task(clone(functools.partial(wide, width=5), safe=False))
    assert task(functools.partial(wide, width=5)) is not task(functools.partial(wide, width=6))
    assert task((8,), outputs=2) is not task((8,))
    assert task(nnx.Linear) is task(nnx.Linear)  # takes rngs by name alone


@pytest.mark.parametrize("optimizer", [lo.momentum, lo.momentum(0.1), functools.partial(lo.momentum, momentum=0.5)])
def test_copies_of_an_optimizer_are_one(passed, optimizer):
    rate = None if isinstance(optimizer, tuple) else 0.01
    unfitted = small(optimizer=optimizer, learning_rate=rate)
    first, second = (OptimizerRecipe(passed(clone(unfitted), X, Y)[0][1], ()) for _ in range(2))
    assert first == second


def test_a_perceptron_has_these_widths():
    layers = nnx.eval_shape(lambda: networks._perceptron((8, 6), 4, 2, nnx.Rngs(0))).layers
    assert [getattr(layer, "kernel", layer) for layer in layers[1::2]] == [nnx.relu, nnx.relu]
    assert [layer.kernel.shape for layer in layers[::2]] == [(4, 8), (8, 6), (6, 2)]


def test_pickling_keeps_what_was_learned(fitted):
    before, again = fitted.predict_proba(X), pickle.loads(pickle.dumps(fitted))
    log, compiled = compilations(), len(compilations())
    np.testing.assert_array_equal(again.predict_proba(X), before)
    assert again.run_.task is fitted.run_.task
    assert again.run_.metrics == fitted.run_.metrics
    np.testing.assert_array_equal(again.loss_curve_, fitted.loss_curve_)
    assert (fitted.get_params(), len(log)) == (again.get_params(), compiled)


def test_pickles_hold_the_network_that_was_trained(fitted):
    changed = pickle.loads(pickle.dumps(fitted)).set_params(model=(3, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(changed)).predict(X), fitted.predict(X))


@pytest.mark.slow
def test_processes_of_joblib_give_the_same_scores():
    alone, beside = (cross_val_score(small(), X, NAMES, cv=THIRDS, n_jobs=jobs) for jobs in (None, 2))
    np.testing.assert_array_equal(alone, beside)


@pytest.mark.slow
@pytest.mark.usefixtures("fully_compiled")
def test_it_learns_what_scikit_learns_own_does():
    digits, labels = (np.asarray(array) for array in lo.datasets.digits())
    equal = {"batch_size": 32, "random_state": 0}
    ours, theirs = [], []
    for split in range(3):
        train, test, known, asked = train_test_split(
            digits / 16, labels, test_size=0.3, stratify=labels, random_state=split
        )
        ours.append(Classifier(epochs=20, **equal).fit(train, known).score(test, asked))
        with pytest.warns(match="Maximum iterations"):
            theirs.append(MLPClassifier(max_iter=20, **equal).fit(train, known).score(test, asked))
    assert np.mean(ours) >= np.mean(theirs) - 0.01


# What cannot be right. -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"model": 5}, TypeError, "model must be the widths of the hidden layers, or a function"),
        ({"model": (8, 0)}, ValueError, r"model\[1\] must be at least 1; got 0"),
        ({"model": (8.0,)}, TypeError, r"model\[0\] must be a whole number"),
        (
            {"model": lambda rngs: None},
            TypeError,
            r"a function \(features, outputs, rngs\) -> nnx.Module; got one of \(rngs\)",
        ),
        (
            {"model": lambda n, m, rngs: wide(n, m + 1, rngs)},
            ValueError,
            r"into outputs of shape \(2, 3\); got .*\(2, 4\)",
        ),
        (
            {"model": lambda n, m, rngs: wide(n + 1, m, rngs)},
            ValueError,
            r"model must turn inputs of shape \(2, 4\) into",
        ),
        ({"model": functools.partial(wide, width=[4])}, TypeError, "model must be hashable"),
        ({"optimizer": functools.partial(lo.adam, b1=[0.9])}, TypeError, "optimizer must be hashable"),
        ({"optimizer": "adam"}, TypeError, "optimizer must be an Optax GradientTransformation, or a function"),
        ({"optimizer": lo.adam(0.1)}, ValueError, "learning_rate must be None if the optimizer holds it; got 0.01"),
        (
            {"hyperparameters": {"learning_rate": 1}},
            ValueError,
            "learning_rate must be None if hyperparameters holds it",
        ),
        ({"hyperparameters": {"momentum": 1}}, ValueError, "hyperparameters must be among learning_rate, b1"),
        ({"hyperparameters": 3}, TypeError, "hyperparameters must be a dictionary; got 3"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be in"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"validation_fraction": 1.0}, ValueError, r"validation_fraction must be in \(0, 1\)"),
        ({"standardize": 1}, TypeError, "standardize must be True or False"),
        ({"compute_dtype": "int8"}, ValueError, "compute_dtype must be one of"),
        ({"class_weight": "even"}, ValueError, "class_weight"),
    ],
)
def test_bad_parameters_are_refused_before_the_loop_compiles(monkeypatch, parameters, error, message):
    monkeypatch.setattr(compiled_loop, "start", lambda _: pytest.fail("it compiles"))
    with pytest.raises(error, match=message):
        small(**parameters).fit(X[ROWS], Y[ROWS])


def test_bad_data_are_refused(fitted):
    with pytest.raises(ValueError, match="y must hold at least 2 classes; got 1 class, setosa"):
        small().fit(X, np.full(150, "setosa"))
    with pytest.raises(ValueError, match="weights must be finite, at least 0"):
        small().fit(X[ROWS], Y[ROWS], -WEIGHTS)
    with pytest.raises(ValueError, match="X must differ by more than float32 can tell apart; feature 0"):
        small().fit(np.arange(100)[:, None] / 100 + 1e9, Y[ROWS])
    with pytest.raises(ValueError, match="X has 3 features, but Classifier is expecting 4"):
        fitted.predict(X[:, :3])


def test_what_is_not_fitted_has_no_curve():
    assert not hasattr(small(), "loss_curve_")
    with pytest.raises(NotFittedError):
        _ = small().loss_curve_


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'lectopt\[sklearn\]'"):
        importlib.reload(requirement)
