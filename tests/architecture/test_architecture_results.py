"""What an architecture search gives to its pictures, from results made by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from figure_parts import lines, panels, same

import lectopt as lo
from lectopt.architecture import searching
from lectopt.architecture.children import Goal
from lectopt.architecture.design import Architecture, Layer
from lectopt.architecture.results import ArchitectureResults, Finalist
from lectopt.engine.options import SearchOptions
from lectopt.strategies.choices import Record

pytestmark = pytest.mark.filterwarnings("error")
SPACE = lo.ArchitectureSpace(depth=[1, 2], width=[4, 8, 16], skip=True)
SCORES = np.array([[0.2, 0.4], [0.6, 0.4], [0.3, 0.1]])


def results(scores=SCORES, maximizes=True):
    """Of two methods, of which the first has a controller."""
    rounds, children = scores.shape
    options, decisions = max(SPACE.choices), len(SPACE.choices)
    possible = np.arange(options) < np.array(SPACE.choices)[:, None]
    probabilities = np.random.default_rng(0).random((rounds, decisions, options)) * possible
    vectors = np.zeros((rounds, children, decisions), int)
    records = {
        "reinforce": Record(vectors, scores, np.linspace(2, 1, rounds), probabilities),
        "random": Record(vectors.copy(), scores),
    }
    metric = "valid_accuracy" if maximizes else "valid_loss"
    return ArchitectureResults(
        SPACE, records, metric, maximizes, (), Architecture((Layer(4),)), None, None, 0.0, 1.0, 1.0
    )


def test_methods_and_their_scores():
    drawn = panels(results().plot())
    assert list(drawn) == ["reinforce", "random", "entropy", "what the controller chose", ""]
    assert drawn["reinforce"].get_ylabel() == "validation accuracy"
    same(lines(drawn["random"])["a child"], [1, 1, 2, 2, 3, 3], SCORES.ravel())


def test_what_is_minimised_is_shown_the_right_way_round():
    """Its records hold the negative, of which more is better."""
    axis = panels(results(-SCORES, maximizes=False).plot())["random"]
    same(lines(axis)["a child"], [1, 1, 2, 2, 3, 3], SCORES.ravel())
    same(lines(axis)["best so far"], [1, 2, 3], [0.2, 0.2, 0.1])
    assert axis.get_title() == "random: best child 0.1"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_child_stands_beside_the_finalist_and_the_winners_method_is_named(sign):
    """Of the best few, trained again, the finalist is the best: it need not be the best child."""
    net = Architecture((Layer(4),))
    finalists = (
        Finalist("reinforce", net, 0.4, np.array([0.5]), {}),
        Finalist("by hand", None, None, np.array([0.3]), {}),
    )
    shown = dataclasses.replace(results(SCORES if sign == 1 else -SCORES, sign == 1), finalists=finalists)
    table = repr(shown).splitlines()
    assert table[2].split() == ["reinforce", "0.6" if sign == 1 else "0.1", "0.4", "0.5", "-"]
    assert table[3].split() == ["by", "hand", "-", "-", "0.3", "-"]
    assert table[4] == "winner, reinforce:"
    html = shown._repr_html_()
    assert "<td>reinforce</td><td>0.6</td>" in html or sign == -1
    assert html.endswith(f"<pre>winner, reinforce:\n{net}</pre>")


def test_the_picture_grows_while_rounds_run(screen, monkeypatch):
    """As many rounds as are done, in the methods' order; none while no child has a score."""
    whole = results(SCORES * [[np.nan], [1], [1]])

    def rounds(program, directory, progress, *, smaller, look):
        for done in (1, 2, 3):
            look({name: whole.records[name] for name in sorted(whole.records)}, done)
        return whole.records

    monkeypatch.setattr(searching, "run_program", rounds)
    monkeypatch.setattr("lectopt._internal.progress.Throttle.due", lambda self: True)
    children = SimpleNamespace(space=SPACE, goal=Goal("valid_accuracy", True, last=1))
    program = SimpleNamespace(rounds=SimpleNamespace(total=3))
    options = SearchOptions.of(chunk=None, memory=None, directory=None, progress=True)
    records = searching._run(program, options, whole.records, children)
    assert list(records) == ["reinforce", "random"]
    figures = [*screen.shown, *screen.updates]
    assert [list(panels(figure))[:2] for figure in figures] == [["reinforce", "random"]] * 2
    assert [len(lines(panels(figure)["random"])["mean of the round"][0]) for figure in figures] == [2, 3]


def test_entropy_beside_that_of_uniform_choice():
    """Of one of two children in the last round, layer 2 has a width and a skip to choose too."""
    found = results()
    found.records["reinforce"].choices[2, 1, 0] = 1
    drawn = lines(panels(found.plot())["entropy"])
    same(drawn["controller"], [1, 2, 3], [2, 1.5, 1])
    same(drawn["uniform, at the same depths"], [1, 2, 3], np.log([6, 6, 6**1.5]))


def test_a_row_of_shades_for_each_option():
    found = results()
    axis = panels(found.plot())["what the controller chose"]
    shades, _ = axis.collections
    told = found.records["reinforce"].probabilities
    rows = [told[:, 0, 0], told[:, 0, 1], *told[:, 1].T, *told[:, 2].T, told[:, 3, 0], told[:, 3, 1]]
    np.testing.assert_array_equal(np.reshape(shades.get_array(), (10, 3)), rows)
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "depth:  1", "2", "layer 1: width:  4", "8", "16", "layer 2: width:  4", "8", "16",
        "layer 2 reads the input:  no", "yes",
    ]  # fmt: skip


def test_without_a_controller_there_are_scores_only():
    found = results()
    bare = {"random": found.records["random"]}
    assert list(panels(dataclasses.replace(found, records=bare).plot())) == ["random"]


def winner(architecture):
    """The texts in the picture of it, and the arcs."""
    (axis,) = panels(dataclasses.replace(results(), winner=architecture).plot_winner()).values()
    return [text.get_text() for text in axis.texts], [patch for patch in axis.patches if patch.get_gid() == "skip"]


def test_the_winner_is_drawn_with_what_its_layers_are():
    layers = (Layer(8, 3, "tanh", "batch"), Layer(32, 5), Layer(16, 7, norm="layer"))
    texts, _ = winner(Architecture(layers, (2, 1, 3)))
    assert texts == [
        "input", "",
        "8", "filters\nkernel size 3\nstride 2\nbatch norm\ntanh",
        "32", "filters\nkernel size 5\nrelu",
        "16", "filters\nkernel size 7\nstride 3\nlayer norm\nrelu",
        "output", "linear in\nthe mean over\npositions",
    ]  # fmt: skip
    assert winner(Architecture((Layer(4),))) == (["input", "", "4", "units\nrelu", "output", "linear"], [])


def test_skip_connections_of_the_winner_go_from_source_to_layer():
    _, arcs = winner(Architecture((Layer(4), Layer(4, skips=(0,)), Layer(4, skips=(0, 1)))))
    paths = [arc.get_path().to_polygons(closed_only=False)[0] for arc in arcs]
    assert [(round(path[0, 0]), round(path[-1, 0])) for path in paths] == [(0, 2), (0, 3), (1, 3)]
