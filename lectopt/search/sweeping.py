"""`sweep` and `cross_validate`: all settings of a search, side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lectopt.data import Folds
from lectopt.search.halving import Halving
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.result_warnings import warn_of_edges
from lectopt.search.results import Results


def sweep(
    trial: Callable[..., Any],
    settings: Any,
    *,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    halving: Halving | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Results:
    """Runs a trial for each setting, from each seed, as one compiled program.

    Args:
        trial: a pure JAX function (setting, key) -> a `Run`, or a dictionary of scalars. `setting` is
            {"name": value}: numbers are traced, what is static is a Python value. "diverged_at" in the dictionary is
            no metric: it says at which step the training ceased to be finite, -1 if it did not.
        settings: {"name": array[n] or list of n}, as `grid` and `sample` return; a list of n dictionaries
            {"name": value}; or a DataFrame with a row for each setting. Numbers are traced and share one program;
            `lo.space.Static` columns, strings and flags are Python values, a program for each combination.
        minimize: the metric to choose by, where less is better; give this or maximize.
        maximize: the metric to choose by, where more is better.
        seeds: how many times each setting is run. A lane's key depends on its seed alone, so that settings start alike.
        key: an int or a `jax.random.key`.
        halving: drop the worse settings early; see `Halving`.
        chunk: settings at once. By default as many as memory allows and as run fastest, found by measuring.
        memory: bytes that the program may take, on all devices together; by default half of what is free.
        directory: keep what is finished here. Killed at any moment and called again with the same arguments, the
            search goes on from there.
        progress: say on standard error what will be run, and show a bar.

    Returns:
        Results. Ctrl-C gives back what is done, with a warning, where a person sits in front of it (a notebook,
        IPython, Python's prompt); the settings that were not run hold NaN and are ranked last. A lane that diverges
        is a result like any other, so that `jax_debug_nans` is off within a search, and `jax_disable_jit` too;
        `results.replay` runs a lane with them.

    Warns:
        UserWarning: if no setting has a score; or if the best value of a hyperparameter stands at an end of its space
            and is better than those inside beyond the noise of folds and seeds.

    Raises:
        ValueError, TypeError: before anything compiles, if an argument is not as described above; if directory holds
            another search. What the trial raises while it is traced comes as it is, with a note where a traced number
            should be a Python number.
        KeyboardInterrupt: on Ctrl-C elsewhere. What is in directory stays.

    Example:
        >>> import lectopt as lo, jax.numpy as jnp
        >>> def trial(setting, key):
        ...     return {"loss": (setting["x"] - 0.3) ** 2}
        >>> results = lo.sweep(trial, lo.grid({"x": lo.space.uniform(0.0, 1.0)}, points=11), minimize="loss", key=0)
        >>> results.best()
        {'x': 0.3}

    Source: the lecture, "Grid Search" and "Random Search".
    """
    search = Search.of(
        trial,
        settings,
        None,
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        halving=halving,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )
    results = run_or_keep_partial(search)
    return warn_of_edges(results) if search.finished else results


def cross_validate(
    trial: Callable[..., Any],
    settings: Any,
    folds: Folds,
    *,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    halving: Halving | None = None,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Results:
    """Runs a trial for each setting, on each fold, from each seed, as one compiled program.

    Args:
        trial: a pure JAX function (setting, train, valid, key) -> a `Run`, or a dictionary of scalars; see `sweep`.
            `train` and `valid` are Subsets.
        settings: as for `sweep`.
        folds: as `k_fold`, `stratified_k_fold`, `leave_one_out` and `from_indices` return.
        minimize: as for `sweep`.
        maximize: as for `sweep`.
        seeds: as for `sweep`; a lane's key depends on its fold and seed alone.
        key: as for `sweep`.
        halving: as for `sweep`.
        chunk: as for `sweep`.
        memory: as for `sweep`.
        directory: as for `sweep`.
        progress: as for `sweep`.

    Returns:
        Results.

    Raises:
        ValueError, TypeError: as `sweep`.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     return lo.train(task, lo.sgd(**setting), train, valid=valid, batch_size=30, epochs=20, key=key)
        >>> folds = lo.stratified_k_fold(lo.datasets.iris(), 5, key=0)
        >>> settings = lo.grid({"learning_rate": lo.space.log_uniform(1e-3, 100.0)}, points=9)
        >>> results = lo.cross_validate(trial, settings, folds, minimize="valid_loss", key=0)
        >>> results.metrics["valid_loss"].shape
        (9, 5, 1)
        >>> bool(results.mean("valid_accuracy")[results.best_index] > 0.9)
        True

    Source: the lecture, "Cross-Validation".
    """
    if not isinstance(folds, Folds):
        raise TypeError(f"folds must be lectopt.Folds, as lectopt.k_fold returns; got {type(folds).__name__}")
    search = Search.of(
        trial,
        settings,
        folds,
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        halving=halving,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )
    results = run_or_keep_partial(search)
    return warn_of_edges(results) if search.finished else results
