"""The curves of several trainings over each other, by the lines that are there."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import drawn_panels, legend_texts, lines, panels, same

from lectopt.plots.comparison import plot_comparison

pytestmark = pytest.mark.filterwarnings("error")
EPOCHS, STEPS = np.arange(1.0, 11), np.arange(1, 101) / 10
FULL = {
    "train_loss": (EPOCHS, np.geomspace(1.5, 0.1, 10)),
    "valid_loss": (EPOCHS, np.geomspace(1.6, 0.2, 10)),
    "valid_accuracy": (EPOCHS, np.linspace(0.1, 0.9, 10)),
}
NORMS = STEPS, np.geomspace(5, 0.01, 100)
FORMULA, HIDDEN, LONG = "$\\frac{1$ of $", "_private", "m" * 300
"""Names that are hard to show."""


def same_everywhere(names):
    """Trainings that differ by nothing but their names."""
    return plot_comparison(dict.fromkeys(names, FULL), dict.fromkeys(names, NORMS))


def test_a_panel_for_each_metric_and_one_for_the_gradient():
    short = {"train_loss": FULL["train_loss"]}
    few = np.array([0.5, 1, 1.5, 2]), np.array([4.0, 3, 2, 1])
    figure = plot_comparison({"run": {}, "full": FULL, "short": short}, {"run": few, "full": NORMS, "short": NORMS})
    drawn = panels(figure)
    assert list(drawn) == ["validation loss", "validation accuracy", "gradient norm"]
    assert list(lines(drawn["validation loss"])) == ["full"]
    same(lines(drawn["validation loss"])["full"], *FULL["valid_loss"])
    norms = lines(drawn["gradient norm"])
    assert list(norms) == ["run", "full", "short"]
    same(norms["run"], *few)
    np.testing.assert_allclose(norms["full"][1][50], NORMS[1][49:51].mean())  # smoothed
    assert legend_texts(figure.legends[0]) == ["run", "full", "short"]
    assert drawn["validation loss"].get_yscale() == drawn["gradient norm"].get_yscale() == "log"
    assert drawn["validation accuracy"].get_yscale() == "linear"
    assert {axis.get_xlabel() for axis in drawn.values()} == {"epoch"}


def test_where_nothing_was_validated_the_training_loss_is_shown():
    figure = plot_comparison({"a": {"train_loss": FULL["train_loss"]}}, {"a": NORMS})
    assert list(panels(figure)) == ["training loss", "gradient norm"]


def test_twelve_trainings_are_told_apart():
    (axis, *_) = same_everywhere([str(i) for i in range(12)]).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.get_lines()}) == 12


def test_whatever_they_are_called(tmp_path):
    figure = same_everywhere([FORMULA, HIDDEN, LONG, LONG + "m", "run"])
    figure.savefig(tmp_path / "picture.png")
    assert len(set(legend_texts(figure.legends[0]))) == 5


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_what_is_unusual_is_drawn(value, style):
    records = {name: (x, np.full(len(x), value)) for name, (x, _) in FULL.items()}
    with plt.style.context(style):
        drawn_panels(plot_comparison({"a": records, "b": FULL}, {"a": (STEPS[:1], [value]), "b": NORMS}))
    assert not plt.get_fignums()
