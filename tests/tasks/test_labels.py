"""Losses, baselines and accuracies of each kind of labels, against PyTorch and scikit-learn; and what is no label."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import accuracy_score, log_loss

import lectopt as lo

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 5)).astype(np.float32)
ONE_OF = RNG.choice(4, 30, p=[0.5, 0.3, 0.15, 0.05])
SEQUENCES = RNG.integers(0, 4, (30, 3))
YES_NO = RNG.choice(2, 30, p=[0.8, 0.2])
ANY_OF = (RNG.random((30, 4)) < [0.1, 0.5, 0.7, 0.9]).astype(int)


def model(*shape):
    def net(rngs):
        linear = nnx.Linear(5, int(np.prod(shape)), rngs=rngs)
        return nnx.Sequential(linear, lambda h: h.reshape(len(h), *shape))

    return net


def soft(labels, smoothing):
    return labels * (1 - smoothing) + smoothing / 2


def softmax_loss(logits, labels, smoothing, ignored):
    return torch.nn.functional.cross_entropy(
        torch.tensor(logits).movedim(-1, 1), torch.tensor(labels), label_smoothing=smoothing, ignore_index=ignored
    )


def sigmoid_loss(logits, labels, smoothing, ignored):
    kept = labels != ignored
    logits = logits.reshape(labels.shape)[kept]
    wanted = torch.tensor(soft(labels[kept], smoothing), dtype=torch.float32)
    return torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), wanted)


KINDS = {  # shape of an example's outputs, labels, arguments, PyTorch's loss
    "one of": ((4,), ONE_OF, {}, softmax_loss),
    "sequences": ((3, 4), SEQUENCES, {}, softmax_loss),
    "binary": ((), YES_NO, {"binary": True}, sigmoid_loss),
    "binary column": ((1,), YES_NO, {"binary": True}, sigmoid_loss),
    "any of": ((4,), ANY_OF, {"multilabel": True}, sigmoid_loss),
}
every_kind = pytest.mark.parametrize(("shape", "labels", "options", "of_torch"), KINDS.values(), ids=KINDS)
BOTH = pytest.mark.parametrize(("smoothing", "ignored"), [(0.2, -1), pytest.param(0.1, None, marks=pytest.mark.slow)])


def with_gaps(labels, ignored):
    """Some labels that do not count: of two examples in three one or all, unevenly."""
    if ignored is None:
        return labels
    labels = labels.copy()
    labels[::3] = ignored
    labels[1::3, ...].reshape(10, -1)[:, 0] = np.where(labels.ndim > 1, ignored, labels[1::3].reshape(10, -1)[:, 0])
    return labels


def trained(task, labels, **options):
    return lo.fit(task, lo.sgd(0.1), (X, labels), **{"batch_size": 30, "steps": 1, "key": 0} | options)


@pytest.mark.slow
@every_kind
@BOTH
def test_losses_are_those_of_pytorch(shape, labels, options, of_torch, smoothing, ignored):
    labels = with_gaps(labels, ignored)
    task = lo.classification(model(*shape), label_smoothing=smoothing, ignore_label=ignored, **options)
    run = lo.fit(task, lo.sgd(0.0), (X, labels), batch_size=30, steps=1, key=0)
    wanted = of_torch(np.array(run.predict(X)), labels, smoothing, -1)
    np.testing.assert_allclose(run.metrics["train_loss"], wanted, rtol=1e-6)
    scores = run.evaluate((X, labels))
    np.testing.assert_allclose(scores["loss"], wanted, rtol=1e-6)
    kept = labels != -1
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels[kept], np.array(run.classes(X))[kept]))


@every_kind
@BOTH
def test_chance_is_the_least_loss_of_constant_outputs(shape, labels, options, of_torch, smoothing, ignored):
    """The output bias reaches it where inputs have no influence, and a step away from there it is more."""
    labels = with_gaps(labels, ignored)
    width, positions = (shape or (1,))[-1], shape[:-1]

    def net(rngs):
        linear = nnx.Linear(5, width, kernel_init=jax.nn.initializers.zeros, rngs=rngs)
        return nnx.Sequential(linear, lambda h: h if not positions else jnp.repeat(h[:, None], *positions, axis=1))

    task = lo.classification(
        net, label_smoothing=smoothing, ignore_label=ignored, output_bias=lambda m: m.layers[0].bias, **options
    )
    run = lo.fit(task, lo.sgd(0.0), (X, labels), batch_size=30, steps=1, key=0)
    logits = np.array(run.predict(X))
    np.testing.assert_allclose(run.history.baseline_loss, of_torch(logits, labels, smoothing, -1), rtol=1e-5)
    steps = np.float32(0.05) * np.concatenate([np.eye(width), -np.eye(width)]).astype(np.float32)
    assert all(
        float(of_torch(logits + step, labels, smoothing, -1)) > run.history.baseline_loss - 1e-6 for step in steps
    )


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [-1, pytest.param(None, marks=pytest.mark.slow)])
def test_batches_weigh_by_the_labels_that_count(ignored):
    """The epoch's mean is that of all labels, and a step's gradient that of PyTorch's loss of its batch."""
    labels = with_gaps(SEQUENCES, ignored)
    labels[:7] = labels[:7] if ignored is None else ignored  # the first batch has none: it has loss 0 and moves nothing
    task = lo.classification(model(3, 4), ignore_label=ignored)
    run = trained(task, labels, batch_size=7, steps=None, epochs=1, shuffle=False)
    still = lo.fit(task, lo.sgd(0.0), (X, labels), batch_size=7, epochs=1, shuffle=False, key=0)
    logits = np.array(still.predict(X))
    np.testing.assert_allclose(still.metrics["train_loss"], softmax_loss(logits, labels, 0.0, -1), rtol=1e-6)
    losses = still.history.steps["loss"]
    np.testing.assert_allclose(losses[1], softmax_loss(logits[7:14], labels[7:14], 0.0, -1), rtol=1e-6)
    if ignored is not None:
        assert losses[0] == run.history.steps["loss"][0] == still.history.steps["gradient_norm"][0] == 0
    assert run.diverged_at == -1


def test_weights_of_classes_go_with_labels_that_do_not_count():
    labels = with_gaps(YES_NO, -1)
    task = lo.classification(model(), binary=True, ignore_label=-1)
    run = lo.fit(task, lo.sgd(0.0), (X, labels), weights="balanced", batch_size=30, steps=1, key=0)
    kept = labels >= 0
    p = np.array(run.probabilities(X), np.float64)[kept]
    each = -np.log(np.where(labels[kept] == 1, p, 1 - p))
    halves = [each[labels[kept] == label].mean() for label in (0, 1)]
    np.testing.assert_allclose(run.metrics["train_loss"], np.mean(halves), rtol=1e-5)


def test_metrics_are_of_the_labels_that_count():
    labels = with_gaps(ONE_OF, -1)
    whole = lo.whole_set(lambda outputs, targets, weights: jnp.sum(weights * targets) / jnp.sum(weights))
    metrics = {"mean": lambda outputs, targets: targets.astype(jnp.float32), "whole": whole}
    scores = trained(lo.classification(model(4), ignore_label=-1, metrics=metrics), labels).evaluate((X, labels))
    np.testing.assert_allclose([scores["mean"], scores["whole"]], labels[labels >= 0].mean(), rtol=1e-6)


def test_exact_matches():
    run = trained(lo.classification(model(4), multilabel=True), ANY_OF)
    right = np.array(run.classes(X)) == ANY_OF
    scores = run.evaluate((X, ANY_OF))
    np.testing.assert_allclose(scores["exact_match"], right.all(axis=1).mean(), rtol=1e-6)
    np.testing.assert_allclose(scores["accuracy"], right.mean(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_dtypes_of_several_labels(dtype):
    task = lo.classification(model(4), multilabel=True)
    assert trained(task, ANY_OF.astype(dtype)).metrics == trained(task, ANY_OF).metrics


@pytest.mark.slow
@pytest.mark.parametrize(("ignored", "dtype"), [(255, np.uint8), (-100, np.int64), (3, np.int16)])
def test_dtypes_of_labels(ignored, dtype):
    labels = np.where(np.arange(30) % 2, ONE_OF % 3, ignored)
    task = lo.classification(model(4), ignore_label=ignored)
    half = trained(lo.classification(model(4)), ONE_OF).predict(X), X[1::2], labels[1::2]
    scores = [
        lo.fit(lo.classification(model(4)), lo.sgd(0.0), half[1:], batch_size=15, steps=1, key=0),
        lo.fit(task, lo.sgd(0.0), (X, labels.astype(dtype)), batch_size=30, steps=1, key=0),
    ]
    np.testing.assert_allclose(*[run.metrics["train_loss"] for run in scores], rtol=1e-6)


# What outputs say -----------------------------------------------------------------------------------------------------
@every_kind
def test_probabilities_and_classes(shape, labels, options, of_torch):
    run = trained(lo.classification(model(*shape), **options), labels)
    logits = np.array(run.predict(X), np.float64)
    p, classes = run.probabilities(X), run.classes(X)
    assert p.dtype == np.float32
    assert classes.dtype == np.int32
    assert classes.shape == labels.shape
    if options:
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits.reshape(labels.shape))), rtol=1e-5)
        np.testing.assert_array_equal(classes, p > 0.5)
    else:
        np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), rtol=1e-5)
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
        np.testing.assert_array_equal(classes, logits.argmax(-1))
    if labels is ONE_OF:
        np.testing.assert_allclose(run.evaluate((X, labels))["loss"], log_loss(labels, p), rtol=1e-5)


def test_probabilities_of_other_tasks():
    losses = lambda outputs, targets: jnp.sum(outputs**2, axis=-1)  # noqa: E731
    run = trained(lo.Task(model(4), losses, activation="softmax"), ONE_OF)
    np.testing.assert_allclose(run.probabilities(X), jax.nn.softmax(run.predict(X)), rtol=1e-6)
    run = trained(lo.Task(model(4), losses, activation="sigmoid"), ONE_OF)
    np.testing.assert_array_equal(run.classes(X), run.predict(X) > 0)
    for task in (lo.Task(model(4), losses), lo.regression(model(4))):
        run = trained(task, X[:, :4])
        for read in (run.probabilities, run.classes):
            with pytest.raises(ValueError, match=r"are known for tasks made by lectopt.classification, or with act"):
                read(X)


# What is refused ------------------------------------------------------------------------------------------------------
HOT = np.eye(4)[ONE_OF]
one_of = lambda **options: lo.classification(model(4), **options)  # noqa: E731
BINARY, ANY = lo.classification(model(1), binary=True), one_of(multilabel=True)
trees = lambda rngs: nnx.Sequential(nnx.Linear(5, 4, rngs=rngs), lambda h: {"a": h, "b": h})  # noqa: E731
pairs = lambda rngs: nnx.Sequential(nnx.Linear(5, 4, rngs=rngs), lambda h: (h, h))  # noqa: E731
BAD_LABELS = {
    "float": (one_of(), ONE_OF * 1.0, r"labels must be whole numbers in \[0, 4\); got dtype float32: take .*astype"),
    "bool": (one_of(), ONE_OF > 1, r"labels must be whole numbers in \[0, 4\); got dtype bool: take .*astype"),
    "one-hot": (one_of(), HOT, r"one row of logits per label; .* for one-hot rows take labels.argmax\(-1\)"),
    "whole one-hot": (one_of(), HOT.astype(int), r"for one-hot rows take labels.argmax\(-1\), .* multilabel=True"),
    "column": (one_of(), ONE_OF[:, None], r"one row of logits per label; .*; take labels\[..., 0\]"),
    "beyond": (one_of(), ONE_OF + 1, r"labels must be in \[0, 4\), .* got 4; a value that .* ignore_label"),
    "-1": (one_of(ignore_label=-100), ONE_OF - 1, r"labels must be in \[0, 4\), .* got -1"),
    "all ignored": (one_of(ignore_label=7), ONE_OF * 0 + 7, r"labels must hold one that counts; all are .*, 7"),
    "one logit": (lo.classification(model(1)), YES_NO, r"labels must be in \[0, 1\), .*give binary=True"),
    "no row": (lo.classification(model()), YES_NO, r"one row of logits per label; .*\(n,\) .*give binary=True"),
    "binary 2": (BINARY, ONE_OF, r"labels must be 0 or 1; got [23]"),
    "binary float": (BINARY, YES_NO * 1.0, r"labels must be whole numbers in \[0, 1\]; got dtype float32"),
    "binary column": (BINARY, YES_NO[:, None], r"labels must have shape \(n,\).*\(n, 1\); take labels\[:, 0\]"),
    "two logits": (lo.classification(model(2), binary=True), YES_NO, r"one logit per example, .* got .*\(n, 2\)"),
    "binary of many": (lo.classification(model(4), binary=True), ANY_OF, r"for several labels .* multilabel=True"),
    "any 2": (ANY, ANY_OF * 2, r"labels must be 0 or 1; got 2"),
    "any soft": (ANY, ANY_OF * 0.5, r"labels must be 0 or 1; got 0.5"),
    "any of one": (ANY, ONE_OF, r"labels must have the shape of the model's outputs, .*\(n, 4\)"),
    "dict": (lo.classification(trees), ONE_OF, r"outputs must be one array for this task; got dict with 'a', 'b'"),
    "tuple": (lo.classification(pairs), ONE_OF, r"outputs must be one array for this task; got tuple of 2"),
    "trees of labels": (one_of(), {"a": ONE_OF}, r"labels must be one array; got dict with 'a'\. Give one"),
}


@pytest.mark.parametrize(("task", "labels", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_no_label_is_refused(task, labels, message):
    with pytest.raises((ValueError, TypeError), match=message):
        trained(task, labels)


BAD_ARGUMENTS = {
    "both": ({"binary": True, "multilabel": True}, ValueError, "takes one of binary and multilabel"),
    "metrics": ({"metrics": [1]}, TypeError, "metrics must be a dictionary by their names; got a list"),
    "smoothing 1": ({"label_smoothing": 1.0}, ValueError, r"label_smoothing must be in \[0, 1\); got 1"),
    "smoothing -": ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0, 1\); got -0.1"),
    "smoothing NaN": ({"label_smoothing": np.nan}, ValueError, r"label_smoothing must be in \[0, 1\); got nan"),
    "smoothing text": ({"label_smoothing": "0.1"}, TypeError, r"label_smoothing must be a number in \[0, 1\); got '0"),
    "smoothing None": ({"label_smoothing": None}, TypeError, r"label_smoothing must be a number .* got None"),
    "smoothings": ({"label_smoothing": np.ones(2)}, ValueError, r"label_smoothing must be one number .* \(2,\)"),
    "ignore text": ({"ignore_label": "pad"}, TypeError, r"ignore_label must be a whole number .* got 'pad'"),
    "ignore flag": ({"ignore_label": True}, TypeError, r"ignore_label must be a whole number .* got True"),
    "ignore far": ({"ignore_label": 2**31}, ValueError, r"ignore_label must be at most 2147483647; got 2147483648"),
    "ignore 0": ({"ignore_label": 0, "binary": True}, ValueError, r"neither 0 nor 1 where .* got 0"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        lo.classification(model(4), **arguments)


# Side by side ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_smoothings_side_by_side():
    """The number of a lane may be traced, and a lane is what it would be alone."""

    def metrics(smoothing):
        task = lo.classification(model(4), label_smoothing=smoothing, output_bias=lambda m: m.layers[0].bias)
        run = lo.train(task, lo.sgd(0.1), (X, ONE_OF), batch_size=30, steps=3, key=0)
        return run.metrics["train_loss"], run.history.baseline_loss, run.evaluate((X, ONE_OF))["loss"]

    smoothings = jnp.array([0.0, 0.1, 0.3])
    with jax.disable_jit(False):
        lanes = jax.jit(jax.vmap(metrics))(smoothings)
    for i, smoothing in enumerate(smoothings):
        np.testing.assert_allclose([lane[i] for lane in lanes], metrics(float(smoothing)), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, *(pytest.param(o, marks=pytest.mark.slow) for o in ({"binary": True}, {"multilabel": True}))],
    ids=str,
)
@pytest.mark.slow
def test_a_search_over_what_labels_are_made_of(options):
    labels = with_gaps(YES_NO if "binary" in options else ANY_OF if "multilabel" in options else ONE_OF, -1)
    net, weights = model(1 if "binary" in options else 4), None if "multilabel" in options else "balanced"

    def trial(setting, train, valid, key):
        task = lo.classification(
            net,
            label_smoothing=setting["label_smoothing"],
            ignore_label=-1,
            standardize=True,
            output_bias=lambda m: m.layers[0].bias,
            **options,
        )
        run = lo.train(task, lo.sgd(setting["learning_rate"]), train, weights=weights, batch_size=8, epochs=2, key=key)
        right = run.classes(X) == jnp.asarray(labels)
        return {
            "accuracy": run.evaluate(valid)["accuracy"],
            "of all": jnp.sum(right) / jnp.sum(jnp.asarray(labels) >= 0),
            "most": jnp.max(run.probabilities(valid.take(valid.indices)[0], batch_size=4)),
        }

    settings = lo.grid({"label_smoothing": lo.space.uniform(0.0, 0.5), "learning_rate": lo.space.uniform(0.1, 0.2)}, 2)
    with jax.disable_jit(False):
        results = lo.cross_validate(
            trial, settings, lo.k_fold((X, labels), 3, key=0), maximize="accuracy", key=0, progress=False
        )
    assert all(np.isfinite(values).all() and (values <= 1).all() for values in results.metrics.values())
    assert results.metrics["accuracy"].shape == (4, 3, 1)


@pytest.mark.slow
def test_inspect_takes_the_mean_over_the_labels_that_count(full_precision):
    labels = with_gaps(YES_NO, -1)
    task = lo.classification(model(1), binary=True, label_smoothing=0.1, ignore_label=-1)
    look = lo.inspect(task, (X, labels))
    start = lo.fit(task, lo.sgd(0.0), (X, labels), batch_size=30, steps=1, key=0)
    np.testing.assert_allclose(look.loss, start.metrics["train_loss"], rtol=1e-5)
    np.testing.assert_allclose(look.baseline_loss, start.history.baseline_loss, rtol=1e-6)


@pytest.mark.slow
def test_a_selected_smoothing_is_known_afterwards():
    """The run of the best setting holds a task that a traced trial made."""

    def trial(setting, train, valid, key):
        task = lo.classification(model(4), **setting)
        return lo.train(task, lo.sgd(0.1), train, valid=valid, batch_size=10, steps=1, key=key)

    with jax.disable_jit(False):
        selection = lo.select(
            trial,
            {"label_smoothing": [0.2]},
            (X, ONE_OF),
            folds=0.5,
            test=(X, ONE_OF),
            maximize="valid_accuracy",
            key=0,
        )
    wanted = softmax_loss(np.array(selection.run.predict(X)), ONE_OF, 0.2, -1)
    np.testing.assert_allclose(selection.test_metrics["loss"], wanted, rtol=1e-5)
