"""JAX's own modes for finding faults; those that can be on at once are: what one of them refuses is refused."""

import contextlib

import jax


@contextlib.contextmanager
def strict():
    """NaN and implicit promotion of dtypes and of ranks: each raises."""
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


MODES = {"strict": strict, "leaks": jax.checking_leaks, "not compiled": jax.disable_jit}
