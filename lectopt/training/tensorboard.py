"""Trainings as TensorBoard event files, written during the training."""

import contextlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lectopt._internal.files import checked_path, reason
from lectopt._internal.progress import Throttle
from lectopt._internal.run_directories import make_directory
from lectopt._internal.trees import leaves_by_path
from lectopt.training.history import History
from lectopt.training.run import Run

try:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import histogram, scalar
except ImportError as error:
    raise ImportError("log_dir needs tensorboardX: pip install 'lectopt[logging]'") from error

_POINTS = 250
"""At most so many steps are written each time, evenly spaced: TensorBoard shows a thousand, and each costs time."""
_LARGEST = 1e19
"""The bins of TensorBoard's histograms end at 1e20; what has grown beyond, or to NaN, has none."""
_EDGES = [1e-12 * 1.1**i for i in range(774)]
_BINS = [-edge for edge in reversed(_EDGES)] + [0.0] + _EDGES
"""Those of TensorBoard's own writers."""
_FORBIDDEN = re.compile(r"[^-/\w.]")


class TensorBoard:
    """Writes the records of a training as scalars, and its weights as histograms.

    The tags are "steps/<record>", "epochs/<record>", "validations/<record>", "<statistic>/<layer>" and
    "weights/<path>", of complex weights "weights/<path>/real" and ".../imag"; their step is the number of steps done.
    Characters that TensorBoard does not take are "_" in them.

    Raises:
        TypeError: if log_dir is no path.
        ValueError: if it is not a directory that can be written.
    """

    def __init__(self, log_dir: str | Path):
        path = checked_path("log_dir", log_dir)
        make_directory("log_dir", path)
        self.throttle = Throttle(after=1.0)
        self._log_dir = str(path)
        self._done = 0
        self._tags: dict[str, str] = {}
        self._full = False
        self._writer: Any = None

    def open(self, steps: int) -> None:
        """Opens the file; what an earlier process wrote beyond these steps no longer counts."""
        self._done = steps
        with self._as_long_as_there_is_room():
            # In this thread: where that of SummaryWriter meets a full disk it ends, and who writes waits for ever.
            self._writer = EventsWriter(f"{self._log_dir}/events", f".{os.getpid()}.{time.monotonic_ns()}")
            if steps:
                self._write(steps + 1, session_log=SessionLog(status=SessionLog.START))

    def show(self, run: Run) -> None:
        """Writes what is new; nothing more once the disk is full, which it warns of."""
        done = len(run.history.steps["loss"])
        if done == self._done or self._full:
            return
        with self._as_long_as_there_is_room():
            for tag, value, step in _scalars(run.history, self._done, done):
                self._write(step, summary=scalar(self._clean(tag), value))
            for path, weights in leaves_by_path(run.params).items():
                for part, values in _parts(np.asarray(weights).ravel()).items():
                    if values.size and np.abs(values).max() < _LARGEST:
                        tag = self._clean("/".join(("weights", *path, *part)))
                        self._write(done, summary=histogram(tag, values, _BINS))
            self._writer.flush()
        self._done = done

    def close(self) -> None:
        """Writes the rest to the file."""
        if self._writer is not None:
            with self._as_long_as_there_is_room():
                self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(Event(wall_time=time.time(), step=step, **what))

    @contextlib.contextmanager
    def _as_long_as_there_is_room(self) -> Iterator[None]:
        """A training does not end because its log cannot be written."""
        try:
            yield
        except OSError as error:
            if not self._full:
                warnings.warn(
                    f"log_dir cannot be written any more ({reason(error)}): the training goes on, {self._log_dir} "
                    "ends here",
                    stacklevel=3,
                )
            self._full = True

    def _clean(self, tag: str) -> str:
        """Returns the tag in characters that TensorBoard takes; different tags stay different."""
        if tag not in self._tags:
            clean = _FORBIDDEN.sub("_", tag)
            while clean in self._tags.values():
                clean += "_"
            self._tags[tag] = clean
        return self._tags[tag]


def _parts(values: np.ndarray) -> dict[tuple[str, ...], np.ndarray]:
    """Returns the parts of complex numbers by their names, or the numbers themselves: float64."""
    if np.iscomplexobj(values):
        return {("real",): values.real.astype(float), ("imag",): values.imag.astype(float)}
    return {(): values.astype(float)}


def _scalars(history: History, begin: int, end: int) -> Iterator[tuple[str, float, int]]:
    """Yields (tag, value, steps done) for what was recorded after `begin` steps."""
    thinned = np.unique(np.linspace(begin, end - 1, min(_POINTS, end - begin)).astype(int))
    for name, record in history.steps.items():
        yield from _points(f"steps/{name}", record, {k: k + 1 for k in thinned.tolist()})
    for kind, records, at in (
        ("epochs", history.epochs, history.epoch_ends),
        ("validations", history.validations, history.validated_steps),
    ):
        ends = {i: done for i, done in enumerate(at.tolist()) if done > begin}
        for name, record in records.items():
            yield from _points(f"{kind}/{name}", record, ends)
    watched = {i: k + 1 for i, k in enumerate(history.watched_steps) if k >= begin}
    for layer, statistics in history.layers.items():
        for name, record in statistics.items():
            yield from _points(f"{name}/{layer}", record, watched)


def _points(tag: str, record: Any, steps: dict[int, int]) -> Iterator[tuple[str, float, int]]:
    values = np.asarray(record, float)
    yield from ((tag, values[place], step) for place, step in steps.items() if np.isfinite(values[place]))
