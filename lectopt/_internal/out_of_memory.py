"""A device that runs out of memory: less at once is tried, until it fits."""

from collections.abc import Callable
from typing import TypeVar

import jax

C = TypeVar("C")
T = TypeVar("T")


def ran_out(error: BaseException) -> bool:
    """Returns whether an error is a device's that has no memory left for what it was to run."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def run_fitted(candidate: C, run: Callable[[C], T], smaller: Callable[[C, Exception], C]) -> tuple[C, T]:
    """Returns the first candidate for which no device runs out of memory, and what `run` returns for it.

    Args:
        candidate: what to run first.
        run: candidate -> its result.
        smaller: (candidate, error of the device) -> the next candidate; raises where there is none.
    """
    while True:
        try:
            return candidate, run(candidate)
        except jax.errors.JaxRuntimeError as error:
            if not ran_out(error):
                raise
            candidate = smaller(candidate, error)
