"""Ctrl-C between two pieces of work instead of within one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.pressed = False

    def press(self, number: int, frame: FrameType | None) -> None:
        """As a handler of the signal: notes the first, and raises KeyboardInterrupt for the second."""
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed = True


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Interrupt]:
    """Holds Ctrl-C back, to be asked for between two pieces of work; pressed again, it raises at once.

    An exception amid a running program of JAX would lose what the program was given to donate, and could crash the
    process at its exit. Where Ctrl-C is handled otherwise, by the caller or in another thread, it stays as it is.
    """
    interrupt = Interrupt()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
