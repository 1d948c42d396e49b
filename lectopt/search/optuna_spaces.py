"""A space as what asks one of Optuna's trials for its setting, and such settings as columns."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lectopt._internal import checks
from lectopt.search.optuna_ranges import labels, optuna_distribution
from lectopt.search.setting_columns import canonical, columns_of, python_value
from lectopt.search.settings import Settings
from lectopt.search.space import Choice, Distribution, Static, as_distribution


@dataclasses.dataclass(frozen=True)
class SuggestedSpace:
    """What suggests settings: a function of a trial of Optuna's, which may be one that has ended."""

    function: Callable[[Any], Any]
    static: frozenset[str]  # names whose numbers stay Python values
    entries: Mapping[str, Distribution]  # how they are distributed, of a space that is no function
    _traced: dict[str, bool] = dataclasses.field(default_factory=dict)  # by name, as the first setting has it

    @classmethod
    def of(cls, space: Any, static: Any = ()) -> "SuggestedSpace":
        """Checks the space and the names of what is static; of a dictionary, the distributions tell that."""
        if isinstance(static, str) or not isinstance(static, Collection) or not all(isinstance(n, str) for n in static):
            raise TypeError(f"static must be a list of names of hyperparameters; got {static!r}")
        if callable(space):
            return cls(space, frozenset(static), {})
        if not isinstance(space, Mapping) or not space:
            raise ValueError(
                'space must be a dictionary {"name": distribution} of at least 1, or a function of an '
                f"optuna.trial.Trial; got {space!r}"
            )
        if static:
            raise ValueError(f"static must be empty unless space is a function; got {list(static)}")
        entries = {name: as_distribution(name, entry) for name, entry in space.items()}
        distributions = {name: optuna_distribution(name, entry) for name, entry in entries.items()}

        def suggested(trial: Any) -> dict[str, Any]:
            return {
                name: stands_for(name, entries[name], _suggest(trial, name, distribution))
                for name, distribution in distributions.items()
            }

        return cls(suggested, frozenset(name for name in entries if getattr(entries[name], "static", False)), entries)

    def setting(self, trial: Any) -> dict[str, Any]:
        """Returns the setting of a trial, which is asked for its hyperparameters.

        Raises:
            TypeError, ValueError: if a function returns none.
        """
        found = self.function(trial)
        if not isinstance(found, Mapping) or not found:
            returned = checks.type_description(found) if not isinstance(found, Mapping) else "an empty dictionary"
            raise TypeError(f'space must return a dictionary {{"name": value}} of at least 1; it returned {returned}')
        columns = columns_of({name: Static([v]) if name in self.static else [v] for name, v in found.items()})
        for name, column in columns.items():
            traced = not isinstance(column, Static)
            if self._traced.setdefault(name, traced) != traced:
                raise ValueError(
                    f"space must return numbers for {name!r} in all trials or in none, so that each program fits; got "
                    f"{found[name]!r}. Leave out a name that does not apply, or write it into static"
                )
        return {name: python_value(value) for name, value in found.items()}

    def settings(self, rows: list[dict[str, Any]]) -> tuple[Settings, list[int]]:
        """Returns the different settings among these, as JAX rounds them, and which one each of them is."""
        columns: dict[str, Any] = {}
        missing: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            given = [row[name] for row in rows if name in row]
            columns[name] = self._column(name, [row.get(name, given[0]) for row in rows])
            if len(given) < len(rows):
                missing[name] = np.array([name not in row for row in rows])
        found = Settings(columns, self.entries, missing)
        found.omits_missing = True
        names = [tuple((name, type(v), v) for name, v in found.row(i).items()) for i in range(found.count)]
        first = list(dict.fromkeys(names))
        return found.take([names.index(name) for name in first]), [first.index(name) for name in names]

    def _column(self, name: str, values: list[Any]) -> Any:
        """Returns the values in the dtype of the distribution, whichever of them were drawn."""
        if not self._traced[name]:
            return Static(values)
        entry = self.entries.get(name)
        kind = entry.values if isinstance(entry, Choice) else values
        return canonical(name, np.asarray(values, np.asarray(kind).dtype))


def stands_for(name: str, distribution: Distribution, param: Any) -> Any:
    """Returns the value that a parameter of Optuna's stands for.

    Raises:
        ValueError: if a choice does not have it.
    """
    if not isinstance(distribution, Choice):
        return param
    found = labels(distribution)
    if param not in found:
        raise ValueError(f"params[{name!r}] must be one of {', '.join(map(repr, found))}; got {param!r}")
    return distribution.values[found.index(param)]


def _suggest(trial: Any, name: str, distribution: Any) -> Any:
    """Returns what a trial suggests for a distribution of Optuna's."""
    if hasattr(distribution, "choices"):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if isinstance(distribution.low, int) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, log=distribution.log, **_step(distribution))


def _step(distribution: Any) -> dict[str, Any]:
    return {} if distribution.step is None else {"step": distribution.step}
