"""What values a hyperparameter may take, and how it is distributed."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lectopt._internal import checks


class Static(list):
    """A column of Python values: a search compiles one program for each, instead of tracing them.

    `choice(values, static=True)` gives such columns; in settings of your own, write
    `{"width": lo.space.Static([32, 64])}`.
    """


class Distribution(Protocol):
    """What `grid` and `sample` ask of each entry of a space; columns are arrays or Static."""

    def spaced(self, points: int) -> Any:
        """At most so many different values in order, spaced as they are distributed; of choices, all."""

    def drawn(self, uniforms: np.ndarray) -> Any:
        """The values at these quantiles, float64[n] in [0, 1)."""

    @property
    def count(self) -> int | None:
        """How many different values there are; None where they are real numbers."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Real numbers, all alike; see `uniform`."""

    low: float
    high: float
    count = None

    def spaced(self, points: int) -> Any:
        return np.linspace(self.low, self.high, points)

    def drawn(self, uniforms: np.ndarray) -> Any:
        return self.low + (self.high - self.low) * uniforms


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Real numbers, all magnitudes alike; see `log_uniform`."""

    low: float
    high: float
    count = None

    def spaced(self, points: int) -> Any:
        return np.geomspace(self.low, self.high, points)

    def drawn(self, uniforms: np.ndarray) -> Any:
        return self.low * np.exp(np.log(self.high / self.low) * uniforms)


@dataclasses.dataclass(frozen=True)
class Integers:
    """Whole numbers, all alike; see `integers`."""

    low: int
    high: int
    static: bool

    @property
    def count(self) -> int:
        return self.high - self.low + 1

    def spaced(self, points: int) -> Any:
        return self._column(np.unique(np.linspace(self.low, self.high, min(points, self.count)).round()))

    def drawn(self, uniforms: np.ndarray) -> Any:
        return self._column(self.low + np.floor(uniforms * self.count))

    def _column(self, values: np.ndarray) -> Any:
        return Static(values.astype(int).tolist()) if self.static else values.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values; see `choice`."""

    values: tuple[Any, ...]
    static: bool

    @property
    def count(self) -> int:
        return len(self.values)

    def spaced(self, points: int) -> Any:
        return self._column(range(self.count))

    def drawn(self, uniforms: np.ndarray) -> Any:
        return self._column((uniforms * self.count).astype(int))

    def _column(self, places: Iterable[int]) -> Any:
        return Static(self.values[i] for i in places) if self.static else np.asarray(self.values)[list(places)]


@runtime_checkable
class _Scipy(Protocol):
    def ppf(self, q: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """One of scipy's distributions with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`."""

    distribution: _Scipy
    count = None

    def spaced(self, points: int) -> Any:
        # In the middle of equally likely slices, since the ends may be infinite.
        return np.unique(self.drawn((np.arange(points) + 0.5) / points))

    def drawn(self, uniforms: np.ndarray) -> Any:
        # A draw of exactly 0 has probability 2^-53, and may be minus infinity.
        values = np.asarray(self.distribution.ppf(np.maximum(uniforms, np.finfo(float).tiny)))
        return values.astype(int) if hasattr(self.distribution, "pmf") else values


def uniform(low: float, high: float) -> Uniform:
    """Real numbers in [low, high), each as likely as another.

    Raises:
        ValueError: unless low < high, both finite.

    Example:
        >>> import lectopt as lo
        >>> print(lo.grid({"momentum": lo.space.uniform(0.0, 0.9)}, points=4)["momentum"])
        [0.  0.3 0.6 0.9]

    Source: the lecture, "Random search".
    """
    return Uniform(*_ends(low, high, _REAL))


def log_uniform(low: float, high: float) -> LogUniform:
    """Positive numbers in [low, high) whose logarithm is uniform: each magnitude as likely as another.

    Raises:
        ValueError: unless 0 < low < high, both finite.

    Example:
        >>> import lectopt as lo
        >>> print(lo.grid({"learning_rate": lo.space.log_uniform(0.001, 1.0)}, points=4)["learning_rate"])
        [0.001 0.01  0.1   1.   ]

    Source: the lecture, "Random search".
    """
    return LogUniform(*_ends(low, high, checks.POSITIVE))


def integers(low: int, high: int, *, static: bool = False) -> Integers:
    """Whole numbers from low to high, both included, each as likely as another.

    Args:
        low: the smallest.
        high: the largest.
        static: keep them Python numbers, for what shapes depend on (widths, batch sizes); one program for each.

    Raises:
        ValueError: unless low < high.
        TypeError: unless they are whole numbers.

    Example:
        >>> import lectopt as lo
        >>> lo.grid({"width": lo.space.integers(16, 64, static=True)}, points=3)["width"]
        [16, 40, 64]
    """
    low, high = (checks.check_count(name, value, least=-(2**31)) for name, value in (("low", low), ("high", high)))
    if not low < high < 2**31:
        raise ValueError(f"low must be below high, and high below 2**31; got low={low}, high={high}")
    return Integers(low, high, checks.check_flag("static", static))


def choice(values: Sequence[Any], static: bool = False) -> Choice:
    """One of these values, each as likely as another.

    Args:
        values: different ones. Numbers are traced unless static; anything else (strings, flags, functions, tuples)
            stays the Python value that it is.
        static: keep numbers Python numbers, for what shapes depend on (widths, batch sizes); one program for each.

    Raises:
        ValueError: if there are none, or two are equal.
        TypeError: if one cannot be hashed.

    Example:
        >>> import lectopt as lo
        >>> width = lo.space.choice([8, 16], static=True)
        >>> settings = lo.grid({"momentum": lo.space.choice([0.0, 0.9]), "width": width})
        >>> print(settings["momentum"], settings["width"])
        [0.  0.  0.9 0.9] [8, 16, 8, 16]
    """
    if not isinstance(values, Iterable):
        raise TypeError(f"values must be a list of values to choose from; got {values!r}")
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
    if not values:
        raise ValueError("values must hold at least 1 value to choose; got none")
    try:
        distinct = len({(type(value) is bool, value) for value in values})
    except TypeError as error:
        raise TypeError(f"values must be hashable; got {values}") from error
    if distinct < len(values):
        raise ValueError(f"values must differ from each other; got {list(values)}")
    numbers = all(_is_number(value) for value in values)
    if numbers and not all(np.isfinite(value) for value in values):
        raise ValueError(f"values must be finite; got {list(values)}")
    return Choice(values, static=checks.check_flag("static", static) or not numbers)


def as_distribution(name: str, entry: Any) -> Distribution:
    """An entry of a space, checked."""
    if not isinstance(name, str):
        raise TypeError(f"space must have strings for names; got {name!r}")
    if isinstance(entry, (Uniform, LogUniform, Integers, Choice)):
        return entry
    if isinstance(entry, _Scipy) and hasattr(entry, "rvs"):
        try:
            middle = np.asarray(entry.ppf(0.5))
        except TypeError as error:
            raise TypeError(
                f"space[{name!r}] must be a distribution with its parameters; scipy says {error}"
            ) from error
        if middle.shape or not np.isfinite(middle):
            raise ValueError(f"space[{name!r}] must be a distribution of finite numbers; its median is {middle}")
        return Quantiles(entry)
    raise TypeError(
        f"space[{name!r}] must be made by lectopt.space (uniform, log_uniform, integers, choice) or be one of scipy's "
        f"distributions with its parameters; got {type(entry).__name__}"
    )


_REAL = checks.Interval(-np.inf, np.inf, low_open=True, high_open=True)


def _ends(low: Any, high: Any, allowed: checks.Interval) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        checks.check_number(name, value, allowed)
    low, high = float(low), float(high)
    if not low < high:
        raise ValueError(f"low must be below high; got low={low:g}, high={high:g}")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
