"""A few examples of each class, as when labels are expensive."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.data.strata import strata_of
from lectopt.data.subsets import Subset, as_subset


def few_labels(examples: Any, per_class: int, *, key: Any) -> Subset:
    """Draws the same number of examples of each class, to learn from few labels.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`; the last array holds the labels, whole
            numbers [n], or [n, columns]: then each combination that occurs is a class.
        per_class: how many examples of each class that occurs, a whole number of at least 1.
        key: an int or a `jax.random.key`. It may be traced, so that the lanes of a search draw differently.

    Returns:
        A Subset of `per_class` times as many examples as there are classes, over the same copy of the data.

    Raises:
        ValueError: if per_class is below 1 or exceeds the size of a class, there are no labels, or examples are several
            folds.
        TypeError: if per_class is not a whole number, or the labels are being traced.

    Example:
        >>> import lectopt as lo, numpy as np
        >>> few = lo.few_labels(lo.datasets.digits(), 2, key=0)
        >>> np.bincount(few.examples()[1])
        array([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    whole, per_class = as_subset(examples), checks.check_count("per_class", per_class)
    if whole.indices.ndim != 1:
        raise ValueError(f"examples must be one part; got {len(whole.indices)} folds: take one, folds[0]")
    classes = strata_of(whole, True, "few_labels")
    sizes = classes.sizes
    if per_class > sizes.min():
        raise ValueError(
            f"per_class must be at most {sizes.min()}, as many examples as {classes.rarest} has; got {per_class}"
        )
    # By class, and within a class at random: the first of each class are its draw.
    order = jnp.lexsort((jax.random.uniform(as_key(key), (len(whole),)), jnp.asarray(classes.of_examples)))
    chosen = order[(np.cumsum(sizes) - sizes)[:, None] + np.arange(per_class)].ravel()
    return Subset(whole.arrays, whole.indices[chosen].astype(jnp.int32), jnp.int32(chosen.size), least=chosen.size)
