"""The initial learning rate, from the first iterations: many rates side by side from the same starts."""

import dataclasses
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._internal import checks
from lectopt._internal.product_rounding import product_rounding
from lectopt._internal.types import Array, Numeric
from lectopt.data.batches import Batch
from lectopt.data.subsets import as_subset
from lectopt.search.hyperparameter_search import Search
from lectopt.search.setting_columns import python_value
from lectopt.tasks.task import Task
from lectopt.training.training import train as train_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_STEPS = 100
"""Goodfellow et al. look at "the first 100 iterations or so"."""
WIDENINGS = 2
"""How often the grid may be widened, by two magnitudes, where the best rate stands at its edge."""
HIGHER = 1.5
""""Somewhat higher" than the best rate: at most so many times. (Of Adam on the digits, twice the best is too much.)"""


class Losses(NamedTuple):
    """Training losses of each rate and seed, float32[rates, seeds]; NaN where it diverged."""

    first: np.ndarray  # before the first update
    last: np.ndarray  # the mean over the last tenth of the iterations

    def then(self, others: "Losses") -> "Losses":
        """Returns these losses followed by others."""
        return Losses(*(np.append(*pair, axis=0) for pair in zip(self, others, strict=True)))


@dataclasses.dataclass(frozen=True)
class RateSuggestion:
    """A suggested initial learning rate, and the trainings that it rests on: what `lo.suggest_learning_rate` returns.

    Attributes:
        suggestion: the rate to begin with, as a float: the geometric mean of `best` and `stable`, at most 1.5 times
            `best`.
        best: the rate with the lowest loss after the first steps, by the mean over seeds.
        stable: the highest stable rate: going up the grid from `best`, the last one before a rate at which the loss of
            some seed is not below its initial value.
        best_by_seed: float[seeds]: the best rate of each seed on its own; their spread shows how certain `best` is.
        rates: float[rates]: the grid in increasing order.
        losses: float32[rates, seeds]: the training loss, averaged over the last tenth of the steps; NaN where the
            training diverged.
        initial_loss: the loss before the first step, averaged over seeds.
        steps: number of steps of each training.
    """

    suggestion: float
    best: float
    stable: float
    best_by_seed: np.ndarray
    rates: np.ndarray
    losses: np.ndarray
    initial_loss: float
    steps: int

    def plot(self) -> "Figure":
        """Plots the loss against the rate, with the three rates marked.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.learning_rates import plot_rates  # noqa: PLC0415, matplotlib is heavy

        return plot_rates(self.curves, self.steps)

    @property
    def curves(self) -> tuple[np.ndarray, np.ndarray, float, dict[str, float]]:
        """The rates, the losses, the initial loss, and {label: rate} of the three rates to mark in a plot."""
        marks = {"best": self.best, "suggestion": self.suggestion, "stable up to": self.stable}
        return self.rates, self.losses, self.initial_loss, marks

    def __repr__(self) -> str:
        low, high = self.best_by_seed.min(), self.best_by_seed.max()
        return (
            f"learning rate {self.suggestion:.2g}: best after {self.steps} steps {self.best:.2g} ({low:.2g} to "
            f"{high:.2g} over {len(self.best_by_seed)} seeds), stable up to {self.stable:.2g}"
        )


def suggest_learning_rate(
    task: Task,
    optimizer: Callable[..., optax.GradientTransformation],
    train: Any,
    *,
    batch_size: int,
    key: Any,
    hyperparameters: Mapping[str, Any] | None = None,
    steps: int = 200,
    seeds: int = 5,
    low: float = 1e-5,
    high: float = 10.0,
    points: int = 25,
    shuffle: bool = True,
    weights: Any = None,
    augment: Callable[[jax.Array, Batch], Batch] | None = None,
    progress: bool = True,
) -> RateSuggestion:
    r"""Suggests an initial learning rate by monitoring the first steps of training at many rates.

    According to the lecture, :math:`\epsilon_0` should be higher than the rate that performs best over the first
    iterations, but not so high that it causes severe instability. With :math:`L_j(\epsilon)` the loss of seed j after
    the first steps at rate :math:`\epsilon`, averaged over the last tenth of them,

    .. math:: \epsilon_{\mathrm{best}} = \arg\min_\epsilon \frac{1}{r} \sum_{j=1}^{r} L_j(\epsilon), \qquad
        \epsilon_0 = \min\left(\sqrt{\epsilon_{\mathrm{best}}\, \epsilon_{\mathrm{stable}}},\ 1.5\,
        \epsilon_{\mathrm{best}}\right)

    where :math:`\epsilon_{\mathrm{stable}} \ge \epsilon_{\mathrm{best}}` is the highest rate up to which no seed ends
    above its initial loss. All rates are trained side by side in one compiled program, from the same initial weights
    and on the same minibatches for each seed. (Raising the rate in the course of a single training would confound the
    rate with time.) Some rates are meant to diverge, so `jax_debug_nans` is switched off meanwhile.

    Args:
        task: the `Task`: the model with its loss. Standardized inputs and an output bias set from the targets are used
            as in training.
        optimizer: a function of the learning rate that returns an Optax optimizer, called as
            `optimizer(rate, **hyperparameters)`: `lo.momentum`, say, or
            `lambda rate: lo.sgd(lo.linear_decay(rate, 1000))`.
        train: the training examples, a tuple of arrays [n, ...], inputs first and targets last, or a `Subset`.
        batch_size: number of examples in a minibatch, at least 1. The suggestion holds for this size.
        key: an int or a `jax.random.key`, from which initial weights and minibatches of all seeds are derived.
        hyperparameters: other arguments of the optimizer, a dictionary `{"name": value}`; None for none.
        steps: number of steps, that is, parameter updates, of each training, at least 100; 200 by default.
        seeds: r, the number of trainings of each rate, at least 1; 5 by default.
        low: the lowest rate of the grid, above 0; 1e-5 by default.
        high: the highest rate of the grid, above `low`; 10 by default. If the best rate lies at an end of the grid, the
            grid is extended there by a factor of 100, at most twice.
        points: number of rates in the grid, at least 5 and by default 25, spaced evenly in their logarithm.
        shuffle: whether the examples are shuffled for every epoch (the default); False takes the same minibatches in
            each.
        weights: how much examples count in the loss: float[n], one weight for each example; a dictionary
            `{class: weight}`, with 1 for classes that it lacks; or "balanced", by which all classes count equally. None
            weights all examples equally.
        augment: a function `augment(key, batch)` that returns a randomly altered batch of the same shapes and dtypes;
            it is applied to each minibatch. None leaves the examples as they are.
        progress: whether to print the plan and a progress bar on standard error; True by default.

    Returns:
        A `RateSuggestion`. Print it, or call its method `plot`; its field `suggestion` is the rate.

    Warns:
        UserWarning: if the best rate lies at an end of the grid even after extending it twice.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above or the examples do not fit the
            task; if training diverges at every rate.
        TypeError: if `optimizer` is an optimizer instead of a function that returns one, or another argument has the
            wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> found = lo.suggest_learning_rate(
        ...     task, lo.sgd, lo.datasets.iris(), batch_size=30, key=0, steps=100, seeds=2, progress=False
        ... )
        >>> 0.01 < found.best <= found.suggestion <= found.stable
        True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(1) SGD with decreasing learning rate"
    (choosing the meta-parameters); Goodfellow, Bengio and Courville (2016), "Deep Learning", section 8.3.1.
    """
    if isinstance(optimizer, optax.GradientTransformation) or not callable(optimizer):
        raise TypeError(
            f"optimizer must be a function of the rate, such as lectopt.momentum; got {type(optimizer).__name__}"
        )
    steps = checks.check_count("steps", steps, least=LEAST_STEPS)
    points = checks.check_count("points", points, least=5)
    seeds = checks.check_count("seeds", seeds)
    for name, flag in (("shuffle", shuffle), ("progress", progress)):
        checks.check_flag(name, flag)
    _check_range(low, high)
    examples, fixed = as_subset(train, "train"), _dictionary(hyperparameters)
    _check_taken(optimizer, fixed)

    def trial(setting: Mapping[str, Numeric], key: jax.Array) -> dict[str, Array]:
        run = train_task(
            task,
            optimizer(setting["learning_rate"], **fixed),
            examples,
            batch_size=batch_size,
            steps=steps,
            shuffle=shuffle,
            key=key,
            weights=weights,
            augment=augment,
        )
        losses = run.history.steps["loss"]
        # Of a run that diverged the last losses are NaN; the first one is not.
        return {"first": losses[0], "last": jnp.mean(losses[-(steps // 10) :])}

    def losses_at(rates: np.ndarray) -> Losses:
        settings = {"learning_rate": rates}
        found = Search.of(trial, settings, None, minimize="last", seeds=seeds, key=key, progress=progress).run()
        return Losses(found.metrics["first"][:, 0], found.metrics["last"][:, 0])

    rates, found = _widened(losses_at, np.geomspace(low, high, points))
    if (edge := _edge(found)) is not None and not np.isnan(found.last.mean(axis=1)).all():
        warnings.warn(
            f"the best learning rate is the {edge} of the grid, {rates[0]:.2g} to {rates[-1]:.2g}, which was widened "
            f"{WIDENINGS} times",
            stacklevel=2,
        )
    return _answer(rates, found, steps)


def _check_range(low: float, high: float) -> None:
    for name, value in (("low", low), ("high", high)):
        checks.check_number(name, value, checks.POSITIVE)
        checks.check_known(name, value, "search")
    if not low < high:
        raise ValueError(f"low must be below high; got low={low:g}, high={high:g}")


def _check_taken(optimizer: Callable[..., Any], fixed: dict[Any, Any]) -> None:
    """Raises unless the optimizer takes these beside its rate."""
    try:
        inspect.signature(optimizer).bind(0.1, **fixed)
    except TypeError as error:
        raise ValueError(f"hyperparameters must be arguments of the optimizer beside its rate: {error}") from error


def _dictionary(hyperparameters: Any) -> dict[str, Any]:
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise TypeError(f'hyperparameters must be a dictionary {{"name": value}}; got {hyperparameters!r}')
    return dict(hyperparameters or {})


def _widened(losses_at: Callable[[np.ndarray], Losses], rates: np.ndarray) -> tuple[np.ndarray, Losses]:
    """Returns the rates, extended by a factor of 100 beyond the end that the best one lies at, once or twice."""
    found = losses_at(rates)
    ratio = rates[1] / rates[0]
    beyond = ratio ** np.arange(1, max(round(math.log(100, ratio)), 1) + 1)
    for _ in range(WIDENINGS):
        if (edge := _edge(found)) == "lowest":
            added = rates[0] / beyond[::-1]
            rates, found = np.append(added, rates), losses_at(added).then(found)
        elif edge == "highest":
            added = rates[-1] * beyond
            rates, found = np.append(rates, added), found.then(losses_at(added))
    return rates, found


def _edge(found: Losses) -> str | None:
    """Returns the end of the grid at which the best mean lies; if all diverge, the lower one."""
    mean = found.last.mean(axis=1)
    if np.isnan(mean).all() or (best := _best(found.first.mean(axis=1), mean)) == 0:
        return "lowest"
    return "highest" if best == len(mean) - 1 else None


def _best(first: np.ndarray, last: np.ndarray) -> int:
    """Returns the index of the rate with the lowest loss.

    Where no rate lowers it by more than products are rounded, the lowest is chance: of all as low, it is the highest.
    """
    best = int(np.nanargmin(last))
    rounding = product_rounding() * abs(first[best])
    if first[best] - last[best] >= rounding:
        return best
    return int(np.flatnonzero(last <= last[best] + rounding)[-1])


def _answer(rates: np.ndarray, found: Losses, steps: int) -> RateSuggestion:
    mean = found.last.mean(axis=1)
    if np.isnan(mean).all():
        raise ValueError(f"low must be a rate at which training does not diverge; from {rates[0]:.2g} on all do")
    best = _best(found.first.mean(axis=1), mean)
    worse_off = np.any(~(found.last < found.first), axis=1)  # or NaN
    unstable = np.flatnonzero(worse_off & (np.arange(len(rates)) > best))
    stable = unstable[0] - 1 if len(unstable) else len(rates) - 1
    by_seed = [rates[np.nanargmin(column)] for column in found.last[: stable + 1].T]  # beyond it is luck
    return RateSuggestion(
        suggestion=float(min(math.sqrt(rates[best] * rates[stable]), HIGHER * rates[best])),
        best=python_value(np.float32(rates[best])),
        stable=python_value(np.float32(rates[stable])),
        best_by_seed=np.array(by_seed),
        rates=rates,
        losses=found.last,
        initial_loss=float(found.first.mean()),
        steps=steps,
    )
