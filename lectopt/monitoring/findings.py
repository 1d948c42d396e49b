"""Findings: what is wrong, by what evidence, and what to do about it."""

from typing import NamedTuple

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


def list_layers(layers: list[str]) -> str:
    """Layers, each with its number, as evidence."""
    more = f" and {len(layers) - _MAX_LISTED} layers more" if len(layers) > _MAX_LISTED else ""
    return ", ".join(layers[:_MAX_LISTED]) + more
