"""What may be given for folds: a number of them, a held-out share, existing folds, or what makes them."""

import warnings
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt.data.folds import Folds, from_indices, join
from lectopt.data.holdouts import holdout
from lectopt.data.k_folds import k_fold, stratified_k_fold
from lectopt.data.labels import has_labels, labels_of
from lectopt.data.subsets import Subset

_SHARE = checks.Interval(0, 1, low_open=True, high_open=True)


def as_folds(examples: Subset, folds: Any, key: Any, name: str = "folds") -> Folds:
    """Converts a number of folds, a held-out share, existing Folds, or what makes them of the examples to Folds."""
    if hasattr(folds, "split") and not isinstance(folds, str):
        if isinstance(folds, type):
            raise TypeError(f"{name} must be a splitter, such as {folds.__name__}(...); got the class itself")
        return from_indices(examples, folds)
    if callable(folds):
        folds, made_by = folds(examples), folds
        if not isinstance(folds, Folds):
            raise TypeError(
                f"{name} must return lectopt.Folds where it is a function of the examples; {made_by!r} returned "
                f"{checks.type_description(folds)}"
            )
    if isinstance(folds, Folds):
        _check_within(folds, examples, name)
        return folds
    if isinstance(folds, (float, np.floating)):
        checks.check_number(name, folds, _SHARE)
        return join([holdout(examples, float(folds), key=key, stratify=_can_stratify(examples, 2, name))])
    if isinstance(folds, bool) or not isinstance(folds, (int, np.integer)):
        raise TypeError(
            f"{name} must be a whole number, a share in (0, 1) or lectopt.Folds, or what makes them: a splitter "
            f"of scikit-learn's, or a function of the examples; got {folds!r}"
        )
    folds = checks.check_count(name, folds, least=2)
    return (stratified_k_fold if _can_stratify(examples, folds, name) else k_fold)(examples, folds, key=key)


def _can_stratify(examples: Subset, least: int, name: str) -> bool:
    """Tells whether the last array holds labels, each often enough; warns where they may be rare classes."""
    if not has_labels(examples):
        return False
    values, sizes = np.unique(labels_of(examples, name), return_counts=True)
    if sizes.min() < least and len(sizes) <= len(examples) ** 0.5:
        warnings.warn(
            f"{name} are not stratified: the label {values[sizes.argmin()]} comes {sizes.min()} time(s), and "
            f"stratifying takes {least}. If the targets are no classes, give {name}=lectopt.k_fold(...) to say so",
            stacklevel=4,
        )
    return bool(sizes.min() >= least)


def _check_within(folds: Folds, examples: Subset, name: str) -> None:
    """Raises if folds hold an example that is not among the examples: one of a test set, perhaps."""
    arrays, others = jax.tree.leaves(folds.train.arrays), jax.tree.leaves(examples.arrays)
    same = len(arrays) == len(others) and all(
        a is b or np.array_equal(a, b) for a, b in zip(arrays, others, strict=True)
    )
    known = np.asarray(examples.indices)[: len(examples)]
    if not same or not all(np.isin(part.indices, known).all() for part in (folds.train, folds.valid)):
        raise ValueError(f"{name} must be over the examples that are given; they hold others, such as a test set's")
