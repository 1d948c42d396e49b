"""Settings: a column of values for each hyperparameter."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal import checks
from lectopt.search.conditions import apply_conditions, check_conditions, check_given
from lectopt.search.setting_columns import by_name, check_lengths, columns_of, python_value
from lectopt.search.space import Distribution, Integers, LogUniform, Quantiles, Static, Uniform, When, as_distribution


class Settings(dict[Any, Any]):
    """Columns of values, one for each hyperparameter; row i of all columns is setting i. A dictionary.

    `lo.grid` and `lo.sample` return it. A column is an array [n] of numbers, which a search traces, or a
    `lo.space.Static` list of n Python values, for each of which it compiles a program.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        space: Mapping[str, Distribution] | None = None,
        missing: Mapping[str, np.ndarray] | None = None,
    ):
        super().__init__(columns)
        self.space = dict(space or {})
        self.missing = dict(missing or {})  # {"name": bool[n]}: where a conditional hyperparameter does not apply
        self.logarithmic: dict[str, bool] = {}  # of settings from a file, which have no space
        self.omits_missing = False  # whether a trial is given no placeholder, but a setting without the name

    @property
    def count(self) -> int:
        """The number of settings."""
        return len(next(iter(self.values())))

    def row(self, i: int) -> dict[str, Any]:
        """Returns setting i as Python values; None for a hyperparameter that does not apply to it, or without it."""
        return {
            name: None if self.lacks(name, i) else python_value(column[i])
            for name, column in self.items()
            if not self.omits(name, i)
        }

    def lacks(self, name: str, i: int) -> bool:
        """Returns whether a hyperparameter does not apply to setting i."""
        return name in self.missing and bool(self.missing[name][i])

    def omits(self, name: str, i: int) -> bool:
        """Returns whether a trial of setting i is not given a hyperparameter, since it does not apply."""
        return self.omits_missing and self.lacks(name, i)

    def shown(self) -> dict[str, list[Any]]:
        """Returns columns of Python values for tables; None where a hyperparameter does not apply."""
        rows = [self.row(i) for i in range(self.count)]
        return {name: [row.get(name) for row in rows] for name in self}

    def numbers(self, rows: Any) -> dict[str, Any]:
        """Returns the traced values of these rows of a group, or of one."""
        traced = {name: column[rows] for name, column in self.items() if not isinstance(column, Static)}
        if not self.omits_missing:
            return traced
        return {name: column for name, column in traced.items() if not self.omits(name, np.ravel(rows)[0])}

    def take(self, rows: Any) -> "Settings":
        """Returns the settings at these rows."""
        columns = {
            name: Static(column[i] for i in rows) if isinstance(column, Static) else column[np.asarray(rows)]
            for name, column in self.items()
        }
        found = Settings(columns, self.space, {name: lacks[np.asarray(rows)] for name, lacks in self.missing.items()})
        found.logarithmic, found.omits_missing = self.logarithmic, self.omits_missing
        return found

    def drawable(self) -> dict[str, Any]:
        """Returns the columns for pictures; NaN, or None among choices, where a hyperparameter does not apply."""
        shown = self.shown()
        return {
            name: shown[name] if isinstance(column, Static) else np.asarray(shown[name], float)
            for name, column in self.items()
        }

    def distribution(self, name: str) -> Any:
        """Returns how a hyperparameter is distributed where it applies; None if that is not known."""
        entry = self.space.get(name)
        return entry.distribution if isinstance(entry, When) else entry

    def __add__(self, others: Any) -> "Settings":
        return _joined(self, others)

    def __radd__(self, others: Any) -> "Settings":
        return _joined(settings(others), self)

    def is_logarithmic(self, name: str) -> bool:
        """Returns whether a hyperparameter spans magnitudes, by its distribution or by its values."""
        if name in self.logarithmic:
            return self.logarithmic[name]
        entry = self.distribution(name)
        if isinstance(entry, (Uniform, LogUniform, Integers)):
            return isinstance(entry, LogUniform) or (isinstance(entry, Integers) and entry.log)
        if isinstance(self[name], Static):
            return False
        ends = self[name].min(), self[name].max()
        if isinstance(entry, Quantiles):
            ends = entry.drawn(np.array([0.05, 0.95]))
        return bool(ends[0] > 0 and ends[1] >= 50 * ends[0])


class Group(NamedTuple):
    """Settings that share one program."""

    rows: np.ndarray  # int[], which of all settings
    static: dict[str, Any]  # Python values that the program is made for


def groups(settings: Settings) -> list[Group]:
    """Groups the settings by their names and static values, in the order of first appearance."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for i in range(settings.count):
        given = {name: column for name, column in settings.items() if not settings.omits(name, i)}
        static = {name: column[i] for name, column in given.items() if isinstance(column, Static)}
        # By type too, since True equals 1.
        found.setdefault((*given, *((type(value), value) for value in static.values())), []).append(i)
    return [Group(np.array(rows), _static(settings, rows[0])) for rows in found.values()]


def group_of(settings: Settings, row: int) -> Group:
    """Returns the group that a setting is in."""
    (found,) = (group for group in groups(settings) if row in group.rows)
    return found


def _static(settings: Settings, i: int) -> dict[str, Any]:
    """Returns the static values that a trial of setting i is given."""
    return {
        name: column[i]
        for name, column in settings.items()
        if isinstance(column, Static) and not settings.omits(name, i)
    }


def as_settings(settings: Any) -> Settings:
    """Columns in the form that a search takes: numbers as arrays of one dtype, everything else Static.

    Raises:
        TypeError: if settings is not a dictionary of columns, a list of dictionaries or a DataFrame, or a name is not a
            string.
        ValueError: if there are none, they differ in length or in their names, hold numbers that are not finite, or two
            rows are equal.
    """
    columns = columns_of(settings)
    check_lengths(columns)
    found = Settings(columns, getattr(settings, "space", None), getattr(settings, "missing", None))
    found.logarithmic = getattr(settings, "logarithmic", {})
    found.omits_missing = getattr(settings, "omits_missing", False)
    seen: dict[tuple[Any, ...], int] = {}
    for i in range(found.count):
        row = found.row(i)
        first = seen.setdefault((*row, *identity(row.values())), i)
        if first != i:
            raise ValueError(f"settings must differ from each other; rows {first} and {i} are both {row}")
    return found


def settings(rows: Any, *, space: Mapping[str, Any] | None = None, static: Sequence[str] = ()) -> Settings:
    """Returns settings that are written by hand.

    Settings can be added: `lo.sample(space, 32, key=0) + [{"learning_rate": 0.1, "momentum": 0.9}]` are those drawn,
    with more rows after them. The rows may be whatever this function takes; those that are there already are left out,
    what stays a Python value does so in all rows, and the space of the first settings is that of all.

    Args:
        rows: a list of dictionaries `{"name": value}`, all with the same names; a pandas DataFrame with one row per
            setting; or a dictionary of columns `{"name": array[n] or list of n}`. In a column of numbers alone, they
            will be traced; in all others (strings, flags, None, or numbers among these), values stay Python values, and
            a search compiles one program for each.
        space: the space that the settings are from, `{"name": distribution}`. Where a hyperparameter does not apply
            (`lo.space.when`), rows may leave it out or have None; what is static in the space stays a Python value; and
            a search warns if the best value lies at an end of the space. None, the default, is for no space.
        static: the names of hyperparameters whose numbers stay Python values too, such as widths and batch sizes; by
            default none.

    Returns:
        `Settings`, a dictionary `{"name": array[n] or list of n}`.

    Raises:
        ValueError: if there are no rows, they have different names, two of them are equal, a number is not finite, a
            value is missing, or one is given where the space says that the hyperparameter does not apply; if a name in
            `static`, or of the settings, is not there.
        TypeError: if `rows` is none of the above, a name is not a string, a value is not hashable, or `static` is not a
            list.

    Example:
        >>> import lectopt as lo
        >>> made = lo.settings([{"width": 16, "rate": 0.1}, {"width": 32, "rate": 0.1}], static=["width"])
        >>> made["width"], (made + [{"width": 64, "rate": 0.1}]).count
        ([16, 32], 3)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Hyperparameter search".
    """
    space = {} if space is None else checked_space(space)
    optional = [name for name, entry in space.items() if isinstance(entry, When)]
    columns = dict(by_name(rows, optional))
    if space and (apart := columns.keys() ^ space.keys()):
        names = ", ".join(map(repr, sorted(apart, key=str)))
        raise ValueError(f"settings must have the names of the space, {', '.join(space)}; only one of them has {names}")
    if not checks.is_iterable(static):
        raise TypeError(f"static must be a list of names of settings; got {static!r}")
    if unknown := [name for name in static if not isinstance(name, str) or name not in columns]:
        raise ValueError(f"static must be a list of names of settings; got {unknown}")
    kept = {*static, *(name for name, entry in space.items() if getattr(_inner(entry), "static", False))}
    if space:
        check_lengths(columns)
    if not getattr(rows, "missing", None):  # of settings that were made before, which have placeholders
        check_given(space, columns)
    columns, missing = apply_conditions(space, columns)
    made = {name: Static(map(python_value, column)) if name in kept else column for name, column in columns.items()}
    found = as_settings(made)
    return Settings(found, space or getattr(rows, "space", None), missing or getattr(rows, "missing", None))


def checked_space(space: Any) -> dict[str, Distribution]:
    """Returns the distributions of a space.

    Raises:
        TypeError, ValueError: if it is no dictionary of at least one, or one is none.
    """
    if not isinstance(space, Mapping):
        raise TypeError(f'space must be a dictionary {{"name": distribution}}; got {type(space).__name__}')
    if not space:
        raise ValueError("space must hold at least 1 hyperparameter; got none")
    found = {name: as_distribution(name, entry) for name, entry in space.items()}
    check_conditions(found)
    return found


def _inner(entry: Any) -> Any:
    return entry.distribution if isinstance(entry, When) else entry


def taken_rows(found: Settings, where: Callable[[dict[str, Any]], bool] | None) -> Iterator[int]:
    """Returns the rows that a function takes, of equal ones the first."""
    seen = set()
    for i in range(found.count):
        row = identity(column[i] for column in found.values())
        if row in seen:
            continue
        seen.add(row)
        takes = True if where is None else where(found.row(i))
        if isinstance(takes, jax.Array) and not takes.shape:
            takes = takes.item()
        if not isinstance(takes, (bool, np.bool_)):
            raise TypeError(f"where must return True or False; it returned {takes!r} for {found.row(i)}")
        if takes:
            yield i


def _joined(first: Settings, others: Any) -> Settings:
    """Returns the settings and, after them, those of the others that are not there yet."""
    if not isinstance(others, Settings):
        given = by_name(others, [name for name, entry in first.space.items() if isinstance(entry, When)])
        static = [name for name in given if isinstance(first.get(name), Static)]
        others = settings(given, space=first.space if first.space.keys() == given.keys() else None, static=static)
    if apart := first.keys() ^ others.keys():
        names = ", ".join(map(repr, sorted(apart)))
        raise ValueError(f"settings must have the same names to be added; only one of them has {names}")
    columns: dict[str, Any] = {}
    for name in first:
        values = [python_value(value) for column in (first[name], others[name]) for value in column]
        columns[name] = Static(values) if any(isinstance(one[name], Static) for one in (first, others)) else values
    missing = {
        name: np.concatenate([one.missing.get(name, np.zeros(one.count, bool)) for one in (first, others)])
        for name in first.missing | others.missing
    }
    found = Settings(columns_of(columns), first.space, missing)
    found.logarithmic, found.omits_missing = first.logarithmic, first.omits_missing
    return found.take(list(taken_rows(found, None)))


def identity(row: Iterable[Any]) -> tuple[Any, ...]:
    """Returns what tells a setting from others: by type too, since True equals 1."""
    return tuple((isinstance(value, bool), value) for value in row)
