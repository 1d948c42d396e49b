"""What a search found: scores of each setting over folds and seeds, and what follows from them."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lectopt._internal import checks
from lectopt._internal.files import checked_path, read_arrays, save_arrays
from lectopt._internal.tables import pandas
from lectopt.search.missing_scores import MissingScores
from lectopt.search.settings import Settings, as_settings, python_value
from lectopt.search.space import Static

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = "lectopt results 1"


class Difference(NamedTuple):
    """A metric of one setting minus that of another, fold by fold."""

    values: np.ndarray  # float32[folds], seeds averaged; of a single fold [seeds]
    mean: float
    sem: float
    """The standard error of the mean. Training parts of folds overlap, so that it is rather too small."""


@dataclasses.dataclass(frozen=True)
class Results:
    """The outcome of `sweep` and `cross_validate`: n settings on some folds from some seeds."""

    settings: Settings
    """{"name": array[n] or list of n}"""
    metrics: dict[str, np.ndarray]
    """{"name": float32[n, folds, seeds]}; NaN where a lane diverged, a metric is undefined, or a lane was not run."""
    diverged_at: np.ndarray
    """int32[n, folds, seeds]: the step at which a lane diverged; -1 where it did not, or where a trial that returns a
    dictionary does not say."""
    metric: str
    """The name of the metric to choose by."""
    maximizes: bool
    """Whether more of it is better."""
    rungs: np.ndarray
    """int32[n]: under halving, how many rungs each setting took, otherwise 1; 0 for what an interrupted search did not
    run."""
    compile_seconds: float = 0.0
    """That compiling took, of all programs together."""
    run_seconds: float = 0.0
    """That the trainings took."""
    _replay: Callable[[int, int, int], Any] | None = None

    def __len__(self) -> int:
        return self.settings.count

    def mean(self, metric: str | None = None) -> np.ndarray:
        """float32[n]: the mean over folds and seeds; NaN where one of them has no score."""
        return self._values(metric).mean(axis=1, dtype=np.float64).astype(np.float32)

    def var(self, metric: str | None = None) -> np.ndarray:
        """float32[n]: the variance (ddof 1) over folds, seeds averaged first; of a single fold, over its seeds."""
        with np.errstate(over="ignore"):  # infinite where settings all but diverged
            return (self.std(metric).astype(np.float64) ** 2).astype(np.float32)

    def std(self, metric: str | None = None) -> np.ndarray:
        """float32[n]: the root of `var`."""
        values = self._values(metric).astype(np.float64)  # whose squares do not overflow
        if values.shape[1] == 1:
            return np.full(len(values), np.nan, np.float32)
        return values.std(axis=1, ddof=1).astype(np.float32)

    def sem(self, metric: str | None = None) -> np.ndarray:
        """float32[n]: the standard error of `mean`, std / sqrt(folds). Folds share data: rather too small."""
        return self.std(metric) / np.sqrt(self._values(metric).shape[1])

    def ranking(self) -> np.ndarray:
        """int[n]: the settings from best to worst.

        First come those that took all rungs, by their scores; then those that `Halving` dropped, the later the better
        and by their scores at that rung; last those without a score: diverged on the way, undefined, or not run.
        """
        mean = self.mean()
        cost = np.where(np.isnan(mean), np.inf, -mean if self.maximizes else mean)
        return np.lexsort((cost, -self.rungs, np.isnan(mean)))

    @property
    def best_index(self) -> int:
        """The row of the setting with the best mean.

        Raises:
            ValueError: if no setting has a score; the message says why.
        """
        first = int(self.ranking()[0])
        if np.isnan(self.mean()[first]):
            raise ValueError(f"no setting has a finite {self.metric} on all folds: {self.missing()}")
        return first

    def missing(self, metric: str | None = None) -> str:
        """How many settings have no mean of a metric, and why, in words; empty if all have one.

        A training may have diverged; or it is finite and the metric is undefined on a fold, such as the area under the
        ROC curve of a fold without positives; or the search was interrupted before.
        """
        self._values(metric)  # raises if there is no such metric
        name = self.metric if metric is None else metric
        found = MissingScores.of(self.metrics[name], self.diverged_at, self.rungs)
        return found.why(name, self.diverged_at.shape[1])

    def best(self) -> dict[str, Any]:
        """The setting with the best mean, {"name": value}."""
        return self.settings.row(self.best_index)

    def one_standard_error(self, complexity: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The simplest setting whose mean is within one standard error of the best one's.

        Args:
            complexity: setting -> something to sort by, the least being the simplest, such as
                `lambda setting: -setting["coefficient"]`.

        Raises:
            ValueError: if there is no standard error: a single fold and seed.

        Source: Breiman et al. (1984), "Classification and regression trees", section 3.4.3.
        """
        if not callable(complexity):
            raise TypeError(f"complexity must be a function of a setting; got {complexity!r}")
        best = self.best_index
        error = float(self.sem()[best])
        if np.isnan(error):
            raise ValueError("one_standard_error needs at least 2 folds, or 2 seeds")
        apart = np.abs(self.mean() - self.mean()[best])
        near = [i for i in self.ranking() if apart[i] <= error and self.rungs[i] == self.rungs[best]]
        return self.settings.row(min(near, key=lambda i: complexity(self.settings.row(i))))

    def difference(self, a: int, b: int | None = None, metric: str | None = None) -> Difference:
        """A metric of setting a minus that of setting b (the best if left out), paired by fold: all settings have the
        same folds, initial weights and shufflings, so what these do to both cancels.
        """
        values = self._values(metric)
        apart = values[self._row("a", a)] - values[self.best_index if b is None else self._row("b", b)]
        error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.nan
        return Difference(apart, float(apart.mean()), float(error))

    def replay(self, setting: int, fold: int = 0, seed: int = 0) -> Any:
        """What the trial returns for one lane, run alone: a Run with its history and model.

        Raises:
            ValueError: if there is no such lane, or the results were read from a file.
        """
        if self._replay is None:
            raise ValueError("results from a file have no trial to replay")
        _, folds, seeds = self.diverged_at.shape
        for name, value, count in (("fold", fold, folds), ("seed", seed, seeds)):
            if not 0 <= checks.check_count(name, value, least=0) < count:
                raise ValueError(f"{name} must be below {count}; got {value}")
        return self._replay(self._row("setting", setting), fold, seed)

    def to_pandas(self) -> Any:
        """A DataFrame, a row for each setting.

        Its columns are the setting's values; each metric's mean and, as "<metric>_sem", its standard error; "diverged",
        how many lanes did; and "rank", 1 for the best. Settings keep their names. Where another column's name is taken
        already it is written "metric_<name>", or "search_diverged" and "search_rank".
        """
        columns: dict[str, Any] = {name: [python_value(v) for v in column] for name, column in self.settings.items()}
        taken = set(columns)
        called = {name: _free("metric", name, taken) for name in self.metrics}
        for name, column in called.items():
            columns |= {column: self.mean(name), _free("metric", f"{column}_sem", taken): self.sem(name)}
        rank = np.empty(len(self), int)
        rank[self.ranking()] = np.arange(1, len(self) + 1)
        diverged = (self.diverged_at >= 0).sum(axis=(1, 2))
        for name, values in (("diverged", diverged), ("rank", rank)):
            columns[_free("search", name, taken)] = values
        return pandas().DataFrame(columns)

    def save(self, path: str | Path) -> None:
        """Writes the results into one new file of arrays and JSON, which `Results.load(path)` reads.

        Raises:
            ValueError: if there is something at path, or it cannot be written there.
            TypeError: if a setting holds anything but numbers, strings, flags and None.
        """
        path = checked_path("path", path)
        if path.exists():
            raise ValueError(f"path must be new; there is something at {path} already")
        static = {name: list(column) for name, column in self.settings.items() if isinstance(column, Static)}
        for name, column in static.items():
            if odd := [v for v in column if not (v is None or isinstance(v, (str, int, float, bool)))]:
                raise TypeError(
                    f"settings must hold numbers, strings, flags or None to be saved; {name} has {odd[0]!r}"
                )
        about = {
            "format": _FORMAT,
            "names": list(self.settings),
            "logarithmic": [name for name in self.settings if self.settings.is_logarithmic(name)],
            "static": static,
            "metric": self.metric,
            "maximizes": self.maximizes,
            "seconds": [self.compile_seconds, self.run_seconds],
        }
        numbers = {f"setting {name}": column for name, column in self.settings.items() if name not in static}
        metrics = {f"metric {name}": values for name, values in self.metrics.items()}
        arrays: dict[str, Any] = {"diverged_at": self.diverged_at, "rungs": self.rungs, **numbers, **metrics}
        save_arrays(path, {"about": np.array(json.dumps(about)), **arrays})

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Reads results that `save` wrote.

        Raises:
            FileNotFoundError: if there is nothing at path.
            ValueError: if it is something else, or was damaged.
        """
        path = checked_path("path", path)
        if not path.exists():
            raise FileNotFoundError(f"path must be a file that Results.save wrote; there is nothing at {path}")
        try:
            arrays = read_arrays(path)
            about = json.loads(str(arrays.pop("about")))
        except (ValueError, LookupError) as error:
            raise ValueError(f"path must be a file that Results.save wrote; {path} is not: {error}") from error
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise ValueError(f"path must hold the format {_FORMAT!r}; {path} does not")
        static = {name: Static(column) for name, column in about["static"].items()}
        columns = {name: static[name] if name in static else arrays[f"setting {name}"] for name in about["names"]}
        metrics = {name.removeprefix("metric "): a for name, a in arrays.items() if name.startswith("metric ")}
        seconds = dict(zip(("compile_seconds", "run_seconds"), about["seconds"], strict=True))
        settings = as_settings(columns)
        settings.logarithmic = {name: name in about["logarithmic"] for name in settings}
        return cls(
            settings, metrics, arrays["diverged_at"], about["metric"], about["maximizes"], arrays["rungs"],
            **seconds,
        )  # fmt: skip

    def plot(self) -> "Figure":
        """The score against each hyperparameter, with the best one marked; returns a matplotlib figure."""
        from lectopt.plots.search import plot_scores  # noqa: PLC0415, matplotlib is heavy

        return plot_scores(self)

    def plot_parallel(self) -> "Figure":
        """Every setting as a line across its hyperparameters to its score; returns a matplotlib figure."""
        from lectopt.plots.search import plot_parallel  # noqa: PLC0415, matplotlib is heavy

        return plot_parallel(self)

    def plot_folds(self, settings: int = 10) -> "Figure":
        """The scores of the best settings fold by fold; returns a matplotlib figure."""
        from lectopt.plots.search import plot_folds  # noqa: PLC0415, matplotlib is heavy

        return plot_folds(self, checks.check_count("settings", settings))

    def __repr__(self) -> str:
        n, folds, seeds = self.diverged_at.shape
        text = f"Results of {n} settings x {folds} folds x {seeds} seeds, by {self.metric}"
        top = (i for i in self.ranking()[:5] if not np.isnan(self.mean()[i]))
        lines = [f"{_spread(self.mean()[i], self.std()[i])} {_shown(self.settings.row(i))}" for i in top]
        return "\n".join([text, *lines, *filter(None, [self.missing()])])

    def _values(self, metric: str | None) -> np.ndarray:
        """float32[n, folds], seeds averaged; of a single fold [n, seeds]."""
        name = self.metric if metric is None else metric
        if name not in self.metrics:
            raise ValueError(f"metric must be one of {', '.join(map(repr, self.metrics))}; got {name!r}")
        values = self.metrics[name]
        return values.mean(axis=2) if values.shape[1] > 1 else values[:, 0]

    def _row(self, name: str, value: Any) -> int:
        if checks.check_count(name, value, least=0) >= len(self):
            raise ValueError(f"{name} must be below the number of settings, {len(self)}; got {value}")
        return int(value)


def _free(kind: str, name: str, taken: set[str]) -> str:
    """The name for a column, with its kind in front where it is taken; then it is taken."""
    while name in taken:
        name = f"{kind}_{name}"
    taken.add(name)
    return name


def _spread(mean: float, std: float) -> str:
    return f"{mean:9.4g}" + ("" if np.isnan(std) else f" ± {std:<9.3g}")  # NaN of a single fold and seed


def _shown(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={v:.4g}" if isinstance(v, float) else f"{name}={v}" for name, v in setting.items())
