"""Pictures of an inspection, of optimizers and of label efficiency; names; what is not installed."""

import importlib
import sys

import numpy as np
import pytest
from figure_parts import legend_texts, lines, panels, same

from lectopt.plots.inspection import plot_inspection
from lectopt.plots.label_efficiency import plot_label_efficiency
from lectopt.plots.names import by_metric, display_name, distinct_names
from lectopt.plots.optimizers import plot_optimizers

pytestmark = pytest.mark.filterwarnings("error")
LAYERS = ["first  Linear", "second  Linear", "_last  Linear"]
HISTOGRAM = np.array([1, 4, 1]), np.array([-3.0, -1, 1, 3])
STATISTICS = {
    "output_std": [1.0, 2.0, 0.0],
    "dead": [0.0, 0.5, 1.0],
    "saturated": [0.25, 0.0, 0.0],
    "gradient_std": [1e-3, 1e-2, np.nan],
    "weight_gradient_std": [np.inf, 1e-1, 0.0],
}


def test_a_row_for_each_layer():
    figure = plot_inspection(LAYERS, [HISTOGRAM] * 3, STATISTICS, ["dead units", "vanishing outputs"])
    distributions, outputs, flat, gradients = panels(figure).values()
    assert [label.get_text().lstrip("\u200b") for label in distributions.get_yticklabels()] == LAYERS
    assert distributions.yaxis_inverted()
    wide, narrow, nothing = distributions.collections
    assert wide.get_paths()[0].vertices[:, 0].tolist()[1] == -2  # the middle of the first bin, in units of sd 1
    assert narrow.get_paths()[0].vertices[:, 0].tolist()[1] == -1
    assert nothing.get_paths()[0].vertices[:, 0].tolist() == [0, 0]  # of all alike
    same(lines(outputs)["sd of the outputs"], [1, 2], [0, 1])
    same(lines(gradients)["sd of the gradient at the outputs"], [1e-3, 1e-2], [0, 1])
    same(lines(gradients)["sd of the gradient of the weights"], [1e-1], [1])
    assert [bar.get_width() for bar in flat.patches] == [0, 0.5, 1, 0.25, 0, 0]
    assert len(legend_texts(figure.legends[0])) == 5
    assert figure.get_suptitle() == "Found: dead units, vanishing outputs"


def test_where_nothing_is_positive_it_is_said():
    sizes = ("output_std", "gradient_std", "weight_gradient_std")
    nothing = STATISTICS | {name: [0.0, np.nan, np.inf] for name in sizes}
    drawn = panels(plot_inspection(LAYERS, [HISTOGRAM] * 3, nothing, []))
    for title in ("size of the outputs", "size of the gradients"):
        assert [text.get_text() for text in drawn[title].texts] == ["all 0, infinite or NaN"]
        assert drawn[title].get_xscale() == "linear"
    assert plot_inspection(LAYERS, [HISTOGRAM] * 3, nothing, []).get_suptitle() == ""


def test_optimizers():
    rates = np.array([0.1, 1.0, 10.0])
    by_rate = {"sgd": np.array([2.0, 1.0, np.nan]), "adam": np.array([0.5, 3.0, 90.0])}
    figure = plot_optimizers(
        {"sgd": np.array([3.0, 2, 1]), "adam": np.array([2.0, 1])}, rates, by_rate, {"sgd": 1, "adam": 0}
    )
    left, right = figure.axes
    same(lines(left)["adam"], [1, 2], [2, 1])
    first, dot, second, _ = right.get_lines()
    same((first.get_xdata(), first.get_ydata()), rates, by_rate["sgd"])
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1.0, 1.0)
    assert first.get_color() == dot.get_color() != second.get_color()
    assert right.get_ylim()[1] == 10
    assert left.get_yscale() == right.get_yscale() == right.get_xscale() == "log"
    assert legend_texts(figure.legends[0]) == ["sgd", "adam"]


def test_label_efficiency():
    base = np.array([[0.5, 0.7], [0.8, 0.9]])
    better = base + np.array([[0.1, 0.2], [0, 0]])
    above, below = plot_label_efficiency({"a": {"from scratch": base, "better": better}}, (1, 5)).axes
    np.testing.assert_allclose(above.get_lines()[0].get_ydata(), [60, 85])
    np.testing.assert_allclose(above.get_lines()[1].get_ydata(), [75, 85])
    assert legend_texts(above.get_legend()) == ["from scratch", "better"]
    (bars,) = below.containers
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [15, 0], atol=1e-12)
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0][:, 1], [5, 25])  # two standard errors: 2 x 5
    assert "from scratch" in below.get_ylabel()


def test_names():
    assert display_name("valid_top_k") == "validation top k"
    assert display_name("train_loss") == "training loss"
    assert display_name("a$b") == r"a\$b"
    long = distinct_names(["m" * 99, "m" * 98, "_a"])
    assert long[1] == f"{long[0]} (2)"
    assert len(long[0]) == 30
    assert long[2] == "\u200b_a"
    names = ["valid_b", "valid_loss", "train_loss", "train_b", "odd"]
    assert by_metric(names) == {"loss": ["train_loss", "valid_loss"], "odd": ["odd"], "b": ["train_b", "valid_b"]}


def test_that_matplotlib_is_not_installed_is_said(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lectopt.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for picture in ("history", "scores", "architecture"):
        with pytest.raises(ImportError, match=r"plots need matplotlib: pip install 'lectopt\[examples\]'"):
            importlib.import_module(f"lectopt.plots.{picture}")
