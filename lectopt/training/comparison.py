"""Several trainings side by side: manual tuning as a table and overlaid curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lectopt._internal.tables import as_html, as_text, import_pandas, unique_names
from lectopt._internal.types import Array
from lectopt.training.history import History
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compare(runs: Mapping[Any, Run | History]) -> "Comparison":
    """Compares runs: a table of their final metrics, and their curves over each other.

    Args:
        runs: {name: run} of what `fit` returned, or {name: history}; the names are shown.

    Returns:
        A `Comparison`; print it, let a notebook show it, or call `.plot()`.

    Raises:
        ValueError: if there are no runs, two have the same name, or one holds several trainings.
        TypeError: if runs is not a dictionary, or one of them is neither a Run nor a History.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> runs = {rate: lo.fit(task, lo.sgd, lo.datasets.iris(), hyperparameters={"learning_rate": rate},
        ...                      batch_size=30, epochs=10, key=0) for rate in (0.001, 0.01)}
        >>> print(lo.compare(runs))  # doctest: +ELLIPSIS
        run    train_loss  diverged at
        0.001  ...
        0.01   ...

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Options for Hyperparameter search" (manual
    tuning).
    """
    if not isinstance(runs, Mapping):
        raise TypeError(f"runs must be a dictionary {{name: run}}; got {type(runs).__name__}")
    if not runs:
        raise ValueError("runs must hold at least 1 run; got none")
    for name, run in runs.items():
        if not isinstance(run, (Run, History)):
            raise TypeError(f"runs must hold lectopt Runs, or Histories; got {type(run).__name__} for {name!r}")
        run.check_single()
    if len({str(name) for name in runs}) < len(runs):
        raise ValueError(f"runs must have different names; got {list(runs)}")
    return Comparison({str(name): run for name, run in runs.items()})


class Comparison:
    """Several runs side by side: a table in print and in notebooks, and overlaid curves.

    `lectopt.compare` makes it.

    Args:
        runs: {name: run or history}.

    Example:
        >>> import lectopt as lo
        >>> comparison = lo.compare({"slow": slow_run, "fast": fast_run})  # doctest: +SKIP
        >>> figure = comparison.plot()  # doctest: +SKIP
    """

    def __init__(self, runs: dict[str, Run | History]):
        self._runs = runs

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table, one dictionary per run: its name, its metrics, and the step at which it diverged.

        That step is None if it did not diverge. A metric called "run" or "diverged at" gets " (2)" behind its name.
        """
        return [_row(name, run) for name, run in self._runs.items()]

    def to_pandas(self) -> Any:
        """Returns the table as a pandas DataFrame whose index is the name of the run."""
        return import_pandas().DataFrame(self.rows).set_index("run")

    def plot(self) -> "Figure":
        """Plots the curves of all runs over each other.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.comparison import plot_comparison  # noqa: PLC0415, matplotlib is heavy

        histories = {name: run.history if isinstance(run, Run) else run for name, run in self._runs.items()}
        return plot_comparison(
            {
                run: {name: (h.epochs_done[ends - 1], record) for name, (ends, record) in h.curves.items()}
                for run, h in histories.items()
            },
            {run: (h.epochs_done, h.steps["gradient_norm"]) for run, h in histories.items()},
        )

    def __str__(self) -> str:
        return as_text(self._cells())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self._cells())

    def _cells(self) -> list[list[str]]:
        rows = self.rows
        names = [*dict.fromkeys(name for row in rows for name in row if name != "diverged at"), "diverged at"]
        return [names, *([_cell(row.get(name)) for name in names] for row in rows)]


def _row(name: str, run: Run | History) -> dict[str, Any]:
    """Returns the name of a run, where it diverged, and its final metrics; of a history the last records."""
    step = int(run.diverged_at)
    scores = run.metrics if isinstance(run, Run) else {name: _last(record) for name, (_, record) in run.curves.items()}
    _, diverged, *names = unique_names(["run", "diverged at", *scores])
    return (
        {"run": name}
        | dict(zip(names, map(float, scores.values()), strict=True))
        | {diverged: step if step >= 0 else None}
    )


def _last(record: Array) -> float:
    """Returns the last value before the NaN of a training that ran out of patience."""
    known = np.asarray(record)[~np.isnan(record)]
    return float(known[-1]) if len(known) else np.nan


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
