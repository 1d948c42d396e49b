"""Where the examples of a training come from: memory, where all of them are, or what brings some at a time."""

from typing import Any, Protocol

from lectopt._internal.interrupts import Interrupt
from lectopt.training.carry import Carry
from lectopt.training.setup import Setup


class Source(Protocol):
    """Where the examples of a training come from."""

    setup: Setup  # with the examples that are there

    @property
    def steps(self) -> int | None:
        """How many steps there will be; None until that is known."""

    @property
    def epochs(self) -> int:
        """How many epochs there will be, as far as that is known."""

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Brings examples of the steps from `step` to `stop`; returns the carry, and to which step they are there."""

    def prefetch(self) -> None:
        """Brings what comes next, while the loop runs."""

    def place(self) -> dict[str, Any]:
        """Returns what is to be kept beside the carry, fit for JSON."""

    def shaped(self, carry: Carry, kept: dict[str, Any]) -> Carry:
        """Returns the carry before the first step in the shapes of one that was kept with this."""

    def resume(self, kept: dict[str, Any]) -> None:
        """Goes on after what was kept."""

    def close(self) -> None:
        """Ends reading."""


class Resident:
    """Examples that are all on the device: there is nothing to do."""

    def __init__(self, setup: Setup):
        self.setup = setup

    @property
    def steps(self) -> int:
        """The steps of the plan."""
        return self.setup.plan.steps

    @property
    def epochs(self) -> int:
        """The epochs of the plan."""
        return self.setup.plan.epochs

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Returns what it is given."""
        return carry, stop

    def prefetch(self) -> None:
        """Does nothing."""

    def place(self) -> dict[str, Any]:
        """Returns nothing: the carry says all."""
        return {}

    def shaped(self, carry: Carry, kept: dict[str, Any]) -> Carry:
        """Returns the carry."""
        return carry

    def resume(self, kept: dict[str, Any]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
