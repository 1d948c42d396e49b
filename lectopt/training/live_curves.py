"""The curves of a training in a notebook, which grow in place during the training."""

from typing import Any

from lectopt._internal.progress import Throttle
from lectopt.training.run import Run


class LiveCurves:
    """Shows the dashboard under the cell after some seconds, and redraws it now and then."""

    def __init__(self) -> None:
        self.throttle = Throttle(after=3.0)
        self._handle: Any = None

    def open(self, steps: int) -> None:
        """Shows nothing yet."""
        del steps

    def show(self, run: Run) -> None:
        """Draws the curves; a training that ends before the first time is due shows none."""
        from IPython.display import display  # noqa: PLC0415, only notebooks have it

        if self._handle is None and not self.throttle.due():
            return
        figure = run.history.plot()
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)

    def close(self) -> None:
        """Leaves the last picture."""
