"""What examples are stratified by: their labels, quantiles of their targets, or strata that are given."""

from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.arrays import as_numpy
from lectopt.data.labels import labels_of
from lectopt.data.subsets import Subset, check_finite_array

_OTHERS = "Or give at least 2 quantiles, or an array of strata, one row for each example"


class Strata(NamedTuple):
    """The strata of the examples of a part, numbered in the order of their values."""

    of_examples: np.ndarray  # int[n]
    sizes: np.ndarray  # int[strata]
    values: np.ndarray  # [strata], or [strata, columns]
    noun: str  # what messages call one

    @property
    def rarest(self) -> str:
        """The stratum with the fewest members, for a message."""
        return f"{self.noun} {self.values[self.sizes.argmin()].tolist()}"


def strata_of(subset: Subset, stratify: Any, what: str = "stratify") -> Strata:
    """Returns the strata that the argument `stratify`, other than False, makes of the examples, in their order.

    Raises:
        TypeError: if stratify is none of what it may be, or it, or what it is to be taken from, is being traced.
        ValueError: if it does not fit the examples, or they hold no labels or targets.
    """
    noun = "class"
    if isinstance(stratify, (bool, np.bool_)):
        found = labels_of(subset, what)
    elif isinstance(stratify, (int, np.integer)) and stratify >= 2:
        found, noun = _quantiles(subset, int(stratify)), "quantile"
    elif isinstance(stratify, str) or not np.iterable(stratify):
        raise TypeError(f"stratify must be True or False; got {checks.value_and_type(stratify)}. {_OTHERS}")
    else:
        found = _given(stratify, len(subset))
    axis = 0 if found.ndim > 1 else None  # each combination of the columns is a stratum
    values, of_examples, sizes = np.unique(found, axis=axis, return_inverse=True, return_counts=True)
    return Strata(of_examples.reshape(-1), sizes, values, noun)


def _quantiles(subset: Subset, count: int) -> np.ndarray:
    """Numbers the quantiles of the targets from 1 to `count`; equal targets are in one, where the first of them is."""
    targets, n = subset.arrays[-1], len(subset)
    if not isinstance(targets, jax.Array) or targets.shape not in ((len(targets),), (len(targets), 1)):
        found = f"shape {targets.shape}" if isinstance(targets, jax.Array) else type(targets).__name__
        raise ValueError(f"stratify by quantiles needs targets of shape (n,) or (n, 1), in the last array; got {found}")
    if not checks.is_real(targets):
        raise ValueError(f"stratify by quantiles needs targets that are real numbers; got {targets.dtype}")
    if checks.is_traced(targets):
        raise TypeError("targets must not be traced, for stratify: split outside of jit and vmap")
    if count > n:
        raise ValueError(f"stratify must be at most the number of examples; got {count} quantiles of {n} examples")
    own = np.asarray(targets)[np.asarray(subset.indices)[:n]].ravel().astype(np.float64)
    check_finite_array(own, "targets to stratify by")
    return np.searchsorted(np.sort(own), own) * count // n + 1


def _given(stratify: Any, n: int) -> np.ndarray:
    if checks.is_traced(stratify):
        raise TypeError("stratify must not be traced: split outside of jit and vmap")
    found = as_numpy("stratify", stratify)
    if found.dtype.kind not in "iub":
        raise TypeError(
            f"stratify must hold whole numbers; got {found.dtype}. Give a number of quantiles, such as stratify=5, for "
            "those of the targets"
        )
    if found.ndim > 2 or len(found) != n or not found.size:
        raise ValueError(
            f"stratify must have shape ({n},) or ({n}, columns), one row for each example; got {found.shape}"
        )
    return found
