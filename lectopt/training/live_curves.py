"""The curves of a training in a notebook, which grow in place during the training."""

from lectopt._internal.live_picture import LivePicture
from lectopt.training.run import Run


class LiveCurves:
    """Shows the dashboard under the cell after some seconds, and redraws it now and then."""

    def __init__(self, picture: LivePicture) -> None:
        self.throttle = picture.throttle
        self._picture = picture

    def open(self, steps: int) -> None:
        """Shows nothing yet."""
        del steps

    def show(self, run: Run) -> None:
        """Draws the curves; a training that ends before the first time is due shows none."""
        if self._picture.is_shown or self.throttle.due():
            self._picture.show(run.history.plot())

    def close(self) -> None:
        """Leaves the last picture."""
