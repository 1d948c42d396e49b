"""Pictures of a hyperparameter search and of learning rates, by the parts that are there."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import drawn_panels, legend_texts, lines, panels, same

from lectopt.plots.fold_scores import plot_folds
from lectopt.plots.learning_rates import plot_rates, plot_suggestions
from lectopt.plots.parallel_coordinates import plot_parallel
from lectopt.plots.score_range import score_range
from lectopt.plots.scores import plot_scores

pytestmark = pytest.mark.filterwarnings("error")
SETTINGS = {
    "rate": np.geomspace(1e-3, 1, 8),
    "act_name": ["tanh", "$x$", "tanh", None, "$x$", "tanh", "tanh", "tanh"],
    "width": [64, 8, 32, 8, 8, 8, 8, 8],
    "few": np.array([1.0, 2, 1, 2, 1, 2, 1, 2]),
}
SCORES = np.array([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 100, np.nan])
ERRORS = np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2, 0.1, np.nan])


def draw_scores(scores=SCORES, errors=ERRORS, maximizes=False, best=0):
    options = {"metric": "valid_loss", "maximizes": maximizes, "logarithmic": ["rate"]}
    return plot_scores(SETTINGS, scores, errors, best=best, **options)


def test_a_panel_for_each_hyperparameter():
    axes = draw_scores().axes
    assert [axis.get_xlabel() for axis in axes] == ["rate", "act name", "width", "few"]
    assert [axis.get_xscale() for axis in axes] == ["log", "linear", "linear", "linear"]
    assert [axis.get_ylabel() for axis in axes] == ["validation loss ± standard error", "", "", ""]
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["tanh", r"\$x\$", "None"]  # as they come
    assert [label.get_text() for label in axes[2].get_xticklabels()] == ["8", "32", "64"]  # in order
    good, crosses, ring, *_ = axes[0].get_lines()
    same((good.get_xdata(), good.get_ydata()), SETTINGS["rate"][:5], SCORES[:5])
    same((crosses.get_xdata(), crosses.get_ydata()), SETTINGS["rate"][5:], [1.45] * 3)  # at the edge
    assert (ring.get_xdata()[0], ring.get_ydata()[0], ring.get_fillstyle()) == (1e-3, 1.0, "none")
    (bars,) = axes[0].collections
    np.testing.assert_allclose(bars.get_segments()[1][:, 1], [0.9, 1.3])


def test_without_standard_errors_there_is_no_word_of_them():
    assert draw_scores(errors=np.full(8, np.nan)).axes[0].get_ylabel() == "validation loss"


def test_five_hyperparameters_take_two_rows():
    more = SETTINGS | {"fifth": np.arange(8.0)}
    figure = plot_scores(more, SCORES, ERRORS, best=0, metric="valid_loss", maximizes=False, logarithmic=[])
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, False, False, False, True]
    assert len({axis.get_ylim() for axis in figure.axes}) == 1


@pytest.mark.parametrize(
    ("scores", "maximizes", "limits"),
    [
        ([1, 2, 3, 100], False, (1, 3.25)),  # 1.5 times as far as the median, 2.5
        ([-1, -2, -3, -100], True, (-3.25, -1)),
        ([1, 2, 3, np.nan], True, (1.5, 3)),
        ([1, 1, 1, 9], False, (1, 9)),  # where most tie, the others are what there is to see
        ([9, 9, 9, 1], True, (1, 9)),
        ([1, 1.1], False, (1, 1.075)),
        ([np.nan], True, (0, 1)),
    ],
)
def test_the_range_that_is_worth_showing(scores, maximizes, limits):
    assert score_range(np.array(scores, float), maximizes=maximizes) == pytest.approx(limits)


def draw_parallel(scores=SCORES, maximizes=False):
    ranking = np.argsort(-scores if maximizes else scores)
    options = {"metric": "valid_loss", "maximizes": maximizes, "logarithmic": ["rate"]}
    return plot_parallel(SETTINGS, scores, ranking, **options)


def test_a_line_for_each_setting_that_has_a_score():
    (axis,) = panels(draw_parallel()).values()
    found = [line for line in axis.get_lines() if len(line.get_xdata()) == 5]
    assert len(found) == 7
    best = found[-1]  # drawn last, and strongest
    np.testing.assert_allclose(best.get_ydata(), [0, 0, 1, 0, 0])
    assert best.get_linewidth() == max(line.get_linewidth() for line in found)
    assert best.get_alpha() == max(line.get_alpha() for line in found)
    assert found[0].get_ydata()[-1] == 1  # cut off at the edge
    np.testing.assert_allclose(found[1].get_ydata()[0], 5 / 7)  # evenly by magnitude
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["0.001", "1", "tanh", r"\$x\$", "None", "64", "8", "32", "1", "2", "1", "1.45"]
    assert [label.get_text() for label in axis.get_xticklabels()][-2:] == ["few", "validation loss"]


def test_the_best_stand_out_from_the_background():
    def brightness(style):
        with plt.style.context(style):
            (axis,) = panels(draw_parallel()).values()
        return sum([line for line in axis.get_lines() if len(line.get_xdata()) == 5][-1].get_color()[:3])

    assert brightness("default") < 1 < brightness("dark_background")


def test_folds():
    scores = np.array([[1.0, 2, 3], [2, 3, 5]])
    axis = plot_folds(scores, [7, 4], metric="valid_loss", part="seed").axes[0]
    drawn = lines(axis)
    assert list(drawn) == legend_texts(axis.get_legend()) == ["seed 0", "seed 1", "seed 2"]
    same(drawn["seed 2"], [0, 1], [3, 5])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["7", "4"]
    (means,) = axis.collections
    np.testing.assert_allclose([segment[0, 1] for segment in means.get_segments()], [2, 10 / 3])


def test_many_folds_have_no_legend():
    axis = plot_folds(np.ones((2, 11)), [0, 1], metric="valid_loss", part="fold").axes[0]
    assert axis.get_legend() is None
    assert len(axis.get_lines()) == 11


@pytest.mark.parametrize("maximizes", [False, True])
@pytest.mark.parametrize("scores", [np.ones(8), np.append(np.full(7, np.nan), 2.0)], ids=["ties", "one"])
def test_what_is_unusual_is_drawn(scores, maximizes):
    best = int(np.nanargmin(scores))
    for figure in (draw_scores(scores, np.full(8, np.nan), maximizes, best), draw_parallel(scores, maximizes)):
        drawn_panels(figure)
    assert not plt.get_fignums()


RATES = np.geomspace(1e-4, 1, 5)
LOSSES = np.array([[2.0, 2.1], [1.0, 0.9], [0.5, 0.7], [9.0, 8.0], [np.nan, 3.0]])
CURVES = RATES, LOSSES, 2.0, {"best": 0.01, "suggestion": 0.02, "stable up to": 0.05}


def test_rates():
    axis = plot_rates(CURVES, steps=200).axes[0]
    assert axis.get_ylabel() == "training loss after 200 steps"
    assert legend_texts(axis.get_legend()) == [
        "mean over seeds", "diverged", "at the start", "best 0.01", "suggestion 0.02", "stable up to 0.05",
    ]  # fmt: skip
    drawn = lines(axis)
    same(drawn["mean over seeds"], RATES, [2.05, 0.95, 0.6, 3, np.nan])  # at most 1.5 times that at the start
    same(drawn["diverged"], RATES[-1:], [3])
    assert drawn["suggestion 0.02"][0] == [0.02, 0.02]
    assert axis.get_xscale() == axis.get_yscale() == "log"
    styles = {line.get_linestyle() for line in axis.get_lines() if line.get_label().split()[0] in CURVES[3]}
    assert len(styles) > 1


def test_losses_below_0_have_a_linear_axis():
    assert plot_rates((RATES, LOSSES - 1, 1.0, {}), steps=100).axes[0].get_yscale() == "linear"


def test_a_panel_for_each_optimizer():
    figure = plot_suggestions({"sgd": CURVES, "adam": CURVES, "rmsprop": CURVES, "adagrad": CURVES, "momentum": CURVES})
    assert list(panels(figure)) == ["sgd", "adam", "rmsprop", "adagrad", "momentum"]
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, False, False, False, True]
