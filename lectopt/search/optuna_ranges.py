"""Ranges of hyperparameters as Optuna knows them, and values as its storages keep them."""

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lectopt.search.settings import Settings
from lectopt.search.space import Choice, Distribution, Integers, LogUniform, Static, Uniform

_KINDS = (type(None), bool, int, float, str)
"""What Optuna's storages keep as it is."""


def labels(distribution: Choice) -> list[Any]:
    """Returns the choices as Optuna stores them, in order: the same in every process, and all different."""
    found: list[Any] = []
    for number, value in enumerate(distribution.values):
        label = value if isinstance(value, _KINDS) else getattr(value, "__name__", repr(value))
        if isinstance(label, str) and " at 0x" in label:  # the place in this process's memory
            label = f"{type(value).__name__} {number}"
        found.append(f"{label} ({number})" if label in found else label)
    return found


def optuna_distribution(name: str, distribution: Distribution) -> BaseDistribution:
    """Returns a distribution as one of Optuna's."""
    match distribution:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case Integers(low, high, log=log, step=step) if not (log and step > 1):
            return IntDistribution(low, high, log=log, step=step)
        case Choice():
            return CategoricalDistribution(labels(distribution))
    raise TypeError(
        f"space[{name!r}] must be made by lectopt.space for Optuna, without when, nor log and step together; got "
        f"{distribution if isinstance(distribution, Integers) else type(distribution).__name__}"
    )


def searched_range(settings: Settings, name: str, shown: list[Any]) -> Distribution:
    """Returns the range of a column of numbers, or the different values of another one."""
    there = [value for i, value in enumerate(shown) if not settings.lacks(name, i)]
    if isinstance(settings[name], Static) or not there:
        return Choice(tuple(dict.fromkeys(there or shown)), static=True)
    if settings[name].dtype.kind in "iu":
        return Integers(min(there), max(there), static=False)
    return (LogUniform if settings.is_logarithmic(name) else Uniform)(min(there), max(there))


def stored(distribution: Distribution, value: Any) -> Any:
    """Returns a value as Optuna stores it."""
    if not isinstance(distribution, Choice):
        return value
    return labels(distribution)[list(distribution.values).index(value)]
