"""The lecture's optimizers as plain NumPy loops, and the usual mistakes in them.

A rule yields (w, point) after each step: the weights, and the point where the next gradient is taken. What students
get wrong is an argument of its own (`divisor`, `corrected`, `ahead` ...), whose default is the lecture's.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np

Gradient: TypeAlias = Callable[[np.ndarray], np.ndarray]
Path: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray]]
Rule: TypeAlias = Callable[..., Path]


def _outside(r: np.ndarray, eps: float) -> np.ndarray:
    return np.sqrt(r) + eps


def _inside(r: np.ndarray, eps: float) -> np.ndarray:
    return np.sqrt(r + eps)


def _sgd(gradient: Gradient, w: np.ndarray, *, learning_rate: float) -> Path:
    while True:
        w = w - learning_rate * gradient(w)
        yield w, w


def _momentum(
    gradient: Gradient, w: np.ndarray, *, learning_rate: float, momentum: float = 0.9, ahead: bool = False
) -> Path:
    v = np.zeros_like(w)
    while True:
        v = momentum * v - learning_rate * gradient(w + momentum * v if ahead else w)
        w = w + v
        yield w, w + momentum * v if ahead else w


def _adagrad(
    gradient: Gradient,
    w: np.ndarray,
    *,
    learning_rate: float,
    eps: float = 1e-7,
    divisor: Any = _outside,
    kept: int = 1,
) -> Path:
    r = np.zeros_like(w)
    while True:
        g = gradient(w)
        r = kept * r + g**2
        w = w - learning_rate / divisor(r, eps) * g
        yield w, w


def _rmsprop(
    gradient: Gradient,
    w: np.ndarray,
    *,
    learning_rate: float,
    decay: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-6,
    divisor: Any = _inside,
    share: float | None = None,
    ahead: bool = True,
) -> Path:
    v, r = np.zeros_like(w), np.zeros_like(w)
    while True:
        g = gradient(w + momentum * v if ahead else w)
        r = decay * r + (1 - decay if share is None else share) * g**2
        v = momentum * v - learning_rate / divisor(r, eps) * g
        w = w + v
        yield w, w + momentum * v if ahead else w


def _adam(
    gradient: Gradient,
    w: np.ndarray,
    *,
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    divisor: Any = _outside,
    corrected: tuple[bool, bool] = (True, True),
) -> Path:
    s, r, t = np.zeros_like(w), np.zeros_like(w), 0
    while True:
        g, t = gradient(w), t + 1
        s, r = b1 * s + (1 - b1) * g, b2 * r + (1 - b2) * g**2
        s_hat, r_hat = (
            x / (1 - b**t) if correct else x for x, b, correct in zip((s, r), (b1, b2), corrected, strict=True)
        )
        w = w - learning_rate * s_hat / divisor(r_hat, eps)
        yield w, w


_rmsprop_nesterov = partial(_rmsprop, momentum=0.9)

RULES: dict[str, Rule] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": partial(_momentum, ahead=True),
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "rmsprop_nesterov": _rmsprop_nesterov,
    "adam": _adam,
}

_OUTSIDE = "The small constant stands inside of the root; here it is added to the root."
_INSIDE = "The small constant is added to the root; here it stands inside of the root."
_FORGOTTEN_SHARE = "The new square is added without its share, 1 - rho."
_BEHIND = "The gradient is taken at w; it is to be taken where the velocity leads, at w + alpha v."

MISTAKES: dict[str, list[tuple[str, Rule]]] = {
    "sgd": [],
    "momentum": [("The gradient is taken at w + alpha v, which is Nesterov momentum.", partial(_momentum, ahead=True))],
    "nesterov": [(_BEHIND, _momentum)],
    "adagrad": [
        (_INSIDE, partial(_adagrad, divisor=_inside)),
        ("r holds the last square alone; it is to be the sum of all squares so far.", partial(_adagrad, kept=0)),
    ],
    "rmsprop": [(_OUTSIDE, partial(_rmsprop, divisor=_outside)), (_FORGOTTEN_SHARE, partial(_rmsprop, share=1.0))],
    "rmsprop_nesterov": [
        (_BEHIND, partial(_rmsprop_nesterov, ahead=False)),
        (_OUTSIDE, partial(_rmsprop_nesterov, divisor=_outside)),
        (_FORGOTTEN_SHARE, partial(_rmsprop_nesterov, share=1.0)),
    ],
    "adam": [
        (
            "Both bias corrections are missing: s / (1 - b1^t), r / (1 - b2^t).",
            partial(_adam, corrected=(False, False)),
        ),
        ("The bias correction of s is missing: s / (1 - b1^t).", partial(_adam, corrected=(False, True))),
        ("The bias correction of r is missing: r / (1 - b2^t).", partial(_adam, corrected=(True, False))),
        (_INSIDE, partial(_adam, divisor=_inside)),
    ],
}
"""{rule: [(what is wrong, the rule with this mistake)]}"""
