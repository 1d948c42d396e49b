"""Epochs and patience that are traced: lanes of one program that end at different times, as each alone would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

X, Y = lo.datasets.iris()
TRAIN, VALID = lo.holdout((X, Y), 0.4, key=0, stratify=True)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
SHARED = {"valid": VALID, "batch_size": 32, "key": 0}
noisy = lo.momentum(0.5, 0.9)  # whose validation loss goes up and down


def trained(optimizer=noisy, **options):
    return lo.train(TASK, optimizer, TRAIN, **SHARED | options)


def check_lane(runs, lane, alone):
    """A lane equals a training alone, and its history goes no further."""
    run = jax.tree.map(lambda leaf: leaf[lane], runs)
    for name in ("params", "opt_state", "lookahead_params"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3),
            getattr(run, name),
            getattr(alone, name),
        )
    for name, value in alone.metrics.items():
        np.testing.assert_allclose(run.metrics[name], value, rtol=1e-2)
    for kind in ("steps", "epochs"):
        for name, record in getattr(alone.history, kind).items():
            found = getattr(run.history, kind)[name]
            np.testing.assert_allclose(found[: len(record)], record, rtol=1e-2, atol=1e-2)
            assert np.isnan(found[len(record) :]).all()


@pytest.fixture(scope="module")
def of_epochs():
    return jax.jit(jax.vmap(lambda n: trained(epochs=n, max_epochs=6)))(jnp.array([2, 6, 4, 7, 0]))


@pytest.mark.slow
def test_each_lane_trains_for_its_own_epochs(of_epochs):
    for lane, epochs in enumerate([2, 6, 4]):
        check_lane(of_epochs, lane, jax.jit(lambda epochs=epochs: trained(epochs=epochs))())


def test_epochs_that_there_is_no_room_for_have_no_metrics(of_epochs):
    for lane in (3, 4):
        assert all(np.isnan(value[lane]) for value in of_epochs.metrics.values())
    assert (of_epochs.diverged_at == -1).all()


@pytest.mark.slow
def test_each_lane_has_its_own_patience():
    patience = [1, 2, 8]
    runs = jax.jit(jax.vmap(lambda n: trained(epochs=8, patience=n)))(jnp.array(patience))
    ended = [int(np.isfinite(runs.history.epochs["valid_loss"][lane]).sum()) for lane in range(3)]
    assert ended[0] < ended[1] < ended[2] == 8
    for lane, n in enumerate(patience):
        check_lane(runs, lane, jax.jit(lambda n=n: trained(epochs=8, patience=n))())


@pytest.mark.slow
def test_both_at_once_and_known_numbers_are_the_same():
    def both(epochs, patience):
        return trained(epochs=epochs, max_epochs=8, patience=patience)

    runs = jax.jit(jax.vmap(both))(jnp.array([3, 8, 8]), jnp.array([2, 2, 0]))
    for lane, (epochs, patience) in enumerate([(3, 2), (8, 2), (8, 1)]):
        alone = jax.jit(lambda e=epochs, p=patience: trained(epochs=e, patience=p))()
        check_lane(runs, lane, alone)
        check_lane(runs, lane, jax.tree.map(np.asarray, jax.jit(lambda e=epochs, p=patience: both(e, p))()))


@pytest.mark.slow
def test_a_lane_that_diverges_changes_no_other():
    def one(rate, epochs):
        return trained(lo.sgd(rate), epochs=epochs, max_epochs=4)

    runs = jax.jit(jax.vmap(one))(jnp.array([3e38, 0.1]), jnp.array([4, 2]))
    assert runs.diverged_at[0] >= 0
    assert np.isnan(runs.metrics["valid_loss"][0])
    check_lane(runs, 1, jax.jit(lambda: trained(lo.sgd(0.1), epochs=2))())


@pytest.mark.slow
def test_epochs_and_patience_are_searched_in_one_program():
    def trial(setting, train, valid, key):
        options = {"epochs": setting["epochs"], "max_epochs": 5, "patience": setting["patience"]}
        return lo.train(TASK, noisy, train, valid=valid, batch_size=32, key=key, **options)

    settings = lo.grid({"epochs": lo.space.choice([1, 5]), "patience": lo.space.integers(1, 3)}, points=2)
    folds = lo.stratified_k_fold((X, Y), 3, key=0)
    results = lo.cross_validate(trial, settings, folds, minimize="valid_loss", key=0, progress=False)
    for i in range(4):
        alone = trial(
            results.settings.row(i), *folds[1], jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
        )
        np.testing.assert_allclose(results.metrics["valid_loss"][i, 1, 0], alone.metrics["valid_loss"], rtol=1e-5)
    runs = results.runs()
    assert [r.metrics["valid_loss"] for r in runs] == results.metrics["valid_loss"][results.best_index, :, 0].tolist()


BAD = {
    "traced alone": (
        lambda n: {"epochs": n},
        TypeError,
        "epochs must be a whole number; a traced one needs max_epochs",
    ),
    "traced floats": (lambda n: {"epochs": n * 1.0, "max_epochs": 3}, TypeError, r"epochs must be .* got float32\[\]"),
    "patience of floats": (
        lambda n: {"epochs": 1, "patience": n * 1.0},
        TypeError,
        r"patience must be .* got float32\[\]",
    ),
    "several": (
        lambda n: {"epochs": 1, "patience": jnp.stack([n, n])},
        TypeError,
        r"patience must be .* got int32\[2\]",
    ),
    "more": (lambda n: {"epochs": 4, "max_epochs": 3}, ValueError, "epochs must be at most max_epochs, 3; got 4"),
    "traced room": (lambda n: {"epochs": 4, "max_epochs": n}, TypeError, "max_epochs must be a whole number"),
    "room for steps": (
        lambda n: {"steps": 4, "max_epochs": 3},
        ValueError,
        "max_epochs is the most that epochs may be",
    ),
    "both": (lambda n: {"epochs": n, "max_epochs": 3, "steps": 4}, ValueError, "exactly one of epochs and steps"),
    "by steps": (
        lambda n: {"epochs": n, "max_epochs": 3, "validate_every": 2},
        ValueError,
        "max_epochs needs validations at",
    ),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_lengths_that_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda n: trained(**options(n)), jnp.int32(2))
