"""A progress bar for what takes more than a moment."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column


class Throttle:
    """When something is due again, so that it takes a small part of the time."""

    def __init__(self, after: float):
        self._due = time.monotonic() + after

    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._due

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Around it: the next time is a second later, or ten times as long as this one takes."""
        start = time.monotonic()
        yield
        end = time.monotonic()
        self._due = end + max(1.0, 10 * (end - start))


def in_notebook() -> bool:
    """Whether this is a cell of a notebook."""
    return Console().is_jupyter


def interactive() -> bool:
    """Whether a person sits in front of this: a notebook, IPython, or Python's own prompt (also after `python -i`)."""
    shell = sys.modules.get("IPython")
    return (
        hasattr(sys, "ps1")
        or bool(sys.flags.interactive)
        or (shell is not None and getattr(shell, "get_ipython", lambda: None)() is not None)
    )


_LINE_SECONDS = 1.0
"""Between two lines of a log, and from the start to the first."""
_REPEAT_SECONDS = 30.0
"""After so many a line comes although nothing but the count has changed."""


class ProgressBar:
    """Counts up to a total on standard error; what is done within `after` seconds needs no bar and gets none.

    Where that is neither a terminal nor a notebook, such as the log of a job, there are lines in place of a bar: one
    when the words have changed (a new epoch), but one a second at most.
    """

    def __init__(self, what: str, total: int | None, *, show: bool = True, after: float = 1.0, unit: str | None = None):
        self._what = what
        self._total = total
        self._unit = unit  # of what is counted; if it is named, so is how many there are in a second
        self._console = Console(stderr=True)
        self._show = show
        self._animated = self._console.is_terminal or self._console.is_jupyter
        self._appears_at = time.monotonic() + after
        self._bar = self._hidden_bar()
        self._is_open = False
        self._last_line: tuple[float, int, str] | None = None  # when the last line was written, and at what stage

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            self._bar.stop()

    @property
    def total(self) -> int | None:
        """What it counts up to; None as long as that is not known."""
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        self._total = total
        self._bar.update(self._bar.task_ids[0], total=total)

    def update(self, done: int, text: str = "", *, stage: str | None = None) -> None:
        """Shows how much is done, and a few words; in a log a line comes with each new `stage`, such as an epoch.

        Without one, it comes with new words.
        """
        if not self._show:
            return
        (task,) = self._bar.tasks
        self._bar.update(task.id, completed=done)
        if self._unit is not None and task.speed:
            text += f", {task.speed:,.{0 if task.speed >= 10 else 2}f} {self._unit}/s"
        if not self._animated:
            self._print_line(done, text, text if stage is None else stage)
            return
        self._bar.update(task.id, text=text)
        if not self._is_open and time.monotonic() >= self._appears_at and done != self._total:
            self._is_open = True
            self._bar.start()

    def _print_line(self, done: int, text: str, stage: str) -> None:
        now = time.monotonic()
        if self._last_line is None:
            due = now >= self._appears_at and done != self._total
        else:
            when, previous, last_stage = self._last_line
            due = (
                now >= when + (_LINE_SECONDS if stage != last_stage else _REPEAT_SECONDS)
                or previous < done == self._total
            )
        if due:
            self._last_line = now, done, stage
            left = self._bar.tasks[0].time_remaining
            if self._unit is not None and left:
                text += f", {datetime.timedelta(seconds=left)} left"
            # By `print`, since rich would wrap the line at the 80 columns that it takes a file to have.
            of = "" if self._total is None else f"/{self._total}"
            print(f"{self._what} {done}{of}{text and ': ' + text}", file=sys.stderr, flush=True)

    def _hidden_bar(self) -> Progress:
        """Makes the bar, which measures how fast it goes whether it is ever shown or not."""
        what, text = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
        # Where all of it is too wide, the bar is what becomes shorter.
        columns = (
            what,
            BarColumn(bar_width=None, table_column=Column(min_width=4, max_width=20)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            text,
        )
        bar = Progress(*columns, console=self._console, get_time=time.monotonic)
        bar.add_task(self._what, total=self._total, text="")
        return bar
