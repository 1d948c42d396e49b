"""How much memory there is, and the largest program that fits into it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import jax

C = TypeVar("C")
P = TypeVar("P", bound="Program")


class Program(Protocol):
    """A compiled program that says how much memory it takes."""

    @property
    def memory(self) -> int:
        """Bytes on each device."""


def fitted(
    candidate: C,
    compile_: Callable[[C], P],
    smaller: Callable[[C, int], C | None],
    budget: int,
    *,
    devices: int,
    name: Callable[[C], str],
) -> tuple[C, P]:
    """Returns the first candidate whose program fits into memory, and that program.

    Args:
        candidate: what to compile first, such as how many trainings run at once.
        compile_: candidate -> its program.
        smaller: (candidate, bytes that it takes) -> the next candidate; None if there is none.
        budget: bytes that the program may take, on all devices together.
        devices: how many devices there are.
        name: candidate -> what it is, for the message of the error.

    Raises:
        ValueError: if there is no smaller candidate, and the last one does not fit.
    """
    while (size := (program := compile_(candidate)).memory * devices) > budget:
        following = smaller(candidate, size)
        if following is None:
            raise ValueError(f"memory must be enough for {name(candidate)}, which take {size:,} bytes; got {budget:,}")
        candidate = following
    return candidate, program


def fitted_count(
    count: int, compile_: Callable[[int], P], budget: int, *, devices: int, name: Callable[[int], str]
) -> P:
    """Returns the program for as many of something at once as fit into memory, at most `count`; see `fitted`."""

    def smaller(count: int, memory: int) -> int | None:
        return None if count == 1 else max(1, min(count - 1, count * budget // memory))

    return fitted(count, compile_, smaller, budget, devices=devices, name=name)[1]


def free_memory(local: Sequence[jax.Device]) -> int:
    """Bytes that a search may take on these devices together; those of the CPU share what the machine has."""
    stats = [device.memory_stats() if device.platform != "cpu" else None for device in local]
    if all(stat and "bytes_limit" in stat for stat in stats):
        return sum(int(0.8 * (stat["bytes_limit"] - stat.get("bytes_in_use", 0))) for stat in stats if stat)
    return _free_on_host() // 2


def _free_on_host() -> int:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 * 2**30
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))  # of a container
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, int(text) - int(used.read_text()))
    return max(free, 0)
