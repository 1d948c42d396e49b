"""Whether the best value of a hyperparameter stands at an end of the space, where a better one may lie beyond."""

import math
from typing import NamedTuple

import numpy as np

from lectopt.search.result_parts import part_of
from lectopt.search.results import Results
from lectopt.search.settings import Settings
from lectopt.search.space import Choice, Integers, LogUniform, Uniform

EDGE_SHARE = 0.1
"""So much of the range, next to its end, is the edge. (A tenth: the range is looked at in ten parts.)"""
ROUGHNESS_FACTOR = 1.2
"""How many deviations of the noise an edge must be better than the inside, where its roughness is all that tells the
noise. A parabola with its minimum on the last of some even points is 1.22 better."""
STANDARD_ERRORS = 2.0
"""How many standard errors, where there are folds or seeds enough to tell them."""
LEAST_REPEATS = 3
"""So many folds or seeds tell their standard error."""


class Boundary(NamedTuple):
    """An end of the space that the best value stands at."""

    which: str  # "low" or "high"
    low: float
    high: float


def boundary_of(results: Results, name: str) -> Boundary | None:
    """Returns the end of the range that the best value lies at, if it beats all values inside beyond the noise.

    Not reported are ends of two values, one of which is always the best; 0, which switches a hyperparameter off; and
    ends of a `choice`, which names all there is.
    """
    if name in results.settings.missing:  # only the settings that it applies to
        if results.best()[name] is None:
            return None
        results = part_of(results, np.flatnonzero(~results.settings.missing[name]))
    ends = _ends(results.settings, name)
    if ends is None or results.best()[name] == 0:
        return None
    place = _places(results.settings, name, ends)
    at = place[results.best_index]
    if EDGE_SHARE < at < 1 - EDGE_SHARE or not _stands_out(results, place):
        return None
    return Boundary("low" if at <= EDGE_SHARE else "high", *ends)


def _ends(settings: Settings, name: str) -> tuple[float, float] | None:
    """Returns the smallest and largest possible value, or else tried value; None where they mean nothing."""
    column, distribution = settings[name], settings.distribution(name)
    numbers = all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in column)
    if isinstance(distribution, Choice) or not numbers or len(set(column)) < 3:
        return None
    if isinstance(distribution, (Uniform, LogUniform, Integers)):
        return float(distribution.low), float(distribution.high)
    return float(min(column)), float(max(column))


def _places(settings: Settings, name: str, ends: tuple[float, float]) -> np.ndarray:
    """Returns the positions of the values between the ends, from 0 to 1, on the scale they are distributed on."""
    scale = np.log if settings.is_logarithmic(name) else np.asarray
    low, high = map(scale, ends)
    return np.clip((scale(np.asarray(settings[name], float)) - low) / (high - low), 0, 1)


def _stands_out(results: Results, place: np.ndarray) -> bool:
    """Returns whether the best value beats the best of the others by more than noise explains."""
    part = _parts(place)
    ranking = [i for i in results.ranking() if not np.isnan(results.mean()[i])]
    first = {int(part[i]): i for i in reversed(ranking)}  # the best setting of each part
    best, rivals = ranking[0], [i for i in ranking if part[i] != part[ranking[0]]]
    if not rivals:
        return False
    if len(set(results.rungs[ranking])) > 1:  # scores after different epochs: only their order can be compared
        order = [(results.rungs[i], results.mean()[i]) for i in ranking]
        costs = {i: float(order.index(one)) for i, one in zip(ranking, order, strict=True)}
    else:
        costs = {i: (-1 if results.maximizes else 1) * float(results.mean()[i]) for i in ranking}
        shape = results.diverged_at.shape
        if (shape[1] if shape[1] > 1 else shape[2]) >= LEAST_REPEATS:
            return costs[rivals[0]] - costs[best] > STANDARD_ERRORS * results.difference(best, rivals[0]).sem
    profile = np.array([costs[first[key]] for key in sorted(first)])
    bends = np.diff(profile, n=2)  # of independent noise, sqrt(6) times its deviation; of a straight line, 0
    noise = math.sqrt(np.mean(bends**2) / 6) if len(bends) else math.inf
    return costs[rivals[0]] - costs[best] > ROUGHNESS_FACTOR * noise


def _parts(place: np.ndarray) -> np.ndarray:
    """Returns int[n]: which part of the range each setting is in; of few values each is a part."""
    values, which = np.unique(place, return_inverse=True)
    parts = round(1 / EDGE_SHARE)
    return which if len(values) <= parts else np.minimum((place * parts).astype(int), parts - 1)
