"""`replicate`: the same from several seeds, side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lectopt._internal.keys import as_key
from lectopt.search.hyperparameter_search import Search
from lectopt.training.run import Run


def replicate(function: Callable[[Any], Any], seeds: int, *, key: Any, progress: bool = True) -> dict[str, np.ndarray]:
    """Calls a function of a key once for each seed, all in one compiled program, and returns its numbers.

    One training says little: how far another start, or another order of the examples, would lead elsewhere is told by a
    few more. The calls run side by side as those of `lo.sweep` do, split over all local devices, and from the same
    keys; one that diverges gives NaN, and changes no other.

    Args:
        function: a pure JAX function `function(key)` that returns a `Run` or a dictionary of scalars; `key` is a typed
            `jax.random.key`.
        seeds: number of calls, at least 1, each with a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all calls are derived.
        progress: whether to print the plan and a progress bar on standard error; True by default.

    Returns:
        {name: float32[seeds]}, the metrics of all calls.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above.
        TypeError: if an argument has the wrong type, or the function returns neither a `Run` nor a dictionary of
            scalars.

    Example:
        >>> import jax
        >>> import lectopt as lo
        >>> scores = lo.replicate(lambda key: {"score": jax.random.normal(key)}, 100, key=0, progress=False)
        >>> print(scores["score"].shape, abs(scores["score"].mean()) < 0.3)
        (100,) True

    Source: X. Bouthillier et al. (2021), "Accounting for Variance in Machine Learning Benchmarks", MLSys.
    """
    if not callable(function):
        raise TypeError(f"function must be a function of a key; got {function!r}")
    outcome = jax.eval_shape(function, as_key(key))
    metrics = outcome.metrics if isinstance(outcome, Run) else outcome
    if not isinstance(metrics, Mapping):
        raise TypeError(f"function must return a lectopt.Run or a dictionary of scalars; got {type(outcome).__name__}")

    def trial(setting: Any, key: Any) -> Any:
        return function(key)

    # A setting there must be, and a metric to choose by, though there is nothing to choose.
    first = next((name for name in metrics if name != "diverged_at"), "")
    found = Search.of(trial, {"setting": [0]}, None, minimize=first, seeds=seeds, key=key, progress=progress).run()
    return {name: values[0, 0] for name, values in found.metrics.items()}
