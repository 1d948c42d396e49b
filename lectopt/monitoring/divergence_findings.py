"""What ceased to be finite, or grew out of all bounds."""

from lectopt.monitoring.findings import GOODFELLOW, Finding
from lectopt.monitoring.loss_curves import LossCurves
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.training.history import History
from lectopt.training.nonfinite import SLOWER, NonFinite, divergence, nonfinite_validation


def diverged(history: History, curves: LossCurves) -> Finding | None:
    """Reports a loss that ceased to be finite, or grew far above its earlier values."""
    if (problem := divergence(history)) is not None:
        return _finding(problem, "8.2.4")
    least, last = curves.train.min(), curves.train[-1]
    # Single batches of a short training say little. A longer one that only settles badly stays below the baseline.
    start = max(curves.initial, 1)
    if last <= (THRESHOLDS.exploded_loss * start if curves.short else max(THRESHOLDS.grown_loss * least, 1)):
        return None
    evidence = f"the training loss ended at {last * curves.unit:.3g}, and had been down to {least * curves.unit:.3g}"
    return _finding(NonFinite("diverged", evidence, SLOWER), "8.2.4")


def validation_not_finite(history: History, curves: LossCurves) -> Finding | None:
    """Reports what is not finite in evaluation alone, by batch statistics or by some validation example."""
    problem = nonfinite_validation(history)
    return None if problem is None else _finding(problem, "11.5")


def _finding(problem: NonFinite, section: str) -> Finding:
    return Finding(*problem, GOODFELLOW + section)
