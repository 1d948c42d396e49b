"""How far the default device rounds the factors of a product: accelerators multiply fewer bits than float32 has."""

import jax
import jax.numpy as jnp
import numpy as np

_SIDE = 128
"""Devices multiply small matrices otherwise, and exactly."""


def product_rounding() -> float:
    """Returns the largest relative rounding of a float32 factor, measured: 0 on a CPU, 2^-11 where a GPU multiplies in
    TensorFloat-32, 2^-8 where a TPU multiplies in bfloat16; at the precision that `jax.default_matmul_precision` asks
    for.
    """
    factors = np.linspace(1, 2, _SIDE * _SIDE, dtype=np.float32).reshape(_SIDE, _SIDE)
    return float(_largest_rounding(factors, np.eye(_SIDE, dtype=np.float32)))


@jax.jit
def _largest_rounding(factors: jax.Array, unit: jax.Array) -> jax.Array:
    # Each sum has one term that is not 0, so that nothing else is rounded.
    return jnp.max(jnp.abs(jnp.dot(factors, unit) - factors) / factors)
