"""Observers, which show a training in progress: curves in a notebook, files for TensorBoard."""

from pathlib import Path
from typing import Protocol

from lectopt._internal import meshes
from lectopt._internal.live_picture import live_picture
from lectopt._internal.progress import Throttle
from lectopt.training.carry import Plan
from lectopt.training.live_curves import LiveCurves
from lectopt.training.run import Run


class Observer(Protocol):
    """What shows a training in progress."""

    throttle: Throttle

    def open(self, steps: int) -> None:
        """Begins, before training continues; so many steps have been done before."""

    def show(self, run: Run) -> None:
        """Shows the `Run`, as far as it has come."""

    def close(self) -> None:
        """Ends, after the last call of `show`."""


def observers_of(plan: Plan, log_dir: str | Path | None, show: bool) -> list[Observer]:
    """Returns the observers of a training on this process."""
    observers: list[Observer] = []
    if log_dir is not None and meshes.is_first_process(plan.mesh):
        from lectopt.training.tensorboard import TensorBoard  # noqa: PLC0415, heavy and optional

        observers.append(TensorBoard(log_dir))
    if (picture := live_picture(show)) is not None:
        observers.append(LiveCurves(picture))
    return observers
