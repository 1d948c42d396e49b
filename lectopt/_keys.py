"""Random keys: an int or a `jax.random.key` will do wherever a key is asked for."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def as_key(key: Any) -> jax.Array:
    """A typed key from an int, a typed key, or an old-style uint32[2] key."""
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
        return key
    if isinstance(key, (jax.Array, np.ndarray)) and key.dtype == jnp.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jnp.integer) and key.shape == ():
        return jax.random.key(key)
    raise TypeError(f"key must be an int or one jax.random.key; got {key!r}")
