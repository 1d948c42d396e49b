"""The devices that a search runs on."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from lectopt._internal.host import cpu_devices


def use_all_cores() -> int:
    """Makes JAX use one CPU device per core, so that a search runs on all cores.

    Call it before JAX computes anything; `python -m lectopt` does so by itself. Called later, it warns, and JAX keeps
    the devices that it has: searches are then slower, with the same results. Where JAX computes on accelerators, these
    are still what a search uses.

    A search whose trainings factorize matrices (`jnp.linalg.qr`, which orthogonal initial weights take) runs on half
    of the devices, since on all of them XLA's kernels would wait for each other forever. With more threads than
    devices, which the environment variable NPROC gives XLA, it runs on all; all searches are slower then.

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
        count = len(cpu_devices())  # none, where JAX_PLATFORMS names only accelerators
    if count < wanted:
        warnings.warn(
            f"use_all_cores() must be called before JAX computes anything: it has {count} CPU device(s) for {wanted} "
            "cores already",
            stacklevel=2,
        )
    return count


def devices_that_factorize(devices: Sequence[Any]) -> Sequence[Any]:
    """Returns those of the devices that may factorize batches of matrices at the same time: a part, of equal size.

    jaxlib's LAPACK kernels wait, in the thread that a CPU device computes in, for other threads of XLA's pool. If all
    threads belong to devices that factorize, they wait for each other forever. One thread more makes all of them free,
    and every search 1.4 times as slow: the additional thread takes work from the devices' own.
    """
    count = len(devices)
    threads = max(int(os.environ.get("NPROC", cores())), len(cpu_devices()))  # as XLA counts them
    if devices[0].platform != "cpu" or threads > count or count == 1:
        return devices
    return devices[: max(n for n in range(1, count) if count % n == 0)]


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
