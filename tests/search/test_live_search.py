"""The picture of a search in a notebook, which grows in its place while the search runs."""

import numpy as np
import pytest

import lectopt as lo
from lectopt._internal import progress
from lectopt._internal.live_picture import LivePicture

pytestmark = pytest.mark.filterwarnings("ignore:the best x, 0.1, lies at", "ignore:no setting has a finite loss")


def trial(setting, key):
    return {"loss": setting["x"] ** 2}


def sweep(**options):
    return lo.sweep(trial, {"x": np.linspace(0.1, 0.8, 8)}, minimize="loss", key=0, chunk=4, **options)


def points(figure):
    """How many settings a picture of one hyperparameter shows."""
    (axis,) = figure.axes
    return sum(len(line.get_xdata()) for line in axis.get_lines()) - 1  # the ring


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(progress.Throttle, "due", lambda self: True)


def test_the_picture_has_what_is_done(screen, patient):
    assert sweep().rungs.tolist() == [1] * 8  # looking at them changes nothing
    assert len(screen.shown) == 1
    assert [points(figure) for figure in [*screen.shown, *screen.updates]] == [4, 8]


def test_a_short_search_shows_none(screen, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    sweep()
    assert not screen.shown


def test_none_without_progress_or_a_score(screen, patient):
    sweep(progress=False)
    lo.sweep(lambda setting, key: {"loss": np.nan}, {"x": np.arange(4.0)}, minimize="loss", key=0, chunk=1)
    assert not screen.shown


def test_what_is_shown_at_the_end_takes_the_place_of_a_picture(screen, patient):
    """What there is in one piece has a picture of its own, which nobody waits for."""
    picture = LivePicture()
    picture.look(lambda: pytest.fail("drawn"), is_last=True)
    picture.look(lambda: None, is_last=False)
    assert not screen.shown
    picture.look(lambda: "half", is_last=False)
    picture.throttle.due = lambda: False
    picture.look(lambda: pytest.fail("drawn too soon"), is_last=False)
    picture.look(lambda: "all", is_last=True)
    assert (screen.shown, screen.updates) == (["half"], ["all"])
