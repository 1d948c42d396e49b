"""`check_optimizer`: an optimizer beside the lecture's rule, step by step."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.exercises.rules import MISTAKES, RULES, Rule
from lectopt.exercises.verdict import Verdict

_TOLERANCE = 1e-4
"""A difference relative to the way that a weight covers; float32 stays a hundred times below it."""
_CURVATURES = np.array([4.0, 1.0, 1e-2, 1e-4, 1e-6, 1e-8])
"""Gradients as small as the small constants, or nobody would see where these stand."""
_TARGETS = np.array([1.0, -2.0, 3.0, -1.0, 2.0, -3.0])


def check_optimizer(answer: Any, rule: str, *, steps: int = 20, **hyperparameters: float) -> Verdict:
    """Compares an optimizer with the lecture's rule, step by step, on a bowl of six weights that begin at 0.

    Args:
        answer: the optimizer, with its hyperparameters inside. Either a function `(gradient, w, steps)` that returns
            the weights after each step, where `gradient` is a function of the weights; or a pair of functions
            `(init, update)`, such as an Optax optimizer: `init(w)` returns a state, `update(g, state, w)` returns what
            is to be added to w, and the next state. With Nesterov momentum, the w of a pair is the point at which
            gradients are taken, as it is for `lo.nesterov`.
        rule: "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop_nesterov" or "adam".
        steps: how many steps are compared, a whole number of at least 1.
        **hyperparameters: those of the rule, numbers named as in lectopt's function of the same name (`learning_rate`,
            `momentum`, `decay`, `eps`, `b1`, `b2`). The rate is 0.1 if it is not given, the others are lectopt's
            defaults.

    Returns:
        A `Verdict`. Of a wrong answer it says at which step it departs and by how much, and the likely mistake.

    Raises:
        ValueError: if there is no such rule, or it has no such hyperparameter; or if the answer returns another number
            of steps, or weights of another shape.
        TypeError: if answer is neither a function nor a pair of functions.

    Example:
        >>> import lectopt as lo
        >>> def descend(gradient, w, steps):
        ...     path = []
        ...     for _ in range(steps):
        ...         w = w + 0.1 * gradient(w)
        ...         path.append(w)
        ...     return path
        >>> print(lo.exercises.check_optimizer(descend, "sgd", learning_rate=0.1))
        Not yet: it departs from sgd at step k = 0, where weight 0 is at -0.4, and by the rule at 0.4.
        Likely: The sign is wrong: it goes up the gradient.

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Training Algorithms"; I. Goodfellow, Y.
    Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithms 8.1 to 8.7.
    """
    checks.check_choice("rule", rule, tuple(RULES))
    checks.check_count("steps", steps)
    numbers = {"learning_rate": 0.1} | hyperparameters
    if unknown := numbers.keys() - _names(rule):
        raise ValueError(f"hyperparameters of {rule} are {', '.join(_names(rule))}; got {', '.join(sorted(unknown))}")
    walk, which = _walk(answer)
    found = _as_path(walk(steps), steps)

    def path(other: Rule, **changed: float) -> np.ndarray:
        taken = islice(other(_gradient, np.zeros(6), **(numbers | changed)), steps)
        return np.stack([points[which] for points in taken])

    exact = path(RULES[rule])
    apart = _difference(found, exact)
    if apart.max() <= _TOLERANCE:
        return Verdict(True, f"{steps} steps of {rule}, the largest difference is {apart.max():.0e} of the way covered")
    k, i = np.unravel_index(np.argmax(apart > _TOLERANCE), apart.shape)
    evidence = f"it departs from {rule} at step k = {k}, where weight {i} is at {found[k, i]:.3g}"
    evidence += f", and by the rule at {exact[k, i]:.3g}"
    return Verdict(False, evidence, _hint(found, rule, path, numbers["learning_rate"]))


def _names(rule: str) -> list[str]:
    """Returns the names of a rule's hyperparameters: of its arguments those that are no mistakes."""
    names = {"learning_rate", "momentum", "decay", "b1", "b2", "eps"} - ({"momentum"} if rule == "rmsprop" else set())
    return [name for name in inspect.signature(RULES[rule]).parameters if name in names]


def _gradient(w: Any) -> Any:
    return _CURVATURES * (w - _TARGETS)


def _walk(answer: Any) -> tuple[Callable[[int], Sequence[Any]], int]:
    """Returns what gives an answer's path, and whether it is one of weights (0) or of points with gradients (1)."""
    if callable(answer):
        return partial(answer, _gradient, np.zeros(6)), 0
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(map(callable, answer))):
        raise TypeError(f"answer must be a function, or a pair of functions (init, update); got {answer!r}")
    init, update = answer

    def walk(steps: int) -> list[Any]:
        w = np.zeros(6)
        state, path = init(w), []
        for _ in range(steps):
            step, state = update(_gradient(w), state, w)
            w = w + np.asarray(step, float)
            path.append(w)
        return path

    return walk, 1


def _as_path(path: Any, steps: int) -> np.ndarray:
    found = np.asarray([np.asarray(w, float) for w in path])
    if found.shape != (steps, 6):
        raise ValueError(f"answer must return the 6 weights after each of {steps} steps; got shape {found.shape}")
    return found


def _difference(path: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the difference of each weight at each step, relative to the way that it covers."""
    way = abs(other).max(axis=0)
    return np.nan_to_num(abs(path - other) / np.where(way > 0, way, 1), nan=np.inf)


def _hint(found: np.ndarray, rule: str, path: Callable[..., np.ndarray], rate: float) -> str:
    """Returns the mistake that leads along the path that was found; "" if none of the usual ones does."""
    if not np.isfinite(found).all():
        return "A number is not finite: is something divided by 0? (t begins at 1: 1 - b^0 is 0.)"
    exact = RULES[rule]
    mistakes = [
        ("The sign is wrong: it goes up the gradient.", path(exact, learning_rate=-rate)),
        ("The learning rate is missing.", path(exact, learning_rate=1.0)),
        *((sentence, path(mistaken)) for sentence, mistaken in MISTAKES[rule]),
    ]
    return next((sentence for sentence, wrong in mistakes if _difference(found, wrong).max() <= _TOLERANCE), "")
