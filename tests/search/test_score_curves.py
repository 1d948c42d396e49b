"""Learning curves and validation curves: scikit-learn's meaning, and the same trainings one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import Ridge
from sklearn.model_selection import learning_curve, validation_curve

import lectopt as lo
from lectopt._internal.keys import as_key
from lectopt.plots.score_curves import plot_score_curves
from lectopt.search import score_curves
from lectopt.search.score_curves import shuffled_training

pytestmark = pytest.mark.filterwarnings("ignore:batch_size .* is larger")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(47, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + RNG.normal(size=47) * 0.3).astype(np.float32)
FOLDS = lo.k_fold((X, Y), 3, key=0)
quiet = {"key": 0, "progress": False}


def ridge(setting, train, valid, key):
    """Ridge regression without an intercept on what the masks say is there, and its two mean squared errors."""

    def parts(part):
        x, y = part.take(part.indices)
        return x * part.mask[:, None], y * part.mask, part.size

    x, y, _ = parts(train)
    w = jnp.linalg.solve(x.T @ x + setting["alpha"] * jnp.eye(3), x.T @ y)
    return {f"{name}_error": jnp.sum((a @ w - b) ** 2) / n for name, (a, b, n) in
            {"train": parts(train), "valid": parts(valid)}.items()}  # fmt: skip


def theirs(folds):
    scored = {"cv": [(np.asarray(train.indices), np.asarray(valid.indices)) for train, valid in folds]}
    return scored | {"scoring": "neg_mean_squared_error"}


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("sizes", [[0.1, 0.5, 0.75, 1.0], [3, 10, 29]])
def test_a_learning_curve_is_that_of_scikit_learn(sizes):
    curve = lo.learning_curve(ridge, {"alpha": 0.1}, FOLDS, sizes=sizes, minimize="valid_error", **quiet)
    shuffled = shuffled_training(FOLDS, as_key(0))
    counts, train, valid = learning_curve(Ridge(0.1, fit_intercept=False), X, Y, train_sizes=sizes, **theirs(shuffled))
    np.testing.assert_array_equal(curve.values, counts)
    np.testing.assert_allclose(curve.train[..., 0], -train, rtol=2e-4)
    np.testing.assert_allclose(curve.valid[..., 0], -valid, rtol=2e-4)
    for (ours, _), (part, _) in zip(shuffled, FOLDS, strict=True):
        assert sorted(ours.indices.tolist()) == sorted(part.indices.tolist())
        assert ours.indices.tolist() != part.indices.tolist()


@pytest.mark.usefixtures("full_precision")
def test_a_validation_curve_is_that_of_scikit_learn():
    alphas = [0.01, 1.0, 100.0]
    curve = lo.validation_curve(ridge, {"alpha": 7.0}, FOLDS, name="alpha", values=alphas, minimize="valid_error",
                                **quiet)  # fmt: skip
    train, valid = validation_curve(
        Ridge(fit_intercept=False), X, Y, param_name="alpha", param_range=alphas, **theirs(FOLDS)
    )
    np.testing.assert_allclose(curve.train[..., 0], -train, rtol=2e-4)
    np.testing.assert_allclose(curve.valid[..., 0], -valid, rtol=2e-4)
    table = curve.to_pandas()
    assert list(table) == ["alpha", "train_error", "train_error_sem", "valid_error", "valid_error_sem", "diverged"]
    np.testing.assert_allclose(table["valid_error"], -valid.mean(axis=1), rtol=2e-4)


TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
FLOWERS = lo.stratified_k_fold(lo.datasets.iris(), 2, key=0)


def trained(setting, train, valid, key):
    return lo.train(TASK, lo.sgd(setting["rate"]), train, valid=valid, batch_size=16, epochs=2, key=key)


@pytest.fixture(scope="module")
def learning():
    return lo.learning_curve(trained, {"rate": 0.3}, FLOWERS, sizes=[20, 75], seeds=2, maximize="valid_accuracy",
                             **quiet)  # fmt: skip


@pytest.mark.slow
def test_trainings_are_those_of_the_parts_one_by_one(learning):
    """A part of its own, of a smaller shape and without padding, gives the same: means of inputs, steps, and scores."""
    shuffled = shuffled_training(FLOWERS, as_key(0))
    for i, fold, seed in [(0, 1, 0), (0, 0, 1), (1, 1, 1)]:
        train, valid = shuffled[fold]
        part = lo.Subset(train.arrays, train.indices[: int(learning.values[i])], jnp.int32(learning.values[i]),
                         least=int(learning.values[i]))  # fmt: skip
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), fold), seed)
        run = trained({"rate": 0.3}, part, valid, key)
        scores = {"valid_loss": run.metrics["valid_loss"]} | {f"train_{k}": v for k, v in run.evaluate(part).items()}
        for name, score in scores.items():
            np.testing.assert_allclose(learning.results.metrics[name][i, fold, seed], score, rtol=2e-4)
    assert not (learning.train == learning.valid).all()


def test_a_training_that_diverged_has_no_score_of_its_training_part():
    curve = lo.validation_curve(trained, {}, FLOWERS, name="rate", values=[0.1, 1e38], minimize="valid_loss", **quiet)
    assert np.isnan(curve.train[1]).all()
    assert np.isfinite(curve.train[0]).all()
    assert not np.isclose(curve.train[0], curve.valid[0], rtol=1e-4).any()


def test_shares_are_of_one_example_at_least_and_each_number_counts_once():
    assert score_curves._counts((0.5, 1e-9, 0.51, 1e-3), 31).tolist() == [1, 15]


@pytest.mark.slow
def test_pictures(learning):
    axis = learning.plot().axes[0]
    assert axis.get_xscale() == "linear"
    assert axis.get_xlabel() == "training examples"
    train, valid = axis.get_lines()
    assert (train.get_label(), valid.get_label()) == ("training accuracy", "validation accuracy")
    np.testing.assert_array_equal(train.get_xdata(), [20, 75])
    np.testing.assert_allclose(valid.get_ydata(), learning.valid.mean(axis=(1, 2)), rtol=1e-6)
    assert [line.get_label() for line in learning.plot("train_loss").axes[0].get_lines()] == ["training loss"]
    with pytest.raises(ValueError, match="metric must be one of"):
        learning.plot("loss")


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_too_bad_to_show_is_a_cross_at_the_edge(sign):
    mean, std = sign * np.array([3.0, 1.0, 2.0, 1e9, np.nan]), np.array([0.5, np.nan, 0.5, 1.0, np.nan])
    rate = np.geomspace(0.01, 100, 5)[::-1]
    axis = plot_score_curves(rate, {"loss": (mean, std)}, name="rate", logarithmic=True, maximizes=sign < 0).axes[0]
    line, crosses = axis.get_lines()
    np.testing.assert_allclose(line.get_xdata(), rate[::-1])
    np.testing.assert_array_equal(line.get_ydata(), mean[[4, 3, 2, 1, 0]] * [np.nan, np.nan, 1, 1, 1])
    np.testing.assert_allclose(crosses.get_xdata(), rate[3:])
    assert set(crosses.get_ydata()) == {0.0 if sign < 0 else 1.0}
    assert axis.get_xscale() == "log"


def of_learning(**changes):
    options = {"trial": ridge, "setting": {"alpha": 1.0}, "folds": FOLDS, "minimize": "valid_error"} | quiet | changes
    return lo.learning_curve(options.pop("trial"), options.pop("setting"), options.pop("folds"), **options)


def of_validation(**changes):
    options = {"setting": {}, "name": "alpha", "values": [1.0], "minimize": "valid_error"} | quiet | changes
    return lo.validation_curve(ridge, options.pop("setting"), FOLDS, **options)


BAD = {
    "folds": (lambda: of_learning(folds=3), TypeError, r"folds must be lectopt\.Folds"),
    "trial": (lambda: of_learning(trial=3), TypeError, "trial must be a function; got int"),
    "setting": (lambda: of_learning(setting=[1]), TypeError, "setting must be a dictionary .*; got list"),
    "settings": (lambda: of_learning(setting=lo.settings({"alpha": [1.0, 2.0]})), ValueError, "one setting; got 2"),
    "examples": (lambda: of_learning(setting={"examples": 1}), ValueError, "setting must not have the name 'examples'"),
    "too many": (lambda: of_learning(sizes=[3, 32]), ValueError, r"sizes must be .* from 1 to 31, .*got \[3, 32\]"),
    "none": (lambda: of_learning(sizes=[0, 3]), ValueError, "sizes must be"),
    "share": (lambda: of_learning(sizes=[0.5, 1.1]), ValueError, "sizes must be shares in"),
    "flags": (lambda: of_learning(sizes=[True]), TypeError, "sizes must be whole numbers"),
    "no sizes": (lambda: of_learning(sizes=[]), TypeError, "sizes must be whole numbers"),
    "metric": (lambda: of_learning(minimize="x"), ValueError, "minimize must be"),
    "name": (lambda: of_validation(name=3), TypeError, "name must be the name of a hyperparameter; got 3"),
    "not read": (
        lambda: of_validation(name="alhpa", setting={"alpha": 1.0}),
        ValueError,
        "trial must read .* depends on 'alhpa'",
    ),
    "values": (lambda: of_validation(values=[]), ValueError, "settings must be columns"),
    "an array": (lambda: of_validation(values=[jnp.ones(2)]), TypeError, r"settings\['alpha'\] must hold numbers or"),
    "no metric": (lambda: of_validation().plot("x"), ValueError, "metric must be one of .*; got 'x'"),
    "metric in a list": (lambda: of_validation().plot(["valid_error"]), ValueError, "metric must be one of .*; got "),
    "twice": (lambda: of_validation(values=[1.0, 1.0]), ValueError, "must differ"),
    "no training scores": (
        lambda: without_training().train,
        ValueError,
        "or 'train_error' too, for the scores of the training part",
    ),
}


def without_training():
    curve = of_validation()
    curve.results.metrics.pop("train_error")
    return curve


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
