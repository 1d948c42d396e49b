"""Feeding the loop: from the device's memory, where all examples are, or from a stream, a window of batches at a time.

A thread reads the next batches while the loop runs on those before. What they are split into decides nothing: the loop
gives the same numbers from any step to any other.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import meshes
from lectopt._internal.interrupts import Interrupt
from lectopt.data.readers import Place, Reader
from lectopt.tasks.example_checks import target_check
from lectopt.training import compiled_loop
from lectopt.training.carry import Carry, Plan, Window
from lectopt.training.setup import Setup

_BYTES = 2**25  # of a window: three of them are there at a time
_MOST_BATCHES = 1024
_SECONDS = 0.25  # a window is handed over after so long, full or not
_POLL_SECONDS = 0.1  # between two looks whether Ctrl-C was pressed
_ROOM = 4096  # records that there is room for at first, where the length of an epoch is to be found


class Source(Protocol):
    """Where the examples of a training come from."""

    setup: Setup  # with the examples that are there

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Brings the examples of some of the steps from `step` to `stop`; returns to which step they are there."""

    def prefetch(self) -> None:
        """Brings what comes next, while the loop runs."""

    def place(self, step: int) -> dict[str, Any] | None:
        """Returns what is to be kept beside the carry of this step, fit for JSON."""

    def resume(self, carry: Carry, place: dict[str, Any] | None) -> Carry:
        """Goes to a place that was kept; returns the carry before the first step in its shapes."""

    def close(self) -> None:
        """Ends reading."""


class Resident:
    """Examples that are all on the device."""

    def __init__(self, setup: Setup):
        self.setup = setup

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Returns what it is given: all is there."""
        return carry, stop

    def prefetch(self) -> None:
        """Does nothing."""

    def place(self, step: int) -> None:
        """Returns None: the carry says all."""

    def resume(self, carry: Carry, place: dict[str, Any] | None) -> Carry:
        """Returns the carry."""
        return carry

    def close(self) -> None:
        """Does nothing."""


class Portion(NamedTuple):
    """Some batches of one epoch, as they were read."""

    leaves: list[np.ndarray]  # [batches, batch_size, ...]
    sizes: np.ndarray  # int32[batches]
    count: int  # of these batches that are there
    place: Place  # of the first
    length: int | None  # of an epoch, if it is known by now


class Feed:
    """Examples that are read from a stream.

    Attributes:
        setup: the training, with the window of batches that is on the device.
    """

    def __init__(self, setup: Setup, reader: Reader, epochs: int | None):
        """Begins nothing yet; without `epochs`, the steps of the plan are those that were asked for."""
        self.setup, self._reader, self._epochs = setup, reader, epochs
        self._portion: Portion | None = None  # what the window holds
        self._next: tuple[Portion, Window] | None = None
        self._resumed, self._skip = reader.place(), 0
        self._read: queue.Queue[Portion | BaseException] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Brings the examples of some of the steps from `step` to `stop`; returns to which step they are there.

        Raises:
            What was raised while the next batch was read; all steps before are done.
        """
        if self._portion is None or step >= self._end:
            carry = self._advance_window(carry, step, interrupt)
        return carry, max(step, min(stop, self._end))

    def prefetch(self) -> None:
        """Brings the next window to the device, if it has been read."""
        if self._next is None and self._thread is not None:
            try:
                self._take(self._read.get_nowait())
            except queue.Empty:
                return

    def place(self, step: int) -> dict[str, Any]:
        """Returns where the stream is: the place of the window, and how many of its batches come before this step."""
        kept, skip = self._resumed, self._skip
        if self._portion is not None:
            kept = self._portion.place
            skip = step - self._end + self._portion.count
        return {"place": kept._asdict(), "skip": skip, "steps_per_epoch": self.setup.plan.steps_per_epoch}

    def resume(self, carry: Carry, place: dict[str, Any] | None) -> Carry:
        """Goes to a place that was kept; returns the carry before the first step in its shapes."""
        if place is None:
            return carry
        self._resumed, self._skip = Place(**place["place"]), place["skip"]
        self._reader.seek(self._resumed)
        for _ in range(self._skip):
            self._reader.read()
        return self._lengthen(carry, place["steps_per_epoch"], self._resumed.length)
