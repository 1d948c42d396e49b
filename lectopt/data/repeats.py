"""A split that is drawn several times."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.data.folds import Folds, join
from lectopt.data.subsets import Subset


def repeated(split: Callable[[jax.Array], Any], repeats: int, *, key: Any) -> Folds:
    """Repeats a split with several keys, for a mean over more folds than a split has.

    Args:
        split: a function of a key that returns `Folds`, or one pair (train, valid) as `lo.holdout` returns, over the
            same examples each time.
        repeats: how often, a whole number of at least 1.
        key: an int or a `jax.random.key`, from which the keys of the repetitions are derived.

    Returns:
        A `Folds`: all of the first repetition, then those of the second one, and so on.

    Raises:
        ValueError: if repeats is below 1, or the examples are not the same ones each time.
        TypeError: if split is not a function, returns something else, or repeats is not a whole number.

    Example:
        >>> import lectopt as lo
        >>> data = lo.datasets.iris()
        >>> folds = lo.repeated(lambda key: lo.stratified_k_fold(data, 5, key=key), 4, key=0)
        >>> len(folds)
        20

    Source: M. Stone (1974), "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal
    Statistical Society B 36(2); R. R. Bouckaert and E. Frank (2004), "Evaluating the replicability of significance
    tests for comparing learning algorithms", PAKDD, for its repetition.
    """
    if not callable(split):
        raise TypeError(f"split must be a function of a key that returns lectopt.Folds; got {type(split).__name__}")
    key, pairs = as_key(key), []
    for i in range(checks.check_count("repeats", repeats)):
        found = split(jax.random.fold_in(key, i))
        if not isinstance(found, Folds):
            pair = checks.check_pair("split", "(train, valid), or lectopt.Folds", found)
            if not all(isinstance(part, Subset) for part in pair):
                raise TypeError(f"split must return a pair of Subsets, or lectopt.Folds; got {found!r:.60}")
            found = join([pair])
        pairs += list(found)
    first, *others = (jax.tree.leaves(train.arrays) for train, _ in pairs)
    for arrays in others:
        if len(arrays) != len(first) or not all(
            a is b or np.array_equal(a, b) for a, b in zip(arrays, first, strict=True)
        ):
            raise ValueError("split must return parts of the same examples for each key; it returned others")
    return join(pairs)
