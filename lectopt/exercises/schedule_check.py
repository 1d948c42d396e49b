"""`check_schedule`: a schedule beside the lecture's, step by step."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.exercises.verdict import Verdict

_TOLERANCE = 1e-5
"""Relative to the largest value: float32's rounding stays below."""


def check_schedule(answer: Callable[[int], Any], exact: Callable[[int], Any], *, steps: int = 200) -> Verdict:
    """Compares a schedule with one that is right, at each step.

    Args:
        answer: the schedule, a function of the step k = 0, 1, 2, ... that returns a number.
        exact: the schedule that it is to be, such as `lo.linear_decay(0.1, transition_steps=100)`.
        steps: how many steps are compared, a whole number of at least 1; take more than the decrease takes.

    Returns:
        A `Verdict`. Of a wrong answer it says at which step it departs and by how much, and the likely mistake.

    Raises:
        TypeError: if answer or exact is not a function.

    Example:
        >>> import lectopt as lo
        >>> decay = lo.linear_decay(1.0, transition_steps=100)
        >>> print(lo.exercises.check_schedule(lambda k: 1.0 - 0.0099 * k, decay))
        Not yet: at step k = 101 it is 0.0001, and by the rule 0.01.
        Likely: It goes on after the last step of the decrease, where it is to stay constant.

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Learning Rate"; I. Goodfellow, Y. Bengio
    and A. Courville (2016), "Deep Learning", MIT Press, section 8.3.1.
    """
    for name, schedule in (("answer", answer), ("exact", exact)):
        if not callable(schedule):
            raise TypeError(f"{name} must be a function of the step; got {schedule!r}")
    checks.check_count("steps", steps)
    right = np.array([float(exact(k)) for k in range(steps + 1)])
    found = np.array([float(answer(k)) for k in range(steps)])

    def agrees(others: np.ndarray) -> bool:
        return bool(np.allclose(found[: len(others)], others, rtol=0, atol=_TOLERANCE * abs(right).max()))

    if agrees(right[:steps]):
        return Verdict(True, f"the same at all {steps} steps")
    k = int(np.argmax(~np.isclose(found, right[:steps], rtol=0, atol=_TOLERANCE * abs(right).max())))
    before = right[0] + (right[1] - right[0]) * np.arange(-1, steps + 1)  # the straight line, without an end
    mistakes = [
        ("It is a step ahead: the first step is k = 0.", right[1:]),
        ("It is a step behind: the first step is k = 0.", np.append(right[0], right[: steps - 1])),
        ("It is a step behind: the first step is k = 0.", np.append(before[0], right[: steps - 1])),
        ("It goes on after the last step of the decrease, where it is to stay constant.", before[1:-1]),
        ("It runs the other way: from the last value to the first.", right[0] + right[-1] - right[:steps]),
        ("It does not change.", np.full(steps, right[0])),
    ]
    hint = next((sentence for sentence, others in mistakes if agrees(others)), "")
    return Verdict(False, f"at step k = {k} it is {found[k]:.3g}, and by the rule {right[k]:.3g}", hint)
