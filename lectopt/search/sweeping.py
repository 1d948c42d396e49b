"""`sweep` and `cross_validate`: all settings of a search, side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lectopt.data.folds import Folds, check_folds
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
    """Trains once for each setting and each seed, all in one compiled program.

    One training, of one setting from one seed, is a *lane*. The lanes run side by side along a batch axis (`jax.vmap`)
    and are split over all local devices; in a multi-process JAX program, over all processes too. The key of a lane
    depends on its seed alone, so that all settings start from the same initial weights and can be compared in pairs.

    A diverging lane is an outcome like any other: its metrics are NaN, and the other lanes are unaffected. Therefore
    `jax_debug_nans` and `jax_disable_jit` are switched off during a search; `Results.replay` runs a single lane under
    whatever modes are set.

    Args:
        trial: a pure JAX function `trial(setting, key)` that returns a `Run` or a dictionary of scalars
            `{"metric": value}`. `setting` is a dictionary `{"name": value}`: numbers are traced arrays of shape (),
            everything else is a Python value. `key` is a typed `jax.random.key`. An entry "diverged_at" of the
            dictionary does not count as a metric: it is the step (an integer) at which the training ceased to be
            finite, or -1.
        settings: the n settings to compare: a dictionary `{"name": array[n] or list of n}`, as `lo.grid` and
            `lo.sample` return it; a list of n dictionaries `{"name": value}`; or a pandas DataFrame with one row per
            setting. All settings must differ. Numbers are passed to the trial as traced arrays and share one compiled
            program; strings, flags and columns of type `lo.space.Static` stay Python values, and each combination of
            them is compiled separately.
        minimize: name of the metric to choose by if lower is better, such as "valid_loss". Exactly one of `minimize`
            and `maximize` must be given.
        maximize: name of the metric to choose by if higher is better, such as "valid_accuracy"; None if `minimize` is
            given.
        seeds: number of trainings of each setting, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all lanes are derived.
        halving: a `lo.Halving`, which stops the worse settings early; the trial is then called with two more keyword
            arguments, `epochs` and `start`. None trains every setting to the end.
        chunk: number of settings that are trained at once. None starts with about 40 lanes per device and then chooses
            the fastest number by timing, as far as memory allows.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished lanes; it is created if necessary. A search that was
            interrupted in any way continues from there when it is called again with the same arguments, and ends as an
            uninterrupted one would; with more settings or seeds, only what is new runs. None keeps nothing on disk.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        The `Results`, with metrics of shape [n, 1, seeds]. In an interactive session (a notebook, IPython or the Python
        prompt), Ctrl-C returns the results so far, with a warning; settings that were not run hold NaN and rank last.

    Warns:
        UserWarning: if no setting has a finite score; if the best value of a hyperparameter lies at an end of the range
            that was searched, and is better than the values inside by more than the noise of the seeds explains.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, or if the trial does not
            return the metric; if `directory` holds another search; if even a single lane needs more than `memory`.
        TypeError: if an argument has the wrong type, the trial does not take the arguments named above, or it returns
            neither a `Run` nor a dictionary of scalars. Other exceptions raised by the trial are passed on; a note says
            so where a traced number would have to be static.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions; its attribute `results` holds the results so far, if
            there are any. Outcomes in `directory` are kept.

    Example:
        >>> import lectopt as lo
        >>> def trial(setting, key):
        ...     return {"loss": (setting["x"] - 0.3) ** 2}
        >>> settings = lo.grid({"x": lo.space.uniform(0.0, 1.0)}, points=11)
        >>> results = lo.sweep(trial, settings, minimize="loss", key=0)
        >>> results.best()
        {'x': 0.3}

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Options for Hyperparameter search" and
    "Grid-Search & Random Search"; Goodfellow, Bengio and Courville (2016), "Deep Learning", sections 11.4.3 and 11.4.4.
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
    r"""Trains once for each setting, fold and seed, all in one compiled program.

    In m-fold cross-validation the examples are divided into m parts of about equal size; fold i trains on all parts but
    the i-th and is validated on that one. With the metric :math:`s_{hij}` of setting h on fold i from seed j of r, a
    setting is judged by its mean, and the variance over folds tells how reliable that is:

    .. math:: \bar s_h = \frac{1}{m} \sum_{i=1}^{m} s_{hi}, \qquad \operatorname{var}_h = \frac{1}{m - 1}
        \sum_{i=1}^{m} (s_{hi} - \bar s_h)^2, \qquad s_{hi} = \frac{1}{r} \sum_{j=1}^{r} s_{hij}

    One training, of one setting on one fold from one seed, is a *lane*. The lanes run side by side along batch axes
    (`jax.vmap`) and are split over all local devices; in a multi-process JAX program, over all processes too. The folds
    are index sets into one copy of the examples. The key of a lane depends on its fold and seed alone, so that all
    settings start from the same initial weights and can be compared in pairs.

    A diverging lane is an outcome like any other: its metrics are NaN, and the other lanes are unaffected. Therefore
    `jax_debug_nans` and `jax_disable_jit` are switched off during a search; `Results.replay` runs a single lane under
    whatever modes are set.

    Args:
        trial: a pure JAX function `trial(setting, train, valid, key)` that returns a `Run` or a dictionary of scalars
            `{"metric": value}`. `setting` is a dictionary `{"name": value}`: numbers are traced arrays of shape (),
            everything else is a Python value. `key` is a typed `jax.random.key`. `train` and `valid` are the two
            `Subset`s of a fold, to be handed to `lo.train`. An entry "diverged_at" of the dictionary does not count as
            a metric: it is the step (an integer) at which the training ceased to be finite, or -1.
        settings: the n settings to compare: a dictionary `{"name": array[n] or list of n}`, as `lo.grid` and
            `lo.sample` return it; a list of n dictionaries `{"name": value}`; or a pandas DataFrame with one row per
            setting. All settings must differ. Numbers are passed to the trial as traced arrays and share one compiled
            program; strings, flags and columns of type `lo.space.Static` stay Python values, and each combination of
            them is compiled separately.
        folds: the `Folds`, as `lo.k_fold`, `lo.stratified_k_fold`, `lo.leave_one_out` and `lo.from_indices` return
            them.
        minimize: name of the metric to choose by if lower is better, such as "valid_loss". Exactly one of `minimize`
            and `maximize` must be given.
        maximize: name of the metric to choose by if higher is better, such as "valid_accuracy"; None if `minimize` is
            given.
        seeds: number of trainings of each setting on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all lanes are derived.
        halving: a `lo.Halving`, which stops the worse settings early; the trial is then called with two more keyword
            arguments, `epochs` and `start`. None trains every setting to the end.
        chunk: number of settings that are trained at once. None starts with about 40 lanes per device and then chooses
            the fastest number by timing, as far as memory allows.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished lanes; it is created if necessary. A search that was
            interrupted in any way continues from there when it is called again with the same arguments, and ends as an
            uninterrupted one would; with more settings or seeds, only what is new runs. None keeps nothing on disk.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        The `Results`, with metrics of shape [n, folds, seeds]. In an interactive session (a notebook, IPython or the
        Python prompt), Ctrl-C returns the results so far, with a warning; settings that were not run hold NaN and rank
        last.

    Warns:
        UserWarning: if no setting has a finite score; if the best value of a hyperparameter lies at an end of the range
            that was searched, and is better than the values inside by more than the noise of folds and seeds explains.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, or if the trial does not
            return the metric; if `directory` holds another search; if even a single lane needs more than `memory`.
        TypeError: if an argument has the wrong type, the trial does not take the arguments named above, or it returns
            neither a `Run` nor a dictionary of scalars. Other exceptions raised by the trial are passed on; a note says
            so where a traced number would have to be static.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions; its attribute `results` holds the results so far, if
            there are any. Outcomes in `directory` are kept.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     optimizer = lo.sgd(setting["learning_rate"])
        ...     return lo.train(task, optimizer, train, valid=valid, batch_size=30, epochs=5, key=key)
        >>> folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)
        >>> settings = {"learning_rate": [0.01, 1.0, 100.0]}
        >>> results = lo.cross_validate(trial, settings, folds, minimize="valid_loss", key=0)
        >>> results.metrics["valid_loss"].shape
        (3, 3, 1)
        >>> results.best()
        {'learning_rate': 1.0}

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Cross-validation"; Stone (1974),
    "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal Statistical Society B 36;
    Goodfellow, Bengio and Courville (2016), "Deep Learning", section 5.3.1.
    """
    check_folds(folds)
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
