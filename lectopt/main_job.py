"""The main job: every algorithm of the lecture on real digits, each over a grid of learning rates side by side."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lectopt import datasets, optimizers
from lectopt._types import Numeric
from lectopt.fitting import fit
from lectopt.progress import ProgressBar
from lectopt.run import Run
from lectopt.schedules import linear_decay, steps_per_epoch
from lectopt.splits import holdout
from lectopt.standard_tasks import classification
from lectopt.subsets import Subset
from lectopt.task import Task
from lectopt.training import train

BATCH_SIZE = 32
NEAR = 0.01
"""A rate is nearly best if its validation accuracy is at most this much below that of the best rate."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One algorithm over all rates."""

    name: str
    rates: np.ndarray  # float[rates]
    valid_loss: np.ndarray  # float[rates], NaN where it diverged
    valid_accuracy: np.ndarray  # float[rates]
    best: int  # which rate has the lowest validation loss
    run: Run  # the training at that rate
    test_accuracy: float  # of that run

    @property
    def near(self) -> tuple[float, float]:
        """The lowest and the highest rate of those around the best, without a gap, that are nearly as good."""
        good = np.nan_to_num(self.valid_accuracy, nan=-1) >= self.valid_accuracy[self.best] - NEAR
        bad_below, bad_above = np.flatnonzero(~good[: self.best]), np.flatnonzero(~good[self.best :])
        low = bad_below[-1] + 1 if bad_below.size else 0
        high = self.best + bad_above[0] - 1 if bad_above.size else len(good) - 1
        return float(self.rates[low]), float(self.rates[high])


def main_job(output: Path, epochs: int, rates: int, seed: int) -> None:
    """Compares the algorithms, prints a table and writes a picture into the folder `output`.

    Args:
        output: a folder, made if it is not there.
        epochs: passes through the training examples.
        rates: learning rates in the grid from 1e-5 to 10, for each algorithm.
        seed: for the split, the initial weights and the shuffling.
    """
    x, y = datasets.digits()
    rest, test = holdout((x, y), 0.2, key=seed, stratify=True)
    learn, valid = holdout(rest, 0.2, key=seed + 1, stratify=True)
    task = classification(_network, standardize=True)
    grid = np.geomspace(1e-5, 10, rates)
    settings: dict[str, Any] = {"batch_size": BATCH_SIZE, "epochs": epochs, "key": seed}
    console = Console()
    console.print(
        f"{len(x)} handwritten digits: {len(learn)} to learn from, {len(valid)} to choose the rate by, {len(test)} to "
        f"test. A 64-100-10 network, {epochs} epochs, {rates} learning rates for each algorithm, side by side."
    )

    outcomes: list[Outcome] = []
    variants = _variants(10 * steps_per_epoch(learn, BATCH_SIZE))
    with ProgressBar("algorithms", len(variants) + 1, after=0) as bar:
        for name, optimizer in variants.items():
            bar.update(len(outcomes), name)
            outcomes.append(_over_rates(name, optimizer, grid, task, learn, valid, test, settings))
        bar.update(len(outcomes), "adam, untuned")
        untuned = fit(task, optimizers.adam(), learn, valid=valid, progress=False, **settings)
    console.print(_table(outcomes, untuned, untuned.evaluate(test)["accuracy"]))
    console.print(f"Picture: {_picture(outcomes, output)}", soft_wrap=True)


def _network(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(nnx.Linear(64, 100, rngs=rngs), nnx.relu, nnx.Linear(100, 10, rngs=rngs))


def _variants(horizon: int) -> dict[str, Callable[[Numeric], optax.GradientTransformation]]:
    return {
        "sgd": optimizers.sgd,
        "sgd, decreasing": lambda rate: optimizers.sgd(linear_decay(rate, transition_steps=horizon)),
        "momentum": optimizers.momentum,
        "nesterov": optimizers.nesterov,
        "adagrad": optimizers.adagrad,
        "rmsprop": optimizers.rmsprop,
        "rmsprop_nesterov": optimizers.rmsprop_nesterov,
        "adam": optimizers.adam,
    }


def _over_rates(
    name: str,
    optimizer: Callable[[Numeric], optax.GradientTransformation],
    rates: np.ndarray,
    task: Task,
    learn: Subset,
    valid: Subset,
    test: Subset,
    settings: dict[str, Any],
) -> Outcome:
    @jax.jit
    @jax.vmap
    def lanes(rate: Numeric) -> Run:
        return train(task, optimizer(rate), learn, valid=valid, **settings)

    runs = lanes(jnp.asarray(rates, jnp.float32))
    losses = np.asarray(runs.metrics["valid_loss"])
    best = int(np.nanargmin(losses))
    run = jax.tree.map(lambda leaf: leaf[best], runs)
    accuracies = np.asarray(runs.metrics["valid_accuracy"])
    return Outcome(name, rates, losses, accuracies, best, run, run.evaluate(test)["accuracy"])


def _table(outcomes: list[Outcome], untuned: Run, untuned_accuracy: float) -> Table:
    caption = "Best: the lowest validation loss. Nearly best: the rates around it that come within 1 % of its accuracy."
    table = Table(caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("algorithm", no_wrap=True)
    for heading in ("best\nrate", "valid\nloss", "valid\nacc.", "test\nacc."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("nearly best", no_wrap=True)
    table.add_column("factor", justify="right", no_wrap=True)
    for o in outcomes:
        low, high = o.near
        width = f"{low:.2g} - {high:.2g}"
        table.add_row(o.name, f"{o.rates[o.best]:.2g}", *_scores(o.run, o.test_accuracy), width, f"{high / low:.0f}")
    table.add_row("adam, untuned", "0.001", *_scores(untuned, untuned_accuracy), "-", "-")
    return table


def _scores(run: Run, test_accuracy: float) -> tuple[str, str, str]:
    loss, accuracy = (float(run.metrics[name]) for name in ("valid_loss", "valid_accuracy"))
    return f"{loss:.3f}", f"{accuracy:.1%}", f"{test_accuracy:.1%}"


def _picture(outcomes: list[Outcome], output: Path) -> Path:
    from lectopt.monitoring.plots import plot_optimizers  # noqa: PLC0415, matplotlib is heavy

    figure = plot_optimizers(
        {o.name: o.run.history for o in outcomes},
        outcomes[0].rates,
        {o.name: o.valid_loss for o in outcomes},
        {o.name: o.best for o in outcomes},
    )
    output.mkdir(parents=True, exist_ok=True)
    path = output / "optimizers.png"
    figure.savefig(path, dpi=130)
    return path.absolute()
