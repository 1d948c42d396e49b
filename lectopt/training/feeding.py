"""Feeding the loop from a stream, a window of batches at a time.

A thread reads the next batches while the loop runs on those before. How they are split decides nothing: the loop gives
the same numbers from any step to any other.
"""

import contextlib
import dataclasses
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import meshes
from lectopt._internal.interrupts import Interrupt
from lectopt._internal.out_of_memory import ran_out
from lectopt.data.readers import Place, Reader
from lectopt.training import compiled_loop
from lectopt.training.carry import Carry, Plan, Window
from lectopt.training.setup import Setup
from lectopt.training.window_memory import WindowMemory

_BYTES = 2**23  # of a window: a chunk costs less than writing to so much new memory, of which three take part
_MOST_BATCHES = 1024
_SECONDS = 0.25  # a window is handed over after so long, full or not
_POLL_SECONDS = 0.1  # between two looks whether Ctrl-C was pressed
ROOM = 4096
"""Records that there is room for at first, where the length of an epoch is to be found."""


class _Portion(NamedTuple):
    """Some batches of one epoch, as they were read."""

    leaves: list[np.ndarray]  # [batches, batch_size, ...]
    weights: np.ndarray  # float32[batches, batch_size]
    filled: int  # how many of these batches are there
    place: Place  # of the first
    length: int | None  # of an epoch, if it is known by now

    @property
    def end(self) -> int:
        """The step after the last of these batches."""
        return self.place.step + self.filled


class Feed:
    """Examples that are read from a stream.

    Attributes:
        setup: the training, with the window of batches that is on the device.
    """

    def __init__(self, setup: Setup, reader: Reader, epochs: int | None):
        """Begins nothing yet. Without `epochs`, the plan's steps are those that were asked for."""
        self.setup, self._reader, self._epochs = setup, reader, epochs
        self._steps = setup.plan.steps
        self._length = reader.length
        self._portion: _Portion | None = None  # what the window holds
        self._weighs = setup.data.weights is not None
        self._next: tuple[_Portion, dict[str, Any]] | BaseException | None = None
        self._read: _Portion | BaseException | None = None  # and not yet on the device
        self._kept: dict[str, Any] | None = None
        self._queue: queue.Queue[_Portion | BaseException] = queue.Queue(maxsize=1)
        self._ended = threading.Event()
        self._memory = WindowMemory(self._ended)
        self._thread: threading.Thread | None = None

    @property
    def steps(self) -> int | None:
        """How many steps there will be; None until that is known."""
        return self.setup.plan.steps if self._length is not None or self._epochs is None else None

    @property
    def epochs(self) -> int:
        """How many epochs there will be, as far as that is known."""
        return self._epochs or self.setup.plan.epochs

    def supply(self, carry: Carry, step: int, stop: int, interrupt: Interrupt) -> tuple[Carry, int]:
        """Brings examples of the steps from `step` to `stop`; returns the carry, and to which step they are there.

        Raises:
            What was raised while the next batch was read; all steps before are done.
        """
        while self._portion is None or self._portion.end <= step:
            if (found := self._await(interrupt)) is None:
                return carry, step
            if self._portion is not None:
                self._memory.give_back(self._portion.leaves)  # which the loop has done with
            self._portion, parts = found
            self.setup = self.setup._replace(data=self.setup.data._replace(**parts))
            was_known, carry = self._length is not None, self._reshaped(carry, self._portion)
            if not was_known and self._length == step:  # the end of the first pass is seen only now
                ends = compiled_loop.end_early if step == self.setup.plan.steps else compiled_loop.end_epoch
                return ends(self.setup, carry), step
        return carry, min(stop, self._portion.end)

    def prefetch(self) -> None:
        """Brings the next window to the device, if it has been read, and there is memory for it beside this one."""
        if self._next is None and (self._read is not None or not self._queue.empty()):
            try:
                self._receive()
            except jax.errors.JaxRuntimeError as error:
                if not ran_out(error):
                    raise

    def place(self) -> dict[str, Any]:
        """Returns the place of the window; those of its batches that are done will be read again, and passed over."""
        if self._portion is None:
            return self._kept or {}
        return {
            "stream": self._portion.place._asdict(),
            "length": self._length,
            "steps": self.setup.plan.steps,
        }

    def shaped(self, carry: Carry, kept: dict[str, Any]) -> Carry:
        """Returns the carry before the first step in the shapes of one that was kept with this."""
        if not kept.get("stream"):
            return carry
        return _reshape(carry, self.setup._replace(plan=self._plan(kept["length"], kept["steps"])))

    def resume(self, kept: dict[str, Any]) -> None:
        """Goes on after what was kept."""
        if not kept.get("stream"):
            return
        self._kept = {name: kept[name] for name in ("stream", "length", "steps")}
        plan = self._plan(kept["length"], kept["steps"])
        self.setup, self._length = self.setup._replace(plan=plan), kept["length"]
        self._reader.seek(Place(**kept["stream"]))

    def close(self) -> None:
        """Ends reading; what is being read is waited for, for a moment."""
        self._ended.set()
        if self._thread is not None:
            while not self._queue.empty():
                self._queue.get()
            self._thread.join(timeout=1)

    def _await(self, interrupt: Interrupt) -> tuple[_Portion, dict[str, Any]] | None:
        """Returns the next portion, and the fields of `Data` that hold it; None if Ctrl-C is pressed before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._produce, name="lectopt-stream", daemon=True)
            self._thread.start()
        while self._next is None:
            if interrupt.pressed:
                return None
            with contextlib.suppress(queue.Empty):
                self._receive()
        if isinstance(self._next, BaseException):
            raise self._next
        found, self._next = self._next, None
        return found

    def _receive(self) -> None:
        """Brings the next window to the device; if that raises, it is not lost."""
        self._read = self._queue.get(timeout=_POLL_SECONDS) if self._read is None else self._read
        self._next = self._on_device(self._read)
        self._read = None

    def _on_device(self, read: _Portion | BaseException) -> tuple[_Portion, dict[str, Any]] | BaseException:
        if isinstance(read, BaseException):
            return read
        arrays, parts = jax.tree.unflatten(jax.tree.structure(self._reader.first), read.leaves), dict[str, Any]()
        if self._weighs:
            *arrays, weights = arrays
            parts["weights"] = meshes.replicate(self.setup.plan.mesh, jax.device_put(weights))
        parts["window"] = _put(self.setup.plan, tuple(arrays), read.weights, np.int32(read.place.batch))
        return read, parts

    # What is asked for, and how long an epoch is --------------------------------------------------------------------
    def _plan(self, length: int | None, steps: int) -> Plan:
        return dataclasses.replace(self.setup.plan, steps=steps, steps_per_epoch=length or steps)

    def _reshaped(self, carry: Carry, portion: _Portion) -> Carry:
        """Makes room for more steps in the records, or gives them their shape, once an epoch's length is known."""
        before, steps = self.setup.plan, self.setup.plan.steps
        if portion.length is not None and self._length is None:
            self._length = portion.length
            steps = self._steps if self._epochs is None else self._epochs * portion.length
        while self._length is None and self._epochs is not None and portion.end >= steps:
            steps *= 4
        plan = self._plan(self._length, steps)
        self.setup = self.setup._replace(plan=plan)
        return carry if plan == before else _reshape(carry, self.setup)

    # In the thread that reads ---------------------------------------------------------------------------------------
    def _produce(self) -> None:
        try:
            for portion in self._portions():
                if not self._hand_over(portion):
                    return
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, read: _Portion | BaseException) -> bool:
        """Waits until there is room; returns False if it is wanted no more."""
        while not self._ended.is_set():
            try:
                self._queue.put(read, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def _is_over(self) -> bool:
        if self._epochs is None:
            return self._reader.steps >= self._steps
        return self._reader.length is not None and self._reader.steps >= self._epochs * self._reader.length

    def _portions(self) -> Iterator[_Portion]:
        reader = self._reader
        like = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(reader.first)]
        most = batches_at_once(like, self._steps if reader.length is None else reader.length)
        while not self._is_over():
            place = reader.place()
            leaves = self._memory.take([(most, *shape) for shape, _ in like], [np.dtype(dtype) for _, dtype in like])
            weights, count, began, error = np.zeros((most, reader.batch_size), np.float32), 0, time.monotonic(), None
            while count < most and time.monotonic() < began + _SECONDS and not self._is_over():
                try:
                    batch = reader.read()
                except BaseException as raised:
                    error = raised
                    break
                if batch is None:
                    break
                weights[count, : len(batch[0])] = 1
                for leaf, rows in zip(leaves, reader.pad(batch), strict=True):
                    leaf[count] = rows
                count += 1
            if count or reader.length != place.length:
                yield _Portion(leaves, weights, count, place if count else reader.place(), reader.length)
            else:
                self._memory.give_back(leaves)
            if error is not None:
                raise error


def _put(plan: Plan, arrays: Any, weights: np.ndarray, first: np.int32) -> Window:
    """Puts a window on the device, or on those of the plan's mesh, with the rows of each batch split over them."""
    if plan.mesh is None:
        return Window(*jax.device_put((arrays, weights, first)))
    arrays = meshes.split_rows(plan.mesh, arrays, axis=1)
    return Window(arrays, *meshes.replicate(plan.mesh, (weights, first)))


def batches_at_once(like: list[tuple[tuple[int, ...], Any]], most: int) -> int:
    """Returns how many batches of these shapes and dtypes a window holds."""
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in like)
    return max(1, min(_BYTES // max(size, 1), _MOST_BATCHES, most))


def _reshape(carry: Carry, setup: Setup) -> Carry:
    """Returns a carry of the first epoch with records as long as those of the plan."""

    def resized(record: jax.Array, like: jax.ShapeDtypeStruct) -> Any:
        if record.shape == like.shape:
            return record
        part = tuple(slice(min(sizes)) for sizes in zip(record.shape, like.shape, strict=True))
        new = np.zeros(like.shape, like.dtype)
        new[part] = np.asarray(record)[part]
        return jnp.asarray(new) if setup.plan.mesh is None else meshes.replicate(setup.plan.mesh, new)

    return jax.tree.map(resized, carry, compiled_loop.shapes(setup))
