"""What a denoising autoencoder has to undo."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array

Corrupt: TypeAlias = Callable[[jax.Array, Array], Array]


def as_corruption(corruption: Any) -> Corrupt:
    """Returns a function (key, x) -> x: the one given, or masking noise of that share.

    Raises:
        TypeError, ValueError: if it is neither a function nor a number in [0, 1).
    """
    if callable(corruption):
        return corruption
    checks.check_number("corruption", corruption, checks.FRACTION)

    def mask(key: jax.Array, x: Array) -> Array:
        return jnp.where(jax.random.uniform(key, x.shape) < corruption, 0, x)

    return mask
