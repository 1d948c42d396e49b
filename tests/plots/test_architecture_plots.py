"""Pictures of a network, and of the ranks of what searches found: what is drawn, by the parts that are there."""

import numpy as np
import pytest
from figure_parts import drawn_panels, overlap

from lectopt.plots.architecture import plot_architecture
from lectopt.plots.ranks import plot_ranks

pytestmark = pytest.mark.filterwarnings("error")


def drawn_network(widths, captions=None, skips=()):
    """The boxes, flow arrows and arcs of its picture, the texts, and the axis; all texts are within the figure."""
    figure = plot_architecture(widths, captions or [""] * (len(widths) + 1), skips)
    (axis,) = drawn_panels(figure).values()
    arrows = {what: [patch for patch in axis.patches if patch.get_gid() == what] for what in ("flow", "skip")}
    boxes = [patch for patch in axis.patches if patch.get_gid() is None]
    assert not overlap(axis.texts)
    page = figure.bbox
    extents = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert all(page.x0 <= e.x0 and e.x1 <= page.x1 and page.y0 <= e.y0 and e.y1 <= page.y1 for e in extents)
    return boxes, arrows["flow"], arrows["skip"], [text.get_text() for text in axis.texts], axis


def test_one_layer():
    boxes, flow, arcs, texts, axis = drawn_network([4], ["units\nrelu", "linear"])
    assert (len(boxes), len(flow), len(arcs)) == (3, 2, 0)
    assert texts == ["input", "", "4", "units\nrelu", "output", "linear"]
    assert "arcs" not in axis.figure.get_suptitle()


def test_boxes_are_higher_for_wider_layers():
    captions = ["filters\nkernel size 3\nstride 2\nbatch norm\ntanh", "filters", "units", "linear in\nthe mean"]
    boxes, flow, _, texts, _ = drawn_network([8, 32, 16], captions)
    heights = [box.get_height() for box in boxes[1:-1]]
    assert heights == pytest.approx([0.3 + 0.7 / 4, 1, 0.65])
    assert [arrow.get_path().vertices[:, 1].tolist()[:2] for arrow in flow] == [[0, 0]] * 4
    assert texts[2::2] == ["8", "32", "16", "output"]
    assert texts[3::2] == captions


def test_arcs_go_from_source_to_layer():
    """And stay within the picture, above the boxes between."""
    skips = [(source, layer) for layer in range(1, 9) for source in range(layer - 1)]
    boxes, _, arcs, _, axis = drawn_network([2 ** (i % 5 + 1) for i in range(8)], skips=skips)
    assert (len(boxes), len(arcs)) == (10, 28)
    assert "arcs" in axis.figure.get_suptitle()
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
    assert ends == skips


def test_ranks():
    ranks = {"reinforce": np.array([1, 1, 4, 2]), "random": np.array([200, 30, 258])}
    figure = plot_ranks(ranks, 258)
    (axis,) = drawn_panels(figure).values()
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
