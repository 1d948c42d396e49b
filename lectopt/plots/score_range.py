"""The range of scores that is worth showing: bad ones can be worse by magnitudes."""

import numpy as np
from matplotlib.axes import Axes


def score_range(scores: np.ndarray, *, maximizes: bool, room: float = 1.5) -> tuple[float, float]:
    """From the best score to `room` times as far from it as the median is; NaN is left out.

    Where at least half of the scores tie with the best, the others are what there is to see: all are in the range.
    """
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return 0, 1
    low, high, middle = float(scores.min()), float(scores.max()), float(np.median(scores))
    if middle == (high if maximizes else low):
        return low, high
    if maximizes:
        return max(low, high - room * (high - middle)), high
    return low, min(high, low + room * (middle - low))


def set_score_limits(axis: Axes, low: float, high: float) -> None:
    """Shows that range of the y axis, and a twentieth more on either side."""
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    axis.set_ylim(low - margin, high + margin)
