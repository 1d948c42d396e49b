"""Optuna's samplers and storage on the search engine."""

import dataclasses
import subprocess
import sys
import textwrap
import time

import jax.numpy as jnp
import numpy as np
import pytest

import lectopt as lo

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from lectopt.engine import program_cache, running  # noqa: E402
from lectopt.search.optuna import optimize, setting_of, to_study  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = {
    "x": lo.space.uniform(-1.0, 1.0),
    "rate": lo.space.log_uniform(1e-3, 1.0),
    "count": lo.space.integers(1, 9),
    "width": lo.space.integers(1, 2, static=True),
    "kind": lo.space.choice(["a", "b"]),
}


def bowl(setting, key):
    assert type(setting["width"]) is int
    loss = (setting["x"] - 0.3) ** 2 + jnp.log(setting["rate"] / 0.1) ** 2 / 10 + abs(setting["count"] - 3.0)
    return {"loss": loss + setting["width"] + (setting["kind"] == "b"), "other": setting["x"]}


def run(study, trial=bowl, space=SPACE, **options):
    usual = {"metric": "loss", "n_trials": 24, "batch_size": 8, "key": 0, "progress": False}
    return optimize(study, trial, space, **usual | options)


def test_what_is_told_is_what_the_trial_says():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    run(study)
    assert len(study.trials) == 24
    for one in study.trials:
        p = one.params
        loss = (p["x"] - 0.3) ** 2 + np.log(p["rate"] / 0.1) ** 2 / 10 + abs(p["count"] - 3)
        assert one.value == pytest.approx(loss + p["width"] + (p["kind"] == "b"), rel=1e-4)
        assert one.user_attrs["means"]["other"] == pytest.approx(p["x"], rel=1e-5)
    assert one.distributions["rate"].log
    assert one.distributions["count"] == optuna.distributions.IntDistribution(1, 9)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_sampler_learns_from_its_batches(direction):
    sign = 1 if direction == "minimize" else -1

    def trial(setting, key):
        return {"loss": sign * sum((setting[name] - 0.3) ** 2 for name in "abcd")}

    space = {name: lo.space.uniform(-5.0, 5.0) for name in "abcd"}
    best = {}
    for name, sampler in {"tpe": optuna.samplers.TPESampler(seed=1, n_startup_trials=16), "random": None}.items():
        study = optuna.create_study(direction=direction, sampler=sampler or optuna.samplers.RandomSampler(seed=1))
        run(study, trial, space, n_trials=160)
        best[name] = sign * study.best_value
    assert best["tpe"] < 0.5 * best["random"]


def test_folds_and_divergence():
    def trial(setting, train, valid, key):
        """Of its fold, and not finite where the rate is too high, as a training is."""
        example = train.arrays[0][train.indices[0]]
        return {"valid_loss": jnp.mean(example) + setting["rate"] ** 2}

    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"rate": [0.1, 0.3, 3e38]}, seed=0))
    folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)
    space = {"rate": lo.space.log_uniform(1e-3, 3.1e38)}
    run(study, trial, space, folds=folds, metric="valid_loss", n_trials=30, batch_size=2)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert len(study.trials) == 4  # the grid of 3, and one more to fill the last batch
    by_rate = {one.params["rate"]: one for one in study.trials}
    assert by_rate[3e38].state is TrialState.PRUNED
    direct = lo.cross_validate(trial, {"rate": [0.1, 0.3]}, folds, minimize="valid_loss", key=0, progress=False)
    assert by_rate[0.1].value == pytest.approx(float(direct.mean()[0]), rel=1e-4)


def test_a_sampler_learns_where_trials_diverge():
    """On half of the square nothing is finite: TPE keeps away from it, better than chance, and finds the optimum."""

    def trial(setting, key):
        loss = (setting["x"] - 0.45) ** 2 + (setting["y"] - 0.3) ** 2
        return {"loss": jnp.where(setting["x"] > 0.5, jnp.nan, loss)}

    space = {name: lo.space.uniform(0.0, 1.0) for name in "xy"}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    run(study, trial, space, n_trials=64)
    wasted = [one for one in study.trials if one.params["x"] > 0.5]
    assert len(wasted) <= 27  # told as failed, 44; at random, 32
    assert {one.state for one in wasted} == {TrialState.PRUNED}
    assert study.best_value < 1e-3


def own_error(setting, key):
    raise RuntimeError("the trial's own")


def test_an_error_leaves_no_trial_running_and_does_not_count():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(RuntimeError, match="the trial's own"):
        run(study, own_error, n_trials=8)
    assert [one.state for one in study.trials] == [TrialState.FAIL] * 8
    run(study, n_trials=8)
    assert [one.state for one in study.trials[8:]] == [TrialState.COMPLETE] * 8


@pytest.mark.parametrize("person", [False, True])
def test_ctrl_c_puts_back_what_was_running(monkeypatch, person):
    rectangles, lanes = [], running.run_rectangle

    def interrupted(*arguments):
        rectangles.append(1)
        if len(rectangles) == 2:
            raise KeyboardInterrupt
        return lanes(*arguments)

    monkeypatch.setattr(running, "run_rectangle", interrupted)
    monkeypatch.setattr("lectopt.search.optuna.interactive", lambda: person)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = {"x": lo.space.uniform(0.0, 1.0), "decay": lo.space.choice([0.5, 0.7])}
    options = {"trial": lambda s, key: {"loss": s["x"]}, "space": space, "n_trials": 8, "batch_size": 4}
    if person:
        with pytest.warns(UserWarning, match="interrupted: 4 of 8 trials are finished"):
            results = run(study, **options)
        assert results.best() == pytest.approx(study.best_params)
        assert len(results) == 4
    else:
        with pytest.raises(KeyboardInterrupt):
            run(study, **options)
    states = [one.state for one in study.trials]
    assert states == [TrialState.COMPLETE] * 4 + [TrialState.FAIL] * 4 + [TrialState.WAITING] * 4
    run(study, **options)
    assert [one.state for one in study.trials[8:]] == [TrialState.COMPLETE] * 4
    assert [one.params for one in study.trials[8:]] == [one.params for one in study.trials[4:8]]
    assert [one.value for one in study.trials[8:]] == pytest.approx([one.params["x"] for one in study.trials[8:]])


def test_batches_of_any_mixture_compile_one_program_for_each_group():
    def trial(setting, key):
        return {"loss": setting["x"] * setting["width"]}

    space = {"x": lo.space.uniform(0.0, 1.0), "width": lo.space.choice([1, 2, 3], static=True)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    run(study, trial, space, n_trials=40)
    assert [len(programs._begun) for programs in program_cache._compiled[trial].values()] == [1, 1, 1]
    for one in study.trials:
        assert one.value == pytest.approx(one.params["x"] * one.params["width"], rel=1e-5)


class Odd:
    """A value whose repr holds its place in memory."""


@pytest.mark.slow
def test_choices_that_are_no_plain_values_in_a_storage(tmp_path):
    odd = Odd()
    values = [(32, 16), (32,), jnp.tanh, odd, "(32,)", None, 3]
    space = {"x": lo.space.uniform(0.0, 1.0), "which": lo.space.choice(values)}
    seen = []

    def trial(setting, key):
        seen.append(setting["which"])
        return {"loss": setting["x"] + 10.0 * (setting["which"] is not odd)}

    options = {"study_name": "s", "storage": f"sqlite:///{tmp_path}/study.db", "load_if_exists": True}
    for n_trials in (12, 24):  # the second time from the storage
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)
        run(study, trial, space, n_trials=n_trials)
    assert set(seen) == set(values)
    labels = ["(32, 16)", "(32,)", "tanh", "Odd 3", "(32,) (4)", None, 3]
    assert {one.params["which"] for one in study.trials} <= set(labels)
    assert study.best_params["which"] == "Odd 3"
    assert [setting_of({"which": label}, space)["which"] for label in labels] == values
    assert setting_of(study.best_params, space)["which"] is odd


def test_a_setting_that_is_asked_for_twice():
    study = optuna.create_study()
    for _ in range(2):
        study.enqueue_trial({"x": 0.5})
    run(study, lambda s, key: {"loss": s["x"]}, {"x": lo.space.uniform(0.0, 1.0)}, n_trials=2, batch_size=2)
    assert [one.value for one in study.trials] == [0.5, 0.5]


def test_settings_that_are_one_to_jax():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    run(study, lambda s, key: {"loss": s["x"]}, {"x": lo.space.uniform(0.3, 0.3 + 1e-7)})
    assert len(study.trials) == 24


def test_the_dtype_is_that_of_all_choices():
    seen = []

    def trial(setting, key):
        seen.append(setting["x"].dtype)
        return {"loss": setting["x"]}

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    run(study, trial, {"x": lo.space.choice([0, 0.9])}, n_trials=6, batch_size=1)
    assert seen == [np.float32]
    assert {round(one.value, 4) for one in study.trials} == {0.0, 0.9}


def test_batches_compile_once():
    compiled = []

    def trial(setting, key):
        compiled.append(1)
        return {"loss": setting["x"]}

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    run(study, trial, {"x": lo.space.uniform(0.0, 1.0)}, n_trials=40)
    assert len(compiled) == 1


CHILD = textwrap.dedent("""
    import sys, time, jax, jax.numpy as jnp, optuna, lectopt as lo
    from lectopt.search import optuna as ours
    tell = optuna.Study.tell
    study = optuna.create_study(study_name="s", storage=sys.argv[1], load_if_exists=True,
                                sampler=optuna.samplers.RandomSampler(seed=0))
    def trial(setting, key):
        return {"loss": (setting["x"] - 0.3) ** 2}
    def slowly(*arguments, **others):
        tell(*arguments, **others)
        if "values" in others:
            print("told", flush=True)
            time.sleep(0.05)
    optuna.Study.tell = slowly
    ours.optimize(study, trial, {"x": lo.space.uniform(0.0, 1.0)}, metric="loss", n_trials=20, batch_size=8, key=0)
""")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("journal", marks=pytest.mark.exhaustive)])
def test_a_study_that_was_killed_goes_on(tmp_path, kind):
    url = f"sqlite:///{tmp_path}/study.db"
    child, storage = CHILD, url
    if kind == "journal":
        pick = "optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))"
        child, url = CHILD.replace("storage=sys.argv[1]", f"storage={pick}"), str(tmp_path / "journal")
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(url))
    for told in (3, 5):
        process = subprocess.Popen([sys.executable, "-c", child, url], stdout=subprocess.PIPE, text=True)
        for _ in range(told):
            assert process.stdout.readline() == "told\n"
        process.kill()
        process.wait()
        time.sleep(0.1)
    left = optuna.load_study(study_name="s", storage=storage).get_trials(states=(TrialState.RUNNING,))
    assert left
    done = subprocess.run([sys.executable, "-c", child, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="s", storage=storage)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) == 20
    assert not study.get_trials(states=(TrialState.RUNNING,))
    again = {one.user_attrs.get("instead of") for one in complete}
    assert {one.number for one in study.get_trials(states=(TrialState.FAIL,))} <= again
    for one in complete:
        assert one.value == pytest.approx((one.params["x"] - 0.3) ** 2, abs=1e-6)


BAD = {
    "no study": (lambda: run(3), TypeError, r"study must be an optuna\.Study; got int"),
    "two directions": (
        lambda: run(optuna.create_study(directions=["minimize", "maximize"])),
        ValueError,
        "metric must be 2 different names, one for each direction of the study; got 'loss'",
    ),
    "empty": (lambda: run(optuna.create_study(), space={}), ValueError, "space must be a dictionary"),
    "scipy": (
        lambda: run(optuna.create_study(), space={"x": __import__("scipy.stats").stats.uniform(0, 1)}),
        TypeError,
        r"space\['x'\] must be made by lectopt\.space for Optuna",
    ),
    "no trials": (lambda: run(optuna.create_study(), n_trials=0), ValueError, "n_trials must be at least 1; got 0"),
    "metric": (lambda: run(optuna.create_study(), metric="x"), ValueError, "minimize must be.*got 'x'"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("params", "said"),
    [({"depth": 1}, "names of space, widths; got 'depth'"), ({"widths": "(9,)"}, "one of '\\(8,\\)'")],
)
def test_params_of_another_space_are_refused_by_name(params, said):
    with pytest.raises(ValueError, match=said):
        setting_of(params, {"widths": lo.space.choice([(8,)], static=True)})


@pytest.mark.filterwarnings("ignore:the best .* lies at")
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_results_as_a_study(direction):
    def trial(setting, key):
        loss = jnp.log10(setting["rate"]) ** 2 + setting["count"] + (setting["kind"] == (8,))
        return {"loss": jnp.where(setting["rate"] > 5, jnp.nan, loss), "other": setting["rate"]}

    space = {"rate": lo.space.log_uniform(0.1, 10.0), "count": lo.space.integers(1, 3),
             "kind": lo.space.choice([(8,), (16, 8)], static=True)}  # fmt: skip
    found = lo.sweep(trial, lo.grid(space, points=3), key=0, progress=False, **{direction: "loss"})
    study = to_study(found)
    assert study.direction.name.lower() == direction
    assert len(study.trials) == len(found) == 18
    for one, mean, setting in zip(study.trials, found.mean(), map(found.settings.row, range(18)), strict=True):
        assert one.state is (TrialState.PRUNED if np.isnan(mean) else TrialState.COMPLETE)
        assert np.isnan(mean) or one.value == pytest.approx(float(mean))
        assert setting_of(one.params, space) == setting
        assert one.user_attrs["means"]["other"] == pytest.approx(setting["rate"])
    assert one.distributions["rate"] == optuna.distributions.FloatDistribution(0.1, 10.0, log=True)
    assert one.distributions["count"] == optuna.distributions.IntDistribution(1, 3)
    assert setting_of(study.best_params, space) == found.best()
    with pytest.raises(TypeError, match=r"results must be a lectopt\.Results; got int"):
        to_study(3)


def test_a_study_leaves_out_what_does_not_apply():
    space = {"kind": lo.space.choice(["a", "b"]), "x": lo.space.when("kind", "b", lo.space.uniform(0.0, 1.0))}
    rows = lo.settings([{"kind": "a"}, {"kind": "b", "x": 0.5}], space=space)
    found = lo.sweep(lambda s, key: {"loss": s["x"]}, rows, minimize="loss", key=0, progress=False)
    assert [one.params for one in to_study(found).trials] == [{"kind": "a"}, {"kind": "b", "x": 0.5}]
    part = dataclasses.replace(found, rungs=np.array([0, 1], np.int32))  # interrupted
    assert [one.params for one in to_study(part).trials] == [{"kind": "b", "x": 0.5}]
