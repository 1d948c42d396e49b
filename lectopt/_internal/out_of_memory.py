"""A device that runs out of memory: less at once is tried, until it fits."""

import warnings
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


def warn_of_less(error: Exception, what: str, count: int, less: int | None) -> None:
    """Warns that fewer run at once, after a device ran out of memory with so many.

    Raises:
        ValueError: if there is no smaller number, `less` being 0 or None.
    """
    if not less:
        raise ValueError(
            f"memory must be enough for {count} of the {what} at once; a device ran out of it: {error}"
        ) from error
    warnings.warn(
        f"a device ran out of memory with {count} {what} at once; the search goes on with {less}. Nothing that was "
        "done is lost; memory= and chunk= set a limit from the start",
        stacklevel=3,
    )
