"""The initial learning rate, from the first iterations: many rates side by side from the same starts."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lectopt._internal import checks
from lectopt._internal.types import Array, Numeric
from lectopt.data.batches import Batch
from lectopt.data.subsets import as_subset
from lectopt.search.hyperparameter_search import Search
from lectopt.search.settings import python_value
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
        """These and others, in one."""
        return Losses(*(np.append(*pair, axis=0) for pair in zip(self, others, strict=True)))


@dataclasses.dataclass(frozen=True)
class RateSuggestion:
    """What `suggest_learning_rate` found."""

    suggestion: float
    """The rate to begin with: between the next two."""
    best: float
    """The rate with the lowest loss after the first iterations, by its mean over seeds."""
    stable: float
    """The highest rate, up from the best without a gap, at which no seed is worse off than at its start."""
    best_by_seed: np.ndarray
    """float[seeds]: the best rate from each start alone: how sure the answer is."""
    rates: np.ndarray
    """float32[rates], rising."""
    losses: np.ndarray
    """float32[rates, seeds]: the training loss after the first iterations; NaN where it diverged."""
    initial_loss: float
    """The loss before the first iteration, the mean over seeds."""
    steps: int
    """Iterations of each training."""

    def plot(self) -> "Figure":
        """The loss against the rate, with the three rates marked; returns a matplotlib figure."""
        from lectopt.plots.search import plot_rates  # noqa: PLC0415, matplotlib is heavy

        return plot_rates(self)

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
    """Suggests an initial learning rate epsilon_0, by watching the first iterations at many rates side by side.

    The best initial rate is somewhat higher than the one that has the best performance after the first 100 iterations
    or so, but not so high that it causes severe instability. All rates start alike from each seed, on the same
    batches, so that they differ by nothing else; a sweep of a single training, that raises the rate as it goes, would
    mix the rate with time. The suggestion is the geometric mean of the best rate and the highest stable one, at most
    1.5 times the best.

    Args:
        task: as for `train`; standardised inputs and a learned output bias are used alike.
        optimizer: a function called as optimizer(rate, **hyperparameters), such as `lo.momentum`, or
            `lambda rate: lo.sgd(lo.linear_decay(rate, 1000))`.
        train: the examples to learn from, a tuple of arrays [n, ...] or a Subset.
        batch_size: as for `train`; the answer is for this size.
        key: an int or a `jax.random.key`.
        hyperparameters: arguments of the optimizer other than the rate.
        steps: iterations, at least 100.
        seeds: how many starts.
        low: the lowest rate of the grid.
        high: the highest rate. Where the best one stands at the edge, the grid is widened once or twice.
        points: rates in the grid, at least 5.
        shuffle: as for `train`.
        weights: as for `train`.
        augment: as for `train`.
        progress: as for `sweep`.

    Returns:
        A RateSuggestion; print it, or call `.plot()`. Warns if the best rate still stands at the edge of the grid. Some
        rates are meant to diverge: `jax_debug_nans` is off meanwhile, as in `sweep`.

    Raises:
        ValueError, TypeError: before anything compiles, if an argument is not as described above; if every rate
            diverges.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> found = lo.suggest_learning_rate(task, lo.sgd, lo.datasets.iris(), batch_size=30, key=0, progress=False)
        >>> 0.01 < found.best <= found.suggestion <= found.stable
        True

    Source: the lecture, "Learning Rate"; Goodfellow et al. (2016), "Deep learning", section 8.3.1.
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
    for name, value in (("low", low), ("high", high)):
        checks.check_number(name, value, checks.POSITIVE)
    if not low < high:
        raise ValueError(f"low must be below high; got low={low:g}, high={high:g}")
    examples, fixed = as_subset(train, "train"), _dictionary(hyperparameters)

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
    if (edge := _edge(found.last)) is not None and not np.isnan(found.last.mean(axis=1)).all():
        warnings.warn(
            f"the best learning rate is the {edge} of the grid, {rates[0]:.2g} to {rates[-1]:.2g}, which was widened "
            f"{WIDENINGS} times",
            stacklevel=2,
        )
    return _answer(rates, found, steps)


def _dictionary(hyperparameters: Any) -> dict[str, Any]:
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise TypeError(f'hyperparameters must be a dictionary {{"name": value}}; got {hyperparameters!r}')
    return dict(hyperparameters or {})


def _widened(losses_at: Callable[[np.ndarray], Losses], rates: np.ndarray) -> tuple[np.ndarray, Losses]:
    """The rates with two magnitudes more beyond the edge that the best one stands at, once or twice."""
    found = losses_at(rates)
    ratio = rates[1] / rates[0]
    beyond = ratio ** np.arange(1, max(round(math.log(100, ratio)), 1) + 1)
    for _ in range(WIDENINGS):
        if (edge := _edge(found.last)) == "lowest":
            added = rates[0] / beyond[::-1]
            rates, found = np.append(added, rates), losses_at(added).then(found)
        elif edge == "highest":
            added = rates[-1] * beyond
            rates, found = np.append(rates, added), found.then(losses_at(added))
    return rates, found


def _edge(losses: np.ndarray) -> str | None:
    """At which edge of the grid the best mean stands; where all diverge, a lower rate is wanted."""
    mean = losses.mean(axis=1)
    if np.isnan(mean).all() or np.nanargmin(mean) == 0:
        return "lowest"
    return "highest" if np.nanargmin(mean) == len(mean) - 1 else None


def _answer(rates: np.ndarray, found: Losses, steps: int) -> RateSuggestion:
    mean = found.last.mean(axis=1)
    if np.isnan(mean).all():
        raise ValueError(f"low must be a rate at which training does not diverge; from {rates[0]:.2g} on all do")
    best = int(np.nanargmin(mean))
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
