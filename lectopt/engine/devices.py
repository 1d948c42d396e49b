"""The devices that a search runs on."""

import os
import warnings

import jax

from lectopt._internal.host import cpu_devices


def use_all_cores() -> int:
    """Makes JAX use one CPU device per core, so that a search runs on all cores.

    Call it before JAX computes anything; `python -m lectopt` does so by itself. Called later, it warns, and JAX keeps
    the devices that it has: searches are then slower, with the same results. Where JAX computes on accelerators, these
    are still what a search uses.

    Prefer it to JAX's own option `jax_num_cpu_devices`: with as many devices as threads, programs that factorize
    matrices (`jnp.linalg.qr`, which orthogonal initial weights take) can stop forever. It gives XLA one thread more
    than there are devices, by the environment variable NPROC, unless that is set.

    Returns:
        The number of CPU devices.

    Warns:
        UserWarning: if JAX has already started with fewer CPU devices than there are cores.

    Example:
        >>> import lectopt as lo
        >>> devices = lo.use_all_cores()  # doctest: +SKIP
    """
    wanted = cores()
    # jaxlib's LAPACK kernels wait, in the thread that a device computes in, for other threads of XLA's pool. If there
    # is one for each device and no more, and all of them factorize at a time, they wait for each other forever.
    os.environ.setdefault("NPROC", str(wanted + 1))  # the size of the pool, which XLA reads when JAX starts
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


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
