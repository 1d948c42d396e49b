"""Functions of the user's that are called between two chunks of a training, with the run so far."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lectopt._internal import checks
from lectopt.tasks.task_checks import check_function
from lectopt.training.run import Run
from lectopt.training.status import Status


class Hook(NamedTuple):
    """A function, and at which steps it is called."""

    name: str  # as the user knows it
    function: Callable[[Run], Any]
    every: int | None  # steps from one call to the next; None at the end of each epoch

    def is_due(self, status: Status, last: Status) -> bool:
        """Whether it is due where a training has come to a status, after the last one."""
        if self.every is None:
            return status.epoch > last.epoch
        return status.step > last.step and status.step % self.every == 0

    def stops(self, run: Run) -> bool:
        """Calls it, and returns whether training is to end here.

        Raises:
            TypeError: if it returns something else than a flag or None.
        """
        answer = self.function(run)
        if answer is None or (np.ndim(answer) == 0 and np.asarray(answer).dtype == bool):
            return bool(answer)
        raise TypeError(
            f"{self.name} must return True to end the training, otherwise False or None; it returned "
            f"{checks.value_and_type(answer)}"
        )


def as_hooks(on_epoch: Any, on_steps: Any) -> list[Hook]:
    """Returns what the arguments of `fit` ask for, after checking it."""
    hooks = []
    if on_epoch is not None:
        if not callable(on_epoch):
            raise TypeError(f"on_epoch must be a function of the run so far; got {checks.value_and_type(on_epoch)}")
        check_function("on_epoch", on_epoch, "run")
        hooks.append(Hook("on_epoch", on_epoch, None))
    if on_steps is not None:
        if not isinstance(on_steps, tuple) or len(on_steps) != 2 or not callable(on_steps[1]):
            raise TypeError(
                "on_steps must be a pair (n, function), called with the run so far after every n steps; got "
                f"{checks.value_and_type(on_steps)}"
            )
        check_function("on_steps[1]", on_steps[1], "run")
        hooks.append(Hook("on_steps", on_steps[1], checks.check_count("on_steps[0]", on_steps[0])))
    return hooks
