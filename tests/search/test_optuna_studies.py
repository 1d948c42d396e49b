"""What a study comes to, beside Optuna's own loop: results, several directions, pruning, define-by-run spaces."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from tests.compilations import compilations

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from lectopt.engine import program_cache  # noqa: E402
from lectopt.search.halving import RungEnd  # noqa: E402
from lectopt.search.optuna import StudyResults, optimize, setting_of, to_study  # noqa: E402
from lectopt.search.optuna_reports import Report  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
optuna.logging.set_verbosity(optuna.logging.WARNING)
FOLDS = lo.k_fold((np.arange(4, dtype=np.float32) + 1,), 2, key=0)
quiet = {"key": 0, "progress": False}


def by_run(trial):
    """A space as Optuna's users write it: what is suggested depends on what was suggested before."""
    kind = trial.suggest_categorical("kind", ["bowl", "slope", "flat"])
    setting = {"kind": kind, "shift": trial.suggest_float("shift", 0.0, 1.0)}
    if kind == "bowl":
        setting["x"] = trial.suggest_float("x", -1.0, 1.0)
        setting["widths"] = tuple(trial.suggest_int(f"width{i}", 1, 2) for i in range(1))
    if kind == "slope":
        setting["rate"] = trial.suggest_float("rate", 0.1, 1.0, log=True)
        setting["count"] = trial.suggest_int("count", 1, 3)
    return setting


def height(setting, key):
    """Of exactly what was suggested, to the last bit: additions and squares of float32."""
    assert set(setting) - {"kind", "shift"} == {"bowl": {"x", "widths"}, "slope": {"rate", "count"}}.get(
        setting["kind"], set()
    )
    if setting["kind"] == "bowl":
        assert setting["widths"] in ((1,), (2,))
        return {"loss": setting["x"] * setting["x"] + setting["widths"][0], "other": setting["x"]}
    if setting["kind"] == "slope":
        assert type(setting["count"]) is int
        return {"loss": setting["rate"] + 0.5 * setting["count"], "other": setting["rate"]}
    return {"loss": setting["shift"] * 0.0 + 2.5, "other": setting["shift"]}


def shown(setting):
    """As results show it: numbers that were traced in float32."""
    return {name: float(str(np.float32(v))) if isinstance(v, float) else v for name, v in setting.items()}


def in_float32(setting):
    return {name: np.float32(value) if isinstance(value, float) else value for name, value in setting.items()}


SAMPLERS = {
    "tpe": (functools.partial(optuna.samplers.TPESampler, seed=0, n_startup_trials=5), ["minimize"]),
    "nsga": (functools.partial(optuna.samplers.NSGAIISampler, seed=0, population_size=4), ["minimize", "maximize"]),
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_one_by_one_it_is_optunas_own_loop(kind):
    """The same proposals and values, of one and of several directions, with a constraint and settings refused."""
    make, directions = SAMPLERS[kind]

    def space(trial):
        setting = by_run(trial)
        if setting["shift"] > 0.9:
            raise optuna.TrialPruned
        return setting

    def objective(trial):
        found = height(in_float32(space(trial)), None)
        trial.set_constraint("other", float(np.float32(found["other"])))
        return [float(np.float32(found[name])) for name in ("loss", "other")[: len(directions)]]

    theirs = optuna.create_study(directions=directions, sampler=make())
    theirs.optimize(objective, n_trials=16)
    ours = optuna.create_study(directions=directions, sampler=make())
    metric = "loss" if kind == "tpe" else ["loss", "other"]
    options = {"metric": metric, "constraints": ["other"], "static": ["count"], "n_trials": 16, "batch_size": 1}
    results = optimize(ours, height, space, **options, **quiet)
    for one, other in zip(ours.trials, theirs.trials, strict=True):
        assert (one.state, one.params) == (other.state, other.params)
        assert one.values == (other.values and pytest.approx(other.values, rel=1e-6))
        assert one.constraints == pytest.approx(other.constraints)
    assert {one.state for one in theirs.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert [results.settings.row(i) for i in results.front()] == [shown(by_run(one)) for one in theirs.best_trials]


def test_a_study_defined_by_run_compiles_a_program_for_each_of_its_groups():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    options = {"metric": "loss", "static": ["count"], "batch_size": 8, **quiet}
    optimize(study, height, by_run, n_trials=24, **options)
    before, programs = len(compilations()), program_cache._compiled[height].values()
    count = len(programs)
    results = optimize(study, height, by_run, n_trials=40, **options)
    groups = {(s.get("kind"), s.get("widths"), s.get("count")) for s in map(by_run, study.trials)}
    assert len(programs) == count == len(groups) == 6
    assert len(compilations()) == before
    assert len(results) == len(results.rows) == 40
    for one in study.trials[18:]:
        row = results.rows[one.number]
        assert results.settings.row(row) == shown(by_run(one))
        assert float(results.mean()[row]) == one.value
        assert one.value == pytest.approx(float(results.replay(row)["loss"]), rel=1e-6)
    assert results.best() == shown(setting_of(study.best_params, by_run))
    frame = results.to_pandas()
    assert frame["x"].notna().tolist() == (frame["kind"] == "bowl").tolist()
    assert results.settings.is_logarithmic("rate")
    assert [one.params.get("x") for one in to_study(results).trials] == [
        pytest.approx(one.params["x"]) if "x" in one.params else None for one in study.trials
    ]
    again = results.merge(results)
    assert len(again) == 40
    assert again.best() == results.best()


def test_results_defined_by_run_in_a_file(tmp_path):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def space(trial):
        return {"x": trial.suggest_float("x", 0, 1)} | ({"y": 0.5} if trial.number % 2 else {})

    results = optimize(
        study, lambda s, key: {"loss": s["x"] + s.get("y", 0.0)}, space, metric="loss", n_trials=4, **quiet
    )
    results.save(tmp_path / "found")
    loaded = StudyResults.load(tmp_path / "found")
    assert [loaded.settings.row(i) for i in range(4)] == [results.settings.row(i) for i in range(4)]
    assert [set(loaded.settings.row(i)) for i in range(2)] == [{"x"}, {"x", "y"}]
    with pytest.raises(ValueError, match="results from a file have no study"):
        loaded.front()


def test_a_study_gives_the_results_of_a_cross_validation():
    """Of all its trials, those of an earlier call too; another number of folds is another search."""

    def trial(setting, train, valid, key):
        return {"loss": jnp.log(setting["x"]) * jnp.mean(train.arrays[0][train.indices]), "x": setting["x"]}

    space = {"x": lo.space.choice([0.5, 0.25, -1.0])}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler({"x": [0.5, 0.25, -1.0]}))
    options = {"metric": "loss", "batch_size": 1, **quiet}
    optimize(study, trial, space, FOLDS, n_trials=1, **options)
    with pytest.raises(ValueError, match="study must hold a trial that optimize has run, with as many folds"):
        optimize(study, lambda s, key: {"loss": s["x"]}, space, n_trials=1, **options)
    results = optimize(study, trial, space, FOLDS, n_trials=3, **options)
    assert results.study is study
    rows = {"x": [one.params["x"] for one in study.trials]}
    direct = lo.cross_validate(trial, rows, FOLDS, maximize="loss", **quiet)
    for name, values in direct.metrics.items():
        np.testing.assert_array_equal(results.metrics[name], values)
    assert results.maximizes
    assert results.best() == study.best_params == direct.best()
    assert results.valid_per_train == direct.valid_per_train
    assert results.ranking().tolist() == direct.ranking().tolist()
    assert [one.state.name for one in study.trials if one.params["x"] < 0] == ["PRUNED"]
    assert results.to_pandas().equals(direct.to_pandas())
    assert float(results.replay(1, 1)["loss"]) == results.metrics["loss"][1, 1, 0]


class Means:
    def __init__(self, *means):
        self.mean = lambda name=None: np.array(means, np.float32)
        self.metrics = {"loss": self.mean()[:, None, None]}
        self.diverged_at, self.rungs = np.zeros((len(means), 1, 1), np.int32), np.zeros(len(means))


def test_the_pruner_is_asked_between_rungs():
    class Odd(optuna.pruners.ThresholdPruner):
        def prune(self, study, trial):
            return trial.number == 1 or super().prune(study, trial)

    study = optuna.create_study(pruner=Odd(upper=1.0))
    trials = [study.ask() for _ in range(4)]
    report = Report(study, ("loss",), (), 9)
    going_on = report.pruner([[trials[0], trials[1]], [trials[2]], [trials[3]]])
    alive = going_on(Means(0.5, 2.0, np.nan), np.ones(3, bool), RungEnd(1, 1))
    assert alive.tolist() == [True, False, False]
    alive = going_on(Means(3.0, 0.0, 0.0), alive, RungEnd(3, 1))
    assert alive.tolist() == [False, False, False]
    told = [one.intermediate_values for one in study.trials]
    assert told == [{1: 0.5, 3: 3.0}, {1: 0.5}, {1: 2.0}, {}]  # the first two have one setting
    report.tell(trials[1], Means(0.25, 2.0, np.nan), 0)
    assert (study.trials[1].state, study.trials[1].value) == (TrialState.PRUNED, 0.5)


@functools.cache
def fitted():
    task = lo.regression(lambda rngs: nnx.Linear(1, 1, use_bias=False, rngs=rngs))
    x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]

    def trial(setting, key, epochs=9, start=None):
        found = lo.sgd(setting["rate"] * setting.get("width", 1))
        return lo.train(task, found, (x, 2 * x), batch_size=8, epochs=epochs, key=key, start=start)

    return trial


WIDTH = lo.space.choice([1, 2], static=True)
PRUNERS = [
    optuna.pruners.MedianPruner(n_startup_trials=3),
    optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3),
]


def pruned_study(pruner, batch_size=1, **options):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), pruner=pruner, study_name="s")
    space = {"rate": lo.space.log_uniform(1e-3, 1e3)} | ({"width": WIDTH} if batch_size > 1 else {})
    given = {"metric": "train_loss", "n_trials": 16, "halving": lo.Halving(9, least=1), **quiet} | options
    return study, optimize(study, fitted(), space, batch_size=batch_size, **given)


@pytest.mark.slow
def test_pruning_is_optunas_own():
    """One by one, each pruner ends the same trials after the same epochs as in Optuna's loop over the same values."""
    plain = pruned_study(optuna.pruners.NopPruner())[0]
    values = {one.params["rate"]: one.intermediate_values for one in plain.trials}
    for pruner in PRUNERS:
        check_pruner(pruner, values)


def check_pruner(pruner, values):
    study, results = pruned_study(pruner)

    def objective(trial):
        rate = trial.suggest_float("rate", 1e-3, 1e3, log=True)
        for epochs in (1, 3, 9):
            if epochs not in values[rate]:  # diverged: nothing is reported
                raise optuna.TrialPruned
            trial.report(values[rate][epochs], epochs)
            if epochs < 9 and trial.should_prune():
                raise optuna.TrialPruned
        return values[rate][9]

    theirs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), pruner=pruner, study_name="s")
    theirs.optimize(objective, n_trials=16)
    for one, other in zip(study.trials, theirs.trials, strict=True):
        assert (one.params, one.state, one.value) == (other.params, other.state, other.value)
        assert one.intermediate_values == other.intermediate_values
    rungs = [max(len(one.intermediate_values), 1) for one in study.trials]
    assert np.mean(results.rungs[list(results.rows.values())] >= rungs) == 1
    assert {one.state for one in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.slow
def test_batches_are_pruned_with_a_program_for_each_rung_and_group():
    options = {
        "pruner": optuna.pruners.MedianPruner(n_startup_trials=3),
        "batch_size": 8,
        "halving": lo.Halving(6, least=2),
    }
    pruned_study(n_trials=16, **options)
    before = len(compilations())
    study, results = pruned_study(n_trials=32, **options)
    assert len(compilations()) == before
    programs = program_cache._compiled[fitted()].values()
    assert {2, 4} <= {shape.rows for found in programs for shape in found._begun}  # of the second rung, and the first
    assert len([one for one in study.trials if set(one.intermediate_values) == {2}]) > 3
    assert results.best_index == results.rows[study.best_trial.number]
    direct = lo.sweep(fitted(), results.settings, minimize="train_loss", halving=options["halving"], chunk=4, **quiet)
    for row in map(results.rows.get, (one.number for one in study.trials if one.state is TrialState.COMPLETE)):
        if direct.rungs[row] == 2:
            np.testing.assert_allclose(direct.metrics["train_loss"][row], results.metrics["train_loss"][row], rtol=1e-5)
    assert direct.best() == results.best()


@pytest.mark.slow
def test_rungs_that_no_setting_reached_at_first_are_traced_later():
    """A pruner that ends all of a first batch: the next one goes on from a rung that was traced before."""

    class Late(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 0

    study, results = pruned_study(Late(), n_trials=2, halving=lo.Halving(3), batch_size=1)
    assert [one.state.name for one in study.trials] == ["PRUNED", "COMPLETE"]
    assert results.rungs.tolist() == [1, 2]
    assert study.trials[0].value == study.trials[0].intermediate_values[1]
    assert len(results.runs(1)[0].history.epochs["train_loss"]) == 2  # of the last rung


TWO = {"directions": ["minimize", "maximize"]}
BAD = {
    "directions": (TWO, {}, ValueError, "metric must be 2 different names, one for each direction.*got 'loss'"),
    "twice": (TWO, {"metric": ["loss", "loss"]}, ValueError, "metric must be 2 different names"),
    "no names": (TWO, {"metric": ["loss", 3]}, TypeError, r"metric must be names of metrics; got \['loss', 3\]"),
    "unknown": (TWO, {"metric": ["loss", "m"]}, ValueError, "metrics that trial returns, 'loss'.*got 'm'"),
    "pruned": (TWO, {"halving": lo.Halving(3)}, ValueError, "halving must be None for a study with 2 directions"),
    "constraint": ({}, {"constraints": ["m"]}, ValueError, "metrics that trial returns, 'loss'.*got 'm'"),
    "no constraint": ({}, {"constraints": 3}, TypeError, "constraints must be names of metrics; got 3"),
    "static": ({}, {"static": ["x"]}, ValueError, r"static must be empty unless space is a function; got \['x'\]"),
    "no static": ({}, {"static": "x"}, TypeError, "static must be a list of names of hyperparameters; got 'x'"),
    "halving": ({}, {"halving": 3}, TypeError, r"halving must be a lectopt\.Halving; got int"),
    "seeds": ({}, {"seeds": 0}, ValueError, "seeds must be at least 1; got 0"),
    "folds": ({}, {"folds": 3}, TypeError, "folds must be"),
    "no setting": ({}, {"space": lambda trial: 3}, TypeError, "space must return a dictionary.*it returned int"),
    "empty": ({}, {"space": lambda trial: {}}, TypeError, "it returned an empty dictionary"),
    "infinite": ({}, {"space": lambda trial: {"x": np.inf}}, ValueError, "must be finite"),
    "mixed": (
        {},
        {"space": lambda trial: {"x": [0.5, None][trial.number % 2]}},
        ValueError,
        "space must return numbers for 'x' in all trials or in none.*got None",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("study", "given", "error", "said"), BAD.values(), ids=BAD)
def test_bad_input(study, given, error, said):
    study, before = optuna.create_study(**study), len(compilations())
    given = {"space": {"x": lo.space.uniform(0, 1)}, "metric": "loss", "n_trials": 2, **quiet} | given
    with pytest.raises(error, match=said):
        optimize(study, lambda s, key: {"loss": s["x"]}, **given)
    assert len(compilations()) == before
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.COMPLETE))


def test_groups_are_told_apart_by_their_names_too():
    study = optuna.create_study()

    def space(trial):
        return {"a": 0.5} if trial.number % 2 else {"b": 0.5}

    results = optimize(study, lambda s, key: {"loss": sum(s.values()) * (3 if "b" in s else 1)}, space,
                       metric="loss", n_trials=4, **quiet)  # fmt: skip
    assert [one.value for one in study.trials] == [1.5, 0.5, 1.5, 0.5]
    assert len(results) == 2
