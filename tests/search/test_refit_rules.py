"""What `select` retrains, and for how long: the best number of epochs of the folds, the rule of one standard error."""

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.search.hyperparameter_search import Search

pytestmark = pytest.mark.filterwarnings("ignore:the best .*, lies at")
FLOWERS = lo.datasets.iris()
REST, TEST = lo.holdout(FLOWERS, 0.2, key=0, stratify=True)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
RATES = {"rate": [0.3, 0.1, 0.5]}
FOLDS = lo.stratified_k_fold(REST, 3, key=0)
quiet_nested = {"minimize": "valid_loss", "key": 0, "progress": False}
quiet = {"folds": FOLDS, "minimize": "valid_loss", "key": 0, "progress": False}


def patient(setting, train, valid, key, epochs=25):
    patience = None if valid is None else 3
    optimizer = lo.momentum(setting["rate"], 0.9)
    return lo.train(TASK, optimizer, train, valid=valid, batch_size=30, epochs=epochs, patience=patience, key=key)


@pytest.mark.slow
def test_the_retraining_takes_the_median_of_the_best_epochs():
    chosen = lo.select(patient, RATES, REST, test=TEST, epochs="best", **quiet)
    found = [run.best_epoch for run in chosen.results.runs()]
    assert np.median(found) not in (min(found), max(found))
    assert chosen.epochs == int(np.median(found))
    assert chosen.epochs != 25
    assert len(chosen.run.history.epochs["train_loss"]) == chosen.epochs
    np.testing.assert_allclose(chosen.run.evaluate(TEST)["loss"], chosen.test_metrics["loss"], rtol=1e-6)


@pytest.mark.slow
def test_the_simplest_within_one_standard_error_is_retrained():
    near = {"rate": [0.01, 0.012, 0.014]}
    best = lo.select(patient, near, REST, **quiet)
    simple = lo.select(patient, near, REST, rule="one_standard_error", complexity="rate", **quiet)
    assert best.epochs is simple.epochs is None
    assert simple.setting == simple.results.one_standard_error(lambda setting: setting["rate"])
    other = lo.select(
        patient, near, REST, rule="one_standard_error", complexity=lambda s: -s["rate"], epochs="best", **quiet
    )
    assert other.setting == other.results.one_standard_error(lambda s: -s["rate"])
    assert other.setting["rate"] > simple.setting["rate"]
    row = other.results.settings["rate"].tolist().index(np.float32(other.setting["rate"]))
    assert other.epochs == int(np.median([run.best_epoch for run in other.results.runs(row)]))
    for chosen in (simple, other):
        numbers = chosen.setting
        alone = patient(numbers, REST, None, _key(), epochs=chosen.epochs or 25)
        np.testing.assert_allclose(chosen.run.metrics["train_loss"], alone.metrics["train_loss"], rtol=1e-3)


def _key():
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 3), 0)


@pytest.mark.slow
def test_nested_retrains_by_the_same_rules():
    """On each outer fold by its own inner folds alone."""
    near = {"rate": [0.3, 0.02, 0.024]}
    rule = {"rule": "one_standard_error", "complexity": lambda setting: -setting["rate"], "epochs": "best"}
    nested = lo.nested_cross_validate(patient, near, REST, outer=2, inner=2, **rule, **quiet_nested)
    outer = lo.stratified_k_fold(REST, 2, key=jax.random.fold_in(jax.random.key(0), 0))
    losses = nested.inner.metrics["valid_loss"][:, :, 0]
    for i, (_, valid) in enumerate(outer):
        mine = losses[:, 2 * i : 2 * i + 2]
        best = mine.mean(axis=1).argmin()
        good = np.abs(mine.mean(axis=1) - mine.mean(axis=1)[best]) <= mine[best].std(ddof=1) / np.sqrt(2)
        row = max(np.flatnonzero(good), key=lambda row: near["rate"][row])
        assert nested.settings[i] == {"rate": near["rate"][row]}
        found = [run.best_epoch for run in nested.inner.runs(int(row))[2 * i : 2 * i + 2]]
        assert nested.epochs[i] == int(np.floor(np.median(found) + 0.5))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 4), 0)
        alone = patient(nested.settings[i], outer.at(i)[0], None, key, epochs=nested.epochs[i])
        np.testing.assert_allclose(nested.test_metrics["loss"][i], alone.evaluate(valid)["loss"], rtol=1e-4)
    assert len(set(nested.epochs)) > 1


NESTED = {
    "another rule": (patient, {"rule": "worst"}, ValueError, "rule must be one of 'best', 'one_standard_error'"),
    "one part": (
        patient,
        {"rule": "one_standard_error", "complexity": "rate", "inner": 0.3},
        ValueError,
        "one_standard_error needs at least 2 folds",
    ),
    "no epochs": (
        lambda setting, train, valid, key: patient(setting, train, valid, key),  # noqa: PLW0108
        {"epochs": "best"},
        TypeError,
        'for epochs="best"',
    ),
}


@pytest.mark.parametrize(("trial", "options", "error", "message"), NESTED.values(), ids=NESTED)
def test_rules_that_nested_refuses(trial, options, error, message, monkeypatch):
    monkeypatch.setattr(Search, "run", lambda *_: pytest.fail("ran"))
    with pytest.raises(error, match=message):
        lo.nested_cross_validate(trial, RATES, REST, **{"outer": 2, "inner": 2} | quiet_nested | options)


@pytest.mark.parametrize(
    "returned", [None, float("nan"), 1j, np.ones(2), {"a": 1}], ids=["None", "nan", "complex", "array", "dict"]
)
def test_what_complexity_returns_must_sort(returned):
    with pytest.raises(TypeError, match="complexity must return numbers, or others that can be sorted; it returned"):
        lo.select(patient, RATES, REST, rule="one_standard_error", complexity=lambda setting: returned, **quiet)


def test_complexity_of_what_does_not_apply_everywhere():
    space = {"depth": lo.space.choice([1, 2]), "width": lo.space.when("depth", 2, lo.space.choice([8, 16]))}
    with pytest.raises(TypeError, match="complexity must be the name of a number, or a function; width has None"):
        lo.select(patient, lo.grid(space), REST, rule="one_standard_error", complexity="width", **quiet)


def deaf(setting, train, valid, key, epochs=9):
    return lo.train(TASK, lo.sgd(setting["rate"]), train, valid=valid, batch_size=30, epochs=2, key=key)


def scores_only(setting, train, valid, key, epochs=9):
    return {"valid_loss": setting["rate"]}


BAD = {
    "another rule": (patient, {"rule": "worst"}, ValueError, "rule must be one of 'best', 'one_standard_error'"),
    "no complexity": (patient, {"rule": "one_standard_error"}, ValueError, "complexity goes with rule="),
    "complexity alone": (patient, {"complexity": "rate"}, ValueError, "complexity goes with rule="),
    "no such name": (
        patient,
        {"rule": "one_standard_error", "complexity": "width"},
        ValueError,
        "complexity must be one of 'rate', or a function; got 'width'",
    ),
    "one part": (
        patient,
        {"rule": "one_standard_error", "complexity": "rate", "folds": 0.2},
        ValueError,
        "one_standard_error needs at least 2 folds",
    ),
    "a number": (patient, {"epochs": 5}, ValueError, "epochs must be one of 'best'; got 5"),
    "halving": (patient, {"epochs": "best", "halving": lo.Halving(epochs=2)}, ValueError, "without halving"),
    "no argument": (
        lambda setting, train, valid, key: scores_only(setting, train, valid, key),  # noqa: PLW0108
        {"epochs": "best"},
        TypeError,
        r'trial must be a function that can be called as .* for epochs="best"; got an unexpected',
    ),
    "not passed on": (deaf, {"epochs": "best"}, ValueError, "trial must pass epochs on .*; given 1, its run has 2"),
    "no run": (scores_only, {"epochs": "best"}, TypeError, "trial must return a lectopt.Run for epochs="),
}


@pytest.mark.parametrize(("trial", "options", "error", "message"), BAD.values(), ids=BAD)
def test_rules_that_are_refused(trial, options, error, message):
    with pytest.raises(error, match=message):
        lo.select(trial, RATES, REST, **quiet | options)
