"""Labels and masks as plain dictionaries, for parameters that Flax keeps in an `nnx.State`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from lectopt._internal import checks


def accept_dicts(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Lets an optimizer's labels or masks be plain dictionaries where the parameters are an `nnx.State`.

    `optax.partition` and `optax.masked` require labels of the very types of the parameters. Given an `nnx.State` that
    does not match them, the optimizer is handed plain dictionaries instead; nothing else changes. `lectopt.fit`,
    `train` and `add_l2` do so by themselves; an `nnx.Optimizer` needs it.

    Args:
        optimizer: any Optax optimizer or link.

    Returns:
        The same optimizer, which takes both; its updates have the type of the gradients.

    Raises:
        TypeError: if optimizer is not an Optax optimizer.

    Example:
        >>> import optax, lectopt as lo
        >>> from flax import nnx
        >>> model = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 3, rngs=nnx.Rngs(1)))
        >>> labels = {"layers": {0: "first", 2: "last"}}
        >>> parts = optax.partition({"first": optax.set_to_zero(), "last": lo.adam(1e-3)}, labels)
        >>> optimizer = nnx.Optimizer(model, lo.accept_dicts(parts), wrt=nnx.Param)
    """
    checks.check_optimizer("optimizer", optimizer)
    inner = _with_known_extra_args(optimizer)

    def init(params: Any) -> optax.OptState:
        return _with_dicts_if_needed(inner.init, params)

    def update(updates: Any, state: optax.OptState, params: Any = None, **extra: Any) -> tuple[Any, optax.OptState]:
        new, state = _with_dicts_if_needed(
            lambda updates, params: inner.update(updates, state, params, **extra), updates, params
        )
        if isinstance(updates, nnx.State) and not isinstance(new, nnx.State):
            new = jax.tree.unflatten(jax.tree.structure(updates), jax.tree.leaves(new))
        return new, state

    return optax.GradientTransformationExtraArgs(init, update)


def _with_known_extra_args(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Passes on only those extra arguments that it takes; `optax.contrib.sam` takes just one of its own."""
    inner = optax.with_extra_args_support(optimizer)
    parameters = inspect.signature(inner.update).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return inner
    names = {p.name for p in parameters}

    def update(updates: Any, state: optax.OptState, params: Any = None, **extra: Any) -> tuple[Any, optax.OptState]:
        return inner.update(updates, state, params, **{name: x for name, x in extra.items() if name in names})

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _with_dicts_if_needed(function: Callable[..., Any], *trees: Any) -> Any:
    """Calls the function with the trees as they are, or with dictionaries if its own trees are dictionaries."""
    try:
        return function(*trees)
    except ValueError:  # JAX's, where structures differ
        if not any(isinstance(tree, nnx.State) for tree in trees):
            raise
        return function(*[nnx.to_pure_dict(tree) if isinstance(tree, nnx.State) else tree for tree in trees])
