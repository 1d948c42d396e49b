"""How initializers are called: (key, shape, dtype) -> array."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks

Initializer: TypeAlias = Callable[..., jax.Array]


def initializer(init: Callable[[Any, tuple[int, ...], Any], jax.Array]) -> Initializer:
    """Wraps an initializer: shape and dtype are checked before it is called; dtype None is JAX's default."""

    def checked(key: Any, shape: Sequence[int], dtype: Any = None) -> jax.Array:
        checks.check_dtypes(dtype=dtype)
        return init(key, _as_shape(shape), jnp.result_type(float) if dtype is None else dtype)

    return checked


def _as_shape(shape: Any) -> tuple[int, ...]:
    sizes: Any = shape if isinstance(shape, (tuple, list, np.ndarray)) else [None]
    if not all(isinstance(size, numbers.Integral) and not isinstance(size, bool) for size in sizes):
        raise TypeError(f"shape must be a tuple of whole numbers; got {checks.value_and_type(shape)}")
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape must be a tuple of whole numbers of at least 0; got {tuple(sizes)}")
    return tuple(map(int, sizes))
