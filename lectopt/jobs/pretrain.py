"""The pre-training job: what better starts are worth on the digits, by how many labels there are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lectopt._internal.types import Array
from lectopt.data import datasets
from lectopt.data.few_labels import few_labels
from lectopt.data.holdouts import holdout
from lectopt.data.subsets import Subset
from lectopt.jobs.main import save_figures
from lectopt.optim.optimizers import adam
from lectopt.pretraining.layerwise import pretrain_layers
from lectopt.pretraining.transfer_learning import transfer
from lectopt.search.sweeping import sweep
from lectopt.tasks.standard_tasks import classification
from lectopt.tasks.task import Task
from lectopt.training.training import train

LABELS = (1, 2, 5, 10, 50)
"""Of each class."""
SEEDS = 20
STARTS = ("from scratch", "fine-tuned", "frozen")
STEPS = 200
"""Of learning with labels."""
BATCH_SIZE = 100
OPTIMIZER = adam(1e-3)
"""For all parameters. This and the next three were chosen on other seeds, by a part that is not tested on."""
FINE_TUNING = {"taken": adam(3e-4), "new": adam(3e-3)}
TRAINING_ALL = {"taken": OPTIMIZER, "new": OPTIMIZER}
FROZEN = {"taken": optax.set_to_zero(), "new": adam(3e-3)}
UNSUPERVISED: dict[str, Any] = {"batch_size": 64, "epochs": 100, "corruption": 0.5}
SIMILAR: dict[str, Any] = {"batch_size": 64, "epochs": 30}

Accuracies = dict[str, np.ndarray]
"""{start: float[labels, seeds]}"""


def pretrain_job(output: Path, seed: int) -> None:
    """Learns digits from few labels, from different starts; prints tables and draws the label-efficiency curves.

    Args:
        output: a folder for the picture, made if it is not there.
        seed: for the splits, the draws of labels, the initial weights and the shuffling.
    """
    console = Console()
    x, y = datasets.digits()
    x = x / 16
    console.print(
        f"A 64-256-256 network, {STEPS} steps with few labels of each class; {SEEDS} seeds in one compiled program."
    )
    experiments = {}
    for title, experiment in EXPERIMENTS.items():
        experiments[title] = experiment((x, y), seed)
        console.print(_table(title, experiments[title]))
    from lectopt.plots.label_efficiency import plot_label_efficiency  # noqa: PLC0415, matplotlib is heavy

    figures = {"pretraining": plot_label_efficiency(experiments, LABELS)}
    console.print(f"Pictures: {', '.join(map(str, save_figures(figures, output)))}", soft_wrap=True)


def without_labels_first(examples: tuple[np.ndarray, np.ndarray], seed: int) -> Accuracies:
    """Test accuracies from scratch, and after pre-training the layers on all training inputs without labels."""
    rest, test = holdout(examples, 1 / 3, key=seed, stratify=True)
    model = network(10)
    task = classification(model)

    def trial(_: Any, key: jax.Array) -> dict[str, Array]:
        random_model = model(nnx.Rngs(key))
        pretrained = pretrain_layers(random_model, rest.unlabelled(), adam(1e-3), key=key, **UNSUPERVISED)
        return _from_few_labels(task, random_model, pretrained, FINE_TUNING, rest, test, key)

    return _over_seeds(trial, seed)


def other_source_first(examples: tuple[np.ndarray, np.ndarray], seed: int) -> Accuracies:
    """Test accuracies from scratch, and with the layers of a network trained on MNIST, cut out and shrunk to 8 x 8."""
    rest, test = holdout(examples, 1 / 3, key=seed, stratify=True)
    x, y = datasets.mnist()
    shrunk = jax.image.resize(x[:, 4:24, 4:24, 0], (len(x), 8, 8), "linear")
    brighter = np.minimum(1.6 * np.asarray(shrunk), 1).reshape(-1, 64)  # about as bright as the digits
    model = network(10)
    task = classification(model)

    def trial(_: Any, key: jax.Array) -> dict[str, Array]:
        source = train(task, adam(1e-3), (brighter, y), key=jax.random.fold_in(key, 1), **SIMILAR)
        return _from_few_labels(task, model(nnx.Rngs(key)), source, FINE_TUNING, rest, test, key)

    return _over_seeds(trial, seed)


def similar_task_first(examples: tuple[np.ndarray, np.ndarray], seed: int) -> Accuracies:
    """Test accuracies on the digits 5-9 from scratch, and with the layers of a network trained on the digits 0-4."""
    x, y = examples
    high = y >= 5
    rest, test = holdout((x[high], y[high] - 5), 1 / 3, key=seed, stratify=True)
    model = network(5)
    task = classification(model)

    def trial(_: Any, key: jax.Array) -> dict[str, Array]:
        source = train(task, adam(1e-3), (x[~high], y[~high]), key=jax.random.fold_in(key, 1), **SIMILAR)
        return _from_few_labels(task, model(nnx.Rngs(key)), source, TRAINING_ALL, rest, test, key)

    return _over_seeds(trial, seed)


EXPERIMENTS = {
    "all inputs, without labels, to digits": without_labels_first,
    "MNIST to digits": other_source_first,
    "digits 0-4 to digits 5-9": similar_task_first,
}


def network(classes: int) -> Callable[[nnx.Rngs], nnx.Module]:
    """rngs -> the network of all trainings."""

    def make(rngs: nnx.Rngs) -> nnx.Module:
        wide: dict[str, Any] = {"kernel_init": nnx.initializers.he_normal(), "rngs": rngs}
        hidden: list[Any] = [nnx.Linear(64, 256, **wide), nnx.relu, nnx.Linear(256, 256, **wide), nnx.relu]
        return nnx.Sequential(*hidden, nnx.Linear(256, classes, rngs=rngs))

    return make


def _from_few_labels(
    task: Task,
    random_model: nnx.Module,
    source: Any,
    fine_tuning: Mapping[str, Any],
    rest: Subset,
    test: Subset,
    key: jax.Array,
) -> dict[str, Array]:
    """{"start, labels": test accuracy}: the same initial output layer, labels and order of them for all starts."""
    transferred = transfer(source, random_model, rename={"layers/4": None})
    random_start = transfer(random_model, random_model).start
    tuned, frozen = (optax.partition(optimizers, transferred.labels) for optimizers in (fine_tuning, FROZEN))
    starts = dict(
        zip(STARTS, ((random_start, OPTIMIZER), (transferred.start, tuned), (transferred.start, frozen)), strict=True)
    )
    accuracies: dict[str, Any] = {}
    for count in LABELS:
        labelled = few_labels(rest, count, key=jax.random.fold_in(key, 2))
        size = min(BATCH_SIZE, labelled.capacity)
        for name, (start, optimizer) in starts.items():
            run = train(task, optimizer, labelled, valid=test, batch_size=size, steps=STEPS, key=key, start=start)
            accuracies[f"{name}, {count}"] = run.metrics["valid_accuracy"]
    return accuracies


def _over_seeds(trial: Any, seed: int) -> Accuracies:
    settings = {"starts": np.zeros(1)}
    results = sweep(trial, settings, maximize=f"from scratch, {LABELS[0]}", seeds=SEEDS, key=seed, progress=True)
    return {name: np.stack([results.metrics[f"{name}, {count}"][0, 0] for count in LABELS]) for name in STARTS}


def _table(title: str, accuracies: Accuracies) -> Table:
    caption = (
        f"Test accuracy in %, mean ± standard deviation over {SEEDS} seeds; the gain over the first start, seed by "
        "seed, ± its standard error. *: more than two standard errors."
    )
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("labels\nper class", justify="right")
    first, *others = accuracies
    for heading in (first, *(text for name in others for text in (name, "gain"))):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, count in enumerate(LABELS):
        cells = [_mean_and_std(accuracies[first][i])]
        for name in others:
            cells += [_mean_and_std(accuracies[name][i]), _gain(accuracies[name][i] - accuracies[first][i])]
        table.add_row(str(count), *cells)
    return table


def _mean_and_std(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"


def _gain(values: np.ndarray) -> str:
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * mean:+.1f} ± {100 * error:.1f}{'*' if abs(mean) > 2 * error else ' '}"
