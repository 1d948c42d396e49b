"""`check_folds`: how a student's function divides examples for cross-validation."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.exercises.verdict import Verdict


def check_folds(
    answer: Callable[[int, int, np.random.Generator], Iterable[Any]], *, n: int = 23, m: int = 5
) -> Verdict:
    """Checks that a function divides examples as m-fold cross-validation does.

    Args:
        answer: a function of n, m and a NumPy random generator that returns m pairs of indices: of the examples to
            learn from, and of those that are held out.
        n: how many examples, a whole number of at least m.
        m: how many folds, a whole number of at least 2.

    Returns:
        A `Verdict`. Of a wrong answer it says which law of the folds does not hold, and where.

    Raises:
        ValueError: if n or m is too small, or the answer does not return m pairs of indices from 0 to n - 1.
        TypeError: if answer is not a function, or n or m is not a whole number.

    Example:
        >>> import lectopt as lo
        >>> import numpy as np
        >>> def answer(n, m, random):
        ...     order = random.permutation(n)
        ...     return [(order, part) for part in np.split(order, range(4, 4 * m, 4))]
        >>> print(lo.exercises.check_folds(answer))
        Not yet: of fold 0, 4 examples that are held out are learned from as well.

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Cross-validation".
    """
    if not callable(answer):
        raise TypeError(f"answer must be a function of n, m and a random generator; got {answer!r}")
    checks.check_count("m", m, 2)
    checks.check_count("n", n, m)
    folds = [tuple(np.asarray(part) for part in pair) for pair in answer(n, m, np.random.default_rng(0))]
    indices = [part for pair in folds for part in pair]
    whole = all(part.ndim == 1 and part.size and np.issubdtype(part.dtype, np.integer) for part in indices)
    if [len(pair) for pair in folds] != [2] * m or not whole or not {*np.concatenate(indices)} <= {*range(n)}:
        raise ValueError(f"answer must return {m} pairs of indices from 0 to {n - 1}; got {folds}")
    found = next(_broken_laws(folds, n), "")
    return Verdict(not found, found or f"each of {n} examples is held out once, by chance, and never learned from then")


def _broken_laws(folds: list[tuple[np.ndarray, ...]], n: int) -> Iterator[str]:
    for i, (train, valid) in enumerate(folds):
        if both := len(np.intersect1d(train, valid)):
            yield f"of fold {i}, {both} examples that are held out are learned from as well"
        if len(np.unique(train)) + len(np.unique(valid)) < n:
            yield f"of fold {i}, some examples are neither held out nor learned from"
        if len(np.unique(train)) < len(train):
            yield f"of fold {i}, some examples are learned from twice"
    held_out = np.bincount(np.concatenate([valid for _, valid in folds]), minlength=n)
    if (held_out != 1).any():
        yield f"example {np.argmax(held_out != 1)} is held out {held_out[held_out != 1][0]} times, and is to be once"
    sizes = [len(valid) for _, valid in folds]
    if max(sizes) - min(sizes) > 1:
        yield f"{max(sizes)} examples are held out in one fold and {min(sizes)} in another; sizes differ by one at most"
    if all((np.diff(np.sort(valid)) == 1).all() for _, valid in folds):
        yield "neighbours are held out together; examples that come sorted are to be drawn at random"
