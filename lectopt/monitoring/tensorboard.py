"""Trainings as TensorBoard event files, written while they go on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._leaves import paths
from lectopt.claims import make_directory
from lectopt.history import History
from lectopt.progress import Pace
from lectopt.run import Run

try:
    from tensorboardX import SummaryWriter
except ImportError as error:
    raise ImportError("log_dir needs tensorboardX: pip install 'lectopt[logging]'") from error

_POINTS = 250
"""At most so many steps are written at each look, evenly spaced: TensorBoard shows a thousand, and each costs time."""
_LARGEST = 1e19
"""The bins of TensorBoard's histograms end at 1e20; what has grown beyond, or to NaN, has none."""


class TensorBoard:
    """Writes the records of a training as scalars, and its weights as histograms.

    The tags are "steps/<record>", "epochs/<record>", "<statistic>/<layer>" and "weights/<path>"; their step is the
    number of steps done.

    Raises:
        ValueError: if log_dir is not a directory that can be written.
    """

    def __init__(self, log_dir: str | Path):
        make_directory("log_dir", Path(log_dir))
        self.pace = Pace(after=1.0)
        self._log_dir = str(log_dir)
        self._done = 0
        self._writer: Any = None

    def begin(self, steps: int) -> None:
        """Opens the file; what an earlier process wrote beyond these steps does not count any more."""
        self._done = steps
        self._writer = SummaryWriter(self._log_dir, purge_step=steps + 1 if steps else None)

    def look(self, run: Run) -> None:
        """Writes what is new."""
        done = len(run.history.steps["loss"])
        if done == self._done:
            return
        for tag, value, step in _scalars(run.history, self._done, done):
            self._writer.add_scalar(tag, value, step)
        for path, weights in zip(paths(run.params), jax.tree.leaves(run.params), strict=True):
            values = np.asarray(weights, np.float32).ravel()
            if values.size and np.abs(values).max() < _LARGEST:
                self._writer.add_histogram(f"weights/{'/'.join(path)}", values, done)
        self._writer.flush()
        self._done = done

    def close(self) -> None:
        """Writes what is left to the file."""
        if self._writer is not None:
            self._writer.close()


def _scalars(history: History, begin: int, end: int) -> Iterator[tuple[str, float, int]]:
    """(tag, value, steps done) for what was recorded after `begin` steps."""
    thinned = np.unique(np.linspace(begin, end - 1, min(_POINTS, end - begin)).astype(int))
    for name, record in history.steps.items():
        yield from _points(f"steps/{name}", record, {k: k + 1 for k in thinned.tolist()})
    for name, record in history.epochs.items():
        ends = {i: done for i, done in enumerate(history.epoch_ends.tolist()) if done > begin}
        yield from _points(f"epochs/{name}", record, ends)
    looks = {i: k + 1 for i, k in enumerate(history.watched_steps) if k >= begin}
    for layer, statistics in history.layers.items():
        for name, record in statistics.items():
            yield from _points(f"{name}/{layer}", record, looks)


def _points(tag: str, record: Any, steps: dict[int, int]) -> Iterator[tuple[str, float, int]]:
    values = np.asarray(record, float)
    yield from ((tag, values[place], step) for place, step in steps.items() if np.isfinite(values[place]))
