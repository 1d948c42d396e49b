"""The architecture job: searches for a small network, and judges the ways of searching by a table of all of them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lectopt._internal.progress import ProgressBar
from lectopt.architecture.children import Children
from lectopt.architecture.design import Architecture, Layer
from lectopt.architecture.searching import search_architecture
from lectopt.architecture.space import ArchitectureSpace
from lectopt.data import datasets
from lectopt.data.holdouts import holdout
from lectopt.data.subsets import Subset
from lectopt.jobs.main import save_figures
from lectopt.optim.optimizers import adam
from lectopt.strategies.choices import Record
from lectopt.strategies.evolution import evolve
from lectopt.strategies.random_search import random_choices
from lectopt.strategies.reinforcement import ZOPH_LE, reinforce

SPACE = ArchitectureSpace(depth=[1, 2, 3], width=[4, 8, 16], kernel_size=[3, 7], strides=2)
BY_HAND = Architecture((Layer(25, 5), Layer(25, 3), Layer(25, 3)), (2, 2, 2))
"""The convolutions of the authors of MNIST-1D."""
TRAINING: dict[str, Any] = {"optimizer": adam(0.01), "batch_size": 32, "epochs": 20, "folds": 0.2}
ROUNDS, CHILDREN = 5, 5
"""25 evaluations: 10 % of the space."""
FINALISTS = 3
"""Of each method, trained by themselves in the end."""
SEEDS = 20
AT_A_TIME = 43

Method = Callable[..., Record]
METHODS: dict[str, Method] = {
    "reinforce": reinforce,
    "reinforce, as Zoph & Le": functools.partial(reinforce, controller=ZOPH_LE),
    "evolve": evolve,
    "random": random_choices,
}


def architecture_job(output: Path, seed: int) -> None:
    """Trains every architecture of a small space, ranks what each method finds, and runs the real search.

    Args:
        output: a folder for the pictures, made if it is not there.
        seed: for the split, the initial weights and the shuffling; the methods have seeds of their own.
    """
    console = Console()
    rest, test, name = _examples(seed)
    console.print(f"{SPACE!r}, on {name}", soft_wrap=True, highlight=False)
    table = _scores_of_all(rest, seed)
    ranks = {name: _ranks(method, table) for name, method in METHODS.items()}
    console.print(_rank_table(ranks))
    counts: dict[str, Any] = {"rounds": ROUNDS, "children": CHILDREN, "finalists": FINALISTS}
    found = search_architecture(SPACE, rest, test=test, by_hand=BY_HAND, key=seed, **counts, **TRAINING)
    console.print(f"The search itself, {ROUNDS} rounds of {CHILDREN} children for each method:")
    console.print(str(found), highlight=False, soft_wrap=True)
    from lectopt.plots.ranks import plot_ranks  # noqa: PLC0415, matplotlib is heavy

    figures = {"ranks": plot_ranks(ranks, SPACE.count), "search": found.plot(), "winner": found.plot_winner()}
    console.print(f"Pictures: {', '.join(map(str, save_figures(figures, output)))}", soft_wrap=True)


def _examples(seed: int) -> tuple[Subset, Subset, str]:
    """All but the test set, and that."""
    try:
        examples, name = datasets.mnist1d(), "MNIST-1D"
    except ImportError:
        x, y = datasets.digits()
        examples, name = (x.reshape(-1, 8, 8, 1), y), "digits"
    return *holdout(examples, 0.2, key=seed, stratify=True), name


def _scores_of_all(rest: Subset, seed: int) -> np.ndarray:
    """float32[choices...]: what every architecture of the space reaches on the validation part."""
    children = Children.of(SPACE, rest, last=5, key=seed, **TRAINING)
    train = jax.jit(children.__call__)
    members, scores = SPACE.members(), np.zeros(SPACE.count, np.float32)
    with ProgressBar("architectures", SPACE.count, after=0) as bar:
        for first in range(0, SPACE.count, AT_A_TIME):
            rows = np.resize(members[first : first + AT_A_TIME], (AT_A_TIME, members.shape[1]))
            part = scores[first : first + AT_A_TIME]
            part[:] = np.asarray(train(rows, jax.random.key(seed)))[: len(part)]
            bar.update(first + len(part), f"best {np.nanmax(scores[: first + len(part)]):.3f}")
    table = np.full(SPACE.choices, np.nan, np.float32)
    table[tuple(members.T)] = np.nan_to_num(scores, nan=0.0)  # a diverged one is as bad as can be
    return table


def _ranks(method: Method, table: np.ndarray) -> np.ndarray:
    """int[seeds]: the place in the table of the best that a method found with each of its seeds."""
    values = jnp.asarray(table)

    def best(key: jax.Array) -> jax.Array:
        record = method(SPACE, lambda vectors: values[tuple(vectors.T)], ROUNDS, CHILDREN, key)
        return jnp.max(record.scores)

    best_ranks = jax.jit(jax.vmap(best))(jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    return np.array([1 + np.sum(table > score) for score in np.asarray(best_ranks)])


def _rank_table(ranks: dict[str, np.ndarray]) -> Table:
    caption = (
        f"The true rank, among all {SPACE.count}, of the best that each method found with {ROUNDS * CHILDREN} "
        f"trainings; over {SEEDS} seeds."
    )
    table = Table(caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in ("mean rank", "± s.e.", "median", "worst", "in the best 5"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, best_ranks in ranks.items():
        error = best_ranks.std(ddof=1) / np.sqrt(len(best_ranks))
        best = f"{np.mean(best_ranks <= 5):.0%}"
        table.add_row(
            name, f"{best_ranks.mean():.1f}", f"{error:.1f}", f"{np.median(best_ranks):g}", f"{best_ranks.max()}", best
        )
    return table
