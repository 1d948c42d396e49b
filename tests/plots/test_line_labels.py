"""The style of pictures, and labels at the ends of lines."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_parts import overlap

import lectopt as lo
from lectopt.plots.line_labels import move_apart
from lectopt.plots.style import COLOURS

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5, 0.55], [0.5, 0.7, 0.9]),
        ([0.9, 0.95, 1.0], [0.6, 0.8, 1.0]),
    ],
)
def test_labels_are_moved_apart_and_stay_inside(places, moved):
    np.testing.assert_allclose(move_apart(np.array(places), 0.2), moved)


def test_labels_stand_at_the_ends_of_their_lines():
    with plt.rc_context():
        assert lo.style() == COLOURS
        assert not plt.rcParams["axes.spines.top"]
        figure, axis = plt.subplots(figsize=(4, 3))
        axis.plot([0, 1, 2], [1, 2, np.nan], label="gone at 2")
        axis.plot([0, 1, 2], [1, 2, 2], label="level")
        axis.plot([0, 1], [1, 0])
        axis.set_ylim(0, 4)
        lo.label_lines(axis)
        figure.draw_without_rendering()
        assert [text.get_text() for text in axis.texts] == ["gone at 2", "level"]
        assert [text.get_color() for text in axis.texts] == COLOURS[:2]
        assert axis.texts[0].get_position()[1] == pytest.approx(0.5)
        assert not overlap(axis.texts)
        plt.close(figure)
