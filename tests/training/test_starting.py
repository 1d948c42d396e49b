"""Going on from what was trained: with the optimizer's state or without it, never without the rest of the model."""

import jax
import numpy as np
import optax
import pytest
from digits_mlp import poison
from flax import linen, nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

X, Y = lo.datasets.iris()
OPTIONS = {"batch_size": 150, "shuffle": False, "key": 0}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.norm(x))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        return linen.Dense(3)(linen.BatchNorm(use_running_average=not train, momentum=0.5)(x))


TASKS = {"nnx": lo.classification(Net), "linen": lo.classification(LinenNet())}
GIVEN = lo.classification(Net(nnx.Rngs(5)))


def fit(task, optimizer, **options):
    with jax.disable_jit():
        return lo.fit(task, optimizer, (X, Y), **OPTIONS | {"epochs": 2} | options)


@pytest.fixture(scope="module")
def runs():
    return {name: fit(task, lo.nesterov(0.1)) for name, task in TASKS.items()}


def statistics(run):
    return sorted(np.asarray(leaf).tolist() for leaf in jax.tree.leaves(run.model_state.variables))


def after_one_batch(run):
    """The running statistics after one batch of all examples more."""
    batch = (X.mean(0).tolist(), X.var(0).tolist())
    return [
        [0.5 * (a + b) for a, b in zip(*pair, strict=True)] for pair in zip(statistics(run), sorted(batch), strict=True)
    ]


def assert_goes_on(run, start, task):
    """From the weights w, not the look-ahead point, and the statistics."""
    again = fit(task, lo.adam(0.0), epochs=1, start=start)
    jax.tree.map(np.testing.assert_array_equal, again.params, run.params)
    np.testing.assert_allclose(statistics(again), after_one_batch(run), rtol=1e-5)
    assert len(jax.tree.leaves(again.opt_state)) > len(jax.tree.leaves(run.params))  # Adam's, not the run's


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_another_optimizer_goes_on_with_weights_and_statistics(runs, name):
    run = runs[name]
    with pytest.raises(ValueError, match=r"must be a run of this optimizer, .* start=run.start begins with a new one"):
        fit(TASKS[name], lo.adam(0.0), start=run)
    assert_goes_on(run, run.start, TASKS[name])


def test_a_trained_module_or_its_state_is_a_start(runs):
    run = runs["nnx"]
    for start in (run.model, nnx.state(run.model), nnx.state(run.model, nnx.Not(nnx.RngState))):
        assert_goes_on(run, start, TASKS["nnx"])
    assert_goes_on(run, run.model, GIVEN)
    assert_goes_on(run, run.start, GIVEN)


@pytest.mark.parametrize("name", [*TASKS, "given"])
def test_parameters_alone_say_that_statistics_begin_afresh(runs, name):
    task, run = (TASKS | {"given": GIVEN})[name], runs["nnx" if name == "given" else name]
    starts = [run.params] if name == "linen" else [run.params, nnx.state(run.model, nnx.Param)]
    for start in starts:
        with pytest.warns(
            UserWarning, match=r"parameters alone: .* \(.*mean, .*var\) begin afresh, .* start=run.start"
        ):
            again = fit(task, lo.sgd(0.0), epochs=1, start=start)
        jax.tree.map(np.testing.assert_array_equal, again.params, run.params)
        first = [(0.5 * X.mean(0)).tolist(), (0.5 + 0.5 * X.var(0)).tolist()]
        np.testing.assert_allclose(statistics(again), sorted(first), rtol=1e-5)


def test_parameters_of_a_model_without_other_variables_warn_of_nothing():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    run = fit(task, lo.sgd(0.1))
    again = fit(task, lo.sgd(0.0), start=run.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, run.params)


def test_what_inputs_are_standardised_by_is_kept_with_a_run_and_learned_anew_with_parameters():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
    run = fit(task, lo.sgd(0.1))
    others = (3 * X + 1, Y)
    with jax.disable_jit():
        for start in (run, run.start):
            kept = lo.fit(task, lo.sgd(0.0), others, start=start, epochs=1, **OPTIONS).model_state.inputs
            jax.tree.map(np.testing.assert_array_equal, kept, run.model_state.inputs)
        anew = lo.fit(task, lo.sgd(0.0), others, start=run.params, epochs=1, **OPTIONS).model_state.inputs
    np.testing.assert_allclose(anew.mean, others[0].mean(0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"must have the parameters of this task; .* give start=run or run.start"):
        fit(task, lo.sgd(0.0), start=run.model)  # takes raw inputs: the standardisation is its first layer


def test_runs_side_by_side_are_no_start():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    with jax.disable_jit():
        runs = [lo.train(task, lo.sgd(rate), (X, Y), **OPTIONS, epochs=2) for rate in (0.1, 0.2)]
    runs = jax.tree.map(lambda *leaves: np.stack(leaves), *runs)
    with pytest.raises(ValueError, match=r"this Run holds \(2,\) trainings; take one"):
        fit(task, lo.sgd(0.1), start=runs)
    fit(task, optax.sgd(0.1), start=jax.tree.map(lambda leaf: leaf[0], runs).start)


# Histories ------------------------------------------------------------------------------------------------------------
PLAIN = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
DECAYING = lo.momentum(lo.linear_decay(0.1, 30))


def part(**options):
    return lo.fit(PLAIN, DECAYING, (X, Y), **{"batch_size": 40, "key": 0, "valid": (X, Y), "progress": False} | options)


def records(history):
    return {"steps": history.steps, "epochs": history.epochs, "validations": history.validations}


@pytest.fixture(scope="module")
def first():
    return part(steps=6)  # an epoch of four steps, and half of one


@pytest.mark.parametrize("kept", ["optimizer", "no optimizer"])
def test_histories_join_and_steps_count_on(first, kept, tmp_path):
    again = part(epochs=2, start=first if kept == "optimizer" else first.start)
    for kind, before in records(first.history).items():
        for name, record in before.items():
            joined = np.asarray(records(again.history)[kind][name])
            np.testing.assert_array_equal(joined[: len(record)], record)
            assert np.isfinite(joined).all()
    rates = np.asarray(again.history.steps["learning_rate"])
    assert len(rates) == 14
    assert (rates[6] < rates[5]) == (kept == "optimizer")  # its steps count on too, or begin anew
    np.testing.assert_array_equal(again.history.epoch_ends, [4, 6, 10, 14])
    np.testing.assert_allclose(again.history.epochs_done[[3, 5, 6, 13]], [1, 1.5, 1.75, 3.5])
    third = part(steps=2, start=again)
    np.testing.assert_array_equal(third.history.epoch_ends, [4, 6, 10, 14, 16])
    third.save(tmp_path / "run")
    loaded = lo.load(tmp_path / "run", PLAIN).history
    np.testing.assert_array_equal(loaded.epoch_ends, [4, 6, 10, 14, 16])
    assert loaded.steps["loss"].shape == (16,)


def test_a_second_training_draws_other_batches():
    """With the same key: the shuffles of the first would show it the same batches twice."""
    still = lo.sgd(0.0)  # the losses tell the batches alone
    first = lo.fit(PLAIN, still, (X, Y), batch_size=40, epochs=1, key=0)
    again = [
        lo.fit(PLAIN, still, (X, Y), batch_size=40, epochs=1, key=0, start=start)
        for start in (first, first, first.params)
    ]
    losses = [np.asarray(run.history.steps["loss"][-4:]) for run in (first, *again)]
    assert not np.isclose(losses[0], losses[1], rtol=1e-4).any()
    np.testing.assert_array_equal(losses[1], losses[2])
    np.testing.assert_array_equal(losses[0], losses[3])  # parameters alone begin anew
    assert len(again[2].history.steps["loss"]) == 4


@pytest.mark.slow
def test_trainings_of_other_kinds_join():
    """Of other batches, records and times of validation: what one has not is NaN."""
    first = part(epochs=2, watch=3)
    again = part(epochs=1, start=first, batch_size=75, validate_every=1, watch=2)
    history = again.history
    np.testing.assert_array_equal(history.epoch_ends, [4, 8, 10])
    np.testing.assert_array_equal(history.watched_steps, [0, 3, 6, 8])
    np.testing.assert_array_equal(history.validated_steps, [9, 10])
    steps, losses = history.curves["valid_loss"]
    np.testing.assert_array_equal(steps, [4, 8, 9, 10])
    assert np.isfinite(losses).all()
    np.testing.assert_array_equal(np.isnan(history.epochs["valid_loss"]), [False, False, True])
    frame = history.to_pandas()
    np.testing.assert_array_equal(np.flatnonzero(frame["train_loss"].notna()) + 1, [4, 8, 10])
    assert {axis.get_title() for axis in history.plot().axes} >= {"loss", "validation accuracy"}


@pytest.mark.slow
def test_what_goes_on_from_a_run_in_a_compiled_training_joins_too(first):
    jitted = jax.jit(
        lambda start: lo.train(PLAIN, DECAYING, (X, Y), batch_size=40, epochs=2, key=0, valid=(X, Y), start=start)
    )
    trained, fitted = jitted(first), part(epochs=2, start=first)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), trained.history, fitted.history)


@pytest.mark.slow
def test_what_goes_on_from_a_diverged_run_holds_what_led_to_its_weights():
    with pytest.warns(UserWarning, match="training diverged"):
        bad = lo.fit(PLAIN, poison(6), (X, Y), batch_size=40, epochs=3, key=0)
    assert bad.diverged_at >= 4
    again = part(epochs=1, start=bad.start)
    np.testing.assert_array_equal(again.history.epoch_ends, [4, 8])
    assert np.isfinite(again.history.steps["loss"]).all()
    assert again.diverged_at == again.history.diverged_at == -1
    with pytest.warns(UserWarning, match="training diverged: .* step"):
        worse = lo.fit(PLAIN, lo.sgd(3e38), (X, Y), batch_size=40, epochs=1, key=0, start=again.start)
    assert worse.diverged_at == worse.history.diverged_at >= 8


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("runs/1", r"got 'runs/1' \(str\); of a run on disk, give lectopt.load"),
        ({"kernel": np.ones((4, 3)), "bias": "zeros"}, r"got 'zeros' \(str\) in a dict"),
        ({"kernel": np.ones((4, 3)), "bias": np.array(["a", "b", "c"])}, "start must be a Run"),
    ],
)
def test_a_start_that_holds_no_arrays_is_refused_by_name(start, said):
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    with pytest.raises(TypeError, match=said):
        lo.train(task, lo.sgd(0.1), (X, Y), epochs=1, start=start, **OPTIONS)
