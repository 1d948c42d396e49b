"""Findings: what is wrong, by what evidence, and what to do about it."""

from typing import NamedTuple

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


def list_layers(layers: list[str]) -> str:
    """Layers, each with its number, as evidence."""
    more = f" and {len(layers) - _MAX_LISTED} layers more" if len(layers) > _MAX_LISTED else ""
    return ", ".join(layers[:_MAX_LISTED]) + more


def dead_units_remedy(output_std: float, output_mean: float) -> str:
    """What to do about units that are 0 for every example, by the outputs of the first such layer before activation."""
    if output_std <= THRESHOLDS.constant * abs(output_mean):  # not if they are NaN: nothing is known of them
        return (
            "Draw the initial weights at random (initializers.glorot_uniform): the outputs are the same for every "
            "example, as they are if all weights, or all inputs, are 0."
        )
    return "Start with small positive biases (initializers.relu_bias), smaller weights or a smaller rate."
