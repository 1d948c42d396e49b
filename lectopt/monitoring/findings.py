"""Findings: what is wrong, by what evidence, and what to do about it."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong."""

    name: str  # such as "vanishing gradients"
    evidence: str  # numbers, and where
    remedy: str
    reference: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.remedy} [{self.reference}]"
