"""What values a hyperparameter may take, and how it is distributed."""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lectopt._internal import checks


class Static(list[Any]):
    """A column of Python values, which a search does not trace: it compiles one program for each of them.

    It serves for what decides shapes or branches, such as widths and batch sizes.
    `lo.space.choice(values, static=True)` yields such columns; settings written by hand use the class itself. It is a
    list.

    Example:
        >>> import lectopt as lo
        >>> def trial(setting, key):
        ...     return {"width": setting["width"]}
        >>> settings = {"width": lo.space.Static([32, 64])}
        >>> lo.sweep(trial, settings, maximize="width", key=0).best()
        {'width': 64}

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Hyperparameter search".
    """


@runtime_checkable
class Distribution(Protocol):
    """What `lo.grid` and `lo.sample` require of each entry of a space.

    The functions of `lo.space` return such objects; SciPy's distributions are wrapped in `Quantiles`. An object of your
    own with these two methods and `count` serves as well.

    Example:
        >>> import lectopt as lo
        >>> lo.space.integers(1, 4).spaced(2)
        array([1, 4], dtype=int32)
        >>> class Powers:
        ...     count = None
        ...     def spaced(self, points):
        ...         return [2.0**-i for i in range(points)]
        ...     def drawn(self, uniforms):
        ...         return 2.0 ** -(10 * uniforms)
        >>> print(lo.grid({"learning_rate": Powers()}, points=3)["learning_rate"])
        [1.   0.5  0.25]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    def spaced(self, points: int) -> Any:
        """Returns different values in order, spaced as they are distributed.

        Args:
            points: the largest number of values, at least 1; a choice returns all its values.

        Returns:
            An array, or a `Static` list.
        """

    def drawn(self, uniforms: np.ndarray) -> Any:
        """Returns the values at given quantiles.

        Args:
            uniforms: float64[n] in [0, 1).

        Returns:
            n values, an array or a `Static` list; uniform quantiles make them random draws.
        """

    @property
    def count(self) -> int | None:
        """The number of different values; None for real numbers."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """The uniform distribution over [low, high), made by `lo.space.uniform`.

    Attributes:
        low: the lower end.
        high: the upper end.

    Example:
        >>> import lectopt as lo
        >>> lo.space.uniform(0.0, 0.9)
        Uniform(low=0.0, high=0.9)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    low: float
    high: float
    count = None

    def spaced(self, points: int) -> Any:
        """Returns evenly spaced values, both ends included.

        Args:
            points: number of values, at least 1.

        Returns:
            The values in increasing order.
        """
        return np.linspace(self.low, self.high, points)

    def drawn(self, uniforms: np.ndarray) -> Any:
        r"""Returns the values at given quantiles.

        The value at quantile u is :math:`\mathrm{low} + (\mathrm{high} - \mathrm{low})\, u`.

        Args:
            uniforms: u, float64[n] in [0, 1).

        Returns:
            n values; uniform quantiles make them random draws.
        """
        return self.low + (self.high - self.low) * uniforms


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """The distribution over [low, high) whose logarithm is uniform, made by `lo.space.log_uniform`.

    Attributes:
        low: the lower end, above 0.
        high: the upper end.

    Example:
        >>> import lectopt as lo
        >>> lo.space.log_uniform(1e-3, 1.0)
        LogUniform(low=0.001, high=1.0)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    low: float
    high: float
    count = None

    def spaced(self, points: int) -> Any:
        """Returns values in geometric progression, both ends included.

        Args:
            points: number of values, at least 1.

        Returns:
            The values in increasing order.
        """
        return np.geomspace(self.low, self.high, points)

    def drawn(self, uniforms: np.ndarray) -> Any:
        r"""Returns the values at given quantiles.

        The value at quantile u is :math:`\mathrm{low}\, (\mathrm{high} / \mathrm{low})^u`.

        Args:
            uniforms: u, float64[n] in [0, 1).

        Returns:
            n values; uniform quantiles make them random draws.
        """
        return self.low * np.exp(np.log(self.high / self.low) * uniforms)


@dataclasses.dataclass(frozen=True)
class Integers:
    """The distribution over whole numbers from low to high, made by `lo.space.integers`.

    Attributes:
        low: the smallest number.
        high: the largest number.
        static: whether the numbers stay Python values instead of being traced.
        log: whether their logarithm is uniform, instead of the numbers themselves.
        step: the difference between two neighbors.

    Example:
        >>> import lectopt as lo
        >>> lo.space.integers(1, 4).count
        4

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    low: int
    high: int
    static: bool
    log: bool = False
    step: int = 1

    @property
    def count(self) -> int:
        """The number of different values."""
        return (self.high - self.low) // self.step + 1

    def spaced(self, points: int) -> Any:
        """Returns evenly spaced values, or ones in geometric progression, rounded, both ends included.

        Args:
            points: the largest number of values, at least 1.

        Returns:
            The values in increasing order; fewer than `points` where some are rounded to the same number.
        """
        points = min(points, self.count)
        spaced = (np.geomspace if self.log and points < self.count else np.linspace)(self.low, self.high, points)
        return self._column(np.unique(self.low + self.step * ((spaced - self.low) / self.step).round()))

    def drawn(self, uniforms: np.ndarray) -> Any:
        r"""Returns the values at given quantiles.

        The value at quantile u is :math:`\mathrm{low} + \mathrm{step} \lfloor u\, k \rfloor`, where k is the number of
        values. With `log`, a number v takes the place of all real ones in [v, v + step), whose logarithms are uniform:
        with c = high + step, it is :math:`\mathrm{low}\, (c / \mathrm{low})^u`, rounded down to a value.

        Args:
            uniforms: u, float64[n] in [0, 1).

        Returns:
            n values; uniform quantiles make them random draws.
        """
        places = uniforms * self.count
        if self.log:
            ratio = (self.high + self.step) / self.low
            places = (self.low * np.exp(np.log(ratio) * uniforms) - self.low) / self.step
        return self._column(self.low + self.step * np.clip(np.floor(places), 0, self.count - 1))

    def _column(self, values: np.ndarray) -> Any:
        return Static(values.astype(int).tolist()) if self.static else values.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The uniform distribution over some values, made by `lo.space.choice`.

    Attributes:
        values: the values, a tuple.
        static: whether they stay Python values instead of being traced.

    Example:
        >>> import lectopt as lo
        >>> lo.space.choice(["relu", "tanh"])
        Choice(values=('relu', 'tanh'), static=True)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    values: tuple[Any, ...]
    static: bool

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.values)

    def spaced(self, points: int) -> Any:
        """Returns all values.

        Args:
            points: ignored.

        Returns:
            The values, an array or a `Static` list.
        """
        return self._column(range(self.count))

    def drawn(self, uniforms: np.ndarray) -> Any:
        """Returns the values at given quantiles, each value covering an equal share of [0, 1).

        Args:
            uniforms: float64[n] in [0, 1).

        Returns:
            n values, an array or a `Static` list; uniform quantiles make them random draws.
        """
        return self._column((uniforms * self.count).astype(int))

    def _column(self, places: Iterable[int]) -> Any:
        return Static(self.values[i] for i in places) if self.static else np.asarray(self.values)[list(places)]


@dataclasses.dataclass(frozen=True)
class When:
    """A hyperparameter that applies only where another one has certain values, made by `lo.space.when`.

    Attributes:
        name: the other hyperparameter.
        values: its values for which this one applies, a tuple.
        distribution: how this one is distributed then.

    Example:
        >>> import lectopt as lo
        >>> lo.space.when("optimizer", "sgd", lo.space.uniform(0.0, 0.9)).values
        ('sgd',)

    Source: Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for hyper-parameter optimization", NeurIPS.
    """

    name: str
    values: tuple[Any, ...]
    distribution: Distribution

    def spaced(self, points: int) -> Any:
        """Returns the values of the distribution, spaced as it says.

        Args:
            points: the largest number of values, at least 1.

        Returns:
            The values in order.
        """
        return self.distribution.spaced(points)

    def drawn(self, uniforms: np.ndarray) -> Any:
        """Returns the values of the distribution at given quantiles.

        Args:
            uniforms: float64[n] in [0, 1).

        Returns:
            n values.
        """
        return self.distribution.drawn(uniforms)

    @property
    def count(self) -> int | None:
        """The number of different values; None for real numbers."""
        return self.distribution.count

    def applies(self, value: Any) -> bool:
        """Returns whether the hyperparameter applies.

        Args:
            value: the value of the other one.

        Returns:
            Whether it is among `values`; True is not 1.
        """
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.values)


@runtime_checkable
class _Scipy(Protocol):
    def ppf(self, q: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """One of SciPy's distributions as an entry of a space; `lo.grid` and `lo.sample` wrap them by themselves.

    Attributes:
        distribution: a SciPy distribution with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`.

    Example:
        >>> import lectopt as lo, scipy.stats
        >>> print(lo.grid({"momentum": scipy.stats.uniform(0.0, 0.8)}, points=2)["momentum"])
        [0.2 0.6]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """

    distribution: _Scipy
    count = None

    def spaced(self, points: int) -> Any:
        # In the middle of equally likely slices, since the ends may be infinite.
        r"""Returns the medians of equally likely slices of the distribution.

        They are the quantiles :math:`(i + \frac12) / k`, i = 0, ..., k - 1, of k points: finite where the ends of the
        distribution are infinite.

        Args:
            points: k, the number of slices, at least 1.

        Returns:
            The values in increasing order.
        """
        return np.unique(self.drawn((np.arange(points) + 0.5) / points))

    def drawn(self, uniforms: np.ndarray) -> Any:
        # A draw of exactly 0 has probability 2^-53, and may be minus infinity.
        """Returns the values at given quantiles, by the inverse of the distribution function.

        Args:
            uniforms: float64[n] in [0, 1).

        Returns:
            n values, whole numbers for a discrete distribution; uniform quantiles make them random draws.
        """
        values = np.asarray(self.distribution.ppf(np.maximum(uniforms, np.finfo(float).tiny)))
        return values.astype(int) if hasattr(self.distribution, "pmf") else values


def uniform(low: float, high: float) -> Uniform:
    """Returns a uniform distribution of real numbers in [low, high).

    Args:
        low: the lower end, a finite number.
        high: the upper end, a finite number above `low`.

    Returns:
        A `Uniform`, an entry of a space.

    Raises:
        ValueError: unless low < high, both finite.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> print(lo.grid({"momentum": lo.space.uniform(0.0, 0.9)}, points=4)["momentum"])
        [0.  0.3 0.6 0.9]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """
    return Uniform(*_ends(low, high, _REAL))


def log_uniform(low: float, high: float) -> LogUniform:
    """Returns a distribution of positive numbers in [low, high) whose logarithm is uniform.

    It suits hyperparameters of unknown magnitude, such as learning rates: every order of magnitude is equally likely.

    Args:
        low: the lower end, above 0.
        high: the upper end, a finite number above `low`.

    Returns:
        A `LogUniform`, an entry of a space.

    Raises:
        ValueError: unless 0 < low < high, both finite.
        TypeError: if one of them is not a number.

    Example:
        >>> import lectopt as lo
        >>> print(lo.grid({"learning_rate": lo.space.log_uniform(0.001, 1.0)}, points=4)["learning_rate"])
        [0.001 0.01  0.1   1.   ]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """
    return LogUniform(*_ends(low, high, checks.POSITIVE))


def integers(low: int, high: int, *, log: bool = False, step: int = 1, static: bool = False) -> Integers:
    """Returns a distribution of whole numbers from low to high, both included, uniform or log-uniform.

    Args:
        low: the smallest number, at least -2**31; with `log`, at least 1.
        high: the largest number, above `low` and below 2**31; `low` plus a multiple of `step`.
        log: whether the logarithm is uniform, so that every doubling is equally likely; False by default.
        step: the difference between two neighboring numbers, at least 1 (the default).
        static: whether the trial receives Python numbers, which may decide shapes (widths, batch sizes), instead of
            traced ones; False by default. A search compiles one program for each.

    Returns:
        An `Integers`, an entry of a space.

    Raises:
        ValueError: unless low < high within the range of int32; if `step` does not lead from low to high, or `low` is
            below 1 with `log`.
        TypeError: if one of them is not a whole number, or `static` or `log` is not a bool.

    Example:
        >>> import lectopt as lo
        >>> lo.grid({"width": lo.space.integers(16, 64, static=True)}, points=3)["width"]
        [16, 40, 64]
        >>> lo.grid({"width": lo.space.integers(8, 512, log=True, step=8, static=True)}, points=4)["width"]
        [8, 32, 128, 512]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """
    ends = {"least": -(2**31), "most": 2**63}
    low, high = (checks.check_count(name, value, **ends) for name, value in (("low", low), ("high", high)))
    if not low < high < 2**31:
        raise ValueError(f"low must be below high, and high below 2**31; got low={low}, high={high}")
    if (high - low) % checks.check_count("step", step):
        raise ValueError(f"high must be low plus a multiple of step; got low={low}, high={high}, step={step}")
    if checks.check_flag("log", log) and low < 1:
        raise ValueError(f"low must be at least 1 with log=True; got {low}")
    return Integers(low, high, checks.check_flag("static", static), log, step)


def choice(values: Sequence[Any], static: bool = False) -> Choice:
    """Returns a uniform distribution over some values.

    Args:
        values: the values, at least one, all different. Numbers are traced unless `static`; if there is any other
            hashable value among them (a string, flag, tuple, function or None), all stay Python values.
        static: whether the trial receives numbers as Python numbers, which may decide shapes (widths, batch sizes),
            instead of traced ones; False by default. A search compiles one program for each.

    Returns:
        A `Choice`, an entry of a space.

    Raises:
        ValueError: if there are no values, two are equal, or a number is not finite.
        TypeError: if `values` cannot be iterated over, a value is not hashable, or `static` is not a bool.

    Example:
        >>> import lectopt as lo
        >>> width = lo.space.choice([8, 16], static=True)
        >>> settings = lo.grid({"momentum": lo.space.choice([0.0, 0.9]), "width": width})
        >>> print(settings["momentum"], settings["width"])
        [0.  0.  0.9 0.9] [8, 16, 8, 16]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """
    if not (isinstance(values, str) or checks.is_iterable(values)):
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


def when(name: str, value: Any, distribution: Any) -> When:
    """Returns a distribution of a hyperparameter that applies only where another one has a certain value.

    The trial is given a number everywhere, so that all settings share a program: where the hyperparameter does not
    apply, the first value of the distribution. Tables, rows and results show None or a missing value there, and
    settings that differ in nothing else are one.

    Args:
        name: the other hyperparameter, an entry of the same space: a choice or whole numbers, conditional itself
            perhaps.
        value: its value for which this one applies, or a list of such values.
        distribution: the distribution of this one then, made by `lo.space` or one of SciPy's or Optuna's.

    Returns:
        A `When`, an entry of a space.

    Raises:
        ValueError: if the list of values is empty.
        TypeError: if `name` is not a string, or `distribution` is none, or conditional itself.

    Example:
        >>> import lectopt as lo
        >>> space = {"optimizer": lo.space.choice(["sgd", "adam"]),
        ...          "momentum": lo.space.when("optimizer", "sgd", lo.space.choice([0.5, 0.9]))}
        >>> for i in range(3):
        ...     print(lo.grid(space).row(i))
        {'optimizer': 'sgd', 'momentum': 0.5}
        {'optimizer': 'sgd', 'momentum': 0.9}
        {'optimizer': 'adam', 'momentum': None}

    Source: Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for hyper-parameter optimization", NeurIPS.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be that of a hyperparameter, a string; got {name!r}")
    values = tuple(value) if isinstance(value, list) else (value,)
    if not values:
        raise ValueError("value must be a value, or a list of at least 1; got []")
    if odd := [one for one in values if not isinstance(one, Hashable)]:
        raise TypeError(f"value must be a number, a string or another value that can be hashed; got {odd[0]!r}")
    inner = as_distribution("distribution", distribution)
    if isinstance(inner, When):
        raise TypeError("distribution must not be conditional itself; the other hyperparameter may be")
    return When(name, values, inner)


def as_distribution(name: str, entry: Any) -> Distribution:
    """Returns an entry of a space as a distribution, after checking it.

    Args:
        name: name of the hyperparameter, for messages.
        entry: what the user gave: an object made by `lo.space`, one of SciPy's or Optuna's distributions, or another
            `Distribution`.

    Returns:
        The entry itself; a SciPy distribution wrapped in `Quantiles`; or what `lo.space` has for one of Optuna's.

    Raises:
        ValueError: if the median of a SciPy distribution is not a finite number.
        TypeError: if the name is not a string, or the entry is no such distribution.

    Example:
        >>> import lectopt as lo
        >>> lo.space.as_distribution("momentum", lo.space.uniform(0.0, 0.9))
        Uniform(low=0.0, high=0.9)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search".
    """
    if not isinstance(name, str):
        raise TypeError(f"space must have strings for names; got {name!r}")
    if isinstance(entry, Distribution) and not isinstance(entry, type):
        return entry
    if type(entry).__module__ == "optuna.distributions":
        return _from_optuna(entry)
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
        f"distributions with its parameters, or one of Optuna's; got {type(entry).__name__}"
    )


def _from_optuna(entry: Any) -> Distribution:
    """Returns the same distribution; a single value, or real numbers in steps, as a choice."""
    if hasattr(entry, "choices"):
        return choice(entry.choices)
    if entry.single():
        return choice([entry.low])
    if isinstance(entry.low, int):
        return integers(entry.low, entry.high, log=entry.log, step=entry.step)
    if entry.step is not None:
        return choice([entry.low + i * entry.step for i in range(round((entry.high - entry.low) / entry.step) + 1)])
    return (log_uniform if entry.log else uniform)(entry.low, entry.high)


_REAL = checks.Interval(-np.inf, np.inf, low_open=True, high_open=True)


def _ends(low: Any, high: Any, allowed: checks.Interval) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        checks.check_number(name, value, allowed)
        checks.check_known(name, value, "make spaces")
    low, high = float(low), float(high)
    if not low < high:
        raise ValueError(f"low must be below high; got low={low:g}, high={high:g}")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
