"""Splits of what is ordered in time: trained on the past, validated on what comes after it."""

from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.data.folds import Folds, pack
from lectopt.data.shuffling import check_concrete
from lectopt.data.subsets import as_subset


def time_series_split(
    examples: Any, folds: int, *, gap: int = 0, test_size: int | None = None, max_train_size: int | None = None
) -> Folds:
    """Splits examples in the order of time: each fold trains on what comes before the part that it is validated on.

    The validation parts are the last ones, one after the other, and of equal size. Nothing is drawn at random. The
    folds equal those of scikit-learn's `TimeSeriesSplit`.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`, the oldest example first.
        folds: m, the number of folds, a whole number of at least 2.
        gap: how many examples between a training part and its validation part are left out, at least 0 (the default),
            where examples overlap, such as windows of a series.
        test_size: the size of each validation part, at least 1; None takes n // (m + 1).
        max_train_size: at most so many examples, the latest ones, are trained on, so that the training part rolls; None
            lets it grow, from the first example on.

    Returns:
        A `Folds` of m pairs, over one copy of the data.

    Raises:
        ValueError: if an argument is out of range, or there are too few examples for these sizes.
        TypeError: if one of them is not a whole number, or the indices are being traced.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> folds = lo.time_series_split((jnp.arange(8.0),), 3, gap=1, max_train_size=3)
        >>> [(train.indices.tolist(), valid.indices.tolist()) for train, valid in folds]
        [([0], [2, 3]), ([0, 1, 2], [4, 5]), ([2, 3, 4], [6, 7])]

    Source: L. J. Tashman (2000), "Out-of-sample tests of forecasting accuracy: an analysis and review", International
    Journal of Forecasting 16(4).
    """
    whole = as_subset(examples)
    check_concrete(whole, None)
    n, folds = len(whole), checks.check_count("folds", folds, least=2)
    gap = checks.check_count("gap", gap, least=0)
    size = n // (folds + 1) if test_size is None else checks.check_count("test_size", test_size)
    longest = n if max_train_size is None else checks.check_count("max_train_size", max_train_size)
    first = n - folds * size
    if size == 0 or first - gap < 1:
        raise ValueError(
            f"folds must leave an example to train on before the first validation part; got {folds} of {size} "
            f"examples and a gap of {gap}, of {n} examples"
        )
    starts = range(first, n, size)
    return pack(
        whole,
        [(np.arange(max(0, start - gap - longest), start - gap), np.arange(start, start + size)) for start in starts],
    )
