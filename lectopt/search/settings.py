"""Settings: a column of values for each hyperparameter, drawn from a space or laid out over it."""

import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.search.setting_columns import canonical, columns_of
from lectopt.search.space import Distribution, Integers, LogUniform, Quantiles, Static, Uniform, as_distribution

_MOST = 10**7
"""Settings of a grid."""
_FRUITLESS = 30
"""Rounds of draws after which a space that gives nothing new is taken to be exhausted."""


class Settings(dict):
    """Columns of values, one for each hyperparameter; row i of all columns is setting i. A dictionary.

    `lo.grid` and `lo.sample` return it. A column is an array [n] of numbers, which a search traces, or a
    `lo.space.Static` list of n Python values, for each of which it compiles a program.
    """

    def __init__(self, columns: Mapping[str, Any], space: Mapping[str, Distribution] | None = None):
        super().__init__(columns)
        self.space = dict(space or {})
        self.logarithmic: dict[str, bool] = {}  # of settings from a file, which have no space

    @property
    def count(self) -> int:
        """The number of settings."""
        return len(next(iter(self.values())))

    def row(self, i: int) -> dict[str, Any]:
        """Returns setting i as Python values."""
        return {name: python_value(column[i]) for name, column in self.items()}

    def numbers(self, rows: Any) -> dict[str, Any]:
        """Returns the traced values of these rows, or of one."""
        return {name: column[rows] for name, column in self.items() if not isinstance(column, Static)}

    def take(self, rows: Any) -> "Settings":
        """Returns the settings at these rows."""
        columns = {
            name: Static(column[i] for i in rows) if isinstance(column, Static) else column[np.asarray(rows)]
            for name, column in self.items()
        }
        return Settings(columns, self.space)

    def is_logarithmic(self, name: str) -> bool:
        """Returns whether a hyperparameter spans magnitudes, by its distribution or by its values."""
        if name in self.logarithmic:
            return self.logarithmic[name]
        if isinstance(self.space.get(name), (Uniform, LogUniform, Integers)):
            return isinstance(self.space[name], LogUniform)
        if isinstance(self[name], Static):
            return False
        ends = self[name].min(), self[name].max()
        if isinstance(self.space.get(name), Quantiles):
            ends = self.space[name].drawn(np.array([0.05, 0.95]))
        return bool(ends[0] > 0 and ends[1] >= 50 * ends[0])


def grid(space: Mapping[str, Any], points: int | Mapping[str, int] = 5) -> Settings:
    """Returns all combinations of values of the hyperparameters: a grid over the space.

    Args:
        space: `{"name": distribution}`, at least one, where a distribution is made by `lo.space` or is one of SciPy's
            with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`.
        points: number of values of each range, at least 1 and by default 5, or `{"name": number}` with 5 for names that
            it lacks. Values are spaced as the distribution is, ends included: evenly for `lo.space.uniform`, evenly in
            the logarithm for `lo.space.log_uniform`, at even quantiles for SciPy's. A `lo.space.choice` always
            contributes all its values.

    Returns:
        `Settings`, a dictionary `{"name": array[n] or list of n}` of all n combinations; the last hyperparameter varies
        fastest.

    Raises:
        ValueError: if the space is empty, a number of points is below 1 or has an unknown name, or there are more than
            10 million combinations.
        TypeError: if `space` is not a dictionary of distributions, or a number of points is not a whole number.

    Example:
        >>> import lectopt as lo
        >>> space = {"learning_rate": lo.space.log_uniform(0.01, 1.0), "momentum": lo.space.choice([0.0, 0.9])}
        >>> settings = lo.grid(space, points=3)
        >>> print(settings["learning_rate"], settings["momentum"])
        [0.01 0.01 0.1  0.1  1.   1.  ] [0.  0.9 0.  0.9 0.  0.9]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search"; Goodfellow,
    Bengio and Courville (2016), "Deep Learning", section 11.4.3.
    """
    space = _checked(space)
    if isinstance(points, Mapping) and (unknown := set(points) - set(space)):
        raise ValueError(
            f"points must be for hyperparameters of the space, {', '.join(space)}; got {', '.join(map(str, unknown))}"
        )
    columns = []
    for name, distribution in space.items():
        number = points.get(name, 5) if isinstance(points, Mapping) else points
        columns.append(distribution.spaced(checks.check_count("points", number)))
    if (count := math.prod(map(len, columns))) > _MOST:
        raise ValueError(f"points must give at most {_MOST:,} settings; got {count:,}: draw some with lectopt.sample")
    places = np.array(list(itertools.product(*(range(len(column)) for column in columns))))
    named = dict(zip(space, columns, strict=True))
    return Settings({name: _pick(canonical(name, named[name]), places[:, i]) for i, name in enumerate(named)}, space)


def sample(space: Mapping[str, Any], n: int, key: Any) -> Settings:
    """Draws settings at random, each hyperparameter independently of the others.

    No setting is drawn twice. The draws of a hyperparameter depend on the key and its own name alone; adding another
    one to the space does not change them.

    Args:
        space: `{"name": distribution}`, at least one, where a distribution is made by `lo.space` or is one of SciPy's
            with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`.
        n: number of settings, at least 1.
        key: an int or a `jax.random.key`.

    Returns:
        `Settings`, a dictionary `{"name": array[n] or list of n}`.

    Raises:
        ValueError: if the space is empty, or holds fewer than n different settings.
        TypeError: if `space` is not a dictionary of distributions, n is not a whole number, or the key is traced.

    Example:
        >>> import lectopt as lo
        >>> settings = lo.sample({"learning_rate": lo.space.log_uniform(1e-3, 1.0)}, 64, key=0)
        >>> bool((settings["learning_rate"] < 0.03).mean() > 0.4)  # about half lie below the geometric middle
        True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search"; Bergstra and
    Bengio (2012), "Random search for hyper-parameter optimization", Journal of Machine Learning Research 13.
    """
    space = _checked(space)
    n = checks.check_count("n", n)
    counts = [distribution.count for distribution in space.values()]
    if None not in counts and (total := math.prod(counts)) < n:  # type: ignore[arg-type]
        raise ValueError(f"n must be at most the {total} settings that the space holds; got {n}: take lectopt.grid")
    if checks.is_traced(key):
        raise TypeError("key must not be traced here: draw settings outside of jit and vmap")
    streams = {name: _uniforms(as_key(key), name) for name in space}
    rows: dict[tuple, tuple] = {}  # by what tells them apart, in the order drawn
    for since in itertools.count():
        drawn = [canonical(name, space[name].drawn(streams[name](n))) for name in space]
        before = len(rows)
        for row in zip(*drawn, strict=True):
            rows.setdefault(_identity(row), row)
        if len(rows) >= n:
            break
        if len(rows) == before and since >= _FRUITLESS:
            raise ValueError(f"n must be at most the {len(rows)} different settings that the space holds; got {n}")
    columns = zip(*list(rows.values())[:n], strict=True)
    made = [Static(c) if isinstance(d, Static) else np.asarray(c) for c, d in zip(columns, drawn, strict=True)]
    return Settings(dict(zip(space, made, strict=True)), space)


class Group(NamedTuple):
    """Settings that share one program."""

    rows: np.ndarray  # int[], which of all settings
    static: dict[str, Any]  # Python values that the program is made for


def groups(settings: Settings) -> list[Group]:
    """Groups the settings by their static values, in the order of first appearance."""
    static = [name for name, column in settings.items() if isinstance(column, Static)]
    found: dict[tuple, list[int]] = {}
    for i in range(settings.count):
        # By type too, since True equals 1.
        found.setdefault(tuple((type(settings[name][i]), settings[name][i]) for name in static), []).append(i)
    return [Group(np.array(rows), {name: settings[name][rows[0]] for name in static}) for rows in found.values()]


def group_of(settings: Settings, row: int) -> Group:
    """Returns the group that a setting is in."""
    (found,) = (group for group in groups(settings) if row in group.rows)
    return found


def as_settings(settings: Any) -> Settings:
    """Columns in the form that a search takes: numbers as arrays of one dtype, everything else Static.

    Raises:
        TypeError: if settings is not a dictionary of columns, a list of dictionaries or a DataFrame, or a name is not a
            string.
        ValueError: if there are none, they differ in length or in their names, hold numbers that are not finite, or two
            rows are equal.
    """
    columns = columns_of(settings)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"settings must be columns of equal length, at least 1; got lengths {lengths}")
    found = Settings(columns, getattr(settings, "space", None))
    seen: dict[tuple, int] = {}
    for i in range(found.count):
        first = seen.setdefault(_identity(found.row(i).values()), i)
        if first != i:
            raise ValueError(f"settings must differ from each other; rows {first} and {i} are both {found.row(i)}")
    return found


def python_value(value: Any) -> Any:
    """Converts a NumPy number to Python's; float32's 0.1 becomes 0.1, the shortest that rounds to the same number."""
    if isinstance(value, np.float32):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value


def _checked(space: Any) -> dict[str, Distribution]:
    if not isinstance(space, Mapping):
        raise TypeError(f'space must be a dictionary {{"name": distribution}}; got {type(space).__name__}')
    if not space:
        raise ValueError("space must hold at least 1 hyperparameter; got none")
    return {name: as_distribution(name, entry) for name, entry in space.items()}


def _pick(column: Any, places: np.ndarray) -> Any:
    return Static(column[i] for i in places) if isinstance(column, Static) else column[places]


def _identity(row: Iterable[Any]) -> tuple:
    """Returns what tells a setting from others: by type too, since True equals 1."""
    return tuple((isinstance(value, bool), value) for value in row)


def _uniforms(key: jax.Array, name: str) -> Callable[[int], np.ndarray]:
    """Returns a function that draws n more uniforms at each call."""
    stream: Iterator[jax.Array] = (
        jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), i) for i in itertools.count()
    )

    def draw(n: int) -> np.ndarray:
        with jax.ensure_compile_time_eval():
            high, low = np.asarray(jax.random.bits(next(stream), (2, n), np.uint32))
        return (high + (low >> 11) / 2**21) / 2**32  # all 53 bits: float32 uniforms repeat after some thousands

    return draw
