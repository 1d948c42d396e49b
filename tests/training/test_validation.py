"""What is validated, when, and what is made of it: sets by name, by steps, judged by any metric, weighted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_mlp import TRAIN, VALID, X, Y, apply, init, poison

import lectopt as lo
from lectopt.training.example_weights import as_valid_weights

pytestmark = pytest.mark.filterwarnings("error")


@lo.whole_set
def share(outputs, targets, weights):
    """How many of all are taken for a 1."""
    return jnp.sum((jnp.argmax(outputs, -1) == 1) * weights) / jnp.sum(weights)


TASK = lo.classification((init, apply), metrics={"share": share})
MOMENTUM = lo.momentum(0.3)
SHIFTED = (np.roll(VALID[0], 1, axis=1), VALID[1])
SETS = {"valid": VALID, "shifted": SHIFTED}
PER_EPOCH = 3  # of 77 examples, 32 at once
OPTIONS = {"batch_size": 32, "epochs": 4, "key": 0}


def fit(**options):
    return lo.fit(TASK, MOMENTUM, TRAIN, **{"valid": VALID, **OPTIONS} | options)


def jitted(**options):
    return jax.jit(lambda: lo.train(TASK, MOMENTUM, TRAIN, **{"valid": VALID, **OPTIONS} | options))()


def assert_same(a, b, rtol=0):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=rtol)


@pytest.fixture(scope="module")
def plain():
    return fit()


@pytest.fixture(scope="module")
def scores():
    """What so many steps of training lead to: {steps: metrics}."""
    seen = []
    fit(on_steps=(1, seen.append))
    return {
        steps: {f"{name}_{metric}": x for name, part in SETS.items() for metric, x in run.evaluate(part).items()}
        for steps, run in enumerate(seen, 1)
    }


# Sets by name ---------------------------------------------------------------------------------------------------------
def test_sets_by_name(plain):
    run = fit(valid=SETS)
    assert run.metrics.keys() == {"train_loss"} | {f"{s}_{m}" for s in SETS for m in ("loss", "accuracy", "share")}
    for name, record in plain.history.epochs.items():
        assert_same(run.history.epochs[name], record)
    for name, part in SETS.items():
        for metric, value in run.evaluate(part).items():
            assert_same(run.metrics[f"{name}_{metric}"], value, 1e-6)


@pytest.mark.slow
def test_patience_judges_the_first_set_in_the_order_given():
    """One gets worse at once, the other only better."""
    wrong = (VALID[0], (TRAIN[1][: len(VALID[1])] + 5) % 10)
    kept = {
        names: fit(valid={name: {"a": wrong, "b": VALID}[name] for name in names}, patience=1).history
        for names in ("ab", "ba")
    }
    assert len(kept["ba"].epochs["a_loss"]) == 4
    assert len(kept["ab"].epochs["a_loss"]) < 4


def test_a_picture_has_all_sets_in_one_panel():
    axes = {axis.get_title(): axis for axis in fit(valid=SETS).history.plot().axes}
    assert list(axes) == ["loss", "accuracy", "share", "gradient norm", "learning rate"]
    labels = [line.get_label() for line in axes["loss"].get_lines()]
    assert {"training loss", "validation loss", "shifted loss"} <= set(labels)


# By steps -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", [fit, pytest.param(jitted, marks=pytest.mark.slow)])
@pytest.mark.parametrize("every", [5, pytest.param(4, marks=pytest.mark.slow)])
def test_validation_by_steps_equals_trainings_that_end_there(call, every, scores, plain):
    run = call(validate_every=every, valid=SETS)
    history, steps = run.history, [s for s in scores if s % every == 0 or s == 12]
    np.testing.assert_array_equal(history.validated_steps, steps)
    for i, step in enumerate(steps):
        for name, value in scores[step].items():
            assert_same(history.validations[name][i], value, 1e-6)
    assert history.epochs.keys() == {"train_loss"}
    assert_same(history.epochs["train_loss"], plain.history.epochs["train_loss"], 1e-6)
    assert_same(run.metrics["shifted_loss"], scores[12]["shifted_loss"], 1e-6)
    jax.tree.map(functools.partial(assert_same, rtol=1e-6), run.params, plain.params)


@pytest.mark.parametrize("at_once", [1, 7])
def test_chunks_change_nothing(at_once, chunks_of):
    options = {"validate_every": 5, "patience": 1, "best_by": "valid_share", "direction": "minimize"}
    whole = fit(**options)
    chunks_of(at_once)
    again = fit(**options)
    jax.tree.map(
        assert_same, (again.params, again.metrics, again.history), (whole.params, whole.metrics, whole.history)
    )


@pytest.mark.parametrize("call", [fit, pytest.param(jitted, marks=pytest.mark.slow)])
def test_patience_may_end_within_an_epoch(call, scores):
    """The best is of a step amid an epoch; the epoch ends there, in `fit` and, with all lanes, in `train`."""
    rising = {"best_by": "valid_loss", "direction": "maximize", "validate_every": 4, "patience": 1}
    run = call(**rising)
    assert_same(run.metrics["valid_loss"], scores[4]["valid_loss"], 1e-6)
    losses, rows = np.asarray(run.history.steps["loss"]), np.asarray(run.history.validations["valid_loss"])
    means = np.asarray(run.history.epochs["train_loss"])
    lengths = [len(losses), len(rows), len(means)]
    assert lengths == ([8, 2, 3] if call is fit else [12, 3, 4])
    assert np.isfinite(losses[:8]).all()
    assert_same(rows[:2], [scores[4]["valid_loss"], scores[8]["valid_loss"]], 1e-6)
    assert_same(means[2], losses[6:8].mean(), 1e-6)
    assert not np.isfinite([*losses[8:], *rows[2:], *means[3:]]).any()


@pytest.mark.slow
def test_what_diverges_is_frozen_and_its_validations_are_not_recorded():
    with pytest.warns(UserWarning, match="training diverged: .* at step 5"):
        run = lo.fit(TASK, poison(4), TRAIN, valid=VALID, validate_every=2, **OPTIONS)
    assert run.diverged_at == 5
    assert all(np.isnan(value) for value in run.metrics.values())
    np.testing.assert_array_equal(np.isfinite(run.history.validations["valid_accuracy"]), [True, True])
    jax.tree.map(assert_same, run.params, fit(epochs=1).params)


@pytest.mark.slow
def test_lanes_validate_by_steps_as_alone():
    def train(key):
        options = {"valid": SETS, "validate_every": 4, "patience": 1, "batch_size": 32, "epochs": 4, "key": key}
        return lo.train(TASK, MOMENTUM, TRAIN, best_by="shifted_accuracy", direction="maximize", **options)

    keys = jax.random.split(jax.random.key(5), 3)
    lanes = jax.jit(jax.vmap(train))(keys)
    alone = jax.jit(train)
    for i in range(3):
        one = alone(keys[i])
        for part in ("params", "metrics", "history"):
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
                jax.tree.map(lambda leaf, i=i: leaf[i], getattr(lanes, part)),
                getattr(one, part),
            )


def test_histories_with_validations_are_saved_and_shown(tmp_path):
    run = fit(validate_every=5, valid=SETS)
    run.save(tmp_path / "run")
    again = lo.load(tmp_path / "run", TASK).history
    np.testing.assert_array_equal(again.validated_steps, [5, 10, 12])
    for name, record in run.history.validations.items():
        assert_same(again.validations[name], record)
    frame = run.history.to_pandas()
    np.testing.assert_array_equal(np.flatnonzero(frame["shifted_loss"].notna()) + 1, [5, 10, 12])
    (axis,) = [axis for axis in run.history.plot().axes if axis.get_title() == "accuracy"]
    (line, _) = axis.get_lines()
    assert_same(line.get_xdata(), np.array([5, 10, 12]) / PER_EPOCH)
    assert "validated_every" not in {path[0] for path in fit().history.to_arrays()}


def test_a_hook_that_ends_the_training_validates_there(scores):
    run = fit(validate_every=5, valid=SETS, on_steps=(4, lambda run: True))
    np.testing.assert_array_equal(run.history.validated_steps, [4])
    assert_same(run.metrics["shifted_loss"], scores[4]["shifted_loss"], 1e-6)


def test_a_kept_training_goes_on_with_its_validations(tmp_path):
    options = {"validate_every": 5, "patience": 3, "min_delta": 0.01, "directory": tmp_path}

    def broken(run):
        raise KeyError

    with pytest.raises(KeyError):
        fit(on_steps=(7, broken), **options)
    again, whole = fit(**options), fit(**options | {"directory": None})
    jax.tree.map(
        assert_same, (again.params, again.metrics, again.history), (whole.params, whole.metrics, whole.history)
    )


# The best -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("direction", "pick"), [("maximize", np.argmax), pytest.param("minimize", np.argmin, marks=pytest.mark.slow)]
)
def test_best_by_returns_the_best_without_patience_too(direction, pick):
    run = fit(best_by="valid_share", direction=direction)
    record = np.asarray(run.history.epochs["valid_share"])
    assert len(record) == 4
    assert len(set(record)) > 1
    assert run.metrics["valid_share"] == record[pick(record)]
    assert_same(run.evaluate(VALID)["loss"], run.history.epochs["valid_loss"][pick(record)], 1e-6)


def stopped_after(losses, patience, min_delta):
    """Keras's rule: a gain is more than min_delta below the last gain."""
    bar, failures = np.inf, 0
    for i, loss in enumerate(losses):
        bar, failures = (loss, 0) if loss < bar - min_delta else (bar, failures + 1)
        if failures == patience:
            return i + 1
    return len(losses)


@pytest.mark.parametrize(
    "min_delta", [0.06, *(pytest.param(delta, marks=pytest.mark.slow) for delta in (0.0, 0.2, 1.0))]
)
def test_gains_that_are_too_small_do_not_count(min_delta):
    losses = np.asarray(fit(epochs=8).history.epochs["valid_loss"])
    run = fit(epochs=8, patience=2, min_delta=min_delta)
    done = stopped_after(losses, 2, np.float32(min_delta))
    record = np.asarray(run.history.epochs["valid_loss"])
    assert_same(record, losses[:done])
    assert run.metrics["valid_loss"] == record.min()  # the best all the same


@pytest.mark.slow
def test_small_gains_add_up():
    """Each is too small by itself, two are not."""
    slow = {"optimizer": lo.sgd(0.1), "epochs": 6}
    losses = np.asarray(lo.fit(TASK, train=TRAIN, valid=VALID, **OPTIONS | slow).history.epochs["valid_loss"])
    gains = -np.diff(losses)
    min_delta = 1.3 * gains.max()
    assert 0 < min_delta < 2 * gains.min()
    run = lo.fit(TASK, train=TRAIN, valid=VALID, patience=2, min_delta=min_delta, **OPTIONS | slow)
    assert_same(run.history.epochs["valid_loss"], losses)


# Weights --------------------------------------------------------------------------------------------------------------
def weighted(run, weights):
    """Loss and accuracy of the validation set by hand."""
    logits = np.asarray(run.predict(VALID[0]), np.float64)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    losses, hits = -logp[np.arange(len(logits)), VALID[1]], logits.argmax(1) == VALID[1]
    ones = np.average(logits.argmax(1) == 1, weights=weights)
    return {"loss": np.average(losses, weights=weights), "accuracy": np.average(hits, weights=weights), "share": ones}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["balanced", pytest.param("by class", marks=pytest.mark.slow)])
def test_validation_is_weighted_like_training(kind):
    counts = np.bincount(TRAIN[1], minlength=10)
    by_class = {1: 5.0, 3: 0.0}
    weights = "balanced" if kind == "balanced" else by_class
    of_labels = 1 / counts if kind == "balanced" else np.array([by_class.get(c, 1.0) for c in range(10)])
    run = fit(weights=weights, weight_validation=True)
    for metric, value in weighted(run, of_labels[VALID[1]]).items():
        assert_same(run.metrics[f"valid_{metric}"], value, 1e-5)
    unweighted = fit(weights=weights)
    for metric, value in weighted(unweighted, None).items():
        assert_same(unweighted.metrics[f"valid_{metric}"], value, 1e-5)
    jax.tree.map(assert_same, run.params, unweighted.params)


@pytest.mark.slow
def test_weights_of_single_examples_go_with_parts_of_the_same_arrays():
    weights = np.random.default_rng(0).uniform(0, 2, len(Y))
    whole = (jnp.asarray(X), jnp.asarray(Y))
    train, valid = (lo.Subset(whole, jnp.arange(a, b), jnp.int32(b - a), least=b - a) for a, b in ((0, 77), (77, 110)))
    run = lo.fit(TASK, MOMENTUM, train, valid=valid, weights=weights, weight_validation=True, **OPTIONS)
    for metric, value in weighted(run, weights[77:]).items():
        assert_same(run.metrics[f"valid_{metric}"], value, 1e-5)


def test_which_part_is_weighted_may_be_known_to_a_trace_alone():
    part = functools.partial(lo.Subset, (X, Y), size=np.int32(33), least=33)
    train = part(jnp.arange(33))
    weigh = lambda rows: as_valid_weights(np.ones(len(Y)), part(rows), "valid", train, TASK)  # noqa: E731
    assert jax.eval_shape(weigh, train.indices).shape == (len(Y),)


# Searches and arguments -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_search_chooses_by_a_set_with_a_name():
    def trial(setting, train, valid, key):
        sets = {"valid": valid, "shifted": SHIFTED}
        options = {"best_by": "shifted_accuracy", "direction": "maximize", "patience": 2, "validate_every": 2}
        return lo.train(
            TASK, lo.momentum(setting["rate"]), train, valid=sets, batch_size=32, epochs=2, key=key, **options
        )

    folds = lo.k_fold(TRAIN, 3, key=0)
    options = {"maximize": "shifted_accuracy", "key": 0, "progress": False}
    results = lo.cross_validate(trial, {"rate": [1e-4, 0.5]}, folds, **options)
    assert results.best_index == np.argmax(results.mean("shifted_accuracy"))
    replayed = results.replay(1, fold=1).metrics
    assert_same(results.metrics["shifted_loss"][1, 1, 0], replayed["shifted_loss"], 1e-5)


BAD = {
    "no sets": ({"valid": {}}, ValueError, "valid must hold at least 1 set of examples"),
    "the set train": ({"valid": {"train": VALID}}, ValueError, "by name, not 'train'; got 'train'"),
    "a number for a name": ({"valid": {1: VALID}}, ValueError, "by name, .* got 1"),
    "no examples": ({"valid": {"a": 3}}, TypeError, r"valid\['a'\] must be a tuple of arrays"),
    "labels": ({"valid": {"a": (VALID[0], VALID[1] + 10)}}, ValueError, r"valid\['a'\]|labels must be in"),
    "names that meet": ({"valid": {"a": VALID, "a_b": VALID}, "task": lo.Task(
        (init, apply), lambda o, t: (o**2).sum(-1), {"b_loss": lambda o, t: o[:, 0]})}, ValueError, "two are a_b_loss"),
    "every 0": ({"validate_every": 0}, ValueError, "validate_every must be at least 1; got 0"),
    "every, of nothing": ({"validate_every": 3, "valid": None}, ValueError, "validate_every .* together with valid"),
    "best of nothing": ({"best_by": "valid_loss", "valid": None}, ValueError, "best_by .* together with valid"),
    "best by what is not there": ({"best_by": "valid_f1", "direction": "maximize"}, ValueError,
        "best_by must be one of 'valid_loss', 'valid_accuracy', 'valid_share'; got 'valid_f1'"),
    "best by no name": ({"best_by": 3}, TypeError, "best_by must be the name of a metric.* got 3"),
    "no direction": ({"best_by": "valid_accuracy"}, ValueError,
        "direction must be 'minimize' or 'maximize', which best_by='valid_accuracy' does not tell"),
    "another direction": ({"best_by": "valid_loss", "direction": "max"}, ValueError,
        r"direction must .* got 'max' \(str\)"),
    "a direction of nothing": ({"direction": "maximize"}, ValueError, "direction is that of best_by"),
    "a direction of the loss": ({"direction": "maximize", "patience": 2}, ValueError, "direction is that of best_by"),
    "negative delta": ({"patience": 2, "min_delta": -1.0}, ValueError, "min_delta must be in"),
    "delta without patience": ({"min_delta": 0.1}, ValueError, "min_delta .* together with patience"),
    "weighted by nothing": ({"weight_validation": True}, ValueError, "weight_validation weights valid as weights"),
    "weighted by others": ({"weight_validation": True, "weights": np.ones(77)}, ValueError,
        "weight_validation needs weights by class, or valid to be a part of the arrays of train"),
    "weights of none": ({"weight_validation": True, "weights": dict.fromkeys(range(1, 10), 0),
        "valid": (X[Y > 0], Y[Y > 0])}, ValueError, "weight_validation must leave examples of valid some weight"),
    "no flag": ({"weight_validation": 1}, TypeError, "weight_validation must be True or False"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(change, error, message):
    for call in (lo.fit, lo.train):
        with pytest.raises(error, match=message):
            call(**{"task": TASK, "optimizer": MOMENTUM, "train": TRAIN, "valid": VALID, **OPTIONS} | change)
