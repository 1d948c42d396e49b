"""The dashboard of a training: what is drawn, by the lines that are there."""

from collections import OrderedDict

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import drawn_panels, legend_texts, lines, panels, same

from lectopt.plots.history import plot_history

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


def layered(count, records=10):
    """Layers whose names are not in alphabetical order."""
    return OrderedDict(
        (f"layer {count - i}", {name: (i + 1) * curve(0.1, 0.01, records) for name in TITLES}) for i in range(count)
    )


def history(epochs=10, layers=0, baseline_loss=2.3, **steps):
    """Arguments of `plot_history`."""
    n = epochs * PER_EPOCH
    records = {"loss": curve(2, 0.1, n), "gradient_norm": curve(5, 0.01, n), "learning_rate": np.linspace(0.1, 0.05, n)}
    of_epochs = {
        "train_loss": curve(1.5, 0.1, epochs),
        "valid_loss": curve(1.6, 0.2, epochs),
        "valid_accuracy": np.linspace(0.1, 0.9, epochs),
    }
    return {
        "steps": records | steps,
        "epochs": of_epochs,
        "layers": layered(layers),
        "step_ends": np.arange(1, n + 1) / PER_EPOCH,
        "epoch_ends": np.arange(1.0, epochs + 1),
        "layer_ends": 0.1 + np.arange(10),
        "baseline_loss": baseline_loss,
    }


def drawn_from(given):
    return panels(plot_history(**given))


def test_panels():
    assert list(drawn_from(history())) == ["loss", "validation accuracy", "gradient norm", "learning rate"]
    assert list(drawn_from(history(layers=2))) == [
        "loss", "validation accuracy", "gradient norm", "learning rate", *TITLES.values()
    ]  # fmt: skip
    bare = history()
    del bare["steps"]["learning_rate"], bare["epochs"]["valid_accuracy"]
    assert list(drawn_from(bare)) == ["loss", "gradient norm"]
    assert {axis.get_xlabel() for axis in plot_history(**bare).axes} == {"epoch"}
    assert {axis.get_xlim() for axis in plot_history(**bare).axes} == {(-0.2, 10.2)}


def test_shares_that_are_always_0_need_no_panel():
    given = history(layers=2)
    for layer in given["layers"].values():
        layer["dead"] = np.where(np.arange(10) % 2, np.nan, 0)
    assert TITLES["dead"] not in drawn_from(given)
    given["layers"]["layer 1"]["dead"] = np.array([np.nan] * 9 + [0.1])
    assert TITLES["dead"] in drawn_from(given)


def test_loss():
    given = history(epochs=12)
    axis = drawn_from(given)["loss"]
    drawn = lines(axis)
    same(drawn["each batch"], np.arange(1, 121) / 10, given["steps"]["loss"])
    same(drawn["training loss"], np.arange(1, 13), given["epochs"]["train_loss"])
    same(drawn["validation loss"], np.arange(1, 13), given["epochs"]["valid_loss"])
    assert len({line.get_color() for line in axis.get_lines() if "loss" in line.get_label()}) == 2
    smooth = drawn["batches, smoothed"][1]
    assert smooth[0] == given["steps"]["loss"][0]
    np.testing.assert_allclose(smooth[50], given["steps"]["loss"][49:51].mean())
    assert [text.get_text() for text in axis.texts] == ["constant outputs"]
    assert any(np.allclose(line.get_ydata(), 2.3) for line in axis.get_lines())
    assert axis.get_yscale() == "log"


@pytest.mark.parametrize("baseline_loss", [np.nan, 0.0, np.inf, None])
def test_without_the_loss_of_constant_outputs(baseline_loss):
    assert not drawn_from(history(baseline_loss=baseline_loss))["loss"].texts


def test_few_steps_are_not_smoothed():
    assert "batches, smoothed" not in lines(drawn_from(history(epochs=9))["loss"])
    assert "batches, smoothed" in lines(drawn_from(history(epochs=10))["loss"])


def test_smoothing_leaves_nan_where_it_is():
    losses = np.where(np.arange(200) < 150, 1.0, np.nan)
    losses[40] = np.inf
    smooth = lines(drawn_from(history(epochs=20, loss=losses))["loss"])["batches, smoothed"][1]
    np.testing.assert_array_equal(np.isnan(smooth), ~np.isfinite(losses))
    np.testing.assert_allclose(smooth[np.isfinite(smooth)], 1)


def test_metrics_gradient_and_rate():
    given = history()
    given["epochs"]["train_accuracy"] = np.linspace(0.2, 0.95, 10)
    drawn = drawn_from(given)
    accuracy, epochs, steps = lines(drawn["accuracy"]), np.arange(1, 11), np.arange(1, 101) / 10
    same(accuracy["training accuracy"], epochs, given["epochs"]["train_accuracy"])
    same(accuracy["validation accuracy"], epochs, given["epochs"]["valid_accuracy"])
    same(lines(drawn["gradient norm"])["each batch"], steps, given["steps"]["gradient_norm"])
    same(lines(drawn["learning rate"])["learning rate"], steps, given["steps"]["learning_rate"])
    assert drawn["learning rate"].get_ylim() == pytest.approx((0, 0.11))
    assert {axis.get_title(): axis.get_yscale() for axis in drawn.values()} == {
        "loss": "log", "accuracy": "linear", "gradient norm": "log", "learning rate": "linear"
    }  # fmt: skip


def test_clipping():
    given = history(clipped=np.arange(100) % 4 == 0, clip_threshold=np.full(100, 0.7))
    drawn = lines(drawn_from(given)["gradient norm"])
    same(drawn["clipped above: 25% of the steps"], np.arange(1, 101) / 10, given["steps"]["clip_threshold"])


@pytest.mark.parametrize(("low", "scale"), [(0.39, "log"), (0.41, "linear")])
def test_a_logarithmic_axis_is_for_a_factor_of_five(low, scale):
    drawn = drawn_from(history(loss=curve(2, low, 100), gradient_norm=curve(2, low, 100)))
    assert drawn["loss"].get_yscale() == drawn["gradient norm"].get_yscale() == scale


def test_layers():
    """In the order of the calls, at the steps at which they were recorded."""
    given = history(layers=8)
    figure = plot_history(**given)
    drawn = drawn_panels(figure)
    assert legend_texts(figure.legends[0]) == list(given["layers"])
    for statistic, title in TITLES.items():
        found = {label: line for label, line in lines(drawn[title]).items() if label.startswith("layer")}
        assert list(found) == list(given["layers"])
        assert drawn[title].get_legend() is None
        assert len({line.get_color() for line in drawn[title].get_lines()}) == 8
        for name, line in found.items():
            same(line, 0.1 + np.arange(10), given["layers"][name][statistic])
    scales = [drawn[title].get_yscale() for title in TITLES.values()]
    assert scales == ["log", "log", "log", "linear", "linear"]
    assert drawn[TITLES["dead"]].get_ylim() == (0, 1)
    assert drawn[TITLES["dead"]].get_yticklabels()[-1].get_text() == "100%"
    (band,) = drawn[TITLES["update_ratio"]].patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((3e-4, 3e-3))
    assert [text.get_text() for text in drawn[TITLES["update_ratio"]].texts] == ["about 1e-3"]


@pytest.mark.parametrize("loss", [curve(2, 0.1, 100), np.linspace(2, 1, 100), np.linspace(1, 2, 100)])
def test_a_legend_lies_on_no_curve(loss):
    """On logarithmic axes and others."""
    axis = drawn_panels(plot_history(**history(loss=loss, baseline_loss=loss.max())))["loss"]
    below = axis.transData.inverted().transform(axis.get_legend().get_window_extent())[0, 1]
    assert below > max(line.get_ydata()[0] for line in axis.get_lines())


@pytest.mark.parametrize(("layers", "dead", "columns"), [(0, 1, 4), (2, 0, 4), (2, 1, 3)])
def test_hardly_a_place_is_empty(layers, dead, columns):
    """Four panels stand in a row, eight in two, nine in three."""
    given = history(layers=layers)
    for layer in given["layers"].values():
        layer["dead"] = dead * layer["dead"]
    grid = plot_history(**given).axes[0].get_gridspec()
    assert grid.ncols == columns
    assert grid.nrows * grid.ncols == len(plot_history(**given).axes)


def test_of_more_than_eight_layers_the_first_and_the_last_are_named():
    figure = plot_history(**history(layers=9))
    axis = panels(figure)[TITLES["output_std"]]
    assert legend_texts(figure.legends[0]) == ["layer 9", "layer 1"]
    assert len(axis.get_lines()) == 9
    assert len({line.get_color() for line in axis.get_lines()}) == 9


def test_of_many_steps_the_ranges_are_drawn():
    """5003 steps are a thousand stretches of at most 6 steps, NaN left out."""
    losses = 1.0 + np.arange(5003) % 6
    losses[3000:] = np.nan
    given = history(epochs=10) | {"step_ends": np.arange(1, 5004) / 500}
    given["steps"] = {"loss": losses, "gradient_norm": np.ones(5003)}
    axis = drawn_from(given)["loss"]
    assert "each batch" not in lines(axis)
    (ranges,) = axis.collections
    corners = ranges.get_paths()[0].vertices
    assert set(np.unique(corners[:, 1])) == {1.0, 6.0}
    assert corners[:, 0].min() == pytest.approx(1 / 500)
    assert corners[:, 0].max() == pytest.approx(2995 / 500)
    assert "each batch" in lines(drawn_from(history(epochs=200))["loss"])


def filled(given, value):
    records = jax.tree.map(lambda a: np.full(np.shape(a), value), {x: given[x] for x in ("steps", "epochs", "layers")})
    return given | records | {"baseline_loss": value}


ONE = {"loss": np.ones(1), "gradient_norm": np.ones(1), "learning_rate": np.ones(1)}
UNUSUAL = {
    "usual": lambda: history(layers=3),
    "no validation": lambda: history() | {"epochs": {"train_loss": curve(1, 0.1, 10)}},
    "one step": lambda: history(layers=1) | {"steps": ONE, "step_ends": np.array([0.1]), "epochs": {}},
    "one epoch": lambda: history(epochs=1, layers=12),
    "all NaN": lambda: filled(history(layers=3), np.nan),
    "all infinite": lambda: filled(history(layers=3), np.inf),
    "all zero": lambda: filled(history(layers=3, clipped=np.ones(100), clip_threshold=np.ones(100)), 0.0),
    "many steps of NaN": lambda: filled(history(epochs=300, layers=3), np.nan),
    "negative": lambda: filled(history(layers=3), -1.0),
    "falls below 0": lambda: history(loss=np.linspace(1, -3, 100)),
    "clipped, NaN": lambda: history(clipped=np.full(100, np.nan), clip_threshold=np.full(100, np.nan)),
}


SLOW = {"all infinite", "many steps of NaN", "one epoch", "all zero", "clipped, NaN", "no validation"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "style"),
    [
        *(pytest.param(case, "default", marks=[pytest.mark.slow] * (case in SLOW)) for case in UNUSUAL),
        ("usual", "dark_background"),
    ],
)
def test_what_is_unusual_is_drawn(case, style):
    with plt.style.context(style):
        drawn = drawn_panels(plot_history(**UNUSUAL[case]()))
    assert next(iter(drawn)) == "loss"
    if case in ("negative", "falls below 0"):
        assert drawn["loss"].get_yscale() == "linear"
    if case == "one step":
        (line,) = (line for line in drawn["loss"].get_lines() if line.get_label() == "each batch")
        assert line.get_marker() == "o"
    assert not plt.get_fignums()


@pytest.mark.parametrize("rates", [[0.1, np.inf], [0.1, np.nan], [-1.0, -1.0], [np.nan, np.nan]])
def test_rates_that_are_no_rates(rates):
    drawn_panels(plot_history(**history(learning_rate=np.tile(rates, 50))))


FORMULA, HIDDEN, LONG = "$\\frac{1$ of $", "_private", "m" * 300
"""Names that are hard to show."""


def test_names_are_shown_as_they_are(tmp_path):
    given = history(layers=3)
    given["epochs"] |= {f"valid_{name}": curve(1, 2, 10) for name in (FORMULA, HIDDEN, LONG, "a/b", "invalid_x")}
    given["layers"] = OrderedDict(zip((FORMULA, HIDDEN, LONG), given["layers"].values(), strict=True))
    figure = plot_history(**given)
    figure.savefig(tmp_path / "picture.png")
    titles = list(panels(figure))
    assert "validation invalid x" in titles
    assert "validation " + FORMULA.replace("$", r"\$") in titles
    assert max(map(len, titles)) < 60
    shown = legend_texts(figure.legends[0])
    assert len(shown) == 3
    assert shown[1].lstrip("\u200b") == HIDDEN
    assert shown[2].startswith("mmm")
    (invalid,) = panels(figure)["validation invalid x"].get_lines()
    assert invalid.get_label() == "validation invalid x"


def test_metrics_that_differ_by_an_underscore_have_a_panel_each():
    given = history()
    given["epochs"] |= {"valid_a_b": curve(1, 2, 10), "valid_a b": curve(3, 4, 10)}
    assert [axis.get_title() for axis in plot_history(**given).axes].count("validation a b") == 2
