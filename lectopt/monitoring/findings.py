"""Findings: what is wrong, by what evidence, and what to do about it."""

from typing import NamedTuple, TypeGuard

import numpy as np

from lectopt.monitoring.thresholds import THRESHOLDS

GOODFELLOW = "Goodfellow et al. 2016, section "
RECIPE = "Karpathy 2019, A Recipe for Training Neural Networks"

_MAX_LISTED = 5
"""Of more places than these the first are named, and the others counted."""


class Finding(NamedTuple):
    """One fault, with its evidence.

    Attributes:
        name: what is wrong, such as "vanishing gradients".
        evidence: the numbers that show it, and where.
        remedy: what to do about it.
        reference: where to read about it.
    """

    name: str
    evidence: str
    remedy: str
    reference: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.remedy} [{self.reference}]"


def is_baseline(baseline: float | None, loss: float) -> TypeGuard[float]:
    """Tells whether `loss` can be compared with a baseline loss: it is known, and more than the rounding of 0."""
    return baseline is not None and baseline > THRESHOLDS.rounded_baseline * abs(np.nan_to_num(loss))


def list_layers(layers: list[str]) -> str:
    """Layers, each with its number, as evidence."""
    more = f" and {len(layers) - _MAX_LISTED} layers more" if len(layers) > _MAX_LISTED else ""
    return ", ".join(layers[:_MAX_LISTED]) + more
