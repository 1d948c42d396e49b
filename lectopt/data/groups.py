"""Groups of examples that stay together in a split."""

from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt.data.subsets import Subset


def group_numbers(groups: Any, subset: Subset, order: np.ndarray) -> np.ndarray:
    """Numbers the groups of the examples, in this order, by their first occurrence: int[n].

    Raises:
        TypeError: if they are traced, or cannot be compared.
        ValueError: if there are not as many as examples, or one is missing (NaN, None, NaT, masked).
    """
    checks.check_known("groups", groups)
    if isinstance(groups, jax.Array) and jax.dtypes.issubdtype(groups.dtype, jax.dtypes.extended):
        raise TypeError(f"groups must be numbers, strings, or others that can be compared; got {groups.dtype}")
    found = np.asarray(groups, object)
    if found.shape != (len(subset),):
        raise ValueError(f"groups must have shape ({len(subset)},), one entry for each example; got {found.shape}")
    missing = np.ma.getmaskarray(groups) if np.ma.isMaskedArray(groups) else np.array(list(map(_is_missing, found)))
    if missing.any():
        raise ValueError(
            f"groups must hold a group for each example; {missing.sum()} of {len(found)} have none, the first in row "
            f"{missing.argmax()}: {found[missing.argmax()]!r}. Name a group for them, or leave those examples out"
        )
    try:
        return consecutive_numbers(found[order].tolist())
    except TypeError as error:
        raise TypeError(f"groups must be numbers, strings, or others that can be compared: {error}") from error


def _is_missing(group: Any) -> bool:
    """Tells whether it is None, or unequal to itself, as NaN, NaT and pandas' NA are."""
    try:
        return group is None or not group == group  # noqa: PLR0124, SIM201
    except TypeError:  # NA is neither equal nor different
        return True


def consecutive_numbers(values: list[Any]) -> np.ndarray:
    """Replaces equal values by one number, in the order of their first occurrence: no name is favoured."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])
