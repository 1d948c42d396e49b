"""The main job: every algorithm of the lecture on real digits, each over a grid of learning rates side by side."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import optax
from flax import nnx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lectopt._internal.files import checked_path
from lectopt._internal.run_directories import make_directory
from lectopt._internal.types import Numeric
from lectopt.data import datasets
from lectopt.data.batches import steps_per_epoch
from lectopt.data.holdouts import holdout
from lectopt.data.k_folds import stratified_k_fold
from lectopt.data.subsets import Subset
from lectopt.monitoring.diagnosis import diagnose
from lectopt.optim import optimizers
from lectopt.optim.schedules import linear_decay
from lectopt.search.hyperparameter_search import Search
from lectopt.search.refitting import Refit
from lectopt.search.result_warnings import warn_of_edges
from lectopt.search.selection import Selection, retrained
from lectopt.tasks.standard_tasks import classification
from lectopt.training.fitting import fit
from lectopt.training.run import Run
from lectopt.training.training import train as lectopt_train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Factory: TypeAlias = Callable[[Numeric], optax.GradientTransformation]
BATCH_SIZE = 32
FOLDS = 5
UNTUNED_RATE = 1e-3
NEARLY_BEST_MARGIN = 0.01
"""A rate is nearly best if its mean validation accuracy is at most this much below that of the best rate."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One algorithm over all rates: what cross-validation chose, and how that does on the test set."""

    name: str
    chosen: Selection

    @property
    def rates(self) -> np.ndarray:
        """The rates that were tried."""
        return self.chosen.results.settings["learning_rate"]

    @property
    def best(self) -> int:
        """Which rate has the lowest mean validation loss."""
        return self.chosen.results.best_index

    @property
    def nearly_best_rates(self) -> tuple[float, float]:
        """The lowest and the highest rate of those around the best, without a gap, that are nearly as good."""
        accuracy = np.nan_to_num(self.chosen.results.mean("valid_accuracy"), nan=-1)
        good = accuracy >= accuracy[self.best] - NEARLY_BEST_MARGIN
        bad_below, bad_above = np.flatnonzero(~good[: self.best]), np.flatnonzero(~good[self.best :])
        low = bad_below[-1] + 1 if bad_below.size else 0
        high = self.best + bad_above[0] - 1 if bad_above.size else len(good) - 1
        return float(self.rates[low]), float(self.rates[high])

    @property
    def scores(self) -> list[str]:
        """Validation loss and accuracy, mean and standard deviation over folds, and the test accuracy, as text."""
        results, tested = self.chosen.results, self.chosen.test_metrics or {}
        loss, accuracy = (
            (results.mean(m)[self.best], results.std(m)[self.best]) for m in ("valid_loss", "valid_accuracy")
        )
        return [
            "{:.3f} ± {:.2f}".format(*loss),
            "{:.1f} ± {:.1f}".format(*(100 * a for a in accuracy)),
            f"{100 * tested['accuracy']:.1f}",
        ]


def main_job(output: Path, epochs: int, rates: int, seed: int) -> None:
    """Compares the algorithms, prints a table and writes pictures into the folder `output`.

    For each algorithm, the learning rate with the lowest loss in stratified cross-validation is chosen, the network
    retrained with it on all but the test set, and tested. The best of them is trained once more on the first fold,
    watched, and what is wrong with it is said.

    Args:
        output: a folder, made if it is not there.
        epochs: passes through the training examples.
        rates: learning rates in the grid from 1e-5 to 10, for each algorithm.
        seed: for the splits, the initial weights and the shuffling.
    """
    x, y = datasets.digits()
    rest, test = holdout((x, y), 0.2, key=seed, stratify=True)
    folds = stratified_k_fold(rest, FOLDS, key=seed + 1)
    task = classification(network, standardize=True)
    console = Console()
    console.print(
        f"{len(x)} handwritten digits, {len(test)} of them to test. A 64-100-10 network, {epochs} epochs; {rates} "
        f"learning rates x {FOLDS} folds for each algorithm, side by side."
    )
    variants = algorithms(10 * steps_per_epoch(rest, BATCH_SIZE))
    training: dict[str, Any] = {"batch_size": BATCH_SIZE, "epochs": epochs}

    def trial(setting: dict[str, Any], train: Subset, valid: Subset | None, key: Any) -> Run:
        optimizer = variants[setting["algorithm"]](setting["learning_rate"])
        return lectopt_train(task, optimizer, train, valid=valid, key=key, **training)

    settings, parts = grids(list(variants), rates)
    search = Search.of(trial, settings, folds, minimize="valid_loss", key=seed)
    refit = Refit(search, FOLDS, parts=len(parts))
    results = search.run()
    chosen = retrained(refit, results, list(parts.values()), rest, test)
    *outcomes, untuned = (Outcome(*named) for named in zip(parts, chosen, strict=True))
    for one in chosen:
        warn_of_edges(one.results)
    best = min(outcomes, key=lambda o: float(o.chosen.results.mean()[o.best]))
    train, valid = folds[0]
    watched = fit(task, variants[best.name](best.rates[best.best]), train, valid=valid, key=seed, watch=10, **training)
    console.print(_table(outcomes, untuned))
    console.print(f"The best, {best.name} at {best.rates[best.best]:.2g}, watched on the first fold:")
    console.print(str(diagnose(watched)), highlight=False)
    figures = {"optimizers": _picture(outcomes), "best": watched.history.plot()}
    console.print(f"Pictures: {', '.join(map(str, save_figures(figures, output)))}", soft_wrap=True)


def grids(names: list[str], rates: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the settings of all algorithms, and {algorithm: the rows of its grid}; the last is adam, untuned."""
    grid = np.geomspace(1e-5, 10, rates).astype(np.float32)
    rows = [(name, rate) for name in names for rate in grid]
    parts = {name: np.arange(i * rates, (i + 1) * rates) for i, name in enumerate(names)}
    untuned = "adam", np.float32(UNTUNED_RATE)
    rows += [] if untuned in rows else [untuned]
    settings = {"algorithm": [name for name, _ in rows], "learning_rate": np.array([rate for _, rate in rows])}
    return settings, parts | {"adam, untuned": np.array([rows.index(untuned)])}


def save_figures(figures: Mapping[str, "Figure"], output: Path) -> list[Path]:
    """Writes the pictures into a folder, which is made if it is not there; returns their paths."""
    output = checked_path("output", output)
    make_directory("output", output)
    for name, figure in figures.items():
        figure.savefig(output / f"{name}.png", dpi=130)
    return [(output / f"{name}.png").absolute() for name in figures]


def network(rngs: nnx.Rngs) -> nnx.Module:
    """The model of all trainings."""
    return nnx.Sequential(nnx.Linear(64, 100, rngs=rngs), nnx.relu, nnx.Linear(100, 10, rngs=rngs))


def algorithms(horizon: int) -> dict[str, Factory]:
    """{name: rate -> optimizer} for the lecture's algorithms; a decreasing rate ends after `horizon` steps."""
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


def _table(outcomes: list[Outcome], untuned: Outcome) -> Table:
    caption = (
        f"Validation: mean ± standard deviation over {FOLDS} folds, at the rate with the lowest loss. Nearly best: the "
        "rates around it that come within 1 % of its accuracy."
    )
    table = Table(caption=caption, box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("algorithm", no_wrap=True)
    for heading in ("best\nrate", "validation\nloss", "accuracy\nin %", "test\nin %"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("nearly\nbest", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    for o in outcomes:
        low, high = o.nearly_best_rates
        table.add_row(o.name, f"{o.rates[o.best]:.2g}", *o.scores, f"{low:.2g} - {high:.2g}", f"{high / low:.0f}")
    table.add_row(untuned.name, f"{UNTUNED_RATE:g}", *untuned.scores, "-", "-")
    return table


def _picture(outcomes: list[Outcome]) -> "Figure":
    from lectopt.plots.optimizers import plot_optimizers  # noqa: PLC0415, matplotlib is heavy

    return plot_optimizers(
        {o.name: np.asarray(o.chosen.run.history.epochs["train_loss"]) for o in outcomes},
        outcomes[0].rates,
        {o.name: o.chosen.results.mean() for o in outcomes},
        {o.name: o.best for o in outcomes},
    )
