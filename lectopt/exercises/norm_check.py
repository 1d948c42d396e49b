"""`check_norm`: a normalisation beside the lecture's formula."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.exercises.verdict import Verdict

_TOLERANCE = 1e-3


def check_norm(answer: Callable[[np.ndarray], Any], rule: str, *, epsilon: float = 1e-5) -> Verdict:
    """Compares a normalisation with the lecture's formula, with gamma = 1 and beta = 0.

    Args:
        answer: a function that takes z, float[examples, units], and returns it normalised.
        rule: "batch" for batch normalisation in training, "layer" for layer normalisation.
        epsilon: the small constant that is added to the variance, a number of at least 0.

    Returns:
        A `Verdict`. Of a wrong answer it says where it departs and by how much, and the likely mistake.

    Raises:
        ValueError: if there is no such rule, or the answer returns another shape.

    Example:
        >>> import lectopt as lo
        >>> print(lo.exercises.check_norm(lambda z: (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True), "batch"))
        Not yet: of example 0, unit 0 is -1.56, and by the formula 0.0948.
        Likely: It runs over the units of each example; it is to run over the examples of the batch.

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Normalization"; S. Ioffe and C. Szegedy
    (2015), "Batch Normalization", ICML; J. L. Ba, J. R. Kiros and G. E. Hinton (2016), "Layer Normalization".
    """
    axes = {"batch": 0, "layer": 1}
    checks.check_choice("rule", rule, tuple(axes))
    # Examples and units of different sizes, and a unit that hardly varies, to see where the small constant stands.
    random = np.random.default_rng(0)
    z = random.normal(size=(8, 6)) * np.array([1.0, 2.0, 0.5, 1.0, 3.0, 1.0]) + np.arange(6)
    if rule == "layer":
        z[1] = 2 + 3e-3 * z[1]
    else:
        z[:, 1] = 2 + 3e-3 * z[:, 1]
    found = np.asarray(answer(z.copy()), float)
    if found.shape != z.shape:
        raise ValueError(f"answer must return {z.shape} numbers, as many as it is given; got shape {found.shape}")
    exact = _normalise(z, axes[rule], epsilon)
    if np.allclose(found, exact, rtol=_TOLERANCE, atol=_TOLERANCE):
        return Verdict(True, f"the formula holds for {z.size} numbers, to {abs(found - exact).max():.0e}")
    n, i = np.unravel_index(np.argmax(~np.isclose(found, exact, rtol=_TOLERANCE, atol=_TOLERANCE)), z.shape)
    hints = (name for name, wrong in _mistakes(z, axes[rule], epsilon) if np.allclose(found, wrong, rtol=_TOLERANCE))
    evidence = f"of example {n}, unit {i} is {found[n, i]:.3g}, and by the formula {exact[n, i]:.3g}"
    return Verdict(False, evidence, next(hints, ""))


def _normalise(z: np.ndarray, axis: int | None, epsilon: float, ddof: int = 0) -> np.ndarray:
    return (z - z.mean(axis, keepdims=True)) / np.sqrt(z.var(axis, ddof=ddof, keepdims=True) + epsilon)


def _mistakes(z: np.ndarray, axis: int, epsilon: float) -> list[tuple[str, np.ndarray]]:
    over = ["the examples of the batch", "the units of each example"]
    mean, sd = z.mean(axis, keepdims=True), z.std(axis, keepdims=True)
    wrong_axis = f"It runs over {over[1 - axis]}; it is to run over {over[axis]}."
    return [
        (wrong_axis, _normalise(z, 1 - axis, epsilon)),
        (wrong_axis, _normalise(z, 1 - axis, 0.0)),
        ("Mean and variance are those of all numbers together.", _normalise(z, None, epsilon)),
        ("The variance is divided by N - 1; the formula divides by N (ddof=0).", _normalise(z, axis, epsilon, ddof=1)),
        ("The mean is not subtracted.", z / np.sqrt(sd**2 + epsilon)),
        ("It divides by the variance; the formula divides by its root.", (z - mean) / (sd**2 + epsilon)),
        ("The small constant stands inside of the root; here it is added to the root.", (z - mean) / (sd + epsilon)),
        ("The small constant is missing.", (z - mean) / sd),
    ]
