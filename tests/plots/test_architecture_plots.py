"""Pictures of an architecture search and of the winner: what is drawn, from results made by hand."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import lectopt as lo
from lectopt.architecture.design import Architecture, Layer
from lectopt.architecture.results import ArchitectureResults
from lectopt.plots.ranks import plot_ranks
from lectopt.strategies.choices import Record

pytestmark = pytest.mark.filterwarnings("error")
SMALL = lo.ArchitectureSpace(depth=[1, 2], width=[4, 8, 16], skip=True)
LARGE = lo.ArchitectureSpace(
    depth=range(1, 7), width=[4, 8, 16], activation=["relu", "tanh"], norm=["none", "batch", "layer"], skip=True
)
SCORES = np.array([[0.2, 0.4], [0.6, 0.4], [0.3, 0.1]])


def results(scores, space=SMALL, maximizes=True):
    """{method: [rounds, children]}, of which the first has a controller."""
    records, decisions, options = {}, len(space.choices), max(space.choices)
    for method, given in scores.items():
        rounds, children = np.shape(given)
        told = ()
        if not records:
            possible = np.arange(options) < np.array(space.choices)[:, None]
            probabilities = np.random.default_rng(0).random((rounds, decisions, options)) * possible
            told = np.linspace(2, 1, rounds), probabilities / probabilities.sum(axis=2, keepdims=True)
        records[method] = Record(np.zeros((rounds, children, decisions), int), np.asarray(given), *told)
    winner, metric = Architecture((Layer(4),)), "valid_accuracy" if maximizes else "valid_loss"
    return ArchitectureResults(space, records, metric, maximizes, (), winner, None, None, 0.0, 1.0, 1.0)


def three(scores, **options):
    return results({"reinforce": scores, "evolve": scores, "random": scores}, **options)


def panels(figure):
    """{title, up to a colon: axis}"""
    FigureCanvasAgg(figure).draw()  # closed figures have no canvas that draws
    return {axis.get_title().split(":")[0]: axis for axis in figure.axes}


def lines(axis):
    """{label: (x, y)}"""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axis.get_lines()}


def same(line, x, y):
    np.testing.assert_allclose(line[0], x)
    np.testing.assert_allclose(line[1], y)


def overlap(texts):
    """Whether any two texts lie on each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_panels_and_labels():
    figure = three(SCORES).plot()
    drawn = panels(figure)
    assert list(drawn) == ["reinforce", "evolve", "random", "entropy", "what the controller chose", ""]
    assert drawn["reinforce"].get_title() == "reinforce: best child 0.6"
    assert drawn["reinforce"].get_ylabel() == "validation accuracy"
    assert drawn["entropy"].get_ylabel() == "entropy [nats]"
    assert drawn[""].get_ylabel() == "probability"
    assert {axis.get_xlabel() for title, axis in drawn.items() if title} == {"round"}
    assert len({drawn[method].get_ylim() for method in ("reinforce", "evolve", "random")}) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a child", "mean of the round", "best so far"]


def test_scores():
    drawn = lines(panels(three(SCORES).plot())["evolve"])
    same(drawn["a child"], [1, 1, 2, 2, 3, 3], SCORES.ravel())
    same(drawn["mean of the round"], [1, 2, 3], [0.3, 0.5, 0.2])
    same(drawn["best so far"], [1, 2, 3], [0.4, 0.6, 0.6])


def test_what_is_minimised_is_shown_the_right_way_round():
    found = three(-SCORES, maximizes=False)
    axis = panels(found.plot())["random"]
    drawn = lines(axis)
    same(drawn["a child"], [1, 1, 2, 2, 3, 3], SCORES.ravel())
    same(drawn["mean of the round"], [1, 2, 3], [0.3, 0.5, 0.2])
    same(drawn["best so far"], [1, 2, 3], [0.2, 0.2, 0.1])
    assert (axis.get_title(), found.metric) == ("random: best child 0.1", "valid_loss")
    assert 0 < axis.get_ylim()[0] < 0.1 < 0.6 < axis.get_ylim()[1] < 0.7


def test_diverged_children_are_left_out():
    scores = np.array([[np.nan, np.nan], [0.4, np.nan], [-np.inf, 0.2]])
    drawn = lines(panels(three(scores).plot())["reinforce"])
    same(drawn["a child"], [2, 3], [0.4, 0.2])
    same(drawn["mean of the round"], [1, 2, 3], [np.nan, 0.4, 0.2])
    same(drawn["best so far"], [1, 2, 3], [np.nan, 0.4, 0.4])


@pytest.mark.parametrize("maximizes", [True, False])
def test_children_too_bad_to_show_stand_at_the_edge(maximizes):
    scores = np.repeat(-np.array([[1.0], [1.1], [1.2], [1e6]]), 2, axis=1)
    figure = three(scores, maximizes=maximizes).plot()
    axis = panels(figure)["evolve"]
    x, y = lines(axis)["too bad to show"]
    np.testing.assert_array_equal(x, [4, 4])
    np.testing.assert_allclose(y, -1.45 if maximizes else 1.45)  # 3 times as far from the best as the median, -1.15
    assert max(map(abs, axis.get_ylim())) < 1.5
    assert "too bad to show" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_entropy_beside_that_of_uniform_choice():
    """Of one of two children in the last round, layer 2 has a width and a skip to choose too."""
    found = three(SCORES)
    found.records["reinforce"].choices[2, 1, 0] = 1
    drawn = lines(panels(found.plot())["entropy"])
    same(drawn["controller"], [1, 2, 3], [2, 1.5, 1])
    same(drawn["uniform, at the same depths"], [1, 2, 3], np.log([6, 6, 6**1.5]))


def test_a_row_of_shades_for_each_option():
    found = three(SCORES)
    axis = panels(found.plot())["what the controller chose"]
    shades, _ = axis.collections
    told = found.records["reinforce"].probabilities
    rows = [told[:, 0, 0], told[:, 0, 1], *told[:, 1].T, *told[:, 2].T, told[:, 3, 0], told[:, 3, 1]]
    np.testing.assert_array_equal(np.reshape(shades.get_array(), (10, 3)), rows)
    assert shades.get_clim() == (0, 1)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "depth:  1", "2", "layer 1: width:  4", "8", "16", "layer 2: width:  4", "8", "16",
        "layer 2 reads the input:  no", "yes",
    ]  # fmt: skip
    assert axis.yaxis_inverted()


def test_of_many_options_the_decisions_are_named():
    figure = three(SCORES, space=LARGE).plot()
    axis = panels(figure)["what the controller chose"]
    shades, between = axis.collections
    assert np.size(shades.get_array()) == 3 * sum(LARGE.choices) > 180
    assert len(between.get_segments()) == len(LARGE.questions) - 1
    labels = axis.get_yticklabels()
    assert [label.get_text() for label in labels] == [str(decision) for decision in LARGE.questions]
    assert not overlap(labels)


@pytest.mark.parametrize("rounds", [1, 10, 100])
@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_texts_do_not_overlap(rounds, style):
    with plt.style.context(style):
        figure = three(np.random.default_rng(0).random((rounds, 3))).plot()
        drawn = panels(figure)
        for axis in drawn.values():
            assert not overlap(axis.get_xticklabels())
            assert not overlap(axis.get_yticklabels())
        assert not overlap([axis.title for axis in drawn.values()])
    assert not plt.get_fignums()


def test_one_round_is_seen():
    drawn = panels(three(SCORES[:1]).plot())
    assert {line.get_marker() for line in drawn["random"].get_lines()} == {"o"}
    assert drawn["entropy"].get_lines()[0].get_marker() == "o"
    assert [tick for tick in drawn["entropy"].get_xticks() if 0.5 < tick < 1.5] == [1]


def test_without_a_controller_there_are_scores_only():
    found = three(SCORES)
    bare = {"random": found.records["random"]}
    assert list(panels(dataclasses.replace(found, records=bare).plot())) == ["random"]


def test_all_diverged():
    panels(three(np.full((3, 2), np.nan)).plot())


def drawn_network(architecture):
    """The boxes, flow arrows and arcs of its picture, and the texts."""
    figure = dataclasses.replace(three(SCORES), winner=architecture).plot_winner()
    FigureCanvasAgg(figure).draw()
    (axis,) = figure.axes
    arrows = {what: [patch for patch in axis.patches if patch.get_gid() == what] for what in ("flow", "skip")}
    boxes = [patch for patch in axis.patches if patch.get_gid() is None]
    assert not overlap(axis.texts)
    page = figure.bbox
    extents = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert all(page.x0 <= e.x0 and e.x1 <= page.x1 and page.y0 <= e.y0 and e.y1 <= page.y1 for e in extents)
    return boxes, arrows["flow"], arrows["skip"], [text.get_text() for text in axis.texts], axis


def test_one_layer():
    boxes, flow, arcs, texts, _ = drawn_network(Architecture((Layer(4),)))
    assert (len(boxes), len(flow), len(arcs)) == (3, 2, 0)
    assert texts == ["input", "", "4", "units\nrelu", "output", "linear"]


def test_boxes_are_higher_for_wider_layers():
    layers = (Layer(8, 3, "tanh", "batch"), Layer(32, 5), Layer(16, 7, norm="layer"))
    boxes, flow, _, texts, _ = drawn_network(Architecture(layers, (2, 1, 3)))
    heights = [box.get_height() for box in boxes[1:-1]]
    assert heights == pytest.approx([0.3 + 0.7 / 4, 1, 0.65])
    assert [arrow.get_path().vertices[:, 1].tolist()[:2] for arrow in flow] == [[0, 0]] * 4
    assert texts[2:8] == [
        "8", "filters\nkernel size 3\nstride 2\nbatch norm\ntanh",
        "32", "filters\nkernel size 5\nrelu",
        "16", "filters\nkernel size 7\nstride 3\nlayer norm\nrelu",
    ]  # fmt: skip
    assert texts[-1] == "linear in\nthe mean over\npositions"


def test_arcs_go_from_source_to_layer():
    """And stay within the picture, above the boxes between."""
    skips = [tuple(range(i)) for i in range(8)]
    architecture = Architecture(tuple(Layer(2 ** (i % 5 + 1), skips=skips[i]) for i in range(8)))
    boxes, _, arcs, _, axis = drawn_network(architecture)
    assert (len(boxes), len(arcs)) == (10, 28)
    ends = []
    for arc in arcs:
        (path,) = arc.get_path().to_polygons(closed_only=False)[:1]
        x, y = np.transpose(path)
        source, number = round(x[0]), round(x[-1])
        ends.append((source, number))
        assert y.max() < axis.get_ylim()[1]
        for place in range(source + 1, number):
            edges = place + np.array([-0.5, 0.5]) * boxes[place].get_width()
            assert np.interp(edges, x, y).min() > boxes[place].get_height() / 2
    assert ends == [(j, i + 1) for i in range(8) for j in skips[i]]


def test_ranks():
    ranks = {"reinforce": np.array([1, 1, 4, 2]), "random": np.array([200, 30, 258])}
    figure = plot_ranks(ranks, 258)
    FigureCanvasAgg(figure).draw()
    (axis,) = figure.axes
    assert axis.get_xlabel() == "rank of 258 (1: the best)"
    assert axis.get_xscale() == "log"
    assert axis.get_xlim()[0] < 1 < 258 < axis.get_xlim()[1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["reinforce\nmedian 1.5", "random\nmedian 200"]
    first, second, chance = axis.get_lines()
    np.testing.assert_array_equal(first.get_xdata(), [1, 1, 2, 4])
    np.testing.assert_array_equal(second.get_xdata(), [30, 200, 258])
    assert len(set(first.get_ydata())) == 4
    assert abs(second.get_ydata() - 1).max() < 0.3
    assert chance.get_xdata()[0] == 129.5
    assert [bar.get_segments()[0][0][0] for bar in axis.collections] == [1.5, 200]
    assert not overlap(axis.get_xticklabels())
