"""Metrics: numbers of single examples, or of all outputs at once."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

from lectopt._internal.types import Array, Numeric
from lectopt.tasks import task_checks

PerExample: TypeAlias = Callable[[Any, Any], Array]
"""(outputs [batch, ...], targets [batch, ...]) -> float[batch]"""


class WholeSetMetric:
    """A metric of all outputs at once, made by `whole_set`; called, it is the function that it marks."""

    def __init__(self, function: Callable[..., Numeric], maximizes: bool | None = None):
        functools.update_wrapper(self, function)
        self.function = function
        self.maximizes = maximizes  # None where that is not known

    def __call__(self, *args: Any, **kwargs: Any) -> Numeric:
        """Computes the metric."""
        return self.function(*args, **kwargs)


def whole_set(function: Callable[[Any, Any, Array], Numeric]) -> WholeSetMetric:
    """Marks a metric that is not a mean over examples, such as an F score or an area under a curve.

    Args:
        function: (outputs [n, ...], targets [n, ...], weights float32[n]) -> a scalar, written in JAX. Examples of
            weight 0 are padding and must not count.

    Returns:
        The marked metric, to be put among the metrics of a `Task`.

    Raises:
        TypeError: if function is not a function of these three arguments.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> @lo.whole_set
        ... def explained_variance(outputs, targets, weights):
        ...     mean = jnp.average(targets, axis=0, weights=weights)
        ...     rest = jnp.sum((targets - outputs) ** 2 * weights[:, None])
        ...     return 1 - rest / jnp.sum((targets - mean) ** 2 * weights[:, None])
    """
    task_checks.check_function("a metric of the whole set", function, "outputs, targets, weights")
    return WholeSetMetric(function)
