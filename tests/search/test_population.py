"""A population that learns while it trains: who copies whom, which settings follow, and that nothing else changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from oracle import population_round

import lectopt as lo
from lectopt._internal import progress
from lectopt.search.drawing import uniforms_of
from lectopt.search.exploring import Exploration
from lectopt.strategies import round_program
from lectopt.strategies.round_program import RoundProgram
from lectopt.strategies.truncation import Truncation

TRAIN, VALID = lo.holdout(lo.datasets.iris(), 0.3, key=0, stratify=True)
TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
SPACE = {"learning_rate": lo.space.log_uniform(1e-4, 1.0), "momentum": lo.space.uniform(0.1, 0.9)}
SETTINGS = lo.sample(SPACE, 10, key=3)
OPTIONS = {"minimize": "valid_loss", "rounds": 5, "epochs_per_round": 2, "key": 0, "progress": False}


def flowers(setting, key, *, epochs, start, shuffle=True):
    optimizer = lo.momentum(setting["learning_rate"], setting["momentum"])
    options = {"batch_size": 35, "epochs": epochs, "key": key, "start": start, "shuffle": shuffle}
    return lo.train(TASK, optimizer, TRAIN, valid=VALID, **options)


def population(settings=SETTINGS, trial=flowers, **options):
    return lo.population(trial, settings, **{**OPTIONS, **options})


@functools.cache
def found():
    return population()


def same(one, other):
    for a, b in ((one.settings, other.settings), (one.metrics, other.metrics)):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_array_equal(one.parents, other.parents)


# who copies whom ------------------------------------------------------------------------------------------------------
nan = np.nan


@pytest.mark.parametrize(
    "losses",
    [[3, 1, 2, 5, 4], [1, 1, 1, 1, 1], [nan, 1, nan, 0, nan], [nan] * 5, [2, nan, 2, 1, 2], [nan, nan, 3, nan, nan]],
)
@pytest.mark.parametrize("count", [1, 2])
def test_the_worst_take_over_from_the_best(losses, count):
    draws = np.float32([0.0, 0.3, 0.5, 0.7, 0.99999994])
    parents = Truncation(count).parents(jnp.float32(losses), draws)
    expected, _ = population_round(losses, {}, count, draws, {}, {})
    assert parents.tolist() == expected


def expected_rounds(found, settings, *, resample=0.0, factors=(0.8, 1.2), maximizes=False):
    """Checks each round of a population against the oracle, given the scores that there were."""
    rounds, n = found.parents.shape
    key = jax.random.fold_in(jax.random.key(0), rounds)
    explored = Exploration.of(settings, factors, resample, rounds, key)
    draws = uniforms_of(key, "parents")(rounds * n).reshape(rounds, n)
    ranges = {name: (entry.low, entry.high) for name, entry in settings.space.items()}
    assert found.parents[0].tolist() == list(range(n))
    for name, column in settings.items():
        np.testing.assert_array_equal(found.settings[name][0], column)
    for i in range(rounds - 1):
        parents, numbers = population_round(
            (-1 if maximizes else 1) * found.scores[i],
            {name: column[i] for name, column in found.settings.items()},
            n // 5,
            draws[i],
            {name: factor[i] for name, factor in explored.factors.items()},
            ranges,
            {name: column[i] for name, column in explored.drawn.items()},
            explored.resampled[i],
        )
        assert found.parents[i + 1].tolist() == parents
        for name in numbers:
            np.testing.assert_array_equal(found.settings[name][i + 1], np.float32(numbers[name]))


@pytest.mark.slow
def test_each_round_follows_from_the_scores_before():
    expected_rounds(found(), SETTINGS)
    assert (found().parents[1:] != np.arange(10)).sum() == 4 * 2


@pytest.mark.slow
def test_higher_is_better_and_settings_drawn_again():
    options = {"minimize": None, "maximize": "valid_accuracy", "resample": 0.5, "rounds": 4, "epochs_per_round": 1}
    for_accuracy = population(**options)
    expected_rounds(for_accuracy, SETTINGS, resample=0.5, maximizes=True)
    assert for_accuracy.scores[-1, for_accuracy.best_member] == for_accuracy.scores[-1].max()


@pytest.mark.slow
def test_a_lineage_trained_alone_is_what_its_members_were():
    """Weights, optimizer state and settings were all copied: else the scores were others."""
    copied = np.flatnonzero(found().parents[-1] != np.arange(10))
    for member in (None, int(copied[0])):
        line, run = found().lineage(member), found().replay(member)
        losses = np.asarray(run.history.epochs["valid_loss"])
        assert losses.shape == (10,)
        np.testing.assert_allclose(losses[1::2], found().scores[np.arange(5), line], rtol=2e-6)
        rates = np.repeat(found().settings["learning_rate"][np.arange(5), line], 2 * 3)
        np.testing.assert_array_equal(run.history.steps["learning_rate"], rates)


@pytest.mark.slow
def test_the_schedule_is_one_plain_training():
    """Where batches are the same in each epoch: bit for bit the lineage, from one compiled training."""
    trial = functools.partial(flowers, shuffle=False)
    result = population(trial=trial, epochs_per_round=1)
    assert result.schedule("learning_rate").values.shape == (5,)
    assert len(set(result.schedule("learning_rate").values.tolist())) > 1
    setting = {name: result.schedule(name) for name in SPACE}
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    plain, again = jax.jit(lambda: trial(setting, key, epochs=5, start=None))(), result.replay()
    for one, other in zip(jax.tree.leaves(plain.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain.history.steps["loss"], again.history.steps["loss"])


# devices, directories -------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_on_four_devices_as_on_one(four_devices, monkeypatch):
    on_four = population(chunk=1)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    same(on_four, population(chunk=1))


@pytest.mark.slow
def test_killed_it_goes_on(tmp_path, monkeypatch):
    advance = RoundProgram.advance

    def killed(self, state):
        if state.round >= 3:
            raise RuntimeError("killed")
        return advance(self, state)

    monkeypatch.setattr(RoundProgram, "advance", killed)
    with pytest.raises(RuntimeError, match="killed"):
        population(directory=tmp_path)
    began = []
    monkeypatch.setattr(
        RoundProgram, "advance", lambda self, state: began.append(int(state.round)) or advance(self, state)
    )
    same(population(directory=tmp_path), found())
    assert began[0] == 3
    same(population(directory=tmp_path), found())
    with pytest.raises(ValueError, match="directory must be new"):
        population(directory=tmp_path, key=1)


@pytest.mark.slow
# members that diverge -------------------------------------------------------------------------------------------------
def test_all_that_diverge_are_replaced():
    columns = {
        "learning_rate": np.float32([0.1, 3e38, 0.05, 2e38, 0.02, 1e38]),
        "momentum": np.full(6, 0.5, np.float32),
    }
    with_wild = population(columns, rounds=3, epochs_per_round=1)
    assert np.isnan(with_wild.scores[0]).tolist() == [False, True, False, True, False, True]
    best = int(np.nanargmin(with_wild.scores[0]))
    assert with_wild.parents[1].tolist() == [0, best, 2, best, 4, best]
    assert np.isfinite(with_wild.scores[1]).all()
    columns["learning_rate"][1::2] = 0.01, 0.03, 0.04
    tame = population(columns, rounds=3, epochs_per_round=1)
    np.testing.assert_array_equal(with_wild.scores[0][::2], tame.scores[0][::2])


@pytest.mark.slow
def test_where_all_diverge_nobody_copies():
    with pytest.warns(UserWarning, match=r"no member has a finite valid_loss in the last round.*; 2 of 2 diverged"):
        wild = population({"learning_rate": [3e38, 2e38], "momentum": [0.5, 0.6]}, rounds=2, epochs_per_round=1)
    assert wild.parents.tolist() == [[0, 1]] * 2
    assert "no finite valid_loss" in repr(wild)
    for asked in (lambda: wild.best_member, wild.replay, wild.lineage):
        with pytest.raises(ValueError, match="no member has a finite valid_loss"):
            asked()


# exploring ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_function_explores():
    columns = {"learning_rate": lo.space.log_uniform(0.01, 0.5), "momentum": lo.space.choice([0.0, 0.5, 0.9])}
    settings = lo.sample(columns, 5, key=0)

    def explore(setting, key):
        return {"learning_rate": setting["learning_rate"] * 1e6, "momentum": 1.0 - setting["momentum"]}

    result = population(settings, explore=explore, rounds=2, epochs_per_round=1)
    (copied,) = np.flatnonzero(result.parents[1] != np.arange(5))
    parent = result.parents[1, copied]
    assert result.settings["learning_rate"][1, copied] == np.float32(0.5)  # the end of its range
    assert result.settings["momentum"][1, copied] == np.float32(1) - result.settings["momentum"][0, parent]


def test_whole_numbers_stay_whole():
    settings = lo.sample({"n": lo.space.integers(2, 9)}, 5, key=0)
    explored = Exploration.of(settings, (1.2,), 0.0, 1, jax.random.key(0))
    new = explored({"n": jnp.array([2, 3, 5, 8, 9], jnp.int32)}, jnp.int32(0))["n"]
    assert new.tolist() == [2, 4, 6, 9, 9]
    assert new.dtype == jnp.int32


# folds ----------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_members_are_ranked_by_the_mean_over_folds_and_seeds():
    folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)

    def trial(setting, train, valid, key, *, epochs, start):
        return lo.train(
            TASK, lo.sgd(setting["rate"]), train, valid=valid, batch_size=50, epochs=epochs, key=key, start=start
        )

    settings = lo.sample({"rate": lo.space.log_uniform(1e-3, 1.0)}, 5, key=0)
    result = population(settings, trial, folds=folds, seeds=2, rounds=3, epochs_per_round=1)
    assert result.metrics["valid_loss"].shape == (3, 5, 3, 2)
    expected_rounds(result, settings)
    line, run = result.lineage(), result.replay(fold=2, seed=1)
    recorded = result.metrics["valid_loss"][np.arange(3), line, 2, 1]
    np.testing.assert_allclose(run.history.epochs["valid_loss"], recorded, rtol=2e-6)


# bad input ------------------------------------------------------------------------------------------------------------
def no_start(setting, key, *, epochs, start):
    return flowers(setting, key, epochs=epochs, start=None)


def by_steps(setting, key, *, steps, start):
    optimizer = lo.momentum(setting["learning_rate"], setting["momentum"])
    options = {"batch_size": 35, "steps": steps, "key": key, "start": start}
    return lo.train(TASK, optimizer, TRAIN, valid=VALID, **options)


@pytest.mark.slow
def test_rounds_of_steps():
    """As many as are asked for, whole epochs or not."""
    short = {"epochs_per_round": None, "rounds": 3, "settings": SETTINGS.take(range(5))}
    found = population(trial=by_steps, steps_per_round=4, **short)  # of three in an epoch
    assert found.steps_per_round == 4
    assert (
        found.schedule("learning_rate")(jnp.arange(12)).tolist()
        == np.repeat(found.schedule("learning_rate").values, 4).tolist()
    )
    run = found.replay()
    assert run.history.steps["loss"].shape == (12,)
    np.testing.assert_allclose(run.metrics["valid_loss"], found.scores[-1, found.best_member], rtol=2e-6)


def own_epochs(setting, key, *, epochs, start):
    return flowers(setting, key, epochs=7, start=start)


CHOICE = lo.sample({"learning_rate": lo.space.choice([0.1, 0.2, 0.3])}, 3, key=0)
BAD = {
    "rounds": ({"rounds": 0}, ValueError, "rounds must be"),
    "epochs": ({"epochs_per_round": 1.5}, TypeError, "epochs_per_round must be"),
    "steps": ({"epochs_per_round": None, "steps_per_round": 0}, ValueError, "steps_per_round must be"),
    "both": ({"steps_per_round": 3}, ValueError, "exactly one of epochs_per_round and steps_per_round .* 2 and 3"),
    "neither": ({"epochs_per_round": None}, ValueError, "exactly one of epochs_per_round and steps_per_round"),
    "no steps": ({"epochs_per_round": None, "steps_per_round": 3}, TypeError, r"trial\(setting, key, steps=, start=\)"),
    "own steps": (
        {"trial": lambda setting, key, *, steps, start: by_steps(setting, key, steps=2, start=start)}
        | {"epochs_per_round": None, "steps_per_round": 3},
        ValueError,
        "trial must pass steps on .* for a population; given 3, its run has 2",
    ),
    "exploit": ({"exploit": 0.6}, ValueError, r"exploit must be .*0\.5.*got 0\.6"),
    "factor": ({"explore": (0.8, -1.0)}, ValueError, "explore must be"),
    "no factor": ({"explore": ()}, ValueError, "explore must hold at least 1 factor"),
    "explore": ({"explore": "perturb"}, TypeError, "explore must be a list of factors"),
    "resample": ({"resample": 1.5}, ValueError, "resample must be"),
    "no space": ({"settings": {"learning_rate": [0.1, 0.2]}, "resample": 0.5}, ValueError, "resample needs settings"),
    "one": ({"settings": {"learning_rate": [0.1]}}, ValueError, "settings must be at least 2"),
    "static": ({"settings": {"a": ["x", "y"]}}, ValueError, r"settings\['a'\] must be numbers that are traced"),
    "choice": ({"settings": CHOICE}, ValueError, r"settings\['learning_rate'\] must be of a range to be perturbed"),
    "metric": ({"minimize": "loss"}, ValueError, "minimize must be a metric that trial returns"),
    "no metric": ({"minimize": None}, ValueError, "exactly one of minimize and maximize"),
    "trial": ({"trial": lambda setting, key: 0}, TypeError, r"trial\(setting, key, epochs=, start=\) for a population"),
    "no run": ({"trial": lambda setting, key, *, epochs, start: {"a": 0.0}}, TypeError, "Run for a population"),
    "no start": ({"trial": no_start}, ValueError, "trial must pass start on .* for a population"),
    "own epochs": ({"trial": own_epochs}, ValueError, "trial must pass epochs on .* for a population; given 2"),
    "folds": ({"folds": 3}, TypeError, "folds must be lectopt.Folds"),
    "memory": ({"memory": 10}, ValueError, "memory must be enough"),
    "explored word": ({"explore": lambda s, key: {**s, "learning_rate": "a"}}, TypeError, "explore's .* must be"),
    "explored": ({"explore": lambda s, key: {"x": 1.0}}, ValueError, "explore must return a setting with the names"),
    "function": ({"trial": 3}, TypeError, "trial must be a function"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "memory")) for n in BAD])
def test_bad_input_is_refused_by_name(name, monkeypatch):
    options, error, message = BAD[name]
    if name != "memory":
        monkeypatch.setattr(RoundProgram, "compile", lambda self: pytest.fail("compiled"))
    with pytest.raises(error, match=message):
        population(**options)


def test_bad_questions_are_refused_by_name():
    for ask, error, message in (
        (lambda: found().schedule("rate"), ValueError, "name must be one of learning_rate, momentum; got 'rate'"),
        (lambda: found().lineage(10), ValueError, "member must be below 10"),
        (lambda: found().lineage(0.5), TypeError, "member must be"),
        (lambda: found().replay(fold=1), ValueError, "fold must be below 1"),
        (lambda: found().replay(seed=1), ValueError, "seed must be below 1"),
    ):
        with pytest.raises(error, match=message):
            ask()


def test_the_picture_tells_the_schedule():
    figure = found().plot()
    assert [axis.get_ylabel() for axis in figure.axes] == ["validation loss", "learning rate", "momentum"]
    line = found().lineage()
    (drawn,) = (x for x in figure.axes[1].get_lines() if x.get_label() == "what led to the best")
    np.testing.assert_array_equal(drawn.get_ydata(), found().settings["learning_rate"][np.arange(5), line])


@pytest.mark.slow
def test_in_a_notebook_the_picture_grows_round_by_round(screen, monkeypatch):
    found()  # whose program is there
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)
    monkeypatch.setattr(round_program, "next_size", lambda *_, **__: 2)  # rounds at once, after the first
    same(population(progress=True), found())
    figures = [*screen.shown, *screen.updates]
    assert len(screen.shown) == 1
    lines = [x for figure in figures for x in figure.axes[0].get_lines() if x.get_label() == "what led to the best"]
    assert [len(line.get_xdata()) for line in lines] == [1, 3, 5]


def test_what_was_drawn_evenly_stands_on_an_even_axis_however_small_its_least_value():
    wide = {**found().settings, "momentum": np.geomspace(1e-3, 0.9, 50).reshape(5, 10)}
    narrow = {**wide, "learning_rate": np.linspace(0.1, 0.2, 50).reshape(5, 10)}
    figure = dataclasses.replace(found(), settings=narrow).plot()
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "log", "linear"]
