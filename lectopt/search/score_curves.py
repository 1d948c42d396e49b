"""Scores of the training and of the validation part against one number: how many examples, or a hyperparameter."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.arrays import as_numpy
from lectopt._internal.keys import as_key
from lectopt._internal.types import Array
from lectopt.data.folds import Folds, check_folds
from lectopt.data.subsets import Subset
from lectopt.search.hyperparameter_search import Search
from lectopt.search.partial_results import run_or_keep_partial
from lectopt.search.results import Results
from lectopt.search.settings import Settings, as_settings
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES = "examples"


@dataclasses.dataclass(frozen=True)
class ScoreCurve:
    """Scores against one number: what `lo.learning_curve` and `lo.validation_curve` return.

    Attributes:
        name: what is varied: "examples", or the name of a hyperparameter.
        results: the `Results` of all trainings, one setting for each value, with `metrics`, `replay`, `runs`.
    """

    name: str
    results: Results

    @property
    def values(self) -> Any:
        """The values that were tried: an array [n] of numbers, or a list of n Python values."""
        return self.results.settings[self.name]

    @property
    def valid(self) -> np.ndarray:
        """The metric by which the results are ranked: float32[n, folds, seeds]."""
        return self.results.metrics[self.results.metric]

    @property
    def train(self) -> np.ndarray:
        """The same metric on the examples that were trained on, after training: float32[n, folds, seeds].

        Raises:
            ValueError: if the trial returned a dictionary that lacks it.
        """
        name = _of_training(self.results.metric)
        if name not in self.results.metrics:
            raise ValueError(f"trial must return a lectopt.Run, or {name!r} too, for the scores of the training part")
        return self.results.metrics[name]

    def to_pandas(self) -> Any:
        """Returns a table with one row for each value.

        Returns:
            A `pandas.DataFrame`: a column with the values, then the mean of each metric and, as `<metric>_sem`, its
            standard error, and "diverged", how many trainings diverged.
        """
        table = self.results.to_pandas()
        constant = [name for name in self.results.settings if name != self.name]
        return table.drop(columns=[*constant, "rank", "p_value"], errors="ignore")

    def plot(self, metric: str | None = None) -> "Figure":
        """Plots the means over folds and seeds, with standard deviations over folds as bands.

        Args:
            metric: the name of a metric, such as "valid_loss"; None takes the one that was asked for. That of the
                training part is drawn beside it, if there is one.

        Returns:
            A matplotlib figure.

        Raises:
            ValueError: if there is no such metric.
        """
        from lectopt.plots.score_curves import plot_score_curves  # noqa: PLC0415, matplotlib is heavy

        results, metric = self.results, self.results.metric if metric is None else metric
        results.mean(metric)  # raises if there is no such metric
        names = [metric] if _of_training(metric) not in results.metrics else [_of_training(metric), metric]
        curves = {name: (results.mean(name), results.std(name)) for name in dict.fromkeys(names)}
        column, logarithmic = results.settings.drawable()[self.name], results.settings.is_logarithmic(self.name)
        name = "training examples" if self.name == _EXAMPLES else self.name
        maximizes = results.maximizes if metric == results.metric else False if metric.endswith("loss") else None
        return plot_score_curves(column, curves, name=name, logarithmic=logarithmic, maximizes=maximizes)


def learning_curve(
    trial: Callable[..., Any],
    setting: Any,
    folds: Folds,
    *,
    sizes: Any = (0.1, 0.325, 0.55, 0.775, 1.0),
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> ScoreCurve:
    """Trains on more and more examples, all sizes, folds and seeds in one compiled program.

    Where the two curves have met, more examples will not help, and a larger model may; where they are far apart, more
    examples will. Each fold's training part is shuffled once, and each size takes the first so many of it, so that
    larger parts hold the smaller ones; the validation parts stay whole. It is scikit-learn's `learning_curve` with
    `shuffle=True`.

    All trainings share one program, in which a smaller part is a masked larger one: an epoch takes as long for all
    sizes, though it has fewer steps.

    Args:
        trial: a pure JAX function `trial(setting, train, valid, key)` that returns a `Run`, or a dictionary of scalars
            `{"metric": value}`. `setting` is a dictionary `{"name": value}`: numbers are traced arrays of shape (),
            everything else is a Python value. `train` and `valid` are the two `Subset`s of a fold. `key` is a typed
            `jax.random.key`. The model of a `Run` is scored on what it was trained on too, as "train_loss" and
            `train_<metric>`.
        setting: the setting to train with, `{"name": value}`, such as `results.best()`; it may be empty. Where numbers
            have to stay Python values, `lo.settings([{"name": value}], static=["name"])`.
        folds: the `Folds`, as `lo.k_fold`, `lo.stratified_k_fold` and `lo.from_indices` return them.
        sizes: numbers of training examples, whole numbers of at least 1, or shares in (0, 1] of the smallest training
            part; by default five from 10 % to all. Sizes that come out equal count once.
        minimize: name of the metric to show if lower is better, such as "valid_loss". Exactly one of `minimize` and
            `maximize` must be given.
        maximize: name of the metric to show if higher is better; None if `minimize` is given.
        seeds: number of trainings of each size on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the orders and the keys of all trainings are derived. The key of a
            training depends on its fold and seed alone.
        chunk: number of sizes that are trained at once; None chooses.
        memory: upper limit, in bytes, on what the compiled program may use. None takes half of the host's
            free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished trainings, from which an interrupted call continues; None
            keeps nothing.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        The `ScoreCurve`, with `train` and `valid` of shape [sizes, folds, seeds], `to_pandas` and `plot`.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, such as a size beyond the
            smallest training part, or if the trial does not return the metric.
        TypeError: if an argument has the wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=20, epochs=9, key=key)
        >>> folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)
        >>> curve = lo.learning_curve(trial, {"rate": 0.3}, folds, sizes=[20, 60, 100], minimize="valid_loss", key=0)
        >>> curve.values, curve.valid.shape
        (array([ 20,  60, 100], dtype=int32), (3, 3, 1))
        >>> bool(curve.valid[2].mean() < curve.valid[0].mean())  # more examples help
        True

    Source: Cortes, Jackel, Solla, Vapnik and Denker (1993), "Learning curves: asymptotic values and rate of
    convergence", NeurIPS.
    """
    base = _one_setting(setting, folds)
    if _EXAMPLES in base:
        raise ValueError(f"setting must not have the name {_EXAMPLES!r}, by which the curve calls its sizes")
    key = as_key(key)
    counts = _counts(sizes, folds.train.least)
    function = _OnFirstExamples(trial, int(counts[0])) if callable(trial) else trial
    return _curve(
        _EXAMPLES,
        function,
        _varied(base, _EXAMPLES, counts),
        shuffled_training(folds, key),
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )


def validation_curve(
    trial: Callable[..., Any],
    setting: Any,
    folds: Folds,
    *,
    name: str,
    values: Any,
    minimize: str | None = None,
    maximize: str | None = None,
    seeds: int = 1,
    key: Any,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> ScoreCurve:
    """Trains with several values of one hyperparameter, and scores training and validation parts.

    On one side of the best value the two curves lie together and are bad (underfitting), on the other side they part
    (overfitting). All values, folds and seeds are one compiled program, or one for each value of a hyperparameter that
    is static. It is scikit-learn's `validation_curve`.

    Args:
        trial: a pure JAX function `trial(setting, train, valid, key)` that returns a `Run`, or a dictionary of scalars
            `{"metric": value}`. `setting` is a dictionary `{"name": value}`: numbers are traced arrays of shape (),
            everything else is a Python value. `train` and `valid` are the two `Subset`s of a fold. `key` is a typed
            `jax.random.key`. The model of a `Run` is scored on what it was trained on too, as "train_loss" and
            `train_<metric>`.
        setting: the values of the other hyperparameters, `{"name": value}`, such as `results.best()`; it may be empty,
            and its value of `name`, if it has one, does not count. Where numbers have to stay Python values,
            `lo.settings([{"name": value}], static=["name"])`.
        folds: the `Folds`, as `lo.k_fold`, `lo.stratified_k_fold` and `lo.from_indices` return them.
        name: the name of the hyperparameter that is varied.
        values: its values, at least 1 and all different: numbers, which are traced; strings, flags or a
            `lo.space.Static` of Python values, for each of which a program is compiled.
        minimize: name of the metric to show if lower is better, such as "valid_loss". Exactly one of `minimize` and
            `maximize` must be given.
        maximize: name of the metric to show if higher is better; None if `minimize` is given.
        seeds: number of trainings of each value on each fold, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`, from which the keys of all trainings are derived; they
            depend on fold and seed alone.
        chunk: number of values that are trained at once; None chooses.
        memory: upper limit, in bytes, on what the compiled program may use. None takes half of the host's
            free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the outcomes of finished trainings, from which an interrupted call continues; None
            keeps nothing.
        progress: whether to print the plan of the search and a progress bar on standard error, and in a notebook to
            draw what a search that takes some seconds has found so far; True by default.

    Returns:
        The `ScoreCurve`, with `train` and `valid` of shape [values, folds, seeds], `to_pandas` and `plot`.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above, or if the trial does not
            return the metric, or does not read the hyperparameter.
        TypeError: if an argument has the wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> def trial(setting, train, valid, key):
        ...     return lo.train(task, lo.sgd(setting["rate"]), train, valid=valid, batch_size=20, epochs=9, key=key)
        >>> folds = lo.stratified_k_fold(lo.datasets.iris(), 3, key=0)
        >>> curve = lo.validation_curve(trial, {}, folds, name="rate", values=[0.001, 0.03, 1.0],
        ...                             maximize="valid_accuracy", key=0)
        >>> curve.train.shape, curve.results.best()
        ((3, 3, 1), {'rate': 1.0})

    Source: Goodfellow, Bengio and Courville (2016), "Deep Learning", section 5.2, on capacity, over- and underfitting.
    """
    base = _one_setting(setting, folds)
    if not isinstance(name, str):
        raise TypeError(f"name must be the name of a hyperparameter; got {name!r}")
    function = _Scored(trial) if callable(trial) else trial
    return _curve(
        name,
        function,
        _varied(base, name, values),
        folds,
        minimize=minimize,
        maximize=maximize,
        seeds=seeds,
        key=key,
        chunk=chunk,
        memory=memory,
        directory=directory,
        progress=progress,
    )


def _curve(name: str, trial: Any, settings: Settings, folds: Folds, **options: Any) -> ScoreCurve:
    """Returns the scores of settings that differ in one hyperparameter."""
    search = Search.of(trial, settings, folds, **options)
    if name in search.trace_first().unread():
        raise ValueError(f"trial must read what the curve is over; no score depends on {name!r}")
    return ScoreCurve(name, run_or_keep_partial(search))


def shuffled_training(folds: Folds, key: jax.Array) -> Folds:
    """Returns folds whose training parts are in an order of their own, drawn from the key; padding stays behind."""
    train = folds.train
    drawn = jnp.where(
        jnp.arange(train.capacity) < train.size[:, None], jax.random.uniform(key, train.indices.shape), jnp.inf
    )
    indices = jnp.take_along_axis(train.indices, jnp.argsort(drawn, axis=1), axis=1)
    return dataclasses.replace(folds, train=dataclasses.replace(train, indices=indices))


def first_examples(part: Subset, count: Array, least: int) -> Subset:
    """Returns the first `count` examples of a part, in its shape; the padding is made of them alone.

    `count` may be traced; it is never below `least`.
    """
    indices = part.indices[jnp.arange(part.capacity) % count]
    return dataclasses.replace(part, indices=indices, size=jnp.asarray(count, jnp.int32), least=least)


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A trial whose model is scored on its training part too."""

    trial: Callable[..., Any]

    def __call__(self, setting: dict[str, Any], train: Subset, valid: Subset, key: jax.Array) -> Any:
        """Returns what the trial returns, with those scores in the metrics of its run."""
        run = self.trial(setting, train, valid, key)
        if not isinstance(run, Run):
            return run
        lost = jnp.asarray(run.diverged_at) >= 0
        scores = {f"train_{name}": jnp.where(lost, jnp.nan, value) for name, value in run.evaluate(train).items()}
        return dataclasses.replace(run, metrics={**run.metrics, **scores})


@dataclasses.dataclass(frozen=True)
class _OnFirstExamples:
    """The same on the first examples of the training part, as many as the setting says."""

    trial: Callable[..., Any]
    least: int

    def __call__(self, setting: dict[str, Any], train: Subset, valid: Subset, key: jax.Array) -> Any:
        """Returns what the trial returns for this part."""
        others = {name: value for name, value in setting.items() if name != _EXAMPLES}
        return _Scored(self.trial)(others, first_examples(train, setting[_EXAMPLES], self.least), valid, key)


def _one_setting(setting: Any, folds: Any) -> Settings:
    """Returns a setting as columns of one row, none if it is empty, after checking the folds as well."""
    check_folds(folds)
    if not isinstance(setting, Mapping):
        raise TypeError(f'setting must be a dictionary {{"name": value}}; got {type(setting).__name__}')
    found = setting if isinstance(setting, Settings) or not setting else as_settings([dict(setting)])
    if isinstance(found, Settings) and found.count != 1:
        raise ValueError(f"setting must be one setting; got {found.count}")
    return Settings(found)


def _varied(base: Settings, name: str, values: Any) -> Settings:
    """Returns settings that differ in one hyperparameter."""
    kept = {other: column for other, column in base.items() if other != name}
    alone = as_settings({name: values})
    rows = [0] * alone.count
    return Settings({name: alone[name], **Settings(kept).take(rows)})


def _counts(sizes: Any, most: int) -> np.ndarray:
    """Returns numbers of examples in ascending order, each once."""
    given = as_numpy("sizes", sizes)
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iuf":
        raise TypeError(f"sizes must be whole numbers of examples, or shares in (0, 1]; got {sizes!r}")
    shares = given.dtype.kind == "f"
    if not (given > 0).all() or not (given <= (1 if shares else most)).all():
        raise ValueError(
            f"sizes must be shares in (0, 1] or whole numbers from 1 to {most}, the size of the smallest training "
            f"part; got {given.tolist()}"
        )
    return np.unique(np.maximum((given * most).astype(int), 1) if shares else given).astype(np.int32)


def _of_training(metric: str) -> str:
    return "train_" + metric.removeprefix("valid_")
