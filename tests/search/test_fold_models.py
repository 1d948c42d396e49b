"""The models of the folds: runs of all lanes of a setting, predictions out of fold, and ensembles of runs."""

import jax
import numpy as np
import pytest
from compilations import compilations
from flax import nnx
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_predict

import lectopt as lo

pytestmark = pytest.mark.filterwarnings(
    "ignore:the best .*, lies at", "ignore:batch_size .* is larger", "ignore:no setting has a finite"
)
FLOWERS = lo.datasets.iris()
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
FOLDS = lo.stratified_k_fold(FLOWERS, 3, key=0)
RATES = {"learning_rate": [0.001, 0.3, 0.03]}
quiet = {"minimize": "valid_loss", "key": 0, "progress": False}


def trial(setting, train, valid, key, epochs=2, start=None):
    rate = setting["learning_rate"]
    return lo.train(TASK, lo.sgd(rate), train, valid=valid, batch_size=30, epochs=epochs, key=key, start=start)


@pytest.fixture(scope="module")
def results():
    return lo.cross_validate(trial, RATES, FOLDS, seeds=2, **quiet)


@pytest.mark.slow
def test_runs_are_those_that_the_search_scored(results):
    runs = results.runs()
    best = results.best_index
    scores = np.array([run.metrics["valid_loss"] for run in runs]).reshape(3, 2)
    np.testing.assert_array_equal(scores, results.metrics["valid_loss"][best])
    for i, run in enumerate(runs):
        np.testing.assert_allclose(run.evaluate(FOLDS[i // 2][1])["loss"], scores[i // 2, i % 2], rtol=1e-5)
    alone = results.replay(best, 2, 1)
    assert jax.tree.structure(alone) == jax.tree.structure(runs[5])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, runs[5])


@pytest.mark.slow
def test_another_setting_by_number_or_by_name_compiles_nothing_again(results):
    results.runs()
    log = compilations()
    before = len(log)
    by_number = results.runs(2)
    assert results.runs({"learning_rate": 0.03})[0] is by_number[0]
    assert len(log) == before
    np.testing.assert_array_equal(by_number[5].metrics["valid_loss"], results.metrics["valid_loss"][2, 2, 1])


@pytest.mark.slow
def test_runs_on_several_devices(results, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda *_, **__: jax.devices())
    runs = lo.cross_validate(trial, RATES, FOLDS, seeds=2, **quiet).runs(1)
    for run, score in zip(runs, results.metrics["valid_loss"][1].ravel(), strict=True):
        np.testing.assert_allclose(run.metrics["valid_loss"], score, rtol=1e-5)


@pytest.mark.slow
def test_runs_of_settings_that_halving_dropped_and_kept():
    halved = lo.cross_validate(trial, RATES, FOLDS, halving=lo.Halving(epochs=3, factor=3), **quiet)
    assert sorted(halved.rungs) == [1, 1, 2]
    for setting in (halved.best_index, int(halved.ranking()[-1])):
        scores = np.array([run.metrics["valid_loss"] for run in halved.runs(setting)])
        np.testing.assert_array_equal(scores, halved.metrics["valid_loss"][setting, :, 0])


@pytest.mark.slow
def test_runs_of_a_sweep_are_those_of_its_seeds():
    parts = FOLDS[0]
    swept = lo.sweep(lambda setting, key: trial(setting, *parts, key), RATES, seeds=2, **quiet)
    scores = [run.metrics["valid_loss"] for run in swept.runs(0)]
    np.testing.assert_array_equal(scores, swept.metrics["valid_loss"][0, 0])
    with pytest.raises(ValueError, match="out_of_fold needs folds"):
        swept.out_of_fold()


def made_here(setting, train, valid, key):
    task = lo.classification(
        lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True, label_smoothing=setting["smoothing"]
    )
    return lo.train(task, lo.sgd(0.1), train, valid=valid, batch_size=30, epochs=1, key=key)


@pytest.mark.slow
def test_a_task_that_the_trial_makes_has_the_numbers_of_its_setting():
    found = lo.cross_validate(made_here, {"smoothing": [0.0, 0.2]}, FOLDS, **quiet)
    run = found.runs(1)[0]
    np.testing.assert_allclose(run.evaluate(FOLDS[0][1])["loss"], found.metrics["valid_loss"][1, 0, 0], rtol=1e-5)


BAD = {
    "no such number": (3, ValueError, "setting must be below the number of settings, 3; got 3"),
    "no such setting": ({"learning_rate": 1.0}, ValueError, "setting must be one of those that were searched"),
    "another name": ({"rate": 0.3}, ValueError, "setting must be one of those that were searched"),
    "an array": ({"learning_rate": np.ones(2)}, TypeError, "setting must hold one value for each name"),
    "a name": ("best", TypeError, r"setting must be the number of a row or a setting .*; got 'best'"),
}


@pytest.mark.parametrize(("setting", "error", "message"), BAD.values(), ids=BAD)
def test_settings_that_are_none(results, setting, error, message):
    with pytest.raises(error, match=message):
        results.runs(setting)
    with pytest.raises(error, match=message):
        results.out_of_fold(setting)


def test_what_has_no_runs(results, tmp_path):
    results.save(tmp_path / "file")
    with pytest.raises(ValueError, match="results from a file have no trial to replay"):
        lo.Results.load(tmp_path / "file").runs()
    scores = lo.sweep(lambda setting, key: {"loss": setting["x"]}, {"x": [1.0, 2.0]}, minimize="loss", key=0)
    with pytest.raises(TypeError, match=r"trial must return a lectopt\.Run for its runs; it returned dict"):
        scores.runs()


RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(30, 1)) + 1).astype(np.float32)
LINE = lo.regression(lambda rngs: nnx.Linear(3, 1, rngs=rngs))


def fitted_line(setting, train, valid, key):
    return lo.train(LINE, lo.sgd(setting["rate"]), train, valid=valid, batch_size=30, steps=500, shuffle=False, key=key)


LINES = {"rate": [0.1, 0.01]}


@pytest.mark.slow
def test_out_of_fold_is_what_scikit_learn_predicts():
    splitter = KFold(4, shuffle=True, random_state=0)  # 30 examples: folds of 8 and of 7
    folds = lo.from_indices((X, Y), splitter)
    found = lo.cross_validate(fitted_line, LINES, folds, **quiet).out_of_fold({"rate": 0.1})
    expected = cross_val_predict(LinearRegression(), X, Y, cv=splitter)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32
    assert np.ptp(found - LinearRegression().fit(X, Y).predict(X)) > 0.01  # of models that have seen the example


def test_out_of_fold_is_the_mean_of_all_that_left_an_example_out():
    rest, _ = lo.holdout((X, Y), 0.5, key=0)
    rows = np.arange(len(rest))
    parts = [rows[:5], rows[3:8]]  # overlapping, and most are never left out
    folds = lo.from_indices(rest, [(np.setdiff1d(rows, part), part) for part in parts])
    results = lo.cross_validate(fitted_line, LINES, folds, seeds=2, **quiet)
    found, runs = results.out_of_fold(), results.runs()
    places = np.asarray(rest.indices)
    of = [np.mean([run.predict(X) for run in runs[2 * i : 2 * i + 2]], axis=0) for i in range(2)]
    np.testing.assert_allclose(found[places[:3]], of[0][places[:3]], rtol=1e-5)
    np.testing.assert_allclose(found[places[3:5]], (of[0] + of[1])[places[3:5]] / 2, rtol=1e-5)
    np.testing.assert_allclose(found[places[5:8]], of[1][places[5:8]], rtol=1e-5)
    assert np.isnan(np.delete(found, places[:8], axis=0)).all()


def test_out_of_fold_of_classifiers_are_probabilities(results):
    found = results.out_of_fold()
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    accuracy = np.mean(found.argmax(axis=1) == FLOWERS[1])
    np.testing.assert_allclose(accuracy, results.mean("valid_accuracy")[results.best_index], atol=0.05)


@pytest.mark.slow
def test_out_of_fold_where_a_training_diverged():
    broken = np.array(X)
    broken[0] = 1e30  # of fold 0's training part alone
    folds = lo.from_indices((broken, Y), [(np.arange(15), np.arange(15, 30)), (np.arange(15, 30), np.arange(1, 15))])
    found = lo.cross_validate(fitted_line, LINES, folds, **quiet).out_of_fold(0)
    assert np.isnan(found[15:]).all()
    assert np.isfinite(found[1:15]).all()


@pytest.mark.slow
def test_the_models_of_the_folds_gain_together():
    digits = lo.datasets.digits()
    rest, test = lo.holdout(digits, 0.3, key=0, stratify=True)
    task = lo.classification(
        lambda rngs: nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs)),
        standardize=True,
    )

    def digits_trial(setting, train, valid, key):
        optimizer = lo.momentum(setting["rate"], 0.9)
        return lo.train(task, optimizer, train, valid=valid, batch_size=32, epochs=8, key=key)

    results = lo.cross_validate(digits_trial, {"rate": [0.03, 0.1]}, lo.stratified_k_fold(rest, 5, key=0), **quiet)
    runs = results.runs()
    np.testing.assert_array_equal(
        [run.metrics["valid_loss"] for run in runs], results.metrics["valid_loss"][results.best_index, :, 0]
    )
    alone, together = [run.evaluate(test) for run in runs], lo.ensemble(runs).evaluate(test)
    assert together["loss"] < 0.8 * np.mean([scores["loss"] for scores in alone])
    assert together["accuracy"] > np.mean([scores["accuracy"] for scores in alone]) + 0.003
