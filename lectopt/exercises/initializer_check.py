"""`check_initializer`: drawn weights beside the lecture's heuristics."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt.exercises.verdict import Verdict

_INPUTS, _UNITS = 400, 100
_TOLERANCE = 0.02
"""Relative: of 40 000 draws the limits are met to 0.01 %, the standard deviation to 0.3 %."""
_FEW_TOLERANCE = 0.1
"""For the few weights of a sparse layer that are not 0: 15 of each unit, 1500 in all, have theirs to 2 %."""


def check_initializer(answer: Callable[..., Any], rule: str, *, nonzeros: int = 15, stddev: float = 1.0) -> Verdict:
    """Compares what an initializer draws with the lecture's heuristic, for 400 inputs and 100 units.

    Args:
        answer: a function `(key, shape)` that returns weights of shape (inputs, units), drawn with a key of JAX.
        rule: "fan_in_uniform", "glorot_uniform" or "sparse".
        nonzeros: of "sparse", how many incoming weights of a unit are not 0, a whole number of at least 1.
        stddev: of "sparse", the standard deviation of those, above 0.

    Returns:
        A `Verdict`. Of a wrong answer it says what its weights are and what they are to be, and the likely mistake.

    Raises:
        ValueError: if there is no such rule, or the answer returns another shape.

    Example:
        >>> import jax, lectopt as lo
        >>> def slide(key, shape):
        ...     limit = 6 / (shape[0] + shape[1]) ** 0.5
        ...     return jax.random.uniform(key, shape, minval=-limit, maxval=limit)
        >>> print(lo.exercises.check_initializer(slide, "glorot_uniform"))
        Not yet: the weights lie within ±0.268, and by the rule within ±0.11.
        Likely: The 6 stands inside of the root: sqrt(6 / (m + n)). (The slide's formula is a slip.)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization - Heuristics"; X.
    Glorot and Y. Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", AISTATS.
    """
    checks.check_choice("rule", rule, ("fan_in_uniform", "glorot_uniform", "sparse"))
    checks.check_count("nonzeros", nonzeros)
    first, second = (np.asarray(answer(jax.random.key(seed), (_INPUTS, _UNITS)), float) for seed in (0, 1))
    if first.shape != (_INPUTS, _UNITS):
        raise ValueError(f"answer must return weights of shape {(_INPUTS, _UNITS)}; got shape {first.shape}")
    if (first == second).all():
        return Verdict(False, "two keys give the same weights", "The key is not used.")
    if rule == "sparse":
        return _check_sparse(first, nonzeros, stddev)
    return _check_uniform(first, {"fan_in_uniform": _INPUTS**-0.5, "glorot_uniform": _GLOROT}[rule])


_GLOROT = (6 / (_INPUTS + _UNITS)) ** 0.5
_LIMITS = [
    (
        "The 6 stands inside of the root: sqrt(6 / (m + n)). (The slide's formula is a slip.)",
        6 / (_INPUTS + _UNITS) ** 0.5,
    ),
    ("This is 1 / sqrt(n), of the outputs; the rule counts the inputs.", _UNITS**-0.5),
    ("This is 1 / m: the root is missing.", 1 / _INPUTS),
    ("This is 6 / (m + n): the root is missing.", 6 / (_INPUTS + _UNITS)),
    ("This is 1 / sqrt(m), heuristic 1.", _INPUTS**-0.5),
    ("This is sqrt(6 / (m + n)), heuristic 2.", _GLOROT),
]
"""[(what is wrong, the limit that it leads to)]"""


def _check_uniform(weights: np.ndarray, limit: float) -> Verdict:
    low, high, sd = weights.min(), weights.max(), weights.std()
    if low >= 0:
        return Verdict(
            False, f"the weights lie between {low:.2g} and {high:.3g}", "They are to lie on both sides of 0."
        )
    found = max(-low, high)
    if not np.isclose(sd, found / 3**0.5, rtol=_TOLERANCE):
        evidence = f"the standard deviation is {sd:.3g}, the largest weight {found:.3g}: no uniform distribution"
        normal = np.isclose(sd, limit / 3**0.5, rtol=_TOLERANCE) or np.isclose(sd, limit, rtol=_TOLERANCE)
        return Verdict(False, evidence, "They are drawn from a normal distribution." if normal else "")
    if np.isclose(found, limit, rtol=_TOLERANCE):
        return Verdict(True, f"uniform, within ±{found:.3g}, with standard deviation {sd:.3g}")
    hint = next((sentence for sentence, wrong in _LIMITS if np.isclose(found, wrong, rtol=_TOLERANCE)), "")
    return Verdict(False, f"the weights lie within ±{found:.3g}, and by the rule within ±{limit:.3g}", hint)


def _check_sparse(weights: np.ndarray, nonzeros: int, stddev: float) -> Verdict:
    by_unit, by_input = ((weights != 0).sum(axis) for axis in (0, 1))
    if not (by_unit == nonzeros).all():
        evidence = f"a unit has {by_unit.min()} to {by_unit.max()} weights that are not 0, and by the rule {nonzeros}"
        hints = {
            "These are the outgoing weights of an input; the rule counts the incoming ones of a unit.": (
                by_input == nonzeros
            ).all(),
            "They are drawn each by itself; the rule takes exactly k of each unit.": by_unit.min()
            < nonzeros
            < by_unit.max(),
        }
        return Verdict(False, evidence, next((sentence for sentence, true in hints.items() if true), ""))
    if (by_input == 0).sum() > _INPUTS / 2:
        return Verdict(
            False, "most inputs have no weight", "All units take the same inputs; draw those of each by itself."
        )
    sd = weights[weights != 0].std()
    if not np.isclose(sd, stddev, rtol=_FEW_TOLERANCE):
        return Verdict(False, f"the standard deviation of those not 0 is {sd:.3g}, and by the rule {stddev:.3g}")
    return Verdict(True, f"{nonzeros} weights of each unit are not 0, with standard deviation {sd:.3g}")
