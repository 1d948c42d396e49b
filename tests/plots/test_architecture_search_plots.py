"""Pictures of an architecture search: what is drawn, by the lines and shades that are there."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import drawn_panels, legend_texts, lines, overlap, panels, same

from lectopt.plots.architecture_search import plot_search

pytestmark = pytest.mark.filterwarnings("error")
FEW = {"depth": (1, 2), "layer 1: width": (4, 8, 16), "layer_2 reads the input": (False, True)}
MANY = {f"layer {i}: width": tuple(range(11)) for i in range(20)}
SCORES = np.array([[0.2, 0.4], [0.6, 0.4], [0.3, 0.1]])


def learned(rounds, decisions=FEW):
    """What a controller learned."""
    draw = np.random.default_rng(0)
    return {
        "entropies": (np.linspace(2, 1, rounds), np.linspace(2.5, 2.4, rounds)),
        "probabilities": {
            decision: {option: draw.random(rounds) for option in options} for decision, options in decisions.items()
        },
    }


def three(scores, decisions=FEW, maximizes=True):
    """Three methods that found the same, the first of which has a controller."""
    metric = "valid_accuracy" if maximizes else "valid_loss"
    found = dict.fromkeys(("reinforce", "evolve", "random"), scores)
    return plot_search(found, metric=metric, maximizes=maximizes, **learned(len(scores), decisions))


def test_panels_and_labels():
    figure = three(SCORES)
    drawn = panels(figure)
    assert list(drawn) == ["reinforce", "evolve", "random", "entropy", "what the controller chose", ""]
    assert drawn["reinforce"].get_title() == "reinforce: best child 0.6"
    assert drawn["reinforce"].get_ylabel() == "validation accuracy"
    assert drawn["entropy"].get_ylabel() == "entropy [nats]"
    assert drawn[""].get_ylabel() == "probability"
    assert {axis.get_xlabel() for title, axis in drawn.items() if title} == {"round"}
    assert len({drawn[method].get_ylim() for method in ("reinforce", "evolve", "random")}) == 1
    assert legend_texts(figure.legends[0]) == ["a child", "mean of the round", "best so far"]


@pytest.mark.parametrize(("maximizes", "best"), [(True, [0.4, 0.6, 0.6]), (False, [0.2, 0.2, 0.1])])
def test_scores(maximizes, best):
    axis = panels(three(SCORES, maximizes=maximizes))["evolve"]
    drawn = lines(axis)
    same(drawn["a child"], [1, 1, 2, 2, 3, 3], SCORES.ravel())
    same(drawn["mean of the round"], [1, 2, 3], [0.3, 0.5, 0.2])
    same(drawn["best so far"], [1, 2, 3], best)
    assert axis.get_title() == f"evolve: best child {best[-1]}"
    assert 0 < axis.get_ylim()[0] < 0.1 < 0.6 < axis.get_ylim()[1] < 0.7


def test_diverged_children_are_left_out():
    scores = np.array([[np.nan, np.nan], [0.4, np.nan], [-np.inf, 0.2]])
    drawn = lines(panels(three(scores))["reinforce"])
    same(drawn["a child"], [2, 3], [0.4, 0.2])
    same(drawn["mean of the round"], [1, 2, 3], [np.nan, 0.4, 0.2])
    same(drawn["best so far"], [1, 2, 3], [np.nan, 0.4, 0.4])


@pytest.mark.parametrize("sign", [1, -1])
def test_children_too_bad_to_show_stand_at_the_edge(sign):
    scores = -sign * np.repeat(np.array([[1.0], [1.1], [1.2], [1e6]]), 2, axis=1)
    figure = three(scores, maximizes=sign == 1)
    axis = panels(figure)["evolve"]
    x, y = lines(axis)["too bad to show"]
    np.testing.assert_array_equal(x, [4, 4])
    np.testing.assert_allclose(y, -sign * 1.45)  # 3 times as far from the best as the median, 1.15
    assert max(map(abs, axis.get_ylim())) < 1.5
    assert "too bad to show" in legend_texts(figure.legends[0])
    np.testing.assert_allclose(lines(axis)["mean of the round"][1], -sign * np.array([1, 1.1, 1.2, 1.45]))


def test_entropy_beside_that_of_uniform_choice():
    drawn = lines(panels(three(SCORES))["entropy"])
    same(drawn["controller"], [1, 2, 3], [2, 1.5, 1])
    same(drawn["uniform, at the same depths"], [1, 2, 3], [2.5, 2.45, 2.4])


def test_a_row_of_shades_for_each_option():
    axis = panels(three(SCORES))["what the controller chose"]
    shades, _ = axis.collections
    rows = [row for options in learned(3)["probabilities"].values() for row in options.values()]
    np.testing.assert_array_equal(np.reshape(shades.get_array(), (7, 3)), rows)
    assert shades.get_clim() == (0, 1)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "depth:  1", "2", "layer 1: width:  4", "8", "16", "layer 2 reads the input:  no", "yes",
    ]  # fmt: skip
    assert axis.yaxis_inverted()


def test_of_many_options_the_decisions_are_named():
    axis = drawn_panels(three(SCORES, MANY))["what the controller chose"]
    shades, between = axis.collections
    assert np.size(shades.get_array()) == 3 * 220
    assert len(between.get_segments()) == 19
    labels = axis.get_yticklabels()
    assert [label.get_text() for label in labels] == list(MANY)
    assert not overlap(labels)


@pytest.mark.parametrize(
    ("rounds", "style"), [(1, "default"), (10, "default"), (100, "default"), (10, "dark_background")]
)
def test_texts_do_not_overlap(rounds, style):
    with plt.style.context(style):
        drawn = drawn_panels(three(np.random.default_rng(0).random((rounds, 3))))
        for axis in drawn.values():
            assert not overlap(axis.get_xticklabels())
            assert not overlap(axis.get_yticklabels())
        assert not overlap([axis.title for axis in drawn.values()])
    assert not plt.get_fignums()


def test_one_round_is_seen():
    drawn = panels(three(SCORES[:1]))
    assert {line.get_marker() for line in drawn["random"].get_lines()} == {"o"}
    assert drawn["entropy"].get_lines()[0].get_marker() == "o"
    assert [tick for tick in drawn["entropy"].get_xticks() if 0.5 < tick < 1.5] == [1]


def test_without_a_controller_there_are_scores_only():
    assert list(panels(plot_search({"random": SCORES}, metric="valid_loss", maximizes=False))) == ["random"]


def test_all_diverged():
    drawn_panels(three(np.full((3, 2), np.nan)))
