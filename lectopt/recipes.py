"""How to make an optimizer: from a transformation that is there, or from a function and its numbers."""

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from lectopt._types import Array, Numeric
from lectopt.transforms import accept_dicts

Optimizer: TypeAlias = optax.GradientTransformation | optax.MultiSteps | Callable[..., optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class OptimizerRecipe:
    """How to make the optimizer from numbers. Hashable: what was compiled for one serves for all its numbers."""

    optimizer: Optimizer
    fixed: tuple[tuple[str, Any], ...]  # hyperparameters that are not numbers

    def make(self, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
        """The optimizer with these hyperparameters."""
        if isinstance(self.optimizer, optax.GradientTransformation):
            return accept_dicts(self.optimizer)
        return accept_dicts(_transformation(self.optimizer(**dict(self.fixed), **numbers)))


def as_recipe(
    optimizer: Optimizer, hyperparameters: Mapping[str, Any] | None
) -> tuple[OptimizerRecipe, dict[str, Any]]:
    """The optimizer, checked, apart from the numbers among its hyperparameters."""
    optimizer = _transformation(optimizer)
    if isinstance(optimizer, optax.GradientTransformation):
        if hyperparameters:
            raise ValueError("hyperparameters go with a function such as lo.momentum, not with what it returned")
        return OptimizerRecipe(optimizer, ()), {}
    if not callable(optimizer):
        raise TypeError(
            "optimizer must be an Optax GradientTransformation, or a function that returns one, such as lo.momentum; "
            f"got {type(optimizer).__name__}"
        )
    hyperparameters = dict(hyperparameters or {})
    _check_names(optimizer, hyperparameters)
    made = _transformation(optimizer(**hyperparameters))
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(f"optimizer must return an Optax GradientTransformation; it returned {type(made).__name__}")
    numbers = {name: value for name, value in hyperparameters.items() if _is_numbers(value)}
    fixed = tuple((name, value) for name, value in hyperparameters.items() if name not in numbers)
    for name, value in fixed:
        if not isinstance(value, Hashable):
            raise TypeError(f"hyperparameters[{name!r}] must be numbers or hashable; put it into a function instead")
    return OptimizerRecipe(optimizer, fixed), jax.tree.map(_as_array, numbers)


def _transformation(optimizer: Any) -> Any:
    """`optax.MultiSteps` as what it does; anything else as it is."""
    return optimizer.gradient_transformation() if isinstance(optimizer, optax.MultiSteps) else optimizer


def _check_names(optimizer: Callable, hyperparameters: dict[str, Any]) -> None:
    parameters = inspect.signature(optimizer).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [name for name in hyperparameters if name not in parameters]
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
    """Numbers, arrays and lectopt's schedules, whose numbers are their leaves, but not strings, flags or functions."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(
        not isinstance(leaf, bool) and not callable(leaf) and not isinstance(leaf, str) for leaf in leaves
    )


def _as_array(value: Numeric) -> Array:
    # One dtype for all numbers, whatever was typed, so that 1 compiles nothing after 0.1.
    return jnp.asarray(value, jnp.result_type(float))
