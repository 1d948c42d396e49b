"""The CPU beside an accelerator, on which JAX runs what compiled programs call back."""

from typing import Any

import jax

from lectopt._internal.jaxprs import primitives
from lectopt._internal.jit_cache import CachedJit

_CALLBACKS = {"debug_callback", "debug_print", "pure_callback", "io_callback"}


def cpu_devices() -> list[jax.Device]:
    """The CPU devices: none, where JAX_PLATFORMS names only accelerators."""
    try:
        return jax.devices("cpu")
    except RuntimeError:
        return []


def check_callbacks(what: str, program: CachedJit, *arguments: Any) -> None:
    """Raises RuntimeError if a program calls functions of Python while it runs, and there is no CPU for that.

    Of the arguments the shapes will do; `what` the message calls who makes the calls.
    """
    if cpu_devices():
        return
    if calls := _CALLBACKS & primitives(program.trace(*arguments).jaxpr):
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise RuntimeError(
            f"JAX_PLATFORMS must name a CPU too, such as 'cuda,cpu', for what {what} calls on the host "
            f"({', '.join(sorted(calls))}); got {platforms!r}"
        )
