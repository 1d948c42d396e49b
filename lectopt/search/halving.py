"""Successive halving: all settings train a little, the better part of them goes on."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal import checks


class Halving(NamedTuple):
    """When a search drops settings: the argument `halving=` of `lo.sweep`, `lo.cross_validate` and `lo.select`.

    With E epochs in all and a factor q, rungs end after ..., :math:`E/q^2`, :math:`E/q` and E epochs, the first one not
    before `least`. At the end of each rung but the last, the best 1/q of its settings, by their mean over all folds and
    seeds, continue from where they are; the others are dropped for good. A setting that diverged has no score and does
    not continue, so that a rung may hold fewer settings than planned.

    The trial is then called with two more keyword arguments, `trial(..., epochs=, start=)`. It must pass both on to
    `lo.train` and return the `Run`.

    Args:
        epochs: number of epochs of the settings that are never dropped, at least 1.
        factor: q, above 1, by default 3: of so many settings one continues.
        least: the smallest number of epochs after which settings may be dropped, at least 1 (the default).

    Example:
        >>> import lectopt as lo
        >>> lo.Halving(epochs=20, factor=3).rungs(64)
        [(2, 64), (7, 22), (20, 8)]

    Source: Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization",
    AISTATS (successive halving).
    """

    epochs: int
    factor: float = 3
    least: int = 1

    def rungs(self, settings: int) -> list[tuple[int, int]]:
        r"""Returns the rungs of a search over so many settings.

        With k + 1 rungs, :math:`k = \lfloor \log_q(E / \mathrm{least}) \rfloor`, rung i ends after :math:`E / q^{k-i}`
        epochs, rounded, and :math:`\lceil n / q^i \rceil` of n settings take part in it.

        Args:
            settings: n, the number of settings at the beginning.

        Returns:
            One pair (epochs, settings) for each rung: the number of epochs a setting has been trained for at its end,
            and how many settings take part in it if none diverges.

        Raises:
            ValueError: if `settings` is below 1.
            TypeError: if it is not a whole number.
        """
        checks.check_count("settings", settings)
        count = max(math.floor(math.log(self.epochs / self.least) / math.log(self.factor) + 1e-9), 0)
        return [
            (round(self.epochs / self.factor ** (count - i)), math.ceil(settings / self.factor**i - 1e-9))
            for i in range(count + 1)
        ]

    def checked(self) -> "Halving":
        """Returns this object itself after checking its fields.

        Returns:
            The same `Halving`.

        Raises:
            ValueError: if `epochs` or `least` is below 1, `factor` is not above 1, or `least` exceeds `epochs`.
            TypeError: if `epochs` or `least` is not a whole number, or `factor` is not a number.
        """
        epochs = checks.check_count("epochs", self.epochs)
        checks.check_number("factor", self.factor, checks.Interval(1, math.inf, low_open=True, high_open=True))
        if checks.check_count("least", self.least) > epochs:
            raise ValueError(f"least must be at most epochs; got least={self.least}, epochs={epochs}")
        return self


class RungEnd(NamedTuple):
    """The end of a rung, after which some settings go on."""

    epochs: int  # for which they have been trained
    settings: int  # that are to go on


GoingOn = Callable[[Any, np.ndarray, RungEnd], np.ndarray]
"""What decides that: from the results so far and bool[n], which settings were still training, to which go on."""


def best_on_rung(results: Any, alive: np.ndarray, end: RungEnd) -> np.ndarray:
    """Returns bool[n]: the best on the last rung, fewer if others have no score; dropped ones stay dropped."""
    scored = alive & ~np.isnan(results.mean())
    order = results.ranking()
    return np.isin(np.arange(len(alive)), order[scored[order]][: end.settings])


class FinishedRung(NamedTuple):
    """The last rung that a group of settings has finished; both None before the first."""

    places: Any  # int[], which rows of the group were in it
    kept: Any  # what their lanes kept, arrays [places, pairs, ...]

    def at(self, places: Any) -> "FinishedRung":
        """Returns the same for some of the rows."""
        if self.places is None:
            return self
        return FinishedRung(places, jax.tree.map(lambda leaf: leaf[np.searchsorted(self.places, places)], self.kept))
