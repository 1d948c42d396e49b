"""A lane is one training among those that a program runs side by side: one setting, on one fold, from one seed.

The user's trial becomes one, as a pure function (numbers of the setting, fold and seed, start, shared) -> `Outcome`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.data.folds import Folds
from lectopt.training.run import Run


class FoldAndSeed(NamedTuple):
    """What a lane trains on and starts from: equal for all settings, so that they are compared in pairs."""

    fold: Any  # int32[] (or [pairs])
    seed: Any

    def key(self, key: jax.Array) -> jax.Array:
        """Returns the key of the lane, given that of the search."""
        return jax.random.fold_in(jax.random.fold_in(key, self.fold), self.seed)


class Shared(NamedTuple):
    """What all lanes read."""

    folds: Folds | None
    key: jax.Array


class Outcome(NamedTuple):
    """The outcome of a lane."""

    metrics: dict[str, Array]  # float32[], NaN where they were not finite
    diverged_at: Array  # int32[], -1 if it did not
    kept: Any  # what a lane of the next rung starts from, or None


@dataclasses.dataclass(frozen=True)
class Trial:
    """The user's function, and how a lane calls it."""

    function: Callable[..., Any]

    def check(self, *, folds: bool, halving: bool) -> None:
        """Raises TypeError unless the function takes the arguments that it will be called with."""
        names = ["setting", "train", "valid", "key"] if folds else ["setting", "key"]
        self.check_call(names, ["epochs", "start"] if halving else [], " for halving" if halving else "")

    def check_call(self, names: Sequence[str], extra: Sequence[str], why: str) -> None:
        """Raises TypeError unless the function can be called with these arguments, and these by name."""
        try:
            inspect.signature(self.function).bind(*names, **dict.fromkeys(extra))
        except ValueError:  # of some builtins nothing is known
            return
        except TypeError as error:
            call = ", ".join([*names, *(f"{name}=" for name in extra)])
            raise TypeError(f"trial must be a function that can be called as trial({call}){why}; {error}") from error

    def call(self, setting: Mapping[str, Any], pair: FoldAndSeed, shared: Shared, **extra: Any) -> Any:
        """Returns what the user's function returns for one lane."""
        key = pair.key(shared.key)
        if shared.folds is None:
            return self.function(dict(setting), key, **extra)
        train, valid = shared.folds.at(pair.fold)
        return self.function(dict(setting), train, valid, key, **extra)


def outcome(returned: Any) -> Outcome:
    """Returns the outcome of what a trial returned, after checking it.

    Raises:
        TypeError: unless it is a Run or a dictionary of numbers.
        ValueError: if one of them is not a scalar.
    """
    if isinstance(returned, Run):
        return Outcome(_scalars(returned.metrics), jnp.int32(returned.diverged_at), None)
    if not isinstance(returned, Mapping) or not returned:
        found = (
            f"an empty {type(returned).__name__}"
            if isinstance(returned, Mapping)
            else checks.type_description(returned)
        )
        raise TypeError(f"trial must return a lectopt.Run or a dictionary of scalars; it returned {found}")
    diverged_at = _diverged_at(returned.get("diverged_at", -1))
    metrics = _scalars({name: value for name, value in returned.items() if name != "diverged_at"})
    lost = diverged_at >= 0
    return Outcome({name: jnp.where(lost, jnp.nan, value) for name, value in metrics.items()}, diverged_at, None)


def _diverged_at(value: Any) -> Array:
    """Returns the step at which a trial says that it diverged, -1 if it did not."""
    if not jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.integer) or jnp.shape(value):
        found = f"{value.dtype}{list(value.shape)}" if isinstance(value, jax.Array) else repr(value)
        raise TypeError(f"trial must return a whole number, or -1, as 'diverged_at'; it returned {found}")
    return jnp.asarray(value, jnp.int32)


def _scalars(values: Mapping[str, Any]) -> dict[str, Array]:
    scalars = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise TypeError(f"trial must return scalars by name; got the name {name!r}")
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"trial must return scalars; {name!r} is {type(value).__name__}") from error
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(f"trial must return real scalars; {name!r} is {array.dtype}")
        array = array.astype(jnp.float32)
        if array.shape != ():
            raise ValueError(f"trial must return scalars; {name!r} has shape {array.shape}")
        scalars[name] = jnp.where(jnp.isfinite(array), array, jnp.nan)
    return scalars


class TrialLane:
    """A lane that runs a trial from beginning to end."""

    def __init__(self, trial: Trial, static: Mapping[str, Any]):
        self._trial = trial
        self.static = static

    def __call__(self, numbers: Mapping[str, Any], pair: FoldAndSeed, start: Any, shared: Shared) -> Outcome:
        """Returns the outcome of a lane, which starts from nothing."""
        return outcome(self._trial.call({**self.static, **numbers}, pair, shared))
