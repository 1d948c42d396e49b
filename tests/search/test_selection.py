"""Choosing a setting, retraining and testing; halving; nested cross-validation; the lecture's own example."""

import dataclasses
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.model_selection import KFold

import lectopt as lo
from lectopt.data.as_folds import as_folds
from lectopt.data.subsets import as_subset
from lectopt.engine import program_cache, running
from lectopt.engine.lanes import Outcome
from lectopt.engine.program_cache import Programs
from lectopt.search.hyperparameter_search import Scores

pytestmark = pytest.mark.filterwarnings("ignore:the best .*, stands at", "ignore:batch_size .* is larger")
FLOWERS = lo.datasets.iris()
REST, TEST = lo.holdout(FLOWERS, 0.2, key=0, stratify=True)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
FOLDS_OF_TWO = lo.stratified_k_fold(FLOWERS, 2, key=0)
RATES = {"learning_rate": [0.001, 0.03, 0.3, 3.0]}
quiet = {"minimize": "valid_loss", "key": 0, "progress": False}


def trial(setting, train, valid, key, epochs=4, start=None):
    rate = setting["learning_rate"]
    return lo.train(TASK, lo.sgd(rate), train, valid=valid, batch_size=30, epochs=epochs, key=key, start=start)


alone_of = jax.jit(trial, static_argnames="epochs")


def test_the_best_is_retrained_on_all_and_tested():
    folds = lo.stratified_k_fold(REST, 3, key=5)
    chosen = lo.select(trial, RATES, REST, folds=folds, test=TEST, **quiet)
    results = lo.cross_validate(trial, RATES, folds, **quiet)
    np.testing.assert_array_equal(chosen.results.mean(), results.mean())
    assert chosen.setting == results.best()
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 3), 0)
    alone = alone_of(chosen.setting, REST, None, key)
    np.testing.assert_allclose(chosen.run.params["bias"], alone.params["bias"], rtol=1e-4, atol=1e-5)
    for name, value in alone.evaluate(TEST).items():
        np.testing.assert_allclose(chosen.test_metrics[name], value, rtol=1e-4)
    np.testing.assert_allclose(chosen.run.model_state.inputs.mean, REST.examples()[0].mean(axis=0), rtol=1e-5)
    assert "learning_rate" in repr(chosen)


@pytest.mark.slow
def test_the_folds_that_select_makes():
    by_number = lo.select(trial, RATES, REST, folds=3, **quiet)
    folds = lo.stratified_k_fold(REST, 3, key=0)
    np.testing.assert_array_equal(by_number.results.mean(), lo.cross_validate(trial, RATES, folds, **quiet).mean())
    assert by_number.test_metrics is None
    one = lo.select(trial, RATES, REST, folds=0.25, **quiet)
    assert one.results.diverged_at.shape == (4, 1, 1)
    train, valid = lo.holdout(REST, 0.25, key=0, stratify=True)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    alone = trial({"learning_rate": 0.3}, train, valid, key)
    np.testing.assert_allclose(one.results.metrics["valid_loss"][2, 0, 0], alone.metrics["valid_loss"], rtol=1e-4)


def patient(setting, train, valid, key):
    rate = setting["learning_rate"]
    return lo.train(TASK, lo.sgd(rate), train, valid=valid, batch_size=30, epochs=4, key=key, patience=2)


def scores_only(setting, train, valid, key):
    return {"valid_loss": setting["learning_rate"]}


BAD = {
    "needs valid": (patient, {}, ValueError, "trial must accept valid=None.*patience counts validations"),
    "no run": (
        scores_only,
        {"test": TEST},
        TypeError,
        "trial must return a lectopt.Run to be tested; it returned dict",
    ),
    "one fold": (trial, {"folds": 1}, ValueError, "folds must be at least 2; got 1"),
    "a share of 2": (trial, {"folds": 2.0}, ValueError, r"folds must be in \(0, 1\); got 2"),
    "folds with the test set": (
        trial,
        {"folds": lo.stratified_k_fold(FLOWERS, 3, key=0), "test": TEST},
        ValueError,
        "folds must be over the examples that are given",
    ),
    "too many folds": (trial, {"folds": 121}, ValueError, "folds must be at most.*got 121"),
    "folds of a wrong kind": (trial, {"folds": "5"}, TypeError, "folds must be a whole number, a share.*got '5'"),
    "a class": (
        trial,
        {"folds": KFold},
        TypeError,
        r"folds must be a splitter, such as KFold\(\.\.\.\); got the class",
    ),
    "a flag": (trial, {"folds": True}, TypeError, "folds must be a whole number, a share.*got True"),
}


@pytest.mark.parametrize(("function", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(function, options, error, message):
    with pytest.raises(error, match=message):
        lo.select(function, RATES, REST, **quiet, **options)


def line(rngs):
    return nnx.Sequential(nnx.Linear(2, 1, rngs=rngs), lambda z: z[:, 0])


def area(outputs, targets, weights):
    """Of the ROC curve; 0/0 where there are no positives."""
    positive = targets > 0.5
    pairs = (weights * positive)[:, None] * (weights * ~positive)[None]
    return jnp.sum(pairs * (outputs[:, None] > outputs[None])) / jnp.sum(pairs)


@pytest.mark.slow
def test_a_metric_that_is_undefined_on_a_fold_is_not_called_divergence():
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    data = x, (np.arange(12) < 3).astype(np.float32)
    folds = lo.from_indices(data, [(np.arange(4, 12), np.arange(4)), (np.arange(8), np.arange(8, 12))])
    task = lo.Task(line, lambda z, t: (z - t) ** 2, {"auc": lo.whole_set(area)})

    def trial(setting, train, valid, key):
        return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=4, epochs=1, key=key)

    why = r"no setting has a finite valid_auc.*: all 2 with an undefined valid_auc .not finite.*on fold 1"
    options = {"maximize": "valid_auc", "key": 0, "progress": False}
    with pytest.warns(UserWarning, match=why):
        found = lo.cross_validate(trial, {"rate": [0.1, 0.2]}, folds, **options)
    assert (found.diverged_at == -1).all()
    assert np.isfinite(found.mean("valid_loss")).all()
    with pytest.raises(ValueError, match=why):
        found.plot()
    with pytest.warns(UserWarning, match=why), pytest.raises(ValueError, match=why):
        lo.select(trial, {"rate": [0.1, 0.2]}, data, folds=folds, **options)


WHOLE = {  # whole-number targets, folds: stratified, warned of
    "classes": (np.arange(60) % 3, 5, True, False),
    "classes, a share": (np.arange(60) % 3, 0.25, True, False),
    "a regression": (np.random.default_rng(0).integers(25, 350, 60), 5, False, False),
    "a regression, a share": (np.random.default_rng(0).integers(25, 350, 60), 0.25, False, False),
    "a few of a class": (np.where(np.arange(60) < 3, 7, np.arange(60) % 2), 5, False, True),
    "too many for classes": (np.where(np.arange(60) < 1, 99, np.arange(60) % 12), 5, False, False),
    "one of a class, a share": (np.where(np.arange(60) < 1, 7, np.arange(60) % 2), 0.25, False, True),
}


@pytest.mark.parametrize(("targets", "folds", "stratified", "warned"), WHOLE.values(), ids=WHOLE)
def test_whole_numbers_are_stratified_where_they_look_like_labels(targets, folds, stratified, warned):
    data = np.arange(60, dtype=np.float32)[:, None], targets
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = as_folds(as_subset(data), folds, 3)
    said = [str(one.message) for one in caught]
    assert len(said) == warned
    assert all("folds are not stratified: the label 7 comes" in text for text in said)
    if folds == 5:
        wanted = (lo.stratified_k_fold if stratified else lo.k_fold)(data, 5, key=3)
        np.testing.assert_array_equal(made.valid.indices, wanted.valid.indices)
    else:
        _, wanted = lo.holdout(data, folds, key=3, stratify=stratified)
        np.testing.assert_array_equal(made[0][1].indices, wanted.indices)


@pytest.mark.slow
def test_select_and_nested_take_a_regression_on_whole_numbers():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(30, 2)).astype(np.float32), rng.integers(25, 350, 30)
    task = lo.regression(line, standardize=True)

    def trial(setting, train, valid, key):
        return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=30, epochs=1, key=key)

    assert np.isfinite(lo.select(trial, {"rate": [0.01, 0.1]}, data, folds=3, **quiet).results.mean()).all()
    nested = lo.nested_cross_validate(trial, {"rate": [0.01, 0.1]}, data, outer=2, inner=2, **quiet)
    assert np.isfinite(nested.mean())


def test_a_trial_without_a_run_is_retrained_too():
    chosen = lo.select(scores_only, RATES, REST, folds=3, **quiet)
    assert float(chosen.run["valid_loss"]) == np.float32(0.001)


# the lecture's example: the coefficient of the L2 penalty -------------------------------------------------------------
def ridge(x, y, coefficient):
    """The closed form: standardised inputs, mean over examples of squared errors, plus coefficient ||w||^2."""
    mean, sd = x.mean(axis=0), x.std(axis=0)
    z = np.append((x - mean) / sd, np.ones((len(x), 1)), axis=1)
    penalty = coefficient * np.diag([1.0] * x.shape[1] + [0.0])
    w = np.linalg.solve(z.T @ z / len(x) + penalty, z.T @ y / len(x))
    return lambda new: np.append((new - mean) / sd, np.ones((len(new), 1)), axis=1) @ w


@pytest.mark.slow
def test_the_coefficient_of_the_penalty_on_diabetes():
    """Every mean of the cross-validation equals the closed form's on the same folds, and so does the choice."""
    x, y = lo.datasets.diabetes()
    y = (y - 150) / 75
    rest, test = lo.holdout((x, y), 0.2, key=0)
    task = lo.regression(lambda rngs: nnx.Linear(10, 1, rngs=rngs), standardize=True)

    def weights(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    def trial(setting, train, valid, key):
        optimizer = optax.chain(optax.masked(lo.add_l2(setting["coefficient"]), weights), lo.nesterov(0.02, 0.95))
        return lo.train(
            task, optimizer, train, valid=valid, batch_size=train.capacity, epochs=2500, key=key, shuffle=False
        )

    folds = lo.k_fold(rest, 5, key=0)
    settings = lo.grid({"coefficient": lo.space.log_uniform(1e-3, 10.0)}, points=7)
    chosen = lo.select(trial, settings, rest, folds=folds, test=test, **quiet)
    exact = np.empty((7, 5))
    for i, coefficient in enumerate(settings["coefficient"].astype(np.float64)):
        for fold, (train, valid) in enumerate(folds):
            (xt, yt), (xv, yv) = ([np.asarray(a, np.float64) for a in part.examples()] for part in (train, valid))
            exact[i, fold] = np.mean((ridge(xt, yt, coefficient)(xv) - yv) ** 2)
    np.testing.assert_allclose(chosen.results.metrics["valid_loss"][:, :, 0], exact, rtol=2e-3)
    assert chosen.results.best_index == exact.mean(axis=1).argmin()
    (xr, yr), (xt, yt) = ([np.asarray(a, np.float64) for a in part.examples()] for part in (rest, test))
    honest = np.mean((ridge(xr, yr, float(chosen.setting["coefficient"]))(xt) - yt) ** 2)
    np.testing.assert_allclose(chosen.test_metrics["loss"], honest, rtol=2e-3)


@pytest.mark.slow
def test_the_coefficient_of_the_penalty_on_few_digits():
    """With 100 examples a penalty helps a network, and too much of it does not."""
    x, y = lo.datasets.digits()
    few, test = lo.holdout((x, y), 1697 / 1797, key=0, stratify=True)
    task = lo.classification(
        lambda rngs: nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs)),
        standardize=True,
    )

    def trial(setting, train, valid, key):
        optimizer = optax.chain(lo.add_l2(setting["coefficient"]), lo.momentum(0.05))
        return lo.train(task, optimizer, train, valid=valid, batch_size=20, epochs=40, key=key)

    settings = lo.grid({"coefficient": lo.space.log_uniform(1e-5, 1.0)}, points=6)
    chosen = lo.select(trial, settings, few, folds=5, test=test, seeds=3, **quiet)
    mean = chosen.results.mean()
    assert 1e-5 < chosen.setting["coefficient"] < 1
    assert chosen.results.difference(0).mean > 0
    assert mean[5] > 1.5 * mean.min()
    assert chosen.test_metrics["accuracy"] > 0.8


# nested ---------------------------------------------------------------------------------------------------------------
WHICH = {"which": np.arange(4)}


def fickle(setting, train, valid, key):
    """A trial whose best setting depends on the training part."""
    rate = jnp.where(jnp.sum(train.indices[:30]) % 4 == setting["which"], 0.3, 0.01)
    return trial({"learning_rate": rate}, train, valid, key)


@pytest.mark.slow
def test_nested_cross_validation_keeps_the_outer_part_out():
    seen = lo.nested_cross_validate(fickle, WHICH, REST, outer=3, inner=2, **quiet)
    alone_of = jax.jit(fickle)
    assert len({setting["which"] for setting in seen.settings}) > 1
    assert seen.inner.diverged_at.shape == (4, 6, 1)
    outer = lo.stratified_k_fold(REST, 3, key=jax.random.fold_in(jax.random.key(0), 0))
    for i, (train, valid) in enumerate(outer):
        inner = lo.stratified_k_fold(train, 2, key=jax.random.fold_in(jax.random.key(0), 1 + i))
        scores = np.zeros(4)
        for j in range(len(inner)):
            learn, check = inner.at(j)
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 2 * i + j), 0)
            for row, rate in enumerate(WHICH["which"]):
                loss = alone_of({"which": rate}, learn, check, key).metrics["valid_loss"]
                np.testing.assert_allclose(seen.inner.metrics["valid_loss"][row, 2 * i + j, 0], loss, rtol=1e-4)
                scores[row] += loss
        assert seen.settings[i] == {"which": scores.argmin()}
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 6), 0)
        alone = alone_of(seen.settings[i], outer.at(i)[0], None, key).evaluate(valid)
        for name, value in alone.items():
            np.testing.assert_allclose(seen.test_metrics[name][i], value, rtol=1e-4)
    assert seen.mean("accuracy") == pytest.approx(seen.test_metrics["accuracy"].mean())
    assert "accuracy=" in repr(seen)
    with pytest.raises(ValueError, match="metric must be one of 'accuracy', 'loss'; got 'valid_loss'"):
        seen.mean("valid_loss")


@pytest.mark.slow
def test_inner_folds_may_be_a_function_of_each_outer_training_part():
    """Whole groups stay together, and the parts may have different numbers of folds."""
    x, y = np.arange(12, dtype=np.float32)[:, None], np.arange(12, dtype=np.float32)[:, None]
    groups, parts = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3]), []
    outer = lo.leave_one_group_out((x, y), groups=groups % 3)  # the training parts hold 2, 2 and 2 or 3 groups
    task = lo.regression(lambda rngs: nnx.Linear(1, 1, rngs=rngs))

    def inner(part):
        parts.append(lo.leave_one_group_out(part, groups=groups[part.indices]))
        return parts[-1]

    def trial(setting, train, valid, key):
        return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=4, epochs=1, key=key)

    seen = lo.nested_cross_validate(trial, {"rate": [0.0, 1e-3]}, (x, y), outer=outer, inner=inner, **quiet)
    assert [len(folds) for folds in parts] == [2, 3, 3]
    scores = seen.inner.metrics["valid_loss"]
    assert scores.shape == (2, 8, 1)
    best = [scores[:, rows, 0].mean(axis=1).argmin() for rows in (slice(0, 2), slice(2, 5), slice(5, 8))]
    assert [setting["rate"] for setting in seen.settings] == pytest.approx([[0.0, 1e-3][row] for row in best])
    assert seen.test_metrics["loss"].shape == (3,)


@pytest.mark.slow
def test_nested_is_honest_where_there_is_nothing_to_learn():
    """On labels that chance drew, the best mean of a cross-validation looks better than chance; nested does not."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 20)).astype(np.float32), np.arange(60) % 2
    task = lo.classification(lambda rngs: nnx.Linear(20, 2, rngs=rngs))

    def trial(setting, train, valid, key):
        mask = jax.random.bernoulli(jax.random.fold_in(jax.random.key(9), setting["which"]), 0.15, (20,))
        part = [lo.Subset((s.arrays[0] * mask, s.arrays[1]), s.indices, s.size, s.least) for s in (train, valid) if s]
        return lo.train(task, lo.sgd(0.5), part[0], valid=part[1] if valid else None, batch_size=48, epochs=8, key=key)

    options = {"maximize": "valid_accuracy", "key": 0, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"which": np.arange(60)}
        best = lo.cross_validate(trial, settings, lo.stratified_k_fold(data, 5, key=0), **options)
        nested = lo.nested_cross_validate(trial, settings, data, outer=5, inner=5, **options)
    assert best.mean()[best.best_index] > 0.62
    assert nested.mean("accuracy") < 0.58


# halving --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("halving", "settings", "rungs"),
    [
        (lo.Halving(20, factor=3), 64, [(2, 64), (7, 22), (20, 8)]),
        (lo.Halving(27, factor=3), 27, [(1, 27), (3, 9), (9, 3), (27, 1)]),
        (lo.Halving(16, factor=2, least=4), 10, [(4, 10), (8, 5), (16, 3)]),
        (lo.Halving(5, factor=10), 7, [(5, 7)]),
    ],
)
def test_rungs(halving, settings, rungs):
    assert halving.rungs(settings) == rungs


@pytest.mark.slow
def test_halving_goes_on_with_the_better_half_from_where_it_is():
    folds = lo.stratified_k_fold(FLOWERS, 3, key=0)
    rates = {"learning_rate": [1e-4, 0.3, 1e-3, 0.1, 1e-5, 3e38, 0.03, 1.0]}
    found = lo.cross_validate(trial, rates, folds, halving=lo.Halving(8, factor=2, least=2), **quiet)
    loss, alive, runs, before = np.full((8, 3), np.nan), list(range(8)), {}, 0
    for rung, epochs in enumerate((2, 4, 8)):
        for i in alive:
            for fold in range(3):
                first = jax.random.fold_in(jax.random.key(0), rung) if rung else jax.random.key(0)
                key = jax.random.fold_in(jax.random.fold_in(first, fold), 0)
                setting = {"learning_rate": np.float32(rates["learning_rate"][i])}
                start = runs.get((i, fold))
                if start is not None:  # each rung has a history of its own
                    start = dataclasses.replace(start, history=dataclasses.replace(start.history, steps={}))
                options = {"epochs": epochs - before, "start": start}
                runs[i, fold] = alone_of(setting, *folds.at(fold), key, **options)
                loss[i, fold] = runs[i, fold].metrics["valid_loss"]
        before = epochs
        assert list(np.flatnonzero(found.rungs > rung)) == sorted(alive)
        alive = sorted(alive, key=lambda i: np.nan_to_num(loss[i].mean(), nan=np.inf))[: len(alive) // 2]
    np.testing.assert_allclose(found.metrics["valid_loss"][:, :, 0], loss, rtol=1e-4)
    assert found.best_index in np.flatnonzero(found.rungs == 3)
    again = found.replay(found.best_index, 1)
    np.testing.assert_allclose(again.metrics["valid_loss"], loss[found.best_index, 1], rtol=1e-4)


LINE = np.ones((4, 1), np.float32), np.array([0, 0, 1, 1], np.float32)
PARABOLA = lo.Task(
    (lambda key, x: (jnp.ones(()), {}), lambda w, s, x, key, training: (w * x[:, 0], s)), lambda y, t: y**2
)


def parabola(setting, key, epochs=27, start=None, targets=0.0, valid=None, train=LINE):
    """sgd on w^2 from w = 1, a step for each epoch; from `wild` on it diverges after epoch 3."""
    rate = setting["rate"]

    def schedule(k):
        return jnp.where((k >= 3) & (rate + targets > setting["wild"]), 1e30, rate)

    options = {"batch_size": 4, "epochs": epochs, "key": key, "start": start}
    return lo.train(PARABOLA, lo.sgd(schedule), train, valid=LINE if valid is None else valid, **options)


def on_folds(setting, train, valid, key, epochs=27, start=None):
    """The same, wild where the first target says so too."""
    first = train.arrays[1][train.indices[0]]
    return parabola(setting, key, epochs, start, first, valid, train)


NINE = np.array([0.3, 0.01, 0.1, 0.35, 0.02, 0.4, 0.05, 0.08, 0.2], np.float32)
THREE, TWO = lo.Halving(27, 3, least=3), lo.Halving(27, 3, least=9)
CLIMBS = {  # rates, wild from, halving, rungs that each takes
    "the fastest diverge on the second rung": (NINE, 0.25, THREE, [2, 1, 1, 2, 1, 2, 1, 1, 1]),
    "on the first rung": (NINE, 0.25, TWO, [1, 1, 2, 1, 1, 1, 1, 2, 2]),
    "all on the first rung": (NINE, 0.0, TWO, [1] * 9),
    "one setting that diverges": (NINE[:1], 0.0, THREE, [2]),
}
MORE_CLIMBS = {
    "one of the fastest does": (NINE, 0.38, THREE, [2, 1, 1, 3, 1, 2, 1, 1, 1]),
    "all but two on the first rung": (NINE, 0.025, TWO, [1, 2, 1, 1, 2, 1, 1, 1, 1]),
    "none": (NINE, 9.0, THREE, [2, 1, 1, 2, 1, 3, 1, 1, 1]),
    "one setting": (NINE[:1], 9.0, THREE, [3]),
}


def square(rate, k):
    """w^2 after k steps, in float64."""
    return (1 - 2 * np.float64(rate)) ** (2 * k)


def cost_of_each(rates, wild, halving, rungs):
    epochs = np.array([epochs for epochs, _ in halving.rungs(len(rates))])[np.array(rungs) - 1]
    return np.where((rates > wild) & (epochs > 3), np.nan, square(rates, epochs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("rates", "wild", "halving", "rungs"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name in MORE_CLIMBS))
        for name, case in (CLIMBS | MORE_CLIMBS).items()
    ],
)
def test_what_diverges_goes_on_no_more_and_what_was_dropped_never_comes_back(rates, wild, halving, rungs):
    columns = {"rate": rates, "wild": np.full(len(rates), wild, np.float32) + np.arange(len(rates)) * 1e-6}
    found = lo.sweep(parabola, columns, halving=halving, **quiet)
    exact = cost_of_each(rates, wild, halving, rungs)
    assert found.rungs.tolist() == rungs
    np.testing.assert_allclose(found.mean(), exact, rtol=1e-4)
    assert (found.diverged_at >= 0).ravel().tolist() == np.isnan(exact).tolist()
    # Those that took all rungs, then what was dropped by rung and by score, what diverged last.
    key = [(np.isnan(exact[i]), -rungs[i], np.nan_to_num(exact[i]), i) for i in range(len(rates))]
    assert found.ranking().tolist() == sorted(range(len(rates)), key=key.__getitem__)


@pytest.mark.slow
def test_halving_on_folds_from_seeds_in_groups_and_from_a_directory(tmp_path, monkeypatch):
    """A lane that diverges on one fold takes its setting out; a group is dropped as a whole; what is stored stays."""
    folds = lo.from_indices(LINE, [([0, 1], [2, 3]), ([2, 3], [0, 1])])
    rates = np.array([0.3, 0.01, 0.1, 0.05, 0.35, 0.2], np.float32)
    columns = {"rate": rates, "wild": [1.25, 9, 9, 9, 9, 9], "kind": ["a", "b", "a", "b", "a", "b"]}
    options = {"halving": lo.Halving(9, 3, least=3), "seeds": 2, "chunk": 1, **quiet}
    found = lo.cross_validate(on_folds, columns, folds, directory=tmp_path, **options)
    assert found.rungs.tolist() == [2, 1, 1, 1, 2, 1]
    exact = square(rates, np.where(found.rungs == 2, 9, 3))
    np.testing.assert_allclose(found.metrics["valid_loss"][1:], np.tile(exact[1:, None, None], (1, 2, 2)), rtol=1e-4)
    np.testing.assert_allclose(found.metrics["valid_loss"][0, 0], exact[0], rtol=1e-4)
    assert np.isnan(found.metrics["valid_loss"][0, 1]).all()
    assert np.isnan(found.mean()[0])
    assert found.ranking().tolist() == [4, 5, 2, 3, 1, 0]
    run = found.replay(4, 1, 1)
    np.testing.assert_allclose(run.metrics["valid_loss"], found.metrics["valid_loss"][4, 1, 1], rtol=1e-5)
    monkeypatch.setattr("lectopt.engine.running.run_rectangle", None)  # nothing is to be computed again
    again = lo.cross_validate(on_folds, columns, folds, directory=tmp_path, **options)
    np.testing.assert_array_equal(again.metrics["valid_loss"], found.metrics["valid_loss"])
    np.testing.assert_array_equal(again.rungs, found.rungs)


def test_settings_that_tie_on_a_rung_go_on_in_their_order(monkeypatch):
    """The program of the second rung compiles before the first has run, and for as many settings as go on."""
    monkeypatch.setattr(program_cache, "_compiled", weakref.WeakKeyDictionary())  # nothing is there from other tests
    begin, run, events = Programs.begin, running.run_rectangle, []
    monkeypatch.setattr(Programs, "begin", lambda *arguments: events.append("begun") or begin(*arguments))
    monkeypatch.setattr(running, "run_rectangle", lambda *arguments: events.append("ran") or run(*arguments))
    columns = {"rate": np.full(9, 0.1), "wild": 19.0 - np.arange(9)}
    found = lo.sweep(parabola, columns, halving=lo.Halving(9, 3, least=3), **quiet)
    assert found.rungs.tolist() == [2] * 3 + [1] * 6
    assert found.ranking().tolist() == list(range(9))
    np.testing.assert_allclose(found.mean(), square(0.1, np.array([9] * 3 + [3] * 6)), rtol=1e-4)
    assert events == ["begun"] * 2 + ["ran"] * (len(events) - 2)


def test_a_warning_where_all_that_went_on_diverged():
    columns = {"rate": NINE, "wild": np.full(9, 0.25)}
    with pytest.warns(UserWarning, match="every setting that went on to the last rungs diverged there"):
        lo.sweep(parabola, columns, halving=lo.Halving(9, 3, least=3), **quiet)


def test_what_diverged_on_a_rung_has_no_score_on_the_next():
    scores = Scores(2, 1)
    for loss, diverged_at in ((np.nan, 7), (0.5, -1)):
        lanes = np.array([[loss], [0.1]], np.float32), np.array([[diverged_at], [-1]], np.int32)
        scores.write(np.arange(2), Outcome({"loss": lanes[0]}, lanes[1], None))
    np.testing.assert_array_equal(scores.metrics["loss"], np.array([[np.nan], [0.1]], np.float32))
    assert scores.diverged_at.tolist() == [[7], [-1]]
    assert scores.rungs.tolist() == [2, 2]


@pytest.mark.slow
def test_halving_with_static_values_and_optimizer_state():
    """Settings of different shape and optimizer side by side; a schedule's step count goes on across rungs."""

    def trial(setting, train, valid, key, epochs, start):
        rate = lo.linear_decay(setting["rate"], transition_steps=10)
        optimizer = lo.adam(rate) if setting["adam"] else lo.sgd(rate)
        options = {"batch_size": setting["batch"], "epochs": epochs, "key": key, "start": start}
        return lo.train(TASK, optimizer, train, valid=valid, **options)

    adam, batch = lo.space.choice([True, False]), lo.space.choice([20, 50], static=True)
    columns = lo.grid({"adam": adam, "batch": batch, "rate": lo.space.choice([0.1, 0.2])})
    found = lo.cross_validate(trial, columns, FOLDS_OF_TWO, halving=lo.Halving(4, factor=2), **quiet)
    assert sorted(found.rungs) == [1, 1, 1, 1, 2, 2, 3, 3]
    best = found.replay(found.best_index)
    scored = found.metrics["valid_loss"][found.best_index, 0, 0]
    np.testing.assert_allclose(best.metrics["valid_loss"], scored, rtol=1e-4)
    steps = 4 * lo.steps_per_epoch(75, found.best()["batch"])
    (count,) = {int(leaf) for leaf in jax.tree.leaves(best.opt_state) if leaf.dtype == jnp.int32}
    assert count == steps


@pytest.mark.slow
def test_select_with_halving_retrains_for_all_epochs():
    chosen = lo.select(trial, RATES, REST, folds=3, halving=lo.Halving(6, factor=2), test=TEST, **quiet)
    assert chosen.run.history.epochs["train_loss"].shape == (6,)
    assert jnp.isfinite(chosen.test_metrics["loss"])


@pytest.mark.parametrize(
    ("halving", "error", "message"),
    [
        (lo.Halving(0), ValueError, "epochs must be at least 1; got 0"),
        (lo.Halving(4, factor=1), ValueError, r"factor must be in \(1, inf\); got 1"),
        (lo.Halving(4, least=5), ValueError, "least must be at most epochs; got least=5, epochs=4"),
        (lo.Halving(4.5), TypeError, "epochs must be a whole number"),
    ],
)
def test_halving_that_cannot_be(halving, error, message):
    with pytest.raises(error, match=message):
        lo.cross_validate(trial, RATES, lo.k_fold(FLOWERS, 3, key=0), halving=halving, **quiet)


def test_halving_needs_a_run():
    with pytest.raises(TypeError, match=r"trial must return a lectopt\.Run for halving; it returned dict"):
        lo.sweep(
            lambda s, key, epochs, start: {"loss": 1.0}, {"x": [1.0]}, minimize="loss", key=0, halving=lo.Halving(4)
        )


def test_what_goes_wrong_with_valid_too_is_no_matter_of_valid():
    x = np.ones((6, 1), np.float32)
    with pytest.raises(jax.errors.ConcretizationTypeError) as caught:
        lo.select(
            lambda setting, train, valid, key: {"m": float(setting["a"])}, {"a": [1.0, 2.0]}, (x, x), folds=2,
            minimize="m", key=0, progress=False,
        )  # fmt: skip
    assert any("static=True" in note for note in caught.value.__notes__)
