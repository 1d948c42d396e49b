"""Results of parts of a search: joined, and read from the directory of one that goes on."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.search.space import Static

pytestmark = pytest.mark.filterwarnings("ignore:the best")
X = np.arange(12, dtype=np.float32)
FOLDS = lo.k_fold((X, X), 3, key=0)


def scored(setting, train, valid, key):
    loss = setting["rate"] * setting["width"] + valid.indices.sum() * 0.01
    return {"loss": loss, "error": -loss}


def searched(rates, folds=FOLDS, trial=scored, **options):
    settings = lo.settings([{"rate": rate, "width": width} for width in (1, 2) for rate in rates], static=["width"])
    options = {"minimize": "loss", "key": 0, "seeds": 2, "progress": False} | options
    return lo.cross_validate(trial, settings, folds, **options)


def test_merged_results_are_those_of_one_search(tmp_path):
    first, second, whole = searched([0.1, 0.2]), searched([0.2, 0.7, 0.4]), searched([0.1, 0.2, 0.7, 0.4])
    found = first.merge(second)
    rows = [found.settings.row(i) for i in range(len(found))]
    assert len(rows) == 8
    assert rows[:4] == [first.settings.row(i) for i in range(4)]
    for i, row in enumerate(rows):
        place = [whole.settings.row(j) for j in range(8)].index(row)
        for name in ("loss", "error"):
            np.testing.assert_array_equal(found.metrics[name][i], whole.metrics[name][place])
        assert found.replay(i, 2, 1)["loss"] == pytest.approx(found.metrics["loss"][i, 2, 1])
    assert found.best() == whole.best()
    assert found.run_seconds == first.run_seconds + second.run_seconds
    second.save(tmp_path / "second")
    again = first.merge(lo.Results.load(tmp_path / "second"))
    np.testing.assert_array_equal(again.metrics["loss"], found.metrics["loss"])
    with pytest.raises(ValueError, match="no trial"):
        again.replay(0)


def other_trial(setting, train, valid, key):
    return scored(setting, train, valid, key)


def test_a_setting_that_only_the_other_has_run_is_taken_from_it():
    first, second = searched([0.1]), searched([0.1])
    first.rungs[1] = 0
    first.metrics["loss"][1] = np.nan
    found = first.merge(second)
    assert found.rungs.tolist() == [1, 1]
    np.testing.assert_array_equal(found.metrics["loss"], second.metrics["loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": lo.k_fold((X, X), 3, key=1)}, "other must have the same folds"),
        ({"folds": lo.k_fold((X, X), 2, key=0)}, "the same number of folds, 3; it has 2"),
        ({"seeds": 1}, "the same number of seeds, 2; it has 1"),
        ({"key": 1}, "other must have the same key"),
        ({"minimize": "error"}, "other must have the same metric, loss; it has error"),
        ({"minimize": None, "maximize": "loss"}, "the same direction, minimize; it has maximize"),
        ({"trial": other_trial}, "the same trial, scored; it has other_trial"),
        ({"trial": lambda *a: {"loss": scored(*a)["loss"]}}, "the same metrics, error, loss; it has loss"),
    ],
)
def test_results_of_something_else_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        searched([0.1]).merge(searched([0.2], **change))


def test_what_are_no_results():
    with pytest.raises(TypeError, match=r"other must be lectopt\.Results; got dict"):
        searched([0.1]).merge({})


def test_a_directory_is_read_while_a_search_is_not_done(tmp_path):
    whole = searched([0.1, 0.7], directory=tmp_path, chunk=1)
    found = lo.Results.partial(tmp_path)
    for i in range(4):
        assert found.settings.row(i) == whole.settings.row(i)
    for name in ("loss", "error"):
        np.testing.assert_array_equal(found.metrics[name], whole.metrics[name])
    np.testing.assert_array_equal(found.diverged_at, whole.diverged_at)
    assert (found.metric, found.maximizes, found.rungs.tolist()) == ("loss", False, [1] * 4)
    assert isinstance(found.settings["width"], Static)
    next(iter(sorted(tmp_path.rglob("lanes-*")))).unlink()
    assert len(lo.Results.partial(tmp_path)) == 3
    searched([0.1], seeds=3, directory=tmp_path, chunk=1)
    found = lo.Results.partial(tmp_path)  # those of the other rate have no third seed yet
    assert sorted(zip(found.settings["rate"].tolist(), found.rungs.tolist(), strict=True))[-1][1] == 0
    assert found.rungs.sum() == 2


@pytest.mark.slow
def test_a_directory_of_a_halving_is_read(tmp_path):
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)

    def trial(setting, key, epochs, start):
        optimizer = lo.sgd(setting["rate"])
        return lo.train(task, optimizer, lo.datasets.iris(), batch_size=75, epochs=epochs, key=key, start=start)

    options = {"minimize": "train_loss", "key": 0, "halving": lo.Halving(3, 3), "progress": False}
    whole = lo.sweep(trial, {"rate": [0.001, 0.01, 0.1]}, directory=tmp_path, **options)
    found = lo.Results.partial(tmp_path)
    assert found.rungs.tolist() == whole.rungs.tolist() == [1, 1, 2]
    np.testing.assert_array_equal(found.metrics["train_loss"], whole.metrics["train_loss"])
    assert found.best() == whole.best()


def test_a_directory_shows_what_is_missing_and_what_is_no_number(tmp_path):
    space = {"f": lo.space.choice([jnp.tanh, "a"]), "m": lo.space.when("f", "a", lo.space.choice([0.5, 2.0]))}
    lo.sweep(lambda s, key: {"loss": s["m"]}, lo.grid(space), minimize="loss", key=0, directory=tmp_path)
    found = lo.Results.partial(tmp_path)
    assert [found.settings.row(i)["m"] for i in range(3)] == [None, 0.5, 2.0]
    assert isinstance(found.settings["f"][0], str)
    assert found.mean().tolist() == [0.5, 0.5, 2.0]


def test_what_is_no_directory_of_a_search(tmp_path):
    with pytest.raises(FileNotFoundError, match="directory must be that of a search; there is none at"):
        lo.Results.partial(tmp_path / "none")
    with pytest.raises(ValueError, match="directory must hold outcomes of a search"):
        lo.Results.partial(tmp_path)
