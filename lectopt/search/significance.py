"""Whether settings differ by more than chance: tests of paired differences, and their correction for many of them."""

from typing import Any, NamedTuple

import numpy as np
import scipy.special

from lectopt.data.folds import Folds


class Difference(NamedTuple):
    """A metric of one setting minus that of another, paired by fold: what `Results.difference` returns.

    Attributes:
        values: float32[folds]: the difference on each fold, averaged over seeds; float32[seeds] if there is a single
            fold.
        mean: the mean of `values`.
        sem: the standard error of the mean; NaN for a single value. It is somewhat too small, since the training parts
            of the folds overlap.
        p_value: how likely a mean as far from 0 as this one is where the settings do not differ: two-sided, by the t
            test that Nadeau and Bengio (2003), "Inference for the generalization error", Machine Learning 52, corrected
            for overlapping training parts; over the seeds of a single fold, by the paired t test. NaN for a single
            value, and where results come from an earlier version, which did not keep the sizes of the parts.
    """

    values: np.ndarray
    mean: float
    sem: float
    p_value: float = np.nan

    @classmethod
    def of(cls, apart: np.ndarray, ratio: float) -> "Difference":
        """Summarizes paired differences.

        Args:
            apart: float32[folds], the differences.
            ratio: how many examples are validated on for each one that is trained on.

        Returns:
            The `Difference`.
        """
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.nan
        return cls(apart, float(apart.mean()), float(error), corrected_t_test(apart, ratio))


def valid_per_train(folds: Folds | None) -> float:
    """Returns how many examples are validated on for each one that is trained on; 0 without folds."""
    if folds is None:
        return 0.0
    valid, train = (np.asarray(part.size, np.float64).mean() for part in (folds.valid, folds.train))
    return float(valid / train)


def corrected_t_test(apart: Any, ratio: float) -> float:
    r"""Computes the two-sided p value of paired differences on J folds, by the corrected resampled t test.

    .. math:: t = \bar d / \sqrt{(1/J + \mathrm{ratio}) \operatorname{var} d}

    with J - 1 degrees of freedom; a ratio of 0 makes it the ordinary paired t test.
    """
    apart = np.asarray(apart, np.float64)
    if len(apart) < 2 or not np.isfinite(apart).all() or np.isnan(ratio):
        return float("nan")
    mean, error = apart.mean(), np.sqrt((1 / len(apart) + ratio) * apart.var(ddof=1))
    if mean == 0:  # also where all are alike
        return 1.0
    return float(2 * scipy.special.stdtr(len(apart) - 1, -abs(mean) / error)) if error > 0 else 0.0


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p values of several tests, so that a false rejection among all is as likely as said; NaN stays."""
    corrected, known = np.full(len(p_values), np.nan), np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected
