"""Checks of concrete inputs: refused if float32 moments would say nothing about them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import arrays, checks, numerics


def check_learnable(name: str, x: Any) -> None:
    """Raises ValueError unless concrete inputs [n, ..., features] are finite, with moments that float32 can hold."""
    if not checks.is_traced(x):
        check_integers(name, x)
        check_moments(name, np.asarray(x).reshape(-1, x.shape[-1]), numerics.working_dtype(x))


def check_integers(name: str, x: jax.Array) -> None:
    """Raises ValueError if different concrete whole numbers become equal when converted to float32."""
    if not checks.is_traced(x) and jnp.issubdtype(x.dtype, jnp.integer) and x.size:
        arrays.check_distinguishable(name, np.asarray(x), numerics.working_dtype(x))


def check_moments(name: str, columns: np.ndarray, dtype: Any, counts: np.ndarray | bool = True) -> None:
    """Raises ValueError unless what counts in [rows, features] is finite, and each variance is, 0 only for constants.

    Standard deviations are computed where the span of a feature leaves it open whether the square is in range.
    """
    columns = columns.astype(dtype, copy=False)
    counted = np.where(counts, columns, 0) if counts is not True else columns
    if bad := np.count_nonzero(~np.isfinite(counted)):
        raise ValueError(f"{name} must be finite; got {bad} entries that are NaN or infinite. Leave them out with mask")
    low, high = (
        reduce(columns, axis=0, where=counts, initial=start).astype(np.float64)
        for reduce, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    info = jnp.finfo(dtype)
    least, most = np.sqrt([info.tiny, info.max], dtype=np.float64)
    span = high - low  # at least the standard deviation, at most sqrt(2 n) times as much
    needs_std = (span > 0) & ((span > most) | (span < np.sqrt(2 * len(columns)) * least))
    for feature in np.flatnonzero(needs_std):
        column = columns[np.broadcast_to(counts, columns.shape)[:, feature], feature].astype(np.float64)
        if column.std() > info.eps * np.abs(column.mean()) and not least <= column.std() <= most:
            raise ValueError(
                f"{name} must have standard deviations from {least:.1e} to {most:.1e}, so that {info.dtype} can hold "
                f"their squares; that of feature {feature} is {column.std():.1e}. Rescale it"
            )
