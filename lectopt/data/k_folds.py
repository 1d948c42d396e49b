"""Splits into parts that are validated on in turn."""

from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.data.folds import Folds, pack
from lectopt.data.groups import consecutive_numbers, group_numbers
from lectopt.data.shuffling import check_concrete, shuffled
from lectopt.data.strata import strata_of
from lectopt.data.subsets import Subset, as_subset


def k_fold(examples: Any, folds: int, *, key: Any, groups: Any = None) -> Folds:
    """Splits examples at random into parts of equal size (to within one), each of which is validated on in turn.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`.
        folds: m, the number of parts, a whole number from 2 to the number of examples (or of groups).
        key: an int or a `jax.random.key`, which shuffles the examples.
        groups: [n], one entry per example: those of a group stay together, and sizes are as equal as that allows. No
            entry may be missing (NaN, None). None lets every example stand for itself.

    Returns:
        A `Folds` of m pairs, over one copy of the data.

    Raises:
        ValueError: if folds is below 2 or above the number of examples or groups.
        TypeError: if folds is not a whole number, or the indices or the key are being traced.

    Example:
        >>> import lectopt as lo
        >>> folds = lo.k_fold(lo.datasets.iris(), 4, key=0)
        >>> [len(valid) for train, valid in folds]
        [38, 38, 37, 37]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Cross-validation"; M. Stone (1974),
    "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal Statistical Society B
    36(2); I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 5.1.
    """
    whole, order = shuffled(examples, key)
    folds = _fold_count(folds, len(whole), "examples")
    parts = np.empty(len(whole), int)
    if groups is None:
        parts[order] = np.arange(len(whole)) % folds
    else:
        members = group_numbers(groups, whole, order)
        parts[order] = _deal_groups(np.zeros(len(whole), int), members, _fold_count(folds, members.max() + 1, "groups"))
    return _validate_on_each(whole, parts, folds)


def stratified_k_fold(examples: Any, folds: int, *, key: Any, groups: Any = None, stratify: Any = True) -> Folds:
    """Splits examples at random into parts of equal size, in each of which every class has its share.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`; the last array holds the labels, whole
            numbers [n], or [n, columns], of which each combination is a class.
        folds: m, the number of parts, a whole number from 2 to the size of the smallest class (or the number of
            groups).
        key: an int or a `jax.random.key`, which shuffles the examples.
        groups: [n], one entry per example: those of a group stay together, and shares are as equal as a greedy choice,
            the most uneven groups first, makes them. No entry may be missing (NaN, None). None lets every example stand
            for itself.
        stratify: True takes the labels for classes; a whole number q of at least 2 takes q quantiles of the targets,
            real numbers [n] or [n, 1] in the last array, instead (equal targets are in the same one); an array of whole
            numbers, [n] or [n, columns], takes the classes it holds, one row for each example.

    Returns:
        A `Folds` of m pairs, over one copy of the data. Without groups, sizes differ by at most one, and so do the
        counts of a class.

    Raises:
        ValueError: if folds is below 2 or above the number of members of a class (the message names it) or of groups,
            there are no labels or finite targets, or stratify is False or does not have one row for each example.
        TypeError: if folds is not a whole number, stratify is none of the above, or the examples, the key, or what to
            stratify by are being traced.

    Example:
        >>> import lectopt as lo, numpy as np
        >>> folds = lo.stratified_k_fold(lo.datasets.iris(), 4, key=0)
        >>> [np.bincount(valid.examples()[1]).tolist() for train, valid in folds]
        [[13, 13, 12], [13, 13, 12], [12, 12, 13], [12, 12, 13]]
        >>> lo.stratified_k_fold(lo.datasets.diabetes(), 4, key=0, stratify=10)
        Folds(4 x (331 to 332 training, 110 to 111 validation examples))

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Cross-validation" (Stratified CV); R.
    Kohavi (1995), "A study of cross-validation and bootstrap for accuracy estimation and model selection", IJCAI.
    """
    whole, order = shuffled(examples, key)
    folds = _fold_count(folds, len(whole), "examples")
    if isinstance(stratify, (bool, np.bool_)) and not stratify:
        raise ValueError("stratify must not be False: take lectopt.k_fold")
    strata = strata_of(whole, stratify)
    classes, fewest = strata.of_examples, strata.sizes.min()
    if fewest < folds:
        raise ValueError(
            f"folds must be at most the number of members of each {strata.noun}; got {folds}, and {strata.rarest} has "
            f"{fewest}"
        )
    parts = np.empty(len(whole), int)
    if groups is None:
        # Dealt out class after class without a break: both the classes and the parts come out even, to within one.
        dealt = order[np.argsort(consecutive_numbers(classes[order].tolist()), kind="stable")]
        parts[dealt] = np.arange(len(whole)) % folds
    else:
        members = group_numbers(groups, whole, order)
        parts[order] = _deal_groups(classes[order], members, _fold_count(folds, members.max() + 1, "groups"))
    return _validate_on_each(whole, parts, folds)


def leave_one_out(examples: Any) -> Folds:
    """Makes one fold for each example, which is validated on alone.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`, of at least 2 examples.

    Returns:
        A `Folds` of n pairs, in the order of the examples.

    Raises:
        ValueError: if there are fewer than 2 examples.
        TypeError: if the indices are being traced.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> [valid.indices.tolist() for train, valid in lo.leave_one_out((jnp.ones((3, 2)), jnp.ones(3)))]
        [[0], [1], [2]]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Cross-validation" (Leave-one-out CV); M.
    Stone (1974), "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal Statistical
    Society B 36(2).
    """
    whole = as_subset(examples)
    check_concrete(whole, None)
    if len(whole) < 2:
        raise ValueError("examples must be at least 2, to leave one out; got 1")
    return _validate_on_each(whole, np.arange(len(whole)), len(whole))


def leave_one_group_out(examples: Any, *, groups: Any) -> Folds:
    """Makes one fold for each group of examples, which is validated on alone.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`.
        groups: [n], one entry per example, of at least 2 different ones: numbers, strings, or others that can be
            sorted. No entry may be missing (NaN, None).

    Returns:
        A `Folds` with a pair for each group, in the order of the sorted groups, equal to those of scikit-learn's
        `LeaveOneGroupOut`.

    Raises:
        ValueError: if there are fewer than 2 groups, not one for each example, or one is missing.
        TypeError: if the groups cannot be sorted, or they or the indices are being traced.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> folds = lo.leave_one_group_out((jnp.arange(5.0),), groups=["b", "a", "b", "c", "a"])
        >>> [valid.indices.tolist() for train, valid in folds]
        [[1, 4], [0, 2], [3]]

    Source: M. Stone (1974), "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal
    Statistical Society B 36(2).
    """
    whole = as_subset(examples)
    check_concrete(whole, None)
    members = group_numbers(groups, whole, np.arange(len(whole)))
    if members.max() < 1:
        raise ValueError("groups must be at least 2, to leave one out; got 1")
    _, first = np.unique(members, return_index=True)
    try:
        ranks = np.unique(np.asarray(groups, object)[first], return_inverse=True)[1]
    except TypeError as error:
        raise TypeError(f"groups must be numbers, strings, or others that can be sorted: {error}") from error
    return _validate_on_each(whole, ranks[members], len(first))


def _fold_count(folds: Any, most: int, of: str) -> int:
    folds = checks.check_count("folds", folds, least=2)
    if folds > most:
        raise ValueError(f"folds must be at most the number of {of}; got {folds} of {most} {of}")
    return folds


def _deal_groups(classes: np.ndarray, members: np.ndarray, folds: int) -> np.ndarray:
    """Puts each group into the part where the shares of the classes stay most even, uneven and large groups first."""
    counts = np.zeros((members.max() + 1, classes.max() + 1))  # [groups, classes]
    np.add.at(counts, (members, classes), 1)
    totals = counts.sum(axis=0)
    filled, chosen = np.zeros((folds, len(totals))), np.empty(len(counts), int)
    for done, group in enumerate(np.lexsort((-counts.sum(axis=1), -counts.std(axis=1)))):
        empty = filled.sum(axis=1) == 0
        open_to_it = empty if len(counts) - done == empty.sum() else np.full(folds, True)  # no part may stay empty
        after = filled + counts[group] * np.eye(folds)[:, :, None]  # [part it is put into, parts, classes]
        uneven = (after / totals).std(axis=1).sum(axis=1).round(12)
        # Of equals, the part with the fewest examples.
        chosen[group] = np.lexsort((filled.sum(axis=1), uneven, ~open_to_it))[0]
        filled[chosen[group]] += counts[group]
    return chosen[members]


def _validate_on_each(whole: Subset, parts: np.ndarray, folds: int) -> Folds:
    return pack(whole, [(np.flatnonzero(parts != i), np.flatnonzero(parts == i)) for i in range(folds)])
