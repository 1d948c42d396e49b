"""What can be broken off and go on, and what is saved and loaded: each as a function from a path to arrays."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import lectopt as lo
from lectopt.engine.claimed_directory import ClaimedDirectory
from lectopt.training import running
from lectopt.training.checkpoints import Store

from .outcomes import Arrays

TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
STREAM_TASK = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
OPTIMIZER, ADAM = lo.momentum(0.1), lo.adam(0.01)
TRAIN, VALID = lo.holdout(lo.datasets.iris(), 0.3, key=0, stratify=True)
X, Y = lo.datasets.iris()
SPACE = lo.ArchitectureSpace(depth=[1, 2], width=[2, 4])
running._SAVE_SECONDS = -1.0  # a copy after each chunk of steps


def arrays(tree: Any) -> Arrays:
    """Returns the leaves of a tree by their paths."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def of_run(run: lo.Run) -> Arrays:
    """Returns what a training came to."""
    return arrays([run.params, run.opt_state, run.model_state.variables, run.metrics, run.history.steps])


def fit(directory: Path) -> Arrays:
    """Trains on arrays."""
    options = {"batch_size": 30, "epochs": 6, "patience": 5, "key": 0, "progress": False}
    return of_run(lo.fit(TASK, OPTIMIZER, TRAIN, valid=VALID, directory=directory, **options))


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the examples."""
    for i in range(0, 150, 30):
        yield X[i : i + 30], Y[i : i + 30]


def stream(directory: Path) -> Arrays:
    """Trains on a stream."""
    examples = lo.stream(batches)
    return of_run(lo.fit(STREAM_TASK, OPTIMIZER, examples, epochs=5, key=0, directory=directory, progress=False))


def train(setting: dict[str, Any], data: tuple[Any, Any], key: jax.Array, epochs: int = 2, start: Any = None) -> lo.Run:
    """Trains for a score."""
    optimizer = lo.momentum(setting["learning_rate"])
    return lo.train(TASK, optimizer, data[0], valid=data[1], batch_size=30, epochs=epochs, key=key, start=start)


def _trial(setting: dict[str, Any], train_part: Any, valid: Any, key: jax.Array) -> lo.Run:
    return train(setting, (train_part, valid), key)


def _halved(setting: dict[str, Any], train_part: Any, valid: Any, key: jax.Array, epochs: int, start: Any) -> lo.Run:
    return train(setting, (train_part, valid), key, epochs, start)


SETTINGS = {"learning_rate": [0.01, 0.03, 0.1, 0.3, 0.5, 1.0]}
FOLDS = lo.k_fold((X, Y), 2, key=0)
SEARCH = {"minimize": "valid_loss", "key": 0, "progress": False}


def _of_results(found: lo.Results) -> Arrays:
    return {**found.metrics, "diverged_at": found.diverged_at, "rungs": found.rungs, **found.settings}


def search(directory: Path) -> Arrays:
    """Searches over folds."""
    return _of_results(lo.cross_validate(_trial, SETTINGS, FOLDS, chunk=2, directory=directory, **SEARCH))


def halving(directory: Path) -> Arrays:
    """Searches in rungs."""
    rungs = lo.Halving(4, factor=2, least=2)
    return _of_results(lo.cross_validate(_halved, SETTINGS, FOLDS, halving=rungs, directory=directory, **SEARCH))


def _member(setting: dict[str, Any], key: jax.Array, *, epochs: int, start: Any) -> lo.Run:
    return train(setting, (TRAIN, VALID), key, epochs, start)


def population(directory: Path) -> Arrays:
    """Trains a population."""
    settings = lo.sample({"learning_rate": lo.space.log_uniform(1e-3, 1.0)}, 6, key=0)
    found = lo.population(_member, settings, rounds=4, epochs_per_round=1, directory=directory, **SEARCH)
    return {**found.metrics, **found.settings, "parents": found.parents}


def rounds(directory: Path) -> Arrays:
    """Evolves vectors of choices."""
    found = lo.search.evolve(
        [3, 3, 3], lambda vectors: vectors.sum(axis=1) * 1.0, rounds=5, children=4, key=0, directory=directory,
        progress=False,
    )  # fmt: skip
    return arrays([found.choices, found.scores])


def architecture(directory: Path) -> Arrays:
    """Searches for a network."""
    options = {"rounds": 3, "children": 2, "epochs": 1, "optimizer": ADAM, "key": 0, "progress": False}
    found = lo.search_architecture(SPACE, TRAIN, directory=directory, **options)
    return arrays([[record.choices, record.scores] for record in found.records.values()])


def kept_run(path: Path) -> Arrays:
    """Saves a run once, and loads it."""
    if not path.exists():
        lo.fit(TASK, OPTIMIZER, TRAIN, batch_size=30, epochs=1, key=0, progress=False).save(path)
    return of_run(lo.load(path, TASK))


def kept_results(path: Path) -> Arrays:
    """Saves results once, and loads them."""
    if not path.exists():
        lo.sweep(
            lambda setting, key: {"loss": setting["x"] ** 2}, {"x": [0.1, 0.4]}, **SEARCH | {"minimize": "loss"}
        ).save(path)
    return _of_results(lo.Results.load(path))


def kept_history(path: Path) -> Arrays:
    """Saves a history once, and loads it."""
    if not path.exists():
        run = lo.fit(TASK, OPTIMIZER, TRAIN, valid=VALID, batch_size=30, epochs=2, key=0, progress=False, watch=2)
        run.history.save(path)
    history = lo.training.history.History.load(path)
    return arrays([history.steps, history.epochs, {n: dict(v) for n, v in history.layers.items()}])


def partial(directory: Path) -> Arrays:
    """Searches, once, and reads what the directory holds; what is left out is said."""
    if not directory.exists():
        search(directory)
    return _of_results(lo.Results.partial(directory))


Work = Callable[[Path], Arrays]
RESUMED: dict[str, Work] = {
    "fit": fit,
    "stream": stream,
    "search": search,
    "halving": halving,
    "population": population,
    "rounds": rounds,
    "architecture search": architecture,
}
SAVED: dict[str, Work] = {"run": kept_run, "results": kept_results, "history": kept_history, "partial": partial}
WORKS = RESUMED | SAVED


class BrokenOff(Exception):
    """The process ends here."""


@contextlib.contextmanager
def stopped_after(writes: int) -> Iterator[None]:
    """Raises BrokenOff after so many things were kept."""
    left, kept = [writes], {Store: Store.save, ClaimedDirectory: ClaimedDirectory.write}

    def counted(write: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> None:
            write(*arguments, **named)
            left[0] -= 1
            if left[0] == 0:
                raise BrokenOff

        return call

    Store.save, ClaimedDirectory.write = map(counted, kept.values())  # type: ignore[method-assign]
    try:
        yield
    finally:
        Store.save, ClaimedDirectory.write = kept.values()  # type: ignore[method-assign]


def begin(work: Work, directory: Path) -> None:
    """Runs a work until it kept three things."""
    with stopped_after(3), contextlib.suppress(BrokenOff), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(directory)
