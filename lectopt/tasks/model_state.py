"""What belongs to a model beside its parameters, and how its inputs are standardized."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal.numerics import working_dtype
from lectopt.data.subsets import Subset
from lectopt.norms.moments import Moments, measure
from lectopt.norms.standardize import standardized
from lectopt.tasks.models import State


class ModelState(NamedTuple):
    """What belongs to a model apart from its parameters.

    Attributes:
        variables: a tree of arrays, the model's other variables, such as batch statistics.
        inputs: the Moments of the training part's inputs, float32[features] each; None without `standardize`.
    """

    variables: State
    inputs: Moments | None


def empty_moments(x: Any) -> Moments:
    """Returns the moments of no inputs yet, for inputs of this shape."""
    if not hasattr(x, "ndim") or x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.number):
        raise ValueError("standardize needs inputs that are one array of numbers, of shape (n, ..., features)")
    return Moments(*(jnp.zeros(x.shape[-1], working_dtype(x.dtype)) for _ in Moments._fields))


def learn_inputs(state: ModelState, train: Subset) -> ModelState:
    """Learns the means and variances of the training part's inputs; changes nothing without `standardize`."""
    if state.inputs is None:
        return state
    x, mask = train.take(train.indices)[0], train.mask
    moments = measure(x, range(x.ndim - 1), mask.reshape(-1, *[1] * (x.ndim - 1)))
    inputs = jax.tree.map(lambda new, old: new.reshape(-1).astype(old.dtype), moments, state.inputs)
    return state._replace(inputs=inputs)


def standardize_inputs(x: Any, state: ModelState) -> Any:
    """Brings inputs to zero mean and unit variance per feature; changes nothing without `standardize`."""
    return x if state.inputs is None else standardized(x, state.inputs)
