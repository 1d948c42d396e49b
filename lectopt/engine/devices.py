"""The devices that a search runs on, and how much memory there is."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax


def use_all_cores() -> int:
    """Makes JAX use one CPU device per core, so that a search runs on all cores.

    Call it before JAX computes anything; `python -m lectopt` does so by itself. Called later, it warns, and JAX keeps
    the devices that it has: searches are then slower, with the same results. Where JAX computes on accelerators, these
    are still what a search uses.

    Returns:
        The number of CPU devices.

    Warns:
        UserWarning: if JAX has already started with fewer CPU devices than there are cores.

    Example:
        >>> import lectopt as lo
        >>> devices = lo.use_all_cores()  # doctest: +SKIP
    """
    wanted = cores()
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
        return wanted  # without looking, since looking would start JAX, before jax.distributed perhaps
    except RuntimeError:
        there = len(jax.devices("cpu"))
    if there < wanted:
        warnings.warn(
            f"use_all_cores() must be called before JAX computes anything: it has {there} CPU device(s) for {wanted} "
            "cores already",
            stacklevel=2,
        )
    return there


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
