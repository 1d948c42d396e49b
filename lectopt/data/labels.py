"""The labels of examples: which arrays hold some, and those of a part."""

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt.data.subsets import Subset


def has_labels(subset: Subset) -> bool:
    """Tells whether the last array holds labels: whole numbers of shape (n,)."""
    labels = subset.arrays[-1]
    return isinstance(labels, jax.Array) and labels.ndim == 1 and bool(jnp.issubdtype(labels.dtype, jnp.integer))


def labels_of(subset: Subset, what: str = "stratify") -> np.ndarray:
    """Returns the labels of the part, in its order, which `what` needs: [n], or several columns of them."""
    labels = subset.arrays[-1]
    columns = isinstance(labels, jax.Array) and labels.ndim == 2 and bool(labels.size)
    if not has_labels(subset) and not (columns and jnp.issubdtype(labels.dtype, jnp.integer)):
        found = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, jax.Array) else type(labels).__name__
        raise ValueError(
            f"{what} needs labels: the last array of the examples must be whole numbers of shape (n,) or "
            f"(n, columns); got {found}"
        )
    if checks.is_traced(labels):
        raise TypeError(f"labels must not be traced, for {what}: split outside of jit and vmap")
    return np.asarray(labels)[np.asarray(subset.indices)[: len(subset)]]
