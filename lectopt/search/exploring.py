"""How the settings of a population change where they are copied: perturbed, or drawn again, within their ranges."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.types import Array
from lectopt.search.drawing import uniforms_of
from lectopt.search.settings import Settings
from lectopt.search.space import Choice, Static


@dataclasses.dataclass(frozen=True)
class Exploration:
    """New values for each round and member; those of a function are computed where they are asked for."""

    factors: Mapping[str, np.ndarray]  # float32[rounds, n], what a copied value is multiplied by
    drawn: Mapping[str, np.ndarray]  # [rounds, n], what takes its place where `resampled`
    resampled: np.ndarray  # bool[rounds, n]
    ends: Mapping[str, tuple[Any, Any]]  # of the ranges, where they have ends
    function: Callable[..., Any] | None
    key: jax.Array

    @classmethod
    def of(cls, settings: Settings, explore: Any, resample: Any, rounds: int, key: jax.Array) -> "Exploration":
        """Checks the arguments of `population`, and draws all there is to draw."""
        checks.check_number("resample", resample, checks.Interval(0, 1))
        checks.check_known("resample", resample, "search")
        _check_columns(settings, explore)
        if resample and (unknown := [name for name in settings if name not in settings.space]):
            raise ValueError(f"resample needs settings drawn from a space, by lectopt.sample; {unknown[0]!r} has none")
        shape = rounds, settings.count
        factors, drawn = {}, {}
        for name, column in settings.items():
            if not callable(explore):
                which = (uniforms_of(key, f"factor {name}")(rounds * settings.count) * len(explore)).astype(int)
                factors[name] = np.asarray(explore, np.float32)[which].reshape(shape)
            again = column[np.zeros(shape, int)]
            if resample:
                values = settings.space[name].drawn(uniforms_of(key, f"draw {name}")(rounds * settings.count))
                again = np.asarray(values).astype(column.dtype).reshape(shape)
            drawn[name] = again
        resampled = (uniforms_of(key, "resample")(rounds * settings.count) < resample).reshape(shape)
        ends = {name: _ends(settings, name) for name in settings}
        return cls(factors, drawn, resampled, ends, explore if callable(explore) else None, key)

    def __call__(self, numbers: dict[str, Array], round_: Array) -> dict[str, Array]:
        """Returns what the copies of these settings train with."""
        new = dict(self._of_function(self.function, numbers, round_)) if self.function else {}
        found = {}
        for name, values in numbers.items():
            value = new[name] if self.function else values * jnp.asarray(self.factors[name])[round_]
            if jnp.issubdtype(values.dtype, jnp.integer):
                value = jnp.round(value)
            value = jnp.where(jnp.asarray(self.resampled)[round_], jnp.asarray(self.drawn[name])[round_], value)
            found[name] = jnp.clip(value, *self.ends[name]).astype(values.dtype)
        return found

    def _of_function(
        self, function: Callable[..., Any], numbers: dict[str, Array], round_: Array
    ) -> Mapping[str, Array]:
        n = len(next(iter(numbers.values())))
        keys = jax.random.split(jax.random.fold_in(self.key, round_), n)

        def explored(setting: dict[str, Array], key: Array) -> dict[str, Array]:
            new = function(setting, key)
            if not isinstance(new, Mapping) or set(new) != set(setting):
                names = ", ".join(setting)
                raise ValueError(f"explore must return a setting with the names {names}; it returned {new!r}")
            found = {name: as_array(f"explore's {name}", value) for name, value in new.items()}
            if odd := [name for name, value in found.items() if value.shape]:
                raise ValueError(f"explore must return numbers; {odd[0]!r} has shape {found[odd[0]].shape}")
            return found

        return jax.vmap(explored)(numbers, keys)


def checked_explore(explore: Any) -> Any:
    """Returns the factors as a tuple, or the function itself.

    Raises:
        TypeError, ValueError: if it is neither.
    """
    if callable(explore):
        return explore
    if isinstance(explore, str) or not isinstance(explore, Sequence):
        raise TypeError(f"explore must be a list of factors, or a function (setting, key) -> setting; got {explore!r}")
    if not explore:
        raise ValueError("explore must hold at least 1 factor; got none")
    for factor in explore:
        checks.check_number("explore", factor, checks.POSITIVE)
    return tuple(explore)


def _check_columns(settings: Settings, explore: Any) -> None:
    """Raises ValueError unless all columns are numbers, and of ranges where they are to be multiplied."""
    for name, column in settings.items():
        if isinstance(column, Static):
            raise ValueError(
                f"settings[{name!r}] must be numbers that are traced: a population is one program, so that its members "
                f"cannot take over {column[0]!r} from each other"
            )
        distribution = settings.space.get(name)
        if isinstance(distribution, Choice) and not callable(explore):
            raise ValueError(
                f"settings[{name!r}] must be of a range to be perturbed; it is a choice of "
                f"{list(distribution.values)}: give explore a function that changes it, or keep it out of settings"
            )


def _ends(settings: Settings, name: str) -> tuple[Any, Any]:
    """Returns the ends of the range; None where it has none, as SciPy's distributions and what is given by hand."""
    distribution: Any = settings.space.get(name)
    if not hasattr(distribution, "low") or not hasattr(distribution, "high"):
        return None, None
    dtype = settings[name].dtype
    return np.asarray(distribution.low, dtype), np.asarray(distribution.high, dtype)
