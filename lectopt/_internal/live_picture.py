"""A picture under the cell of a notebook, which grows in its place while something long goes on."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from lectopt._internal.progress import Throttle, in_notebook


class LivePicture:
    """Shows a figure after some seconds, and redraws it now and then."""

    def __init__(self) -> None:
        self.throttle = Throttle(after=3.0)
        self._handle: Any = None

    @property
    def is_shown(self) -> bool:
        """Whether there is a picture under the cell."""
        return self._handle is not None

    def show(self, figure: Any) -> None:
        """Shows a figure, in the place of the one before."""
        from IPython.display import display  # noqa: PLC0415, only notebooks have it

        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)

    def look(self, draw: Callable[[], Any], *, is_last: bool) -> None:
        """Shows what `draw` returns, unless that is None, if it is time; the last one only in the place of another."""
        if (self.is_shown or not is_last) and (is_last or self.throttle.due()):
            with self.throttle.timed():
                figure = draw()
                if figure is not None:
                    self.show(figure)


def live_picture(show: bool) -> LivePicture | None:
    """Returns a picture for a notebook; None where it cannot be seen, or `show` says that nothing is to be shown."""
    # Without matplotlib there is the bar alone.
    return LivePicture() if show and in_notebook() and find_spec("matplotlib") is not None else None
