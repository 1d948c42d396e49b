"""The metrics of whole sets that stand ready: scikit-learn's, whatever ties, weighs, fills up, and is absent."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from flax import nnx
from scipy.special import softmax
from strict_modes import strict

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

N = 600
RNG = np.random.default_rng(0)
COUNTED = np.where(RNG.random(N) < 0.2, 0, RNG.random(N) + 0.1).astype(np.float32)
WEIGHTS = {"alike": np.ones(N, np.float32), "weighted, with padding": COUNTED}
LABELS = {"binary": RNG.integers(0, 2, N), "two logits": RNG.integers(0, 2, N), "classes": RNG.integers(0, 4, N)}
LOGITS = {
    "binary": RNG.normal(size=N) + LABELS["binary"],
    "two logits": RNG.normal(size=(N, 2)) + np.eye(2)[LABELS["two logits"]],
    "classes": RNG.normal(size=(N, 4)) + np.eye(4)[LABELS["classes"]],
}
LOGITS = {kind: logits.astype(np.float32) for kind, logits in LOGITS.items()}
TIED = {kind: logits[np.arange(N) % 29] for kind, logits in LOGITS.items()}  # tied whatever rounds on the way


def ignoring_warnings(function):
    @functools.wraps(function)
    def quiet(*args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)

    return quiet


def predicted(z):
    return (z > 0).astype(int) if z.ndim == 1 else z.argmax(1)


@ignoring_warnings
def sk_auc(z, t, w):
    z = z.astype(np.float64)
    if z.ndim == 1:
        return sk.roc_auc_score(t, z, sample_weight=w)
    if z.shape[1] == 2:
        return sk.roc_auc_score(t, z[:, 1] - z[:, 0], sample_weight=w)
    labels = range(z.shape[1])
    return sk.roc_auc_score(t, softmax(z, axis=1), multi_class="ovr", sample_weight=w, labels=labels)


@ignoring_warnings
def sk_f1(z, t, w):
    average = "macro" if z.shape[1:] and z.shape[1] > 2 else "binary"
    return sk.f1_score(t, predicted(z), average=average, sample_weight=w)


@ignoring_warnings
def sk_balanced(z, t, w):
    return sk.balanced_accuracy_score(t, predicted(z), sample_weight=w)


@ignoring_warnings
def sk_r2(z, t, w):
    return sk.r2_score(t.astype(np.float64), z.astype(np.float64), sample_weight=w)


OF_LABELS = {"roc_auc": (lo.roc_auc, sk_auc), "f1": (lo.f1, sk_f1), "balanced": (lo.balanced_accuracy, sk_balanced)}
JITTED = {name: jax.jit(ours) for name, (ours, _) in OF_LABELS.items()} | {"r2": jax.jit(lo.r2)}


def check(name, theirs, z, t, w):
    kept = w > 0
    spoilt = np.where(kept.reshape(-1, *[1] * (z.ndim - 1)), z, np.nan)  # no number that fills up is looked at
    np.testing.assert_allclose(JITTED[name](spoilt, t, w), theirs(z[kept], t[kept], w[kept]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("logits", [LOGITS, TIED], ids=["apart", "tied"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", OF_LABELS)
def test_of_labels(name, kind, logits, weights):
    check(name, OF_LABELS[name][1], logits[kind], LABELS[kind], WEIGHTS[weights])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_of_numbers(shape, weights):
    t = RNG.normal(size=(N, *shape)).astype(np.float32) * 3 + 100
    check("r2", sk_r2, (t + RNG.normal(size=t.shape)).astype(np.float32), t, WEIGHTS[weights])


def test_probabilities_that_round_to_1_keep_their_order():
    z = np.zeros((N, 4), np.float32)
    z[:, 0] = 40 + np.round(LOGITS["binary"] * 8)
    t = np.where(LABELS["binary"] == 1, 0, 1 + np.arange(N) % 3)
    one = np.asarray(lo.roc_auc(z[:, 0], t == 0))
    others = [sk.roc_auc_score(t == c, -z[:, 0].astype(float)) for c in (1, 2, 3)]
    np.testing.assert_allclose(lo.roc_auc(z, t), np.mean([one, *others]), atol=1e-6)


# What is absent -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("absent", [0, 2, 3])
@pytest.mark.parametrize("name", OF_LABELS)
def test_a_class_without_examples(name, absent):
    w = (LABELS["classes"] != absent).astype(np.float32)
    if name == "roc_auc":
        assert np.isnan(lo.roc_auc(LOGITS["classes"], LABELS["classes"], w))
    check(name, OF_LABELS[name][1], LOGITS["classes"], LABELS["classes"], w)


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone(name, sign, label):
    check(name, OF_LABELS[name][1], sign * np.ones(N, np.float32), np.full(N, label), COUNTED)


def test_a_class_that_is_nowhere_is_not_in_the_mean():
    z, t = LOGITS["classes"].copy(), np.minimum(LABELS["classes"], 2)
    z[:, 3] = -10
    for name in ("f1", "balanced"):
        check(name, OF_LABELS[name][1], z, t, COUNTED)


def test_a_logit_of_0_is_class_0_as_the_first_of_two_equal_logits_is():
    z, t = np.zeros(N, np.float32), LABELS["binary"]
    for name in ("f1", "balanced"):
        check(name, OF_LABELS[name][1], z, t, COUNTED)
        check(name, OF_LABELS[name][1], np.stack([z, z], axis=1), t, COUNTED)


@pytest.mark.parametrize("right", [True, False])
def test_targets_that_are_all_alike(right):
    t = np.full(N, 0.1, np.float32)
    check("r2", lambda *_: float(right), t if right else t + 1, t, COUNTED)


def test_one_number_has_no_r2():
    assert np.isnan(lo.r2(jnp.ones(3), jnp.ones(3), jnp.array([0.0, 2.0, 0.0])))


# What is wrong --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("metric", [lo.roc_auc, lo.f1, lo.balanced_accuracy])
def test_labels_of_no_class_and_outputs_that_are_no_number(metric):
    z, t = LOGITS["classes"], LABELS["classes"]
    assert np.isnan(metric(z, np.where(np.arange(N) == 3, 4, t)))
    assert np.isnan(metric(z, np.where(np.arange(N) == 3, -1, t)))
    assert np.isnan(metric(np.where(np.arange(N)[:, None] == 3, np.nan, z), t))
    assert np.isnan(lo.r2(np.where(np.arange(N) == 3, np.nan, z[:, 0]), z[:, 1]))


WRONG = {
    "several labels": (np.zeros((5, 3)), np.zeros((5, 3), int), None, "whole labels of shape"),
    "floats": (np.zeros((5, 3)), np.zeros(5), None, "float"),
    "more labels": (np.zeros((5, 3)), np.zeros(6, int), None, "shape"),
    "labels in sequence": (np.zeros((5, 3, 2)), np.zeros((5, 3), int), None, "shape"),
    "weights": (np.zeros((5, 3)), np.zeros(5, int), np.ones(4), "one weight per example"),
}


@pytest.mark.parametrize(("outputs", "targets", "weights", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", OF_LABELS)
def test_what_does_not_fit(name, outputs, targets, weights, message):
    with pytest.raises(ValueError, match=message):
        OF_LABELS[name][0](outputs.astype(np.float32), targets, weights)


NO_NUMBERS = {
    "no outputs": ((None, [1]), TypeError, "outputs must be an array of numbers"),
    "words": ((np.zeros(2, np.float32), ["a", "b"]), TypeError, "targets must be an array of numbers"),
    "weights": (
        (np.zeros(2, np.float32), np.zeros(2, np.int32), "ab"),
        TypeError,
        "weights must be an array of numbers",
    ),
    "no examples": ((np.zeros((0, 3)), np.zeros(0, int)), ValueError, "outputs must hold at least 1 example"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("metric", [lo.roc_auc, lo.f1, lo.balanced_accuracy, lo.r2])
def test_what_is_no_array_of_numbers(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(*arguments)


def test_under_strict_modes():
    with strict():
        scores = [metric(LOGITS["classes"], LABELS["classes"].astype(np.int32)) for metric, _ in OF_LABELS.values()]
        scores.append(lo.f1(LOGITS["binary"], LABELS["binary"] == 1))
        scores.append(lo.r2(LOGITS["classes"], LOGITS["classes"][::-1]))
    assert np.isfinite(scores).all()


def test_r2_is_never_broadcast():
    with pytest.raises(ValueError, match=r"r2 takes targets of the shape of the outputs; got \(5,\) for \(5, 1\)"):
        lo.r2(np.zeros((5, 1), np.float32), np.zeros(5, np.float32))


# In trainings and searches --------------------------------------------------------------------------------------------
X, Y = lo.datasets.iris()
METRICS = {"auc": lo.roc_auc, "f1": lo.f1, "balanced": lo.balanced_accuracy}
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), metrics=METRICS, ignore_label=-1)
RATES = {"learning_rate": [0.003, 0.03]}


def trial(setting, train, valid, key):
    return lo.train(
        TASK,
        lo.sgd(setting["learning_rate"]),
        train,
        valid=valid,
        batch_size=32,
        epochs=5,
        key=key,
        best_by="valid_auc",
    )


@pytest.fixture(scope="module")
def results():
    """Folds of 37 or 38 examples, of which some have no label."""
    y = np.where(np.arange(150) % 7 == 0, -1, Y)
    folds = lo.k_fold((X, y), 4, key=0)
    return folds, lo.cross_validate(trial, RATES, folds, maximize="valid_auc", key=0, progress=False)


@pytest.fixture(scope="module")
def run(results):
    return results[1].replay(1)


@pytest.mark.slow
def test_lanes_are_scored_as_scikit_learn_does(results, run):
    folds, found = results
    x, y = folds[0][1].examples()
    z, t = np.asarray(run.predict(x))[y >= 0], np.asarray(y)[y >= 0]
    for name, theirs in {"auc": sk_auc, "f1": sk_f1, "balanced": sk_balanced}.items():
        wanted = theirs(z, t, np.ones(len(t)))
        np.testing.assert_allclose(found.metrics[f"valid_{name}"][1, 0, 0], wanted, atol=1e-5)
        np.testing.assert_allclose(run.evaluate((x, y))[name], wanted, atol=1e-6)


@pytest.mark.slow
def test_more_is_better_without_a_word(results, run):
    seen = run.history.epochs["valid_auc"]
    assert run.metrics["valid_auc"] == np.max(seen) > seen[0]
    assert results[1].mean()[results[1].best_index] == results[1].mean().max()


def test_what_a_user_marks_has_to_say_its_direction():
    marked = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), metrics={"auc": lo.whole_set(lo.roc_auc)})
    with pytest.raises(ValueError, match="direction must be 'minimize' or 'maximize'"):
        lo.fit(marked, lo.sgd(0.1), (X, Y), valid=(X, Y), batch_size=32, epochs=1, key=0, best_by="valid_auc")


def test_what_does_not_fit_is_refused_before_anything_compiles():
    task = lo.regression(lambda rngs: nnx.Linear(4, 1, rngs=rngs), metrics={"f1": lo.f1})
    with pytest.raises(ValueError, match="the metric 'f1' does not fit"):
        lo.fit(task, lo.sgd(0.1), (X, X[:, :1]), batch_size=32, epochs=1, key=0)
