"""One held-out part."""

from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.data.groups import group_numbers
from lectopt.data.shuffling import shuffled
from lectopt.data.strata import strata_of
from lectopt.data.subsets import Subset, view

_SHARE = checks.Interval(0, 1, low_open=True, high_open=True)


def holdout(
    examples: Any, fraction: float, *, key: Any, stratify: Any = False, groups: Any = None
) -> tuple[Subset, Subset]:
    """Splits examples at random into the rest and a held-out part.

    Args:
        examples: a tuple of arrays [n, ...] such as (x, y), or a `Subset`.
        fraction: the share that is held out, a number in (0, 1); round(fraction n) examples are.
        key: an int or a `jax.random.key`, which shuffles the examples.
        stratify: True to draw the same share from each class, to within one example; the last array must then hold the
            labels, whole numbers [n], or [n, columns], of which each combination is a class. A whole number q of at
            least 2 draws from q quantiles of the targets, real numbers [n] or [n, 1] in the last array, instead (equal
            targets are in the same one); an array of whole numbers, [n] or [n, columns], from the classes it holds,
            one row for each example. False draws from all.
        groups: [n], one entry per example: those of a group stay together. Groups are drawn while they fit, so that the
            share is met as nearly as they allow and never exceeded. No entry may be missing (NaN, None). None lets
            every example stand for itself.

    Returns:
        (rest, held_out), two Subsets over one copy of the data.

    Raises:
        ValueError: if fraction is outside (0, 1), a part would be empty, there are no labels or finite targets to
            stratify by, stratify does not have one row for each example, or both stratify and groups are given.
        TypeError: if the indices, the key, or what to stratify by are being traced, or stratify is none of the above.

    Example:
        >>> import lectopt as lo
        >>> rest, test = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
        >>> len(rest), len(test)
        (1438, 359)
        >>> rest, test = lo.holdout(lo.datasets.diabetes(), 0.2, key=0, stratify=5)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Validation"; I. Goodfellow, Y. Bengio and
    A. Courville (2016), "Deep Learning", MIT Press, section 5.3.
    """
    checks.check_number("fraction", fraction, _SHARE)
    checks.check_known("fraction", fraction)
    whole, order = shuffled(examples, key)
    held = round(float(fraction) * len(whole))
    if not 0 < held < len(whole):
        raise ValueError(f"fraction must leave examples in both parts; got {fraction} of {len(whole)} examples")
    stratified = not isinstance(stratify, (bool, np.bool_)) or bool(stratify)
    if stratified and groups is not None:
        raise ValueError("holdout takes one of stratify and groups, not both")
    if stratified:
        out = _share_of_each_class(strata_of(whole, stratify).of_examples[order], held)
    elif groups is not None:
        out = _whole_groups(group_numbers(groups, whole, order), held)
        if not out.any():
            raise ValueError(f"groups must fit into the held-out part: each one has more than {held} examples")
    else:
        out = np.arange(len(whole)) < held
    rows = np.asarray(whole.indices)[order]
    return view(whole.arrays, np.sort(rows[~out])), view(whole.arrays, np.sort(rows[out]))


def _share_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Selects `count` of the shuffled labels so that each class has its share, to within one example: bool[n]."""
    _, first, classes, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    shares, remainders = np.divmod(sizes * count, len(labels))
    # The largest remainders get one more; among equal ones, the class that the shuffling put first.
    shares[np.lexsort((first, -remainders))[: count - shares.sum()]] += 1
    rank = np.empty(len(labels), int)
    rank[np.argsort(classes, kind="stable")] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank < shares[classes]


def _whole_groups(groups: np.ndarray, count: int) -> np.ndarray:
    """Selects shuffled examples by whole groups, numbered, while they fit into `count`: bool[n]."""
    out = np.zeros(len(groups), bool)
    for group in range(groups.max() + 1):
        members = groups == group
        if out.sum() + members.sum() <= count:
            out |= members
    return out
