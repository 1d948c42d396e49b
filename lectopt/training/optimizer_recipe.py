"""How to make an optimizer: from an existing transformation, or from a function and its numbers."""

import dataclasses
import inspect
import numbers
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._internal import checks
from lectopt._internal.types import Array, Numeric
from lectopt.optim.dict_masks import accept_dicts

Optimizer: TypeAlias = optax.GradientTransformation | optax.MultiSteps | Callable[..., optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class OptimizerRecipe:
    """How to make the optimizer from numbers. Hashable: what was compiled for one serves for all its numbers."""

    optimizer: Optimizer
    fixed: tuple[tuple[str, Any], ...]  # hyperparameters that are not numbers

    def make(self, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
        """Makes the optimizer with these hyperparameters."""
        if isinstance(self.optimizer, optax.GradientTransformation):
            return accept_dicts(self.optimizer)
        return accept_dicts(_transformation(self.optimizer(**dict(self.fixed), **numbers)))


def as_recipe(
    optimizer: Optimizer, hyperparameters: Mapping[str, Any] | None
) -> tuple[OptimizerRecipe, dict[str, Any]]:
    """Checks the optimizer, and returns it apart from the numbers among its hyperparameters."""
    optimizer = _transformation(optimizer)
    if isinstance(optimizer, optax.GradientTransformation):
        if hyperparameters is not None and not (isinstance(hyperparameters, Mapping) and not hyperparameters):
            raise ValueError("hyperparameters go with a function such as lo.momentum, not with what it returned")
        return OptimizerRecipe(optimizer, ()), {}
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be an Optax GradientTransformation, or a function that returns one, such as lo.momentum; "
            f"got {type(optimizer).__name__}"
        )
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise TypeError(
            f"hyperparameters must be a dictionary of arguments for the optimizer; got {type(hyperparameters).__name__}"
        )
    hyperparameters = dict(hyperparameters or {})
    _check_names(optimizer, hyperparameters)
    made = _transformation(optimizer(**hyperparameters))
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(f"optimizer must return an Optax GradientTransformation; it returned {type(made).__name__}")
    traceable = {name: value for name, value in hyperparameters.items() if _is_numbers(value)}
    fixed = tuple((name, value) for name, value in hyperparameters.items() if name not in traceable)
    for name, value in fixed:
        if not isinstance(value, Hashable):
            raise TypeError(f"hyperparameters[{name!r}] must be numbers or hashable; put it into a function instead")
    for name, value in traceable.items():
        for leaf in jax.tree.leaves(value):
            _check_leaf(f"hyperparameters[{name!r}]", leaf)
    return OptimizerRecipe(optimizer, fixed), jax.tree.map(_as_array, traceable)


def _transformation(optimizer: Any) -> Any:
    """Returns the transformation of an `optax.MultiSteps`; anything else as it is."""
    return optimizer.gradient_transformation() if isinstance(optimizer, optax.MultiSteps) else optimizer


def _check_names(optimizer: Callable[..., Any], hyperparameters: dict[str, Any]) -> None:
    parameters = inspect.signature(optimizer).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [str(name) for name in hyperparameters if name not in parameters]
        if unknown:
            raise ValueError(f"hyperparameters must be among {', '.join(parameters)}; got {', '.join(unknown)}")
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in hyperparameters
    ]
    if missing:
        raise ValueError(f"hyperparameters must hold {', '.join(missing)}, which the optimizer has no default for")


def _is_numbers(value: Any) -> bool:
    """Tells numbers, arrays and lectopt's schedules (their leaves are numbers) from strings, flags and functions."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(map(_is_number, leaves))


def _is_number(leaf: Any) -> bool:
    flag = isinstance(leaf, (bool, np.bool_, str))
    return isinstance(leaf, (numbers.Number, np.generic, np.ndarray, jax.Array)) and not flag


def _check_leaf(name: str, leaf: Any) -> None:
    """Raises unless it is real numbers that the optimizer's precision can hold; traced ones pass."""
    dtype = jnp.result_type(float)
    if isinstance(leaf, int) and abs(leaf) > sys.float_info.max:
        raise ValueError(f"{name} must be numbers that {dtype} can hold; got one of {len(str(leaf))} digits")
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if not real and not isinstance(leaf, numbers.Real):
        raise TypeError(f"{name} must be real numbers; got {leaf!r} ({array.dtype})")
    if checks.is_traced(leaf):
        return
    wide = np.asarray(array).astype(float)
    with np.errstate(over="ignore"):
        rounded = wide.astype(dtype)
    cut = jnp.issubdtype(array.dtype, jnp.integer) & (rounded.astype(float) != wide)
    if np.isnan(wide).any() or np.any(cut | (np.isinf(rounded) & np.isfinite(wide))):
        raise ValueError(f"{name} must be numbers that {dtype} can hold; got {leaf!r}")


def _as_array(value: Numeric) -> Array:
    # One dtype for all numbers, whatever was typed, so that 1 compiles nothing after 0.1.
    return jnp.asarray(value, jnp.result_type(float))
