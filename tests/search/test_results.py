"""What follows from the scores of a search."""

import warnings

import numpy as np
import pytest

import lectopt as lo
from lectopt.search.results import Results
from lectopt.search.settings import Settings
from lectopt.search.space import Static

RNG = np.random.default_rng(0)
LOSS = RNG.normal(size=(6, 5, 3)).astype(np.float32) * 0.3 + np.array([3, 2, 1, 1.1, 4, 5], np.float32)[:, None, None]


def results(loss=LOSS, maximizes=False, **changes):
    columns = {"rate": np.geomspace(1e-3, 1, len(loss)).astype(np.float32), "name": Static("abcdef"[: len(loss)])}
    fields = {
        "settings": Settings(columns),
        "metrics": {"loss": loss, "score": -loss},
        "diverged_at": np.where(np.isnan(loss), 0, -1).astype(np.int32),
        "metric": "score" if maximizes else "loss",
        "maximizes": maximizes,
        "rungs": np.ones(len(loss), np.int32),
    }
    return Results(**fields | changes)


def with_nan(*lanes):
    loss = LOSS.copy()
    for lane in lanes:
        loss[lane] = np.nan
    return loss


def test_moments_over_folds_with_seeds_averaged_first():
    found, by_fold = results(), LOSS.astype(np.float64).mean(axis=2)
    np.testing.assert_allclose(found.mean(), by_fold.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.var(), by_fold.var(axis=1, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.std(), by_fold.std(axis=1, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.sem(), by_fold.std(axis=1, ddof=1) / np.sqrt(5), rtol=1e-4)
    np.testing.assert_allclose(found.mean("score"), -by_fold.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(results(LOSS[:, :2]).mean(), by_fold[:, :2].mean(axis=1), rtol=1e-5)
    with pytest.raises(ValueError, match="metric must be one of 'loss', 'score'; got 'accuracy'"):
        found.mean("accuracy")


def test_moments_of_a_single_fold_are_over_seeds():
    found = results(LOSS[:, :1])
    np.testing.assert_allclose(found.sem(), LOSS[:, 0].std(axis=1, ddof=1) / np.sqrt(3), rtol=1e-5)
    assert np.isnan(results(LOSS[:, :1, :1]).std()).all()


@pytest.mark.parametrize("maximizes", [False, True])
def test_the_best_and_the_ranking(maximizes):
    found = results(maximizes=maximizes)
    assert list(found.ranking()) == list(np.argsort(LOSS.mean(axis=(1, 2))))
    assert found.best_index == LOSS.mean(axis=(1, 2)).argmin()
    assert found.best() == found.settings.row(found.best_index)
    assert found.best()["name"] == "abcdef"[found.best_index]


@pytest.mark.parametrize("maximizes", [False, True])
def test_a_setting_with_one_diverged_lane_is_last(maximizes):
    found = results(with_nan((2, 4, 1), (3, 0, 0)), maximizes)
    assert list(found.ranking()) == [1, 0, 4, 5, 2, 3]
    assert np.isnan(found.mean()[[2, 3]]).all()


def test_what_was_dropped_early_is_behind_what_was_not():
    found = results(rungs=np.array([2, 1, 1, 1, 2, 2], np.int32))
    assert list(found.ranking()[:3]) == [0, 4, 5]
    assert found.best_index == 0
    assert list(results(with_nan((0, 0, 0)), rungs=found.rungs).ranking()) == [4, 5, 2, 3, 1, 0]


def test_the_simplest_within_one_standard_error():
    spread = np.linspace(-0.5, 0.5, 5, dtype=np.float32)[None, :, None]  # of the folds
    found = results(LOSS + spread)
    near = np.flatnonzero(np.abs(found.mean() - found.mean().min()) <= found.sem()[found.best_index])
    assert set(near) == {2, 3}
    assert found.one_standard_error(lambda s: s["name"])["name"] == "c"
    assert found.one_standard_error(lambda s: -s["rate"])["name"] == "d"
    assert found.one_standard_error("rate") == found.one_standard_error(lambda s: s["rate"])
    for name, error, message in [
        (3, TypeError, "complexity must be a function of a setting, or a hyperparameter's name; got 3"),
        ("width", ValueError, "complexity must be one of .*, or a function; got 'width'"),
        ("name", TypeError, "complexity must be the name of a number, or a function; name has 'a'"),
    ]:
        with pytest.raises(error, match=message):
            found.one_standard_error(name)
    with pytest.raises(ValueError, match="needs at least 2 folds, or 2 seeds"):
        results(LOSS[:, :1, :1]).one_standard_error(len)


def test_differences_are_paired():
    found = results()
    by_fold = LOSS.mean(axis=2)
    apart = found.difference(0, 3)
    np.testing.assert_allclose(apart.values, by_fold[0] - by_fold[3], rtol=1e-6)
    np.testing.assert_allclose(apart.sem, (by_fold[0] - by_fold[3]).std(ddof=1) / np.sqrt(5), rtol=1e-5)
    np.testing.assert_allclose(found.difference(0).mean, by_fold[0].mean() - by_fold[2].mean(), rtol=1e-5)
    np.testing.assert_allclose(found.difference(0, 3, "score").mean, -apart.mean, rtol=1e-5)
    # What all settings share in a fold cancels: the error of the difference is that of the noise alone.
    shared = np.linspace(0, 50, 5, dtype=np.float32)[None, :, None]
    np.testing.assert_allclose(results(LOSS + shared).difference(0, 3).sem, apart.sem, rtol=1e-3)
    with pytest.raises(ValueError, match="a must be below the number of settings, 6; got 6"):
        found.difference(6)


def test_to_pandas():
    found = results(with_nan((2, 4, 1)))
    frame = found.to_pandas()
    assert list(frame.columns) == ["rate", "name", "loss", "loss_sem", "score", "score_sem", "diverged", "rank"]
    assert frame["rate"][0] == 0.001  # float32 shown as it was meant
    assert list(frame["diverged"]) == [0, 0, 1, 0, 0, 0]
    assert frame.sort_values("rank").index.tolist() == found.ranking().tolist()
    np.testing.assert_array_equal(frame["loss"], found.mean())


@pytest.mark.parametrize("name", ["rank", "diverged", "loss", "loss_sem", "score", "metric_loss", "number"])
def test_a_setting_of_any_name_is_kept_in_the_table(name):
    values = np.arange(6, dtype=np.float32) + 10
    found = results(settings=Settings({name: values}))
    frame = found.to_pandas()
    assert list(frame[name]) == list(values)
    assert len(set(frame.columns)) == len(frame.columns) == 1 + 4 + 2
    plain = results().to_pandas()
    for column, prefix in (("loss", "metric"), ("loss_sem", "metric"), ("diverged", "search"), ("rank", "search")):
        where = f"{prefix}_{column}" if name == column else column
        if name not in ("loss", "metric_loss"):
            np.testing.assert_array_equal(frame[where], plain[column])
    if name == "loss":
        np.testing.assert_array_equal(frame[["metric_loss", "metric_loss_sem"]], plain[["loss", "loss_sem"]])


def test_a_metric_of_any_name_is_kept_in_the_table():
    rank, sem = LOSS + 1, LOSS + 2
    metrics = {"loss": LOSS, "rank": rank, "loss_sem": sem, "diverged": -LOSS}
    frame = results(metrics=metrics).to_pandas()
    np.testing.assert_allclose(frame["rank"], rank.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(frame["loss_sem"], sem.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(frame["diverged"], -LOSS.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(frame["metric_loss_sem"], results().sem())
    assert list(frame["search_diverged"]) == [0] * 6
    assert list(frame.sort_values("search_rank").index) == list(results().ranking())


def test_a_mean_that_float32_could_not_add_up():
    loss = np.full((2, 3, 1), 3e38, np.float32)
    loss[1] = 1
    found = results(loss, metrics={"loss": loss, "score": loss}, maximizes=True)
    np.testing.assert_allclose(found.mean(), [3e38, 1], rtol=1e-6)
    assert found.best_index == 0


def test_why_a_setting_has_no_score():
    """One diverged, one is undefined on folds 1 and 3, one was not run."""
    loss = with_nan((0, 2, 0), (1, 1, 0), (1, 3, 2), (5,))
    diverged_at = np.full(loss.shape, -1, np.int32)
    diverged_at[0, 2, 0] = 7
    found = results(loss, diverged_at=diverged_at, rungs=np.array([1, 1, 1, 1, 1, 0], np.int32))
    why = "1 diverged; 1 with an undefined loss (not finite, though no divergence is recorded) on fold 1, 3; 1 not run"
    assert found.missing() == repr(found).splitlines()[-1] == why
    assert list(found.ranking()) == [2, 3, 4, 0, 1, 5]
    assert results().missing() == ""
    assert "diverged" not in repr(results())
    assert results(np.full_like(LOSS, np.nan)).missing() == "all 6 diverged"
    with pytest.raises(ValueError, match="metric must be one of 'loss', 'score'; got 'other'"):
        found.missing("other")


def test_saved_and_loaded(tmp_path):
    found = results(with_nan((2, 4, 1)), maximizes=True, compile_seconds=1.5, run_seconds=2.5, trace_seconds=0.5)
    found.save(tmp_path / "found")
    again = Results.load(tmp_path / "found")
    for name in found.metrics:
        np.testing.assert_array_equal(again.metrics[name], found.metrics[name])
    np.testing.assert_array_equal(again.diverged_at, found.diverged_at)
    assert list(again.settings) == ["rate", "name"]
    assert again.settings.is_logarithmic("rate") == found.settings.is_logarithmic("rate")
    assert [again.settings.row(i) for i in range(6)] == [found.settings.row(i) for i in range(6)]
    assert (again.metric, again.maximizes) == ("score", True)
    assert (again.trace_seconds, again.compile_seconds, again.run_seconds) == (0.5, 1.5, 2.5)
    assert repr(again) == repr(found)
    with pytest.raises(ValueError, match="path must be new"):
        found.save(tmp_path / "found")
    with pytest.raises(ValueError, match="have no trial to replay"):
        again.replay(0)
    with pytest.raises(FileNotFoundError):
        Results.load(tmp_path / "nothing")
    (tmp_path / "other").write_text("no results")
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.savez(tmp_path / "pickled.npz", about=np.array([print], dtype=object))
    for name in ("other", "arrays.npz", "pickled.npz"):
        with pytest.raises(ValueError, match=r"path must be a file that Results\.save wrote"):
            Results.load(tmp_path / name)
    with pytest.raises(TypeError, match="to be saved; name has <built-in function len>"):
        results(settings=Settings({"name": Static([len])})).save(tmp_path / "functions")


def test_axes_stay_as_they_were_drawn(tmp_path):
    drawn = lo.sample({"rate": lo.space.uniform(0.0, 1.0), "name": lo.space.choice("ab")}, 6, key=0)
    drawn["rate"] = np.geomspace(1e-3, 1, 6).astype(np.float32)  # looks logarithmic, and is not
    results(settings=drawn).save(tmp_path / "found")
    assert not Results.load(tmp_path / "found").settings.is_logarithmic("rate")


def test_replay_of_lanes_that_are_not_there():
    found = lo.sweep(lambda s, key: {"loss": s["x"]}, {"x": [0.5, 0.2]}, minimize="loss", key=0, progress=False)
    assert float(found.replay(1)["loss"]) == np.float32(0.2)
    for arguments, message in (
        ((2,), "setting must be below"),
        ((0, 1), "fold must be below 1"),
        ((0, 0, 1), "seed must"),
    ):
        with pytest.raises(ValueError, match=message):
            found.replay(*arguments)


def lines_of(axis):
    return [np.asarray(line.get_ydata(), float) for line in axis.get_lines()]


@pytest.mark.parametrize("maximizes", [False, True])
def test_pictures_show_the_best(maximizes):
    found = results(maximizes=maximizes)
    best = found.mean()[found.best_index]
    good, *_ = lines_of(found.plot().axes[0])
    assert best in good
    lines = [line for line in found.plot_parallel().axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert lines[-1].get_ydata()[-1] == float(maximizes)
    assert lines[-1].get_linewidth() == max(line.get_linewidth() for line in lines)


@pytest.mark.parametrize(("folds", "part"), [(5, "fold"), (1, "seed")])
def test_parts_are_called_what_they_are(folds, part):
    (legend,) = [axis.get_legend() for axis in results(LOSS[:, :folds]).plot_folds().axes]
    assert legend.get_texts()[0].get_text() == f"{part} 0"


def test_pictures_show_every_setting():
    found = results(with_nan((4, 0, 0)))
    axes = found.plot().axes
    assert axes[0].get_ylabel() == "loss ± standard error"
    assert [axis.get_xlabel() for axis in axes] == ["rate", "name"]
    assert axes[0].get_xscale() == "log"
    assert axes[1].get_xticklabels()[2].get_text() == "c"
    for axis in axes:
        assert sum(len(line) for line in lines_of(axis)[:2]) == 6  # good ones, then crosses
        assert lines_of(axis)[-1] == pytest.approx([found.mean()[2]])
    lines = [line for line in found.plot_parallel().axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert len(lines) == 5
    axis = found.plot_folds(3).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["2", "3", "1"]
    np.testing.assert_allclose(lines_of(axis)[0], LOSS.mean(axis=2)[[2, 3, 1], 0], rtol=1e-6)


@pytest.mark.parametrize("maximizes", [False, True])
def test_pictures_of_the_least_there_can_be(maximizes):
    for loss in (LOSS[:1, :1, :1], LOSS[:2], np.ones_like(LOSS)):
        found = results(loss, maximizes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for figure in (found.plot(), found.plot_parallel(), found.plot_folds()):
                figure.canvas.draw()


def test_no_picture_where_all_diverged():
    found = results(np.full_like(LOSS, np.nan))
    for draw in (found.plot, found.plot_parallel, found.plot_folds):
        with pytest.raises(ValueError, match="no setting has a finite loss"):
            draw()


def test_the_best_five_are_shown():
    text = repr(results(with_nan((2, 4, 1))))
    assert text.splitlines()[0] == "Results of 6 settings x 5 folds x 3 seeds, by loss"
    assert len(text.splitlines()) == 7
    assert text.splitlines()[-1] == "1 diverged"
    assert text.splitlines()[1].split()[-2:] == ["rate=0.0631,", "name=d"]
    assert text.count("±") == 5
    alone = repr(results(LOSS[:, :1, :1]))
    assert len(alone.splitlines()) == 6
    assert "±" not in alone  # one score has no spread
    assert "nan" not in alone


def grid_of_two():
    """Three rates by two names, the last pair not there, and a third hyperparameter that doubles the first pair."""
    columns = {
        "rate": np.array([0.1, 0.1, 0.01, 0.1, 1, 0.01], np.float32),
        "name": Static("aabbaa"),
        "other": np.array([0, 1, 0, 0, 0, 0], np.int32),
    }
    return results(settings=Settings(columns))


def test_a_table_of_trainings():
    frame = results(with_nan((2, 4, 1))).by_fold()
    assert list(frame) == ["rate", "name", "fold", "seed", "loss", "score", "diverged_at"]
    assert len(frame) == LOSS.size
    for i, fold, seed in [(0, 0, 0), (2, 4, 1), (5, 1, 2)]:
        (row,) = frame[(frame.name == "abcdef"[i]) & (frame.fold == fold) & (frame.seed == seed)].itertuples()
        assert row.rate == results().settings.row(i)["rate"]
        np.testing.assert_array_equal(row.loss, np.nan if i == 2 else LOSS[i, fold, seed])
        assert row.diverged_at == (0 if i == 2 else -1)
    odd = results(settings=Settings({"fold": np.arange(6.0), "loss": np.arange(6.0)})).by_fold()
    assert list(odd) == ["fold", "loss", "search_fold", "seed", "metric_loss", "score", "diverged_at"]


@pytest.mark.parametrize("maximizes", [False, True])
def test_one_hyperparameter_by_another(maximizes):
    mean = LOSS.mean(axis=(1, 2))
    table = grid_of_two().pivot("rate", "name")
    if maximizes:
        found = results(maximizes=True, settings=grid_of_two().settings)
        table = -found.pivot("rate", "name")
        np.testing.assert_allclose(found.pivot("rate", "name", "loss"), table, rtol=1e-5)
    assert list(table.index) == [0.01, 0.1, 1]
    assert (table.index.name, table.columns.name, list(table)) == ("rate", "name", ["a", "b"])
    np.testing.assert_allclose(table["a"], [mean[5], mean[:2].min(), mean[4]], rtol=1e-5)
    np.testing.assert_allclose(table["b"], [mean[2], mean[3], np.nan], rtol=1e-5)
    for call, said in [
        (("x", "name"), "rows must be one of 'rate', 'name', 'other'; got 'x'"),
        (("rate", "x"), "columns must be one of"),
        ((["rate"], "name"), r"rows must be one of 'rate', .*; got \['rate'\]"),
        (("rate", "rate"), "columns must be another hyperparameter than rows"),
    ]:
        with pytest.raises(ValueError, match=said):
            grid_of_two().heatmap(*call)


@pytest.mark.parametrize("maximizes", [False, True])
def test_a_heatmap_frames_the_best(maximizes):
    found = results(maximizes=maximizes, settings=grid_of_two().settings)
    axis, bar = found.heatmap("rate", "name").axes
    (frame,) = axis.patches
    assert axis.images[0].cmap.name == ("viridis" if maximizes else "viridis_r")  # bright is good
    assert frame.get_xy() == (0.5, -0.5)  # setting 2: name b, rate 0.01
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["0.01", "0.1", "1"]
    assert (axis.get_ylabel(), axis.get_xlabel(), bar.get_ylabel()) == ("rate", "name", found.metric)
    assert sorted(text.get_text() for text in axis.texts) == sorted(
        f"{score:.3g}" for score in found.pivot("rate", "name").to_numpy().ravel() if not np.isnan(score)
    )
