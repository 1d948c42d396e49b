"""Programs of a search compile beside each other and beside what runs, and none compiles twice."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations

import lectopt as lo
from lectopt.engine import program_cache, running
from lectopt.search.hyperparameter_search import Search, devices
from lectopt.search.refitting import Refit
from lectopt.search.selection import retrained
from lectopt.search.space import Static

pytestmark = pytest.mark.filterwarnings("ignore:the best")

QUIET = {"minimize": "loss", "key": 0, "progress": False}
WIDTHS = {"x": np.arange(6, dtype=np.float32), "width": Static([1, 2, 3, 1, 2, 3])}


def make_trial():
    """A new function each time, so that nothing is compiled for it yet."""

    def trial(setting, key):
        return {"loss": (jnp.full(setting["width"], setting["x"]) ** 2).sum()}

    return trial


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(program_cache, "cores", lambda: 3)
    monkeypatch.setattr(devices, "cores", lambda: 3)


@pytest.fixture
def lanes_wait_for(monkeypatch):
    """To be called with a number: no lane runs before so many programs have begun to compile, which it returns."""

    def wait_for(programs):
        begun, run, compiled = [], running.run_rectangle, program_cache.compiled
        last = threading.Event()

        def counted(lowered):
            begun.append(lowered)
            if len(begun) == programs:
                last.set()
            return compiled(lowered)

        def waits(*arguments):
            assert last.wait(60)
            return run(*arguments)

        monkeypatch.setattr(program_cache, "compiled", counted)
        monkeypatch.setattr(running, "run_rectangle", waits)
        return begun

    return wait_for


@pytest.fixture
def threads_before():
    before = set(threading.enumerate())
    yield before
    assert set(threading.enumerate()) == before


def test_all_programs_of_a_search_compile_at_the_same_time(monkeypatch, threads_before):
    """Each of the three ends only when the others have begun."""
    barrier, compiled, inside = threading.Barrier(3, timeout=60), program_cache.compiled, set()

    def together(lowered):
        inside.add(threading.current_thread())
        barrier.wait()
        return compiled(lowered)

    monkeypatch.setattr(program_cache, "compiled", together)
    found = lo.sweep(make_trial(), WIDTHS, **QUIET)
    assert found.metrics["loss"].ravel().tolist() == [0, 2, 12, 9, 32, 75]
    assert len(inside) == 3
    assert not inside & threads_before


@pytest.mark.usefixtures("threads_before")
def test_while_a_group_runs_the_programs_of_the_next_ones_compile(lanes_wait_for):
    """The first lanes wait for the last program, which compiles although they have not come back."""
    begun = lanes_wait_for(3)
    lo.sweep(make_trial(), WIDTHS, **QUIET)
    assert len(begun) == 3


@pytest.mark.usefixtures("threads_before")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_a_search_ends_its_threads_and_the_next_one_is_whole(monkeypatch, error):
    run, trial = running.run_rectangle, make_trial()
    monkeypatch.setattr(program_cache, "cores", lambda: 1)  # two programs wait in the queue

    def stops(*arguments):
        raise error

    monkeypatch.setattr(running, "run_rectangle", stops)
    with pytest.raises(error):
        lo.sweep(trial, WIDTHS, **QUIET)
    monkeypatch.setattr(running, "run_rectangle", run)
    assert lo.sweep(trial, WIDTHS, **QUIET).metrics["loss"].ravel().tolist() == [0, 2, 12, 9, 32, 75]


@pytest.mark.usefixtures("threads_before")
def test_an_error_of_xla_comes_out_and_does_not_stay(monkeypatch):
    compiled, trial, broken = program_cache.compiled, make_trial(), [True]

    def fails_once(lowered):
        if broken.pop() if broken else False:
            raise RuntimeError("no such instruction")
        return compiled(lowered)

    monkeypatch.setattr(program_cache, "compiled", fails_once)
    with pytest.raises(RuntimeError, match="no such instruction"):
        lo.sweep(trial, {"x": WIDTHS["x"], "width": Static([1] * 6)}, **QUIET)
    assert lo.sweep(trial, {"x": WIDTHS["x"], "width": Static([1] * 6)}, **QUIET).best()["x"] == 0


@pytest.mark.usefixtures("threads_before")
def test_a_trial_that_raises_for_a_later_group_says_so():
    def trial(setting, key):
        if setting["width"] == 3:
            raise LookupError("no width of three")
        return {"loss": setting["x"]}

    with pytest.raises(LookupError, match="no width of three"):
        lo.sweep(trial, WIDTHS, **QUIET)


def test_groups_must_return_the_same_metrics_although_none_has_run():
    def trial(setting, key):
        return {"loss": setting["x"], f"width_{setting['width'] == 2}": setting["x"]}

    with pytest.raises(ValueError, match="same metrics for all settings; got 'loss', 'width_False' and then"):
        lo.sweep(trial, WIDTHS, **QUIET)


def test_groups_with_equal_programs_compile_one():
    def trial(setting, key):
        return {"loss": setting["x"] ** 2}

    names = {"x": WIDTHS["x"], "name": Static("ababab")}
    lo.sweep(make_trial(), WIDTHS, **QUIET)  # what else compiles on a first use
    log = compilations()
    before = len(log)
    found = lo.sweep(trial, names, **QUIET)
    assert len(log) == before + 1
    assert found.metrics["loss"].ravel().tolist() == [0, 1, 4, 9, 16, 25]
    assert found.compile_seconds > 0
    assert found.trace_seconds > 0
    lo.sweep(trial, names, **QUIET)
    assert len(log) == before + 1


# retraining -----------------------------------------------------------------------------------------------------------
EXAMPLES = (np.arange(12, dtype=np.float32),)
SELECT = {**QUIET, "folds": lo.k_fold(EXAMPLES, 3, key=0)}


def make_mean():
    """A new function each time: the distance of a setting from the mean of the examples, times a width."""

    def trial(setting, train, valid, key):
        mean = (train.arrays[0][train.indices] * train.mask).sum() / train.size
        return {"loss": setting.get("width", 1) * (setting["x"] - mean) ** 2, "mean": mean}

    return trial


def counted(call):
    log = compilations()
    before = len(log)
    result = call()
    return result, len(log) - before


def test_a_selection_of_the_same_trial_compiles_nothing_again():
    lo.select(make_mean(), WIDTHS, EXAMPLES, **SELECT)  # what else compiles on a first use
    trial = make_mean()
    first, programs = counted(lambda: lo.select(trial, {"x": WIDTHS["x"]}, EXAMPLES, **SELECT))
    assert programs == 2  # of the search and of the retraining
    assert (first.setting, float(first.run["loss"])) == ({"x": 5.0}, 0.25)
    again, programs = counted(lambda: lo.select(trial, {"x": WIDTHS["x"] + 2}, EXAMPLES, **SELECT))
    assert programs == 0
    assert float(again.run["loss"]) == (again.setting["x"] - 5.5) ** 2


@pytest.mark.usefixtures("threads_before")
def test_the_retraining_compiles_while_the_search_runs(lanes_wait_for):
    lanes_wait_for(2)
    lo.select(make_mean(), {"x": WIDTHS["x"]}, EXAMPLES, **SELECT)


def test_the_best_of_each_static_value_is_retrained_all_programs_at_the_same_time(monkeypatch, threads_before):
    search = Search.of(make_mean(), WIDTHS, SELECT["folds"], minimize="loss", key=0, progress=False)
    results, rest = search.run(), lo.holdout(EXAMPLES, 0.25, key=0)[0]
    barrier, compiled = threading.Barrier(3, timeout=60), program_cache.compiled
    monkeypatch.setattr(program_cache, "compiled", lambda lowered: (barrier.wait(), compiled(lowered))[1])
    parts = [np.array([i, i + 3]) for i in range(3)] + [np.array([1])]
    found, programs = counted(lambda: retrained(Refit(search, 3), results, parts, rest, None))
    assert programs == 3  # the fourth part has a program already
    assert [one.setting for one in found] == [{"x": x, "width": w} for x, w in ((3, 1), (4, 2), (5, 3), (1, 2))]
    mean = np.asarray(rest.indices).mean()
    for one in found:
        assert float(one.run["loss"]) == pytest.approx(one.setting["width"] * (one.setting["x"] - mean) ** 2)
        assert list(one.results.settings["width"]) == [one.setting["width"]] * len(one.results)


def test_folds_whose_sizes_differ_less_than_their_shapes_share_no_program():
    """That they do not hold as many examples each is static, and nothing that this trial's text depends on."""

    def trial(setting, train, valid, key):
        return {"loss": setting["x"] * jnp.sum(jnp.where(valid.mask, valid.indices, 0))}

    for whole, pairs in ((45.0, [[3, 4, 5], [0, 1, 2]]), (30.0, [[3, 4], [0, 1, 2]])):
        folds = lo.from_indices((np.zeros(6),), [([0, 1, 2], pairs[0]), ([3, 4, 5], pairs[1])])
        found = lo.cross_validate(trial, {"x": [3.0]}, folds, minimize="loss", key=0, progress=False)
        assert found.metrics["loss"].sum() == whole
