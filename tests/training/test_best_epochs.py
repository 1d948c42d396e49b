"""After how many epochs the returned parameters were reached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

X, Y = lo.datasets.iris()
TRAIN, VALID = lo.holdout((X, Y), 0.4, key=0, stratify=True)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
NOISY = lo.momentum(0.5, 0.9)
quiet = {"valid": VALID, "batch_size": 32, "key": 0, "progress": False}


@pytest.mark.slow
def test_the_best_validation_counts_under_patience():
    run = lo.fit(TASK, NOISY, TRAIN, epochs=12, patience=12, **quiet)
    losses = run.history.epochs["valid_loss"]
    assert run.best_epoch == 1 + int(np.argmin(losses))
    assert 1 < run.best_epoch < 12
    assert isinstance(run.best_epoch, int)
    best = lo.fit(TASK, NOISY, TRAIN, epochs=run.best_epoch, **quiet)
    np.testing.assert_allclose(best.params["bias"], run.params["bias"], rtol=1e-4)
    assert best.best_epoch == run.best_epoch  # all of them, without patience
    later = lo.fit(TASK, lo.sgd(1.0), TRAIN, epochs=2, patience=2, start=run.start, **quiet)
    beaten = float(later.history.epochs["valid_loss"][-2:].min()) < run.metrics["valid_loss"]
    assert not beaten
    assert later.best_epoch == 0  # nothing was better than the start


def test_lanes_side_by_side():
    options = {"valid": VALID, "batch_size": 32, "key": 0, "epochs": 12}
    both = jax.jit(jax.vmap(lambda n: (run := lo.train(TASK, NOISY, TRAIN, patience=n, **options), run.best_epoch)))
    runs, found = both(jnp.array([1, 12]))
    losses = np.asarray(runs.history.epochs["valid_loss"])
    np.testing.assert_array_equal(found, 1 + np.nanargmin(losses, axis=1))
    assert found[0] < found[1]
    assert np.isfinite(losses).sum(axis=1).tolist() == [found[0] + 1, 12]
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(runs.best_epoch, found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:training diverged")
def test_validations_by_steps_and_divergence():
    run = lo.fit(TASK, NOISY, TRAIN, epochs=6, best_by="valid_loss", validate_every=2, **quiet)
    step = run.history.validated_steps[int(np.argmin(run.history.validations["valid_loss"]))]
    assert run.best_epoch == -(-step // 3)  # of three batches each
    assert lo.fit(lo.regression(lambda rngs: nnx.Linear(4, 1, rngs=rngs)), lo.sgd(1e30), (X, np.asarray(X[:, :1])),
                  epochs=2, batch_size=32, key=0, progress=False).best_epoch == 0  # fmt: skip
