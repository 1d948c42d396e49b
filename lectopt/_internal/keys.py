"""Random keys: an int or a `jax.random.key` will do wherever a key is asked for."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SEEDS = 2**32
"""Without 64-bit numbers JAX takes a seed modulo this, so that others would silently give the same key."""


def as_key(key: Any) -> jax.Array:
    """A typed key from an int, a typed key, or an old-style uint32[2] key.

    Raises:
        TypeError: if it is none of these.
        ValueError: if it is an int outside of [0, 2**32).
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        return key
    if isinstance(key, (jax.Array, np.ndarray)) and key.dtype == jnp.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))
    if isinstance(key, jax.core.Tracer) and jnp.issubdtype(key.dtype, jnp.integer) and key.shape == ():
        return jax.random.key(key)
    if _is_whole(key):
        if not 0 <= int(key) < _SEEDS:
            raise ValueError(f"key must be an int in [0, 2**32), or a jax.random.key; got {int(key)}")
        return jax.random.key(int(key))
    raise TypeError(f"key must be an int or one jax.random.key; got {key!r}")


def _is_whole(key: Any) -> bool:
    if isinstance(key, (jax.Array, np.ndarray)):
        return key.shape == () and jnp.issubdtype(key.dtype, jnp.integer)
    return isinstance(key, numbers.Integral) and not isinstance(key, bool)
