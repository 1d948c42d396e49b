"""`Verdict`: what a check says of an answer."""

import dataclasses


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an answer is right, and where it is not.

    Print it, or let a notebook show it.

    Attributes:
        right: whether the answer agrees with the rule.
        evidence: the numbers that show it: of a wrong answer where it departs from the rule, and by how much.
        hint: the likely mistake; "" if the answer is right, or wrong in a way that is not one of the usual ones.

    Example:
        >>> import lectopt as lo
        >>> print(lo.exercises.Verdict(False, "at step k = 0 it goes up, and by the rule down", "The sign is wrong."))
        Not yet: at step k = 0 it goes up, and by the rule down.
        Likely: The sign is wrong.
    """

    right: bool
    evidence: str
    hint: str = ""

    def __str__(self) -> str:
        likely = f"\nLikely: {self.hint}" if self.hint else ""
        return f"{'Right' if self.right else 'Not yet'}: {self.evidence}.{likely}"

    __repr__ = __str__
