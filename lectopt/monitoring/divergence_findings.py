"""What ceased to be finite, or grew out of all bounds."""

from lectopt.monitoring.findings import GOODFELLOW, Finding
from lectopt.monitoring.loss_curves import Course
from lectopt.training.history import History
from lectopt.training.nonfinite import BLOWN_UP, SLOWER, NonFinite, divergence, nonfinite_validation

EXPLODED = 5.0
"""The last loss of a short training, over the baseline and the initial one: single batches that are worse say no more.
Of longer ones `BLOWN_UP`, over the least loss, if it is above the baseline too: none that only settles badly gets
there."""


def diverged(history: History, seen: Course) -> Finding | None:
    """The loss ceased to be finite, or grew far above what it had been."""
    if (problem := divergence(history)) is not None:
        return _finding(problem, "8.2.4")
    least, last = seen.train.min(), seen.train[-1]
    if last <= (EXPLODED * max(seen.initial, 1) if seen.short else max(BLOWN_UP * least, 1)):
        return None
    evidence = f"the training loss ended at {last * seen.unit:.3g}, and had been down to {least * seen.unit:.3g}"
    return _finding(NonFinite("diverged", evidence, SLOWER), "8.2.4")


def validation_not_finite(history: History, seen: Course) -> Finding | None:
    """What is not finite in evaluation alone: batch statistics, or examples that only validation has."""
    problem = nonfinite_validation(history)
    return None if problem is None else _finding(problem, "11.5")


def _finding(problem: NonFinite, section: str) -> Finding:
    return Finding(*problem, GOODFELLOW + section)
