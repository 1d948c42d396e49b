"""NNX modules in parts, structure and arrays by their purpose; and what functions that make them must do."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks


def split(module: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """Splits into graph definition, parameters, random streams, other variables (what `sow` left is dropped)."""
    graphdef, *parts = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    params, rngs, _, state = parts
    return graphdef, params, rngs, state


def reseed(rngs: Any, key: jax.Array) -> Any:
    """Returns random streams with the shapes of `rngs` that start from `key`."""
    leaves, treedef = jax.tree.flatten(rngs)

    def new_stream(i: int, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jax.random.split(jax.random.fold_in(key, i), leaf.shape) if leaf.shape else jax.random.fold_in(key, i)

    return jax.tree.unflatten(treedef, [new_stream(i, leaf) for i, leaf in enumerate(leaves)])


def check_arrays(module: nnx.Module) -> None:
    """Raises unless the arrays of a traced module are variables; others would leak from the trace."""
    kept = [tuple(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(module))]
    for path, node in nnx.iter_graph(module):
        for name, value in vars(node).items() if isinstance(node, nnx.Pytree) else ():
            place = (*map(str, path), name)
            bare = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
            if bare and not any(other[: len(place)] == place for other in kept):
                raise checks.ArgumentError(
                    f"model must keep its arrays in variables; {'.'.join(place)} of {type(module).__name__} is a bare "
                    "array. Make it nnx.Param(array) to train it, nnx.data(array) to have it as a constant, or "
                    "another nnx.Variable"
                )


def check_factory(factory: Callable[..., Any]) -> bool:
    """Tells whether a factory takes random streams by the name `rngs`, not by position; raises if it takes none."""
    try:
        signature = _signature(factory)
    except (TypeError, ValueError):  # a builtin has none
        return False
    by_name = "rngs" in signature.parameters
    try:
        signature.bind(**{"rngs": None}) if by_name else signature.bind(None)
    except TypeError as error:
        raise checks.ArgumentError(
            "model must be a function of one argument, rngs -> nnx.Module, such as lambda rngs: Net(..., rngs=rngs); "
            f"got one of {signature}"
        ) from error
    return by_name


def _signature(factory: Any) -> inspect.Signature:
    if isinstance(factory, functools.partial):
        given = functools.partial(_constructor(factory.func), *factory.args, **factory.keywords)
        return inspect.signature(given)
    return inspect.signature(_constructor(factory))


def _constructor(factory: Any) -> Callable[..., Any]:
    """Returns the function itself, or a class's constructor without `self`, which NNX's metaclass hides."""
    if not isinstance(factory, type):
        return factory
    init = next(vars(c)["__init__"] for c in factory.__mro__ if "__init__" in vars(c))
    return functools.partial(init, None)
