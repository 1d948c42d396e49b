"""What a split is drawn from: an order, labels and groups of the examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.data.subsets import Subset, as_subset


def shuffled(examples: Any, key: Any) -> tuple[Subset, np.ndarray]:
    """The examples, and an order of them drawn from the key."""
    whole = as_subset(examples)
    check_concrete(whole, key)
    with jax.ensure_compile_time_eval():
        return whole, np.asarray(jax.random.permutation(as_key(key), len(whole)))


def check_concrete(whole: Subset, key: Any) -> None:
    """Raises where an index set would depend on what is being traced."""
    if checks.is_traced((whole.indices, whole.size, key)):
        raise TypeError("examples and key must not be traced here: split outside of jit and vmap")


def has_labels(subset: Subset) -> bool:
    """Whether the last array holds labels: whole numbers of shape (n,)."""
    labels = subset.arrays[-1]
    return isinstance(labels, jax.Array) and labels.ndim == 1 and bool(jnp.issubdtype(labels.dtype, jnp.integer))


def labels(subset: Subset, what: str = "stratify") -> np.ndarray:
    """The labels of the part, in its order, which `what` needs."""
    labels = subset.arrays[-1]
    if not has_labels(subset):
        found = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, jax.Array) else type(labels).__name__
        raise ValueError(
            f"{what} needs labels: the last array of the examples must be whole numbers of shape (n,); got {found}"
        )
    if checks.is_traced(labels):
        raise TypeError(f"labels must not be traced, for {what}: split outside of jit and vmap")
    return np.asarray(labels)[np.asarray(subset.indices)[: len(subset)]]


def groups(groups: Any, subset: Subset, order: np.ndarray) -> np.ndarray:
    """The groups of the examples in this order, numbered as they come: int[n].

    Raises:
        TypeError: if they are traced, or cannot be compared.
        ValueError: if there are not as many as examples, or one is missing (NaN, None, NaT, masked).
    """
    if checks.is_traced(groups):
        raise TypeError("groups must not be traced here: split outside of jit and vmap")
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
        return numbered(found[order].tolist())
    except TypeError as error:
        raise TypeError(f"groups must be numbers, strings, or others that can be compared: {error}") from error


def _is_missing(group: Any) -> bool:
    """Whether it is None, or as NaN, NaT and pandas' NA not equal to itself."""
    try:
        return group is None or not group == group  # noqa: PLR0124, SIM201
    except TypeError:  # NA is neither equal nor different
        return True


def numbered(values: list[Any]) -> np.ndarray:
    """Equal values as one number, in the order in which they first come: so that no name is favoured."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values])
