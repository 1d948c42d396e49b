"""The dashboard of a training and the comparison of several: what is drawn, by the lines that are there."""

import dataclasses
import sys
from collections import OrderedDict

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")
PER_EPOCH = 10
TITLES = {
    "update_ratio": "update / weights, by layer",
    "output_gradient_std": "gradient at the outputs (sd), by layer",
    "output_std": "outputs (sd), by layer",
    "dead": "dead units, by layer",
    "saturated": "saturated outputs, by layer",
}


def curve(start, end, count):
    return np.geomspace(start, end, count)


def layered(count, looks=10):
    """Layers whose names are not in alphabetical order."""
    return OrderedDict(
        (f"layer {count - i}", {name: (i + 1) * curve(0.1, 0.01, looks) for name in TITLES}) for i in range(count)
    )


def history(epochs=10, layers=0, **steps):
    n = epochs * PER_EPOCH
    records = {"loss": curve(2, 0.1, n), "gradient_norm": curve(5, 0.01, n), "learning_rate": np.linspace(0.1, 0.05, n)}
    of_epochs = {
        "train_loss": curve(1.5, 0.1, epochs),
        "valid_loss": curve(1.6, 0.2, epochs),
        "valid_accuracy": np.linspace(0.1, 0.9, epochs),
    }
    return lo.History(records | steps, of_epochs, layered(layers), np.float32(2.3), -1, PER_EPOCH, 32, 10)


def panels(figure):
    figure.canvas.draw()
    return {axis.get_title(): axis for axis in figure.axes}


def lines(axis):
    """{label: (x, y)}"""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axis.get_lines()}


def same(line, x, y):
    np.testing.assert_allclose(line[0], x)
    np.testing.assert_array_equal(line[1], y)


def test_panels():
    assert list(panels(history().plot())) == ["loss", "accuracy", "gradient norm", "learning rate"]
    assert list(panels(history(layers=2).plot())) == [
        "loss", "accuracy", "gradient norm", "learning rate", *TITLES.values()
    ]  # fmt: skip
    bare = history()
    del bare.steps["learning_rate"], bare.epochs["valid_accuracy"]
    assert list(panels(bare.plot())) == ["loss", "gradient norm"]
    assert {axis.get_xlabel() for axis in bare.plot().axes} == {"epoch"}


def test_shares_that_are_always_0_need_no_panel():
    given = history(layers=2)
    for layer in given.layers.values():
        layer["dead"] = np.where(np.arange(10) % 2, np.nan, 0)
    assert TITLES["dead"] not in panels(given.plot())
    given.layers["layer 1"]["dead"] = np.array([np.nan] * 9 + [0.1])
    assert TITLES["dead"] in panels(given.plot())


def test_loss():
    given = history(epochs=12)
    axis = panels(given.plot())["loss"]
    drawn = lines(axis)
    same(drawn["each batch"], np.arange(1, 121) / 10, given.steps["loss"])
    same(drawn["training loss"], np.arange(1, 13), given.epochs["train_loss"])
    same(drawn["validation loss"], np.arange(1, 13), given.epochs["valid_loss"])
    assert len({line.get_color() for line in axis.get_lines() if "loss" in line.get_label()}) == 2
    smooth = drawn["batches, smoothed"][1]
    assert smooth[0] == given.steps["loss"][0]
    np.testing.assert_allclose(smooth[50], given.steps["loss"][49:51].mean())
    assert [text.get_text() for text in axis.texts] == ["constant outputs"]
    assert any(np.allclose(line.get_ydata(), 2.3) for line in axis.get_lines())
    assert axis.get_yscale() == "log"


@pytest.mark.parametrize("baseline_loss", [np.nan, 0.0, np.inf])
def test_without_the_loss_of_constant_outputs(baseline_loss):
    given = dataclasses.replace(history(), baseline_loss=np.float32(baseline_loss))
    assert not panels(given.plot())["loss"].texts


def test_few_steps_are_not_smoothed():
    assert "batches, smoothed" not in lines(panels(history(epochs=9).plot())["loss"])
    assert "batches, smoothed" in lines(panels(history(epochs=10).plot())["loss"])


def test_smoothing_leaves_nan_where_it_is():
    losses = np.where(np.arange(200) < 150, 1.0, np.nan)
    losses[40] = np.inf
    smooth = lines(panels(history(epochs=20, loss=losses).plot())["loss"])["batches, smoothed"][1]
    np.testing.assert_array_equal(np.isnan(smooth), ~np.isfinite(losses))
    np.testing.assert_allclose(smooth[np.isfinite(smooth)], 1)


def test_metrics_gradient_and_rate():
    given = history()
    given.epochs["train_accuracy"] = np.linspace(0.2, 0.95, 10)
    drawn = panels(given.plot())
    accuracy, epochs, steps = lines(drawn["accuracy"]), np.arange(1, 11), np.arange(1, 101) / 10
    same(accuracy["training accuracy"], epochs, given.epochs["train_accuracy"])
    same(accuracy["validation accuracy"], epochs, given.epochs["valid_accuracy"])
    same(lines(drawn["gradient norm"])["each batch"], steps, given.steps["gradient_norm"])
    same(lines(drawn["learning rate"])["learning rate"], steps, given.steps["learning_rate"])
    assert drawn["learning rate"].get_ylim() == pytest.approx((0, 0.11))
    assert {axis.get_title(): axis.get_yscale() for axis in drawn.values()} == {
        "loss": "log", "accuracy": "linear", "gradient norm": "log", "learning rate": "linear"
    }  # fmt: skip


def test_clipping():
    given = history(clipped=np.arange(100) % 4 == 0, clip_threshold=np.full(100, 0.7))
    drawn = lines(panels(given.plot())["gradient norm"])
    same(drawn["clipped above: 25% of the steps"], np.arange(1, 101) / 10, given.steps["clip_threshold"])


@pytest.mark.parametrize(("low", "scale"), [(0.39, "log"), (0.41, "linear")])
def test_a_logarithmic_axis_is_for_a_factor_of_five(low, scale):
    drawn = panels(history(loss=curve(2, low, 100), gradient_norm=curve(2, low, 100)).plot())
    assert drawn["loss"].get_yscale() == drawn["gradient norm"].get_yscale() == scale


def test_layers():
    """In the order of the calls, at the steps of the looks."""
    given = history(layers=8)
    drawn = panels(given.plot())
    for statistic, title in TITLES.items():
        found = {label: line for label, line in lines(drawn[title]).items() if label.startswith("layer")}
        assert list(found) == list(given.layers)
        legend = [text.get_text() for text in drawn[title].get_legend().get_texts()]
        assert [label for label in legend if label.startswith("layer")] == list(given.layers)
        assert len({line.get_color() for line in drawn[title].get_lines()}) == 8
        for name, line in found.items():
            same(line, (np.arange(10) * 10 + 1) / PER_EPOCH, given.layers[name][statistic])
    scales = [drawn[title].get_yscale() for title in TITLES.values()]
    assert scales == ["log", "log", "log", "linear", "linear"]
    assert drawn[TITLES["dead"]].get_ylim() == (0, 1)
    assert drawn[TITLES["dead"]].get_yticklabels()[-1].get_text() == "100%"
    (band,) = drawn[TITLES["update_ratio"]].patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((3e-4, 3e-3))


def test_of_more_than_eight_layers_the_first_and_the_last_are_named():
    axis = panels(history(layers=9).plot())[TITLES["output_std"]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["layer 9", "layer 1"]
    assert len(axis.get_lines()) == 9
    assert len({line.get_color() for line in axis.get_lines()}) == 9


def test_of_many_steps_the_ranges_are_drawn():
    """5003 steps are a thousand stretches of at most 6 steps, NaN left out."""
    losses = 1.0 + np.arange(5003) % 6
    losses[3000:] = np.nan
    given = history(epochs=10, loss=losses, gradient_norm=np.ones(5003))
    del given.steps["learning_rate"]
    given = dataclasses.replace(given, steps_per_epoch=500)
    axis = panels(given.plot())["loss"]
    assert "each batch" not in lines(axis)
    (ranges,) = axis.collections
    corners = ranges.get_paths()[0].vertices
    assert set(np.unique(corners[:, 1])) == {1.0, 6.0}
    assert corners[:, 0].min() == pytest.approx(1 / 500)
    assert corners[:, 0].max() == pytest.approx(2995 / 500)
    two_thousand = history(epochs=200)
    assert "each batch" in lines(panels(two_thousand.plot())["loss"])


def changed(given, **changes):
    return dataclasses.replace(given, **changes)


def filled(given, value):
    return jax.tree.map(lambda a: np.full(np.shape(a), value), given)


ONE = {"loss": np.ones(1), "gradient_norm": np.ones(1), "learning_rate": np.ones(1)}
UNUSUAL = {
    "usual": lambda: history(layers=3),
    "no validation": lambda: changed(history(), epochs={"train_loss": curve(1, 0.1, 10)}),
    "one step": lambda: changed(history(layers=1), steps=ONE, epochs={}),
    "one epoch": lambda: history(epochs=1, layers=12),
    "all NaN": lambda: filled(history(layers=3), np.nan),
    "all infinite": lambda: filled(history(layers=3), np.inf),
    "all zero": lambda: filled(history(layers=3, clipped=np.ones(100), clip_threshold=np.ones(100)), 0.0),
    "many steps of NaN": lambda: filled(history(epochs=300, layers=3), np.nan),
    "negative": lambda: filled(history(layers=3), -1.0),
    "falls below 0": lambda: history(loss=np.linspace(1, -3, 100)),
    "clipped, NaN": lambda: history(clipped=np.full(100, np.nan), clip_threshold=np.full(100, np.nan)),
}


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_unusual_is_drawn(case, style):
    given = UNUSUAL[case]()
    with plt.style.context(style):
        figure = given.plot()
        drawn = panels(figure)
        assert next(iter(drawn)) == "loss"
        panels(lo.compare({"a": given, "b": history()}).plot())
    if case in ("negative", "falls below 0"):
        assert drawn["loss"].get_yscale() == "linear"
    if case == "one step":
        (line,) = (line for line in drawn["loss"].get_lines() if line.get_label() == "each batch")
        assert line.get_marker() == "o"
    assert not plt.get_fignums()


def test_several_trainings():
    many = jax.tree.map(lambda a: np.stack([a, a]), history())
    with pytest.raises(ValueError, match=r"holds \(2,\) trainings"):
        many.plot()
    with pytest.raises(ValueError, match=r"holds \(2,\) trainings"):
        lo.compare({"a": many})


def test_runs_and_histories_compared():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    run = lo.fit(task, lo.sgd(0.01), lo.datasets.iris(), batch_size=75, epochs=2, key=0)
    short = changed(history(), epochs={"train_loss": curve(1, 0.1, 10)})
    figure = lo.compare({"run": run, "full": history(), "short": short}).plot()
    drawn = panels(figure)
    assert list(drawn) == ["validation loss", "validation accuracy", "gradient norm"]
    assert list(lines(drawn["validation loss"])) == ["full"]
    same(lines(drawn["validation loss"])["full"], np.arange(1, 11), history().epochs["valid_loss"])
    norms = lines(drawn["gradient norm"])
    assert list(norms) == ["run", "full", "short"]
    same(norms["run"], [0.5, 1, 1.5, 2], np.asarray(run.history.steps["gradient_norm"], float))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["run", "full", "short"]
    assert drawn["validation loss"].get_yscale() == drawn["gradient norm"].get_yscale() == "log"
    assert drawn["validation accuracy"].get_yscale() == "linear"


def test_twelve_trainings_are_told_apart():
    (axis, *_) = lo.compare({i: history() for i in range(12)}).plot().axes
    styles = {(line.get_color(), line.get_linestyle()) for line in axis.get_lines()}
    assert len(styles) == 12


# Names that are hard to show.

FORMULA, HIDDEN, LONG = "$\\frac{1$ of $", "_private", "m" * 300


def test_names_are_shown_as_they_are(tmp_path):
    given = history(layers=3)
    given = changed(
        given,
        epochs=given.epochs
        | {f"valid_{name}": curve(1, 2, 10) for name in (FORMULA, HIDDEN, LONG, "a/b", "invalid_x")},
        layers=OrderedDict(zip((FORMULA, HIDDEN, LONG), given.layers.values(), strict=True)),
    )
    figure = given.plot()
    figure.savefig(tmp_path / "picture.png")
    titles = list(panels(figure))
    assert "invalid x" in titles
    assert FORMULA.replace("$", r"\$") in titles
    assert max(map(len, titles)) < 60
    ratios = panels(figure)[TITLES["update_ratio"]]
    shown = [text.get_text() for text in ratios.get_legend().get_texts()]
    assert len(shown) == 4
    assert shown[2].lstrip("\u200b") == HIDDEN
    assert shown[3].startswith("mmm")
    (invalid,) = panels(figure)["invalid x"].get_lines()
    assert invalid.get_label() == "validation invalid x"


def test_runs_are_told_apart_whatever_they_are_called(tmp_path):
    runs = {FORMULA: history(), HIDDEN: history(), LONG: history(), LONG + "m": history(), "run": history()}
    figure = lo.compare(runs).plot()
    figure.savefig(tmp_path / "picture.png")
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == 5


def test_metrics_that_differ_by_an_underscore_have_a_panel_each():
    given = history()
    given = changed(given, epochs=given.epochs | {"valid_a_b": curve(1, 2, 10), "valid_a b": curve(3, 4, 10)})
    assert [axis.get_title() for axis in given.plot().axes].count("a b") == 2


@pytest.mark.parametrize("rates", [[0.1, np.inf], [0.1, np.nan], [-1.0, -1.0], [np.nan, np.nan]])
def test_rates_that_are_no_rates(rates):
    panels(history(learning_rate=np.tile(rates, 50)).plot())


def test_columns_are_kept_apart():
    given = history(layers=1)
    given = changed(
        given,
        steps=given.steps | {"epoch": np.full(100, 7.0), "valid_a dead": np.zeros(100)},
        layers=OrderedDict({"valid_a": {"dead": np.ones(10)}, "epoch": {"dead": np.ones(10)}}),
    )
    frame = given.to_pandas()
    assert {"epoch", "epoch (2)", "valid_a dead", "valid_a dead (2)", "epoch dead"} <= set(frame.columns)
    np.testing.assert_array_equal(frame["epoch"], np.arange(1, 101) / 10)
    assert set(frame["epoch (2)"]) == {7.0}
    assert set(frame["valid_a dead"]) == {0.0}
    assert frame["valid_a dead (2)"].sum() == 10
    row, _ = lo.compare({"x": changed(given, epochs={"run": [0.5], "diverged at": [0.25]}), "y": history()}).rows
    assert row == {"run": "x", "run (2)": 0.5, "diverged at (2)": 0.25, "diverged at": None}


@pytest.mark.parametrize("missing", ["pandas", "matplotlib"])
def test_what_is_not_installed_is_said(missing, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lectopt.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    given = history()
    calls = [given.to_pandas, lo.compare({"a": given}).to_pandas] if missing == "pandas" else [given.plot]
    for call in calls:
        with pytest.raises(ImportError, match=rf"need.* {missing}: pip install 'lectopt\[examples\]'"):
            call()
