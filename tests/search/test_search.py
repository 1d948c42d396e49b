"""The search engine: every lane gets what is its own, whatever the chunks and the devices."""

import functools
import gc
import itertools
import os
import re
import subprocess
import sys
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from strict_modes import MODES

import lectopt as lo
from lectopt.engine import program_cache
from lectopt.engine.options import SearchOptions
from lectopt.search.boundaries import boundary_of
from lectopt.search.hyperparameter_search import Search
from lectopt.search.plan import plan
from lectopt.search.results import Results
from lectopt.search.settings import as_settings
from lectopt.search.space import Static

quiet = {"progress": False, "key": 0}
X = np.linspace(-1, 1, 7, dtype=np.float32)


def draw(setting, key):
    """A trial that tells a lane's setting and key."""
    return {"loss": setting["x"] ** 2, "x": setting["x"], "noise": jax.random.uniform(key)}


def fold_mean(setting, train, valid, key):
    """A trial that tells which examples it was given."""
    rows = lo.minibatches(train, 4, shuffle=False)
    total = jnp.sum(train.arrays[0][rows.indices] * rows.weights)
    first = valid.arrays[0][valid.indices[0]]
    return {"loss": setting["x"] + total / 100, "first": first, "noise": jax.random.uniform(key)}


FOLDS = lo.k_fold((np.arange(11, dtype=np.float32),), 4, key=0)
FLOWERS = lo.datasets.iris()
ONE_FOLD = lo.from_indices(FLOWERS, [(np.arange(0, 150, 2), np.arange(1, 150, 2))])
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)


def flowers(setting, train, valid, key, epochs=3, start=None):
    optimizer = lo.momentum(setting["learning_rate"], setting.get("momentum", 0.9))
    return lo.train(TASK, optimizer, train, valid=valid, batch_size=30, epochs=epochs, key=key, start=start)


def cross_validate(trial, columns, folds=FOLDS, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return lo.cross_validate(trial, columns, folds, **{"minimize": "loss", **quiet, **options})


def sweep(trial, columns, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return lo.sweep(trial, columns, **{"minimize": "loss", **quiet, **options})


# every lane -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 7, 100])
def test_every_lane_gets_its_setting_fold_and_seed(chunk, seeds):
    found = cross_validate(fold_mean, {"x": X}, chunk=chunk, seeds=seeds)
    assert {values.shape for values in found.metrics.values()} == {(7, 4, seeds)}
    for i, (train, valid) in enumerate(FOLDS):
        total = train.examples()[0].sum() / 100
        np.testing.assert_allclose(
            found.metrics["loss"][:, i], np.repeat(X + total, seeds).reshape(7, seeds), rtol=1e-6
        )
        assert np.all(found.metrics["first"][:, i] == valid.examples()[0][0])
        for seed in range(seeds):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), i), seed)
            assert np.all(found.metrics["noise"][:, i, seed] == jax.random.uniform(key))
    assert len(np.unique(found.metrics["noise"])) == 4 * seeds  # settings start alike, nothing else does


def test_another_key_starts_otherwise():
    one, two, typed = (sweep(draw, {"x": X}, key=key).metrics["noise"] for key in (0, 1, jax.random.key(1)))
    assert not np.any(one == two)
    np.testing.assert_array_equal(two, typed)


@pytest.mark.parametrize(
    ("settings", "folds"),
    [(7, 4), (1, 11), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((2, 3), (3, 2)))],
)
def test_any_number_of_devices(four_devices, settings, folds):
    """On 4 devices: fewer settings than devices, fewer folds than devices, numbers that 4 does not divide."""
    data = (np.arange(11, dtype=np.float32),)
    columns, parts = {"x": X[:settings]}, lo.k_fold(data, folds, key=0)
    found = cross_validate(fold_mean, columns, parts, seeds=2)
    for i in range(settings):
        for fold, (train, valid) in enumerate(parts):
            for seed in range(2):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), fold), seed)
                alone = fold_mean({"x": X[i]}, train, valid, key)
                for name, value in alone.items():
                    np.testing.assert_allclose(found.metrics[name][i, fold, seed], value, rtol=1e-6)


@pytest.mark.parametrize("x", [X[:1], X])
def test_more_folds_and_seeds_than_run_at_once(x):
    data = (np.arange(300, dtype=np.float32),)
    found = cross_validate(fold_mean, {"x": x}, lo.leave_one_out(data), seeds=2)
    exact = x[:, None] + (data[0].sum() - data[0]) / 100
    np.testing.assert_allclose(found.metrics["loss"][..., 0], exact, rtol=1e-5)
    np.testing.assert_array_equal(found.metrics["first"][..., 1], np.broadcast_to(data[0], (len(x), 300)))


@pytest.mark.slow
def test_trainings_are_the_same_alone_and_in_any_chunk():
    folds = lo.stratified_k_fold(FLOWERS, 4, key=0)  # of unequal size
    columns = {"learning_rate": np.array([0.01, 0.1, 0.3, 1.0, 3.0]), "momentum": np.array([0.9, 0.5, 0.0, 0.9, 0.5])}
    by_chunk = [cross_validate(flowers, columns, folds, minimize="valid_loss", chunk=chunk) for chunk in (None, 2)]
    for name in by_chunk[0].metrics:
        np.testing.assert_allclose(by_chunk[0].metrics[name], by_chunk[1].metrics[name], rtol=1e-5)
    for i, fold in ((0, 0), (3, 2), (4, 3)):
        train, valid = folds[fold]
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), fold), 0)
        alone = flowers({name: column[i] for name, column in columns.items()}, train, valid, key)
        again = by_chunk[0].replay(i, fold)
        for name, values in by_chunk[0].metrics.items():
            np.testing.assert_allclose(values[i, fold, 0], alone.metrics[name], rtol=1e-4)
            np.testing.assert_allclose(again.metrics[name], alone.metrics[name], rtol=1e-4)
        assert again.history.epochs["valid_loss"].shape == (3,)


# lanes that diverge ---------------------------------------------------------------------------------------------------
def test_a_lane_that_diverges_changes_no_other():
    folds = lo.stratified_k_fold(FLOWERS, 3, key=0)
    rates = np.array([0.1, 2e38, 0.2, 3e38], np.float32)
    options = {"minimize": "valid_loss", "chunk": 2}  # each of the tame beside a wild one, in one program
    wild = cross_validate(flowers, {"learning_rate": rates}, folds, **options)
    tame = cross_validate(flowers, {"learning_rate": rates[[0, 2]]}, folds, **options)
    for name, values in wild.metrics.items():
        np.testing.assert_array_equal(values[[0, 2]], tame.metrics[name])
        assert np.isnan(values[[1, 3]]).all()
    assert (wild.diverged_at[[0, 2]] == -1).all()
    assert (wild.diverged_at[[1, 3]] >= 0).all()
    assert list(wild.ranking()[2:]) == [1, 3]
    assert wild.best_index in (0, 2)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_not_finite_is_ranked_last(bad):
    found = sweep(lambda s, key: {"loss": jnp.where(s["x"] == 0, bad, s["x"])}, {"x": X})
    assert found.best_index == 0
    assert found.ranking()[-1] == 3
    assert np.isnan(found.mean()[3])


def no_score(setting, key, diverged_at):
    return {"loss": setting["x"] * jnp.nan, "diverged_at": diverged_at}


@pytest.mark.parametrize(
    ("diverged_at", "why"), [(7, "all 7 diverged$"), (-1, "all 7 with an undefined loss .not finite, though no div")]
)
def test_no_setting_has_a_score(diverged_at, why):
    trial = functools.partial(no_score, diverged_at=diverged_at)
    with pytest.warns(UserWarning, match=f"no setting has a finite loss on all folds: {why}"):
        found = lo.sweep(trial, {"x": X}, minimize="loss", **quiet)
    with pytest.raises(ValueError, match=f"no setting has a finite loss on all folds: {why}"):
        found.best()
    assert re.match(why, repr(found).splitlines()[-1])


def test_where_a_trial_says_that_it_diverged():
    def trial(setting, key):
        return {"loss": setting["x"], "diverged": True, "diverged_at": jnp.where(setting["x"] > 0, 2**24 + 1, -1)}

    found = sweep(trial, {"x": X})
    assert set(found.metrics) == {"loss", "diverged"}
    assert found.diverged_at.ravel().tolist() == [-1] * 4 + [2**24 + 1] * 3
    np.testing.assert_array_equal(found.mean(), np.where(X > 0, np.nan, X))  # a lane that diverged holds NaN
    assert list(found.to_pandas()["search_diverged"]) == [0, 0, 0, 0, 1, 1, 1]


# static values --------------------------------------------------------------------------------------------------------
def test_static_values_are_pythons_and_numbers_are_traced():
    seen = []

    def trial(setting, key):
        seen.append(setting)
        assert isinstance(setting["x"], jax.Array)
        return {"loss": setting["x"] * setting["width"] + (setting["name"] == "b") + setting["flag"] * 10.0}

    columns = {
        "x": [1.0, 2.0, 3.0, 4.0, 5.0],
        "width": Static([2, 3, 2, 2, 3]),
        "name": ["a", "b", "a", "b", "a"],
        "flag": [True, False, True, True, False],
    }
    found = sweep(trial, columns)
    np.testing.assert_allclose(found.metrics["loss"].ravel(), [12, 7, 16, 19, 15])
    assert [s["width"] for s in seen] == [2, 3, 2, 3]
    assert all(type(s["width"]) is int and type(s["name"]) is str and type(s["flag"]) is bool for s in seen)
    assert found.best() == {"x": 2.0, "width": 3, "name": "b", "flag": False}


HYPERPARAMETERS = {
    "architecture": {"width": Static([4, 8])},
    "depth": {"layers": Static([1, 2])},
    "learning rate": {"learning_rate": [0.02, 0.05]},
    "iterations": {"epochs": Static([2, 5])},
    "batch size": {"batch_size": Static([10, 30])},
    "algorithm": {"algorithm": ["adam", "nesterov"]},
    "algorithm's parameter": {"b1": [0.5, 0.9]},
    "regularisation": {"coefficient": [0.001, 0.1]},
    "activation": {"activation": [nnx.relu, nnx.tanh]},
    "rate's decay": {"horizon": [5, 50]},
    "clipping": {"max_norm": [0.01, 10.0]},
    "initial weights": {"scale": [0.1, 1.0]},
}


def anything(setting, train, valid, key):
    """Any hyperparameter of the lecture, where a setting has it."""
    made = {
        "width": 6,
        "layers": 1,
        "learning_rate": 0.05,
        "epochs": 3,
        "batch_size": 20,
        "algorithm": "adam",
        "b1": 0.9,
    }
    made |= {"coefficient": 0.0, "activation": nnx.relu, "horizon": 20, "max_norm": 1.0, "scale": 1.0, **setting}

    def net(rngs):
        widths = [4, *[made["width"]] * made["layers"]]
        hidden = [
            step
            for m, n in itertools.pairwise(widths)
            for step in (nnx.Linear(m, n, kernel_init=scaled, rngs=rngs), made["activation"])
        ]
        return nnx.Sequential(*hidden, nnx.Linear(widths[-1], 3, rngs=rngs))

    def scaled(key, shape, dtype, **_):
        return made["scale"] * jax.nn.initializers.glorot_uniform()(key, shape, dtype)

    rate = lo.linear_decay(made["learning_rate"], transition_steps=made["horizon"])
    optimizer = optax.chain(
        lo.add_l2(made["coefficient"]),
        lo.clip_by_norm(made["max_norm"]),
        lo.adam(rate, b1=made["b1"]) if made["algorithm"] == "adam" else lo.nesterov(rate),
    )
    options = {"batch_size": made["batch_size"], "epochs": made["epochs"], "key": key}
    return lo.train(lo.classification(net, standardize=True), optimizer, train, valid=valid, **options)


@pytest.mark.slow
@pytest.mark.parametrize("columns", HYPERPARAMETERS.values(), ids=HYPERPARAMETERS)
def test_any_hyperparameter_is_searched(columns):
    """A setting trains as it would alone, and the hyperparameter makes a difference."""
    found = cross_validate(anything, columns, ONE_FOLD, minimize="valid_loss")
    losses = found.metrics["valid_loss"].ravel()
    np.testing.assert_allclose(found.replay(1).metrics["valid_loss"], losses[1], rtol=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


# bad input ------------------------------------------------------------------------------------------------------------
def vector(setting, key):
    return {"loss": jnp.ones(3) * setting["x"]}


def wide(setting, key):
    return {"loss": jnp.zeros(setting["x"]).sum()}


def branches(setting, key):
    return {"loss": 1.0 if setting["x"] > 0 else 0.0}


def differs(setting, key):
    return {"loss": 1.0, setting["name"]: 2.0}


class OwnError(Exception):
    pass


def raises(setting, key):
    raise OwnError("the trial's own")


BAD = {
    "no settings": (draw, {}, {}, ValueError, "settings must hold at least 1"),
    "not a dictionary": (draw, [1, 2], {}, TypeError, "settings must be a dictionary"),
    "unequal": (draw, {"x": X, "y": X[:3]}, {}, ValueError, "settings must be columns of equal length.*'y': 3"),
    "twice the same": (draw, {"x": [1.0, 2.0, 1.0]}, {}, ValueError, "settings must differ.*rows 0 and 2"),
    "NaN": (draw, {"x": [1.0, np.nan]}, {}, ValueError, r"settings\['x'\] must be finite; got nan"),
    "no metric": (draw, {"x": X}, {"minimize": "accuracy"}, ValueError, "minimize must be.*'loss'.*got 'accuracy'"),
    "both": (draw, {"x": X}, {"maximize": "loss"}, ValueError, "exactly one of minimize and maximize"),
    "neither": (draw, {"x": X}, {"minimize": None}, ValueError, "exactly one of minimize and maximize"),
    "metric": (draw, {"x": X}, {"minimize": 3}, TypeError, "minimize must be a metric's name; got 3"),
    "seeds": (draw, {"x": X}, {"seeds": 0}, ValueError, "seeds must be at least 1; got 0"),
    "chunk": (draw, {"x": X}, {"chunk": 0}, ValueError, "chunk must be at least 1; got 0"),
    "memory": (draw, {"x": X}, {"memory": -1}, ValueError, "memory must be in"),
    "key": (draw, {"x": X}, {"key": None}, TypeError, "key must be an int"),
    "halving": (draw, {"x": X}, {"halving": 3}, TypeError, "halving must be a lectopt.Halving"),
    "no function": (3, {"x": X}, {}, TypeError, "trial must be a function; got int"),
    "not scalar": (vector, {"x": X}, {}, ValueError, r"'loss' has shape \(3,\)"),
    "nothing": (lambda s, key: None, {"x": X}, {}, TypeError, "trial must return.*returned None"),
    "a name": (lambda s, key: {1: 2.0}, {"x": X}, {}, TypeError, "trial must return scalars by name; got the name 1"),
    "text": (lambda s, key: {"loss": "low"}, {"x": X}, {}, TypeError, "trial must return scalars; 'loss' is str"),
    "complex": (lambda s, key: {"loss": 1j * s["x"]}, {"x": X}, {}, TypeError, "real scalars; 'loss' is.*complex64"),
    "a date": (lambda s, key: {"loss": np.datetime64("2020")}, {"x": X}, {}, TypeError, "'loss' is datetime64"),
    "nothing in it": (lambda s, key: {}, {"x": X}, {}, TypeError, "trial must return.*it returned an empty dict"),
    "half a step": (
        lambda s, key: {"loss": 1.0, "diverged_at": 0.5},
        {"x": X},
        {},
        TypeError,
        "trial must return a whole number, or -1, as 'diverged_at'; it returned 0.5",
    ),
    "a name of settings": (draw, {3: X}, {}, TypeError, "settings must have strings for names; got 3"),
    "a width": (wide, {"x": [1, 2]}, {}, TypeError, "static=True"),
    "a branch": (branches, {"x": X}, {}, TypeError, "static=True"),
    "metrics differ": (differs, {"name": ["a", "b"]}, {}, ValueError, "the same metrics for all settings"),
    "own error": (raises, {"x": X}, {}, OwnError, "the trial's own"),
}


@pytest.mark.parametrize(("trial", "columns", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(trial, columns, options, error, message):
    with pytest.raises(error, match=message):
        sweep(trial, columns, **options)


def test_a_width_that_is_traced_says_how_to_mend_it_in_a_training_too():
    def trial(setting, train, valid, key):
        return lo.train(TASK, lo.sgd(0.1), train, valid=valid, batch_size=setting["batch"], epochs=1, key=key)

    with pytest.raises(TypeError, match="batch_size must be a whole number") as caught:
        cross_validate(trial, {"batch": [10, 20]}, lo.k_fold(FLOWERS, 3, key=0), minimize="valid_loss")
    assert any("static=True" in note for note in caught.value.__notes__)


def missing_key(setting, key):
    return {"loss": setting["y"]}


UNTRACED = {"a missing key": missing_key, "an error of its own": raises, "of text": lambda s, key: {"loss": len(3)}}
TRACED = {
    "a shape": lambda s, key: {"loss": jnp.zeros(s["x"]).sum()},
    "a branch": branches,
    "a range": lambda s, key: {"loss": sum(range(s["x"]))},
    "a place in a list": lambda s, key: {"loss": [1.0, 2.0][s["x"]]},
    "a key": lambda s, key: {"loss": {1: 2.0}[s["x"]]},
    "a slice": lambda s, key: {"loss": jnp.ones(3)[: s["x"]].sum()},
    "NumPy": lambda s, key: {"loss": np.sqrt(s["x"])},
    "a mask": lambda s, key: {"loss": jnp.ones(3)[jnp.arange(3) < s["x"]].sum()},
}


@pytest.mark.parametrize(
    ("trial", "told"),
    [(trial, False) for trial in UNTRACED.values()] + [(trial, True) for trial in TRACED.values()],
    ids=[*UNTRACED, *TRACED],
)
def test_the_note_about_static_values_is_under_the_errors_that_it_mends(trial, told):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        sweep(trial, {"x": [1, 2]})
    assert any("static=True" in note for note in getattr(caught.value, "__notes__", ())) == told


def test_folds_must_be_folds():
    with pytest.raises(TypeError, match=r"folds must be lectopt\.Folds"):
        lo.cross_validate(fold_mean, {"x": X}, FLOWERS, minimize="loss", **quiet)


def test_a_search_is_not_to_be_traced():
    with pytest.raises(TypeError, match="settings must not be traced"):
        jax.jit(lambda x: sweep(draw, {"x": x}).mean())(X)


# the best at the edge -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("best", "columns", "word"),
    [
        (1.0, {"x": X}, "high end"),
        (-1.0, {"x": X}, "low end"),
        (0.0, {"x": X}, None),
        (1.0, {"x": X[[0, 6]]}, None),  # of two, one is always at the edge
        (0.0, {"x": np.abs(X[3:])}, None),  # 0 switches off
        (1.0, lo.grid({"x": lo.space.uniform(-1.0, 1.0)}), "high end of what was searched, -1 to 1:"),
        (3, {"x": Static([1, 2, 3])}, "high end"),
        (1, {"x": [True, False]}, None),
        (1.0, lo.grid({"x": lo.space.choice([0.2, 0.5, 1.0])}), None),  # there is nothing else
    ],
)
def test_a_warning_where_the_best_stands_at_the_edge(best, columns, word):
    def trial(setting, key):
        return {"loss": (setting["x"] - best) ** 2}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lo.sweep(trial, columns, minimize="loss", **quiet)
    said = [str(w.message) for w in caught if "Widen the space" in str(w.message)]
    assert len(said) == (word is not None)
    assert word is None or word in said[0]


def warned(mean, columns, maximizes=False, seeds=1):
    """Whether a search with these scores, [n, folds * seeds], says to widen the space."""
    scores = {"loss": np.asarray(mean, np.float32).reshape(len(mean), -1, seeds)}
    never = np.full(scores["loss"].shape, -1)
    found = Results(columns, scores, never, "loss", maximizes, np.ones(len(mean), np.int32))
    return any(boundary_of(found, name) for name in columns)


SPACE = {"rate": lo.space.log_uniform(1e-4, 1.0), "decay": lo.space.uniform(0.0, 0.9)}


@pytest.mark.slow
@pytest.mark.parametrize(("folds", "most"), [(1, 0.12), (5, 0.03)])
@pytest.mark.parametrize("n", [8, 16, 64])
def test_pure_noise_is_seldom_taken_for_an_optimum_at_the_edge(n, folds, most):
    """Where the extreme that was drawn decided, it was 23 % of searches with 16 settings."""
    rng = np.random.default_rng(n)
    said = [warned(rng.normal(size=(n, folds)), lo.sample(SPACE, n, key=i % 5)) for i in range(200)]
    assert np.mean(said) <= most


@pytest.mark.parametrize("folds", [1, 5])
@pytest.mark.parametrize("maximizes", [False, True])
def test_an_optimum_at_the_edge_is_warned_of_and_one_inside_is_not(folds, maximizes):
    rng, sign, said = np.random.default_rng(0), -1 if maximizes else 1, []
    for i in range(10):
        columns = lo.sample(SPACE, 64, key=i)
        place, other = np.log10(columns["rate"]) / 4 + 1, (columns["decay"] / 0.9 - 0.5) ** 2
        noise = 0.02 * rng.normal(size=(64, folds))
        costs = [((best - place) ** 2 + 0.2 * other)[:, None] + noise for best in (1.4, 0.5)]
        said.append([warned(sign * cost, columns, maximizes) for cost in costs])
    edge, inside = np.sum(said, axis=0)
    assert edge >= (6 if folds == 1 else 9)  # with folds, noise is told from slope
    assert inside == 0


def test_two_folds_do_not_tell_their_standard_error():
    rough = np.repeat([[0, 0.001, 0.01, 0.002]], 6, axis=0).T
    columns = as_settings({"x": X[:4]})
    said = [warned(rough, columns, seeds=seeds) for seeds in (1, 2, 3, 6)]
    assert said == [True, True, False, True]  # 6 folds, 3 folds, 2 folds of 3 seeds, 6 seeds
    assert not any(warned(np.zeros((4, folds)), columns) for folds in (1, 3))  # nothing is better than the rest


# what it costs --------------------------------------------------------------------------------------------------------
def test_the_same_trial_compiles_once():
    found = [sweep(draw, {"x": X + shift}) for shift in (0, 1)]
    assert found[0].compile_seconds >= 0
    assert found[1].compile_seconds == 0
    np.testing.assert_allclose(found[1].metrics["x"].ravel(), X + 1)
    folds = [lo.k_fold((np.arange(11, dtype=np.float32) + shift,), 4, key=0) for shift in (0, 50)]
    firsts = [cross_validate(fold_mean, {"x": X}, parts) for parts in folds]
    assert firsts[1].compile_seconds == 0
    np.testing.assert_allclose(firsts[1].metrics["first"], firsts[0].metrics["first"] + 50)


def test_another_size_of_a_chunk_is_not_compiled_because_the_first_one_was_known():
    def trial(setting, key):
        return {"loss": setting["x"]}

    many = np.arange(300, dtype=np.float32)  # two chunks for each device
    found = [sweep(trial, {"x": many + shift}) for shift in (0, 1)]
    assert found[0].compile_seconds > 0
    assert found[1].compile_seconds == 0


def test_what_the_trial_closes_over_may_change_between_searches():
    data, factor = np.ones(3, np.float32), 2.0

    def trial(setting, key):
        return {"loss": setting["x"] * factor + jnp.sum(jnp.asarray(data))}

    found = [sweep(trial, {"x": X})]
    factor = 5.0
    found.append(sweep(trial, {"x": X}))
    data = np.full(3, 2, np.float32)
    found.append(sweep(trial, {"x": X}))
    for results, (times, plus) in zip(found, ((2, 3), (5, 3), (5, 6)), strict=True):
        np.testing.assert_allclose(results.metrics["loss"].ravel(), X * times + plus, rtol=1e-6)


def test_results_keep_no_programs():
    """A replay needs the trial, the settings and the data; not the search that they come from."""

    def trial(setting, key):
        return {"loss": setting["x"] ** 2}

    search = Search.of(trial, {"x": X, "kind": ["a"] * 3 + ["b"] * 4}, None, minimize="loss", **quiet)
    found, of_kinds = search.run(), list(search.programs.values())
    assert len(of_kinds) == 2
    gone = [weakref.ref(one) for one in (search, *of_kinds, search.scores)]
    del search, of_kinds
    gc.collect()
    assert [one() for one in gone] == [None] * 4
    assert float(found.replay(5)["loss"]) == pytest.approx(X[5] ** 2)


def test_a_function_that_is_gone_keeps_no_program():
    before = len(program_cache._compiled)
    sweep(lambda s, key: {"loss": s["x"]}, {"x": X})
    assert len(program_cache._compiled) == before


def test_what_the_trial_closes_over_is_not_compiled_in():
    large = jnp.asarray(np.random.default_rng(0).normal(size=(500, 500)), jnp.float32)

    def trial(setting, key):
        return {"loss": jnp.sum(large) * setting["x"]}

    np.testing.assert_allclose(sweep(trial, {"x": X}).metrics["loss"].ravel(), X * float(large.sum()), rtol=1e-4)
    (text,) = program_cache._compiled[trial]
    assert len(text) < 20_000


@pytest.mark.slow
def test_memory_bounds_the_lanes_at_once(capsys):
    def trial(setting, key):
        big = jnp.tanh(jax.random.normal(key, (300, 300)) * setting["x"])
        return {"loss": jax.lax.fori_loop(0, 3, lambda _, b: jnp.tanh(b @ big), big).sum()}

    columns = {"x": np.linspace(0.1, 1, 64)}
    free = sweep(trial, columns, progress=True)
    text = capsys.readouterr().err
    assert "at once 16 settings x 1 = 16 trainings" in text
    tight = sweep(functools.partial(trial), columns, memory=8_000_000, progress=True)
    text = capsys.readouterr().err
    assert "at once 16 settings x 1 = 16 trainings" not in text
    assert "of 8 MB" in text
    np.testing.assert_allclose(tight.metrics["loss"], free.metrics["loss"], rtol=1e-3)
    with pytest.raises(ValueError, match=r"memory must be enough for 1 training\(s\) at once.*got 1,000"):
        sweep(functools.partial(trial), columns, memory=1000)


def test_the_plan_is_printed_before(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lo.cross_validate(fold_mean, {"x": X}, FOLDS, minimize="loss", key=0, seeds=2)
    said = capsys.readouterr().err
    assert "7 settings x 4 folds x 2 seeds: 56 trainings in 1 program(s)" in said
    assert re.search(r"traced in \d+\.\d s, compiled in \d+\.\d s \(beside .*\), ran in \d+\.\d s", said)
    sweep(draw, {"x": X})
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_use_all_cores(monkeypatch, cpu_alone):
    """One device for each core, in a process of its own; a warning where JAX has begun with fewer, as it has here."""
    code = "import lectopt as lo, jax; print(lo.use_all_cores() == jax.device_count())"
    early = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (early.stdout, early.stderr) == ("True\n", "")
    devices = jax.device_count()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)))
    late = rf"use_all_cores\(\) must be called before JAX computes anything: it has {devices} CPU device\(s\) for 9"
    with pytest.warns(UserWarning, match=late):
        assert lo.use_all_cores() == devices


FACTORIZE = """
import lectopt as lo, jax, jax.numpy as jnp

lo.use_all_cores()

def trial(setting, key):
    def step(total, key):
        return total + setting["a"] * jnp.linalg.qr(jax.random.normal(key, (64, 64)))[0].sum(), None

    return {"loss": jax.lax.scan(step, jnp.float32(0), jax.random.split(key, 30))[0]}

settings = lo.grid({"a": lo.space.choice([0.1, 0.2, 0.3, 0.4])})
print(lo.sweep(trial, settings, minimize="loss", seeds=40, key=0, progress=False).mean().shape)
"""


@pytest.mark.slow
def test_factorizations_on_all_cores_do_not_wait_for_each_other(cpu_alone):
    found = subprocess.run([sys.executable, "-c", FACTORIZE], capture_output=True, text=True, timeout=100, check=False)
    assert (found.stdout, found.stderr) == ("(4,)\n", "")


# JAX's modes ----------------------------------------------------------------------------------------------------------
TWO_RATES = {"learning_rate": [0.1, 3e38]}
"""The second one diverges."""


def of_flowers():
    return cross_validate(flowers, TWO_RATES, ONE_FOLD, minimize="valid_loss")


def of_rounds():
    controller = lo.search.Controller(units=4, layers=1)
    return lo.search.reinforce([3, 3], lambda v: v.sum(axis=1), 2, 2, key=0, controller=controller, progress=False)


@pytest.fixture(scope="module")
def usual():
    """What both searches find in none of the modes."""
    return of_flowers().mean("valid_loss"), of_rounds().scores


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_searches_run_in_each_of_the_modes_that_look_for_faults(mode, usual):
    """A lane that diverges too; the numbers are the same."""
    with mode():
        found, again = of_flowers(), of_rounds()
    np.testing.assert_allclose(found.mean("valid_loss"), usual[0], rtol=1e-5)
    assert np.isnan(found.mean()).tolist() == [False, True]
    np.testing.assert_array_equal(again.scores, usual[1])


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_search_without_a_training_runs_in_them_too(mode):
    def trial(setting, key):
        return {"loss": setting["x"], "diverged_at": jnp.where(setting["x"] > 0, 3, -1)}

    with mode():
        found = sweep(trial, {"x": [-1.0, 1.0]}, seeds=2)
    np.testing.assert_array_equal(found.mean(), [-1, np.nan])


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            lambda **options: lo.sweep(lambda setting, train, valid, key: {"m": 0.0}, **options),
            r"trial\(setting, key\)",
        ),
        (
            lambda **options: lo.cross_validate(
                lambda setting, key: {"m": 0.0}, folds=lo.k_fold((X,), 2, key=0), **options
            ),
            r"trial\(setting, train, valid, key\)",
        ),
        (
            lambda **options: lo.sweep(lambda setting, key: {"m": 0.0}, halving=lo.Halving(4), **options),
            r"trial\(setting, key, epochs=, start=\) for halving",
        ),
    ],
)
def test_a_trial_of_other_arguments_is_refused_by_name(search, said):
    with pytest.raises(TypeError, match="trial must be a function that can be called as " + said):
        search(settings={"a": [1.0, 2.0]}, minimize="m", key=0, progress=False)


@pytest.mark.parametrize(
    "returned",
    [lambda a: a, lambda a: {"m": a * 1j}, lambda a: {"m": a, "diverged_at": a}],
    ids=["no dictionary", "complex", "diverged_at"],
)
def test_what_a_trial_may_not_return_comes_without_a_word_on_traced_numbers(returned):
    with pytest.raises(TypeError, match="trial must return") as caught:
        lo.sweep(lambda setting, key: returned(setting["a"]), {"a": [1.0]}, minimize="m", key=0, progress=False)
    assert "Tracer" not in str(caught.value)
    assert not any("static=True" in note for note in getattr(caught.value, "__notes__", []))


def test_a_trial_that_keeps_its_own_epochs_is_refused_for_halving():
    task = lo.regression(lambda rngs: nnx.Linear(1, 1, rngs=rngs))

    def trial(setting, key, epochs, start):
        return lo.train(
            task, lo.sgd(setting["a"]), (X[:, None], X[:, None]), batch_size=7, epochs=3, key=key, start=start
        )

    with pytest.raises(ValueError, match=r"trial must pass epochs on.*given 1, its run has 3"):
        lo.sweep(trial, {"a": [0.1, 0.2]}, minimize="train_loss", key=0, progress=False, halving=lo.Halving(3))


def test_a_trial_that_begins_anew_at_each_rung_is_refused_for_halving():
    task = lo.regression(lambda rngs: nnx.Linear(1, 1, rngs=rngs))

    def trial(setting, key, epochs, start):
        return lo.train(task, lo.sgd(setting["a"]), (X[:, None], X[:, None]), batch_size=7, epochs=epochs, key=key)

    with pytest.raises(ValueError, match=r"trial must pass start on to lectopt\.train for halving"):
        lo.sweep(trial, {"a": [0.1, 0.2]}, minimize="train_loss", key=0, progress=False, halving=lo.Halving(3))


def test_the_plan_says_how_many_programs_there_are_and_how_many_compile_at_a_time(monkeypatch):
    monkeypatch.setattr("lectopt.engine.devices.cores", lambda: 2)
    options = SearchOptions.of(chunk=None, memory=1, directory=None, progress=False)
    assert "360 trainings in 3 program(s) for each of 2 rungs, 2 compiled at a time, on" in plan(
        (9, 5, 8), 360, 3, 2, 0, options
    )
    assert "in 1 program(s) on" in plan((9, 5, 8), 360, 1, 1, 0, options)
    assert "in 1 program(s), and 1 to retrain on" in plan((9, 5, 8), 360, 1, 1, 1, options)
    assert "in 1 program(s), and up to 4 to retrain on" in plan((9, 5, 8), 360, 1, 1, 4, options)
