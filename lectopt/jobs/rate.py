"""The rate job: for every algorithm of the lecture, which learning rate to begin with."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lectopt._internal.progress import ProgressBar
from lectopt.data import datasets
from lectopt.data.batches import steps_per_epoch
from lectopt.data.holdouts import holdout
from lectopt.jobs.main import BATCH_SIZE, algorithms, network, save_figures
from lectopt.search.learning_rate import RateSuggestion, suggest_learning_rate
from lectopt.tasks.standard_tasks import classification


def rate_job(output: Path, seed: int) -> None:
    """Suggests a learning rate for each algorithm on the digits, prints a table and writes a picture.

    Args:
        output: a folder for the picture, made if it is not there.
        seed: for the split, the initial weights and the shuffling.
    """
    train, _ = holdout(datasets.digits(), 0.2, key=seed, stratify=True)
    task = classification(network, standardize=True)
    optimizers = algorithms(10 * steps_per_epoch(train, BATCH_SIZE))
    suggestions: dict[str, RateSuggestion] = {}
    with ProgressBar("algorithms", len(optimizers), after=0) as bar:
        for name, optimizer in optimizers.items():
            bar.update(len(suggestions), name)
            suggestions[name] = suggest_learning_rate(
                task, optimizer, train, batch_size=BATCH_SIZE, key=seed, progress=False
            )
    console = Console()
    console.print(_table(suggestions))
    from lectopt.plots.learning_rates import plot_suggestions  # noqa: PLC0415, matplotlib is heavy

    (path,) = save_figures(
        {"rates": plot_suggestions({name: rate.curves for name, rate in suggestions.items()})}, output
    )
    console.print(f"Picture: {path}", soft_wrap=True)


def _table(suggestions: dict[str, RateSuggestion]) -> Table:
    steps = next(iter(suggestions.values())).steps
    caption = (
        f"Best: the lowest loss after {steps} steps, by the mean and for single seeds. "
        "Stable: no seed is worse off than at its start."
    )
    table = Table(caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("algorithm", no_wrap=True)
    for heading in ("suggestion", "best", "over seeds", "stable up to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, rate in suggestions.items():
        seeds = f"{rate.best_by_seed.min():.2g} - {rate.best_by_seed.max():.2g}"
        table.add_row(name, f"{rate.suggestion:.2g}", f"{rate.best:.2g}", seeds, f"{rate.stable:.2g}")
    return table
