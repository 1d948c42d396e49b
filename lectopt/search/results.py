"""What a search found: scores of each setting over folds and seeds, and what follows from them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lectopt._internal import checks
from lectopt._internal.tables import import_pandas
from lectopt.search.merging import merged
from lectopt.search.missing_scores import MissingScores
from lectopt.search.out_of_fold import out_of_fold
from lectopt.search.result_files import read_directory, read_results, write_results
from lectopt.search.result_tables import pivoted, table_of_lanes, table_of_settings
from lectopt.search.setting_columns import python_value
from lectopt.search.settings import Settings
from lectopt.search.significance import Difference, corrected_t_test, holm
from lectopt.search.simplest import simplest_row
from lectopt.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Results:
    """The outcome of `lo.sweep` and `lo.cross_validate`: n settings on some folds from some seeds.

    Printing it shows the five best settings with their means and standard deviations; `len(results)` is n. Each
    training, of one setting on one fold from one seed, is called a *lane*.

    Attributes:
        settings: the settings, a dictionary `{"name": array[n] or list of n}`.
        metrics: `{"name": float32[n, folds, seeds]}`, with one fold for `lo.sweep`; NaN where a lane diverged, where
            the metric is not finite, or where an interrupted search did not run a lane.
        diverged_at: int32[n, folds, seeds]: the first step whose loss was not finite; -1 for a lane that did not
            diverge, or whose trial returned a dictionary without "diverged_at".
        metric: name of the metric that settings are ranked by.
        maximizes: whether higher values of it are better.
        rungs: int32[n]: how many rungs of a `lo.Halving` each setting completed; without halving 1, and 0 for settings
            that an interrupted search did not run.
        compile_seconds: seconds that XLA took to compile, all programs together; programs compile beside each other
            and beside what runs, so that less of the wall clock goes by.
        run_seconds: seconds spent on training.
        trace_seconds: seconds spent on tracing the trial and on lowering what was traced, before compiling.
        valid_per_train: how many examples were validated on for each one that was trained on, of which p values are
            made; 0 for `lo.sweep`, NaN if that is not known.

    Example:
        >>> import lectopt as lo
        >>> def trial(setting, key):
        ...     return {"loss": (setting["x"] - 0.3) ** 2}
        >>> results = lo.sweep(trial, {"x": [0.1, 0.4, 0.9]}, minimize="loss", key=0)
        >>> results.best(), results.mean("loss").round(2), results.ranking()
        ({'x': 0.4}, array([0.04, 0.01, 0.36], dtype=float32), array([1, 0, 2]))
        >>> round(float(results.replay(2)["loss"]), 2)  # one lane alone
        0.36
    """

    settings: Settings
    metrics: dict[str, np.ndarray]
    diverged_at: np.ndarray
    metric: str
    maximizes: bool
    rungs: np.ndarray
    compile_seconds: float = 0.0
    run_seconds: float = 0.0
    trace_seconds: float = 0.0
    valid_per_train: float = np.nan
    _replay: Any = None  # a `Replay`, which is made where results are

    def __len__(self) -> int:
        return self.settings.count

    def mean(self, metric: str | None = None) -> np.ndarray:
        """Returns the mean of a metric for each setting, over folds and seeds.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            float32[n]; NaN for a setting that lacks the metric on some fold or seed.
        """
        return self._values(metric).mean(axis=1, dtype=np.float64).astype(np.float32)

    def var(self, metric: str | None = None) -> np.ndarray:
        """Returns the variance of a metric for each setting, with `ddof=1`.

        The variance is taken over folds, after averaging over seeds; if there is a single fold, over its seeds.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            float32[n]; NaN where the mean is, and everywhere if there is only one fold and one seed.
        """
        with np.errstate(over="ignore"):  # infinite where settings all but diverged
            return (self.std(metric).astype(np.float64) ** 2).astype(np.float32)

    def std(self, metric: str | None = None) -> np.ndarray:
        """Returns the standard deviation of a metric for each setting, the square root of the variance with `ddof=1`.

        The deviation is taken over folds, after averaging over seeds; if there is a single fold, over its seeds.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            float32[n]; NaN where the mean is, and everywhere if there is only one fold and one seed.
        """
        values = self._values(metric).astype(np.float64)  # whose squares do not overflow
        if values.shape[1] == 1:
            return np.full(len(values), np.nan, np.float32)
        return values.std(axis=1, ddof=1).astype(np.float32)

    def sem(self, metric: str | None = None) -> np.ndarray:
        r"""Returns the standard error of the mean of a metric for each setting.

        .. math:: \operatorname{sem}_h = \operatorname{std}_h / \sqrt{m}

        for m folds, or seeds if there is a single fold. It is somewhat too small, since the training parts of the folds
        overlap.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            float32[n]; NaN where the mean is, and everywhere if there is only one fold and one seed.
        """
        return self.std(metric) / np.sqrt(self._values(metric).shape[1])

    def ranking(self) -> np.ndarray:
        """Returns the settings from best to worst.

        First come the settings that completed all rungs, by their means; then those that a `lo.Halving` dropped, the
        ones dropped later first, by their means at that rung; last those without a mean: diverged, undefined, or not
        run.

        Returns:
            int[n]: row numbers of `settings`.
        """
        mean = self.mean()
        cost = np.where(np.isnan(mean), np.inf, -mean if self.maximizes else mean)
        return np.lexsort((cost, -self.rungs, np.isnan(mean)))

    @property
    def best_index(self) -> int:
        """The row number of the setting with the best mean.

        Raises:
            ValueError: if no setting has a finite mean; the message says why.
        """
        first = int(self.ranking()[0])
        if np.isnan(self.mean()[first]):
            raise ValueError(f"no setting has a finite {self.metric} on all folds: {self.missing()}")
        return first

    def missing(self, metric: str | None = None) -> str:
        """Returns a sentence on the settings that have no mean of a metric, and why.

        A training may have diverged; the metric may be undefined on a fold, such as the area under the ROC curve on a
        fold without positive examples; or the search may have been interrupted.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            The sentence; an empty string if all settings have a mean.
        """
        self._values(metric)  # raises if there is no such metric
        name = self.metric if metric is None else metric
        found = MissingScores.of(self.metrics[name], self.diverged_at, self.rungs)
        return found.why(name, self.diverged_at.shape[1])

    def best(self) -> dict[str, Any]:
        """Returns the setting with the best mean.

        Returns:
            The setting as Python values, `{"name": value}`.

        Raises:
            ValueError: if no setting has a finite mean; the message says why.
        """
        return self.settings.row(self.best_index)

    def one_standard_error(self, complexity: str | Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        r"""Returns the simplest setting whose mean is within one standard error of the best.

        Among the settings h with :math:`|\bar s_h - \bar s_{\mathrm{best}}| \le \operatorname{sem}_{\mathrm{best}}`
        (and as many completed rungs) it is the one of least complexity; of equally simple ones, the best.

        Args:
            complexity: the name of a hyperparameter that is a number, lower for simpler settings, such as "width"; or a
                function of a setting `{"name": value}` that returns something to sort by, lower for simpler ones, such
                as `lambda setting: -setting["coefficient"]`.

        Returns:
            The setting as Python values, `{"name": value}`.

        Raises:
            ValueError: if there is no standard error, with a single fold and seed, no setting has a finite mean, or
                there is no hyperparameter of this name.
            TypeError: if `complexity` is neither a function nor the name of a number, or what it returns cannot be
                sorted.

        Source: Breiman, Friedman, Olshen and Stone (1984), "Classification and regression trees", section 3.4.3.
        """
        return self.settings.row(simplest_row(self, complexity))

    def difference(self, a: int, b: int | None = None, metric: str | None = None) -> Difference:
        """Returns a metric of setting a minus that of setting b, paired by fold.

        All settings share folds, initial weights and minibatches, whose effects cancel in the difference. It is
        therefore known more precisely than the two means.

        Args:
            a: row number of a setting.
            b: row number of the setting to subtract; None takes the best one.
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            A `Difference` with the fields `values`, `mean` and `sem`.

        Raises:
            ValueError: if there is no such setting or metric.
            TypeError: if `a` or `b` is not a whole number.
        """
        values = self._values(metric)
        apart = values[self._row("a", a)] - values[self.best_index if b is None else self._row("b", b)]
        return Difference.of(apart, self._overlap)

    def p_values(self, metric: str | None = None) -> np.ndarray:
        """Returns how likely each setting would be as far from the best as it is, if they did not differ.

        The p values are those of `difference`, corrected by Holm's method for as many comparisons as there are: of the
        settings whose p value is below 0.05, all differ from the best, except in one of twenty searches. Since the best
        setting is the best of many, they are somewhat too small.

        Args:
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            float64[n]; NaN for the best setting itself, for settings without a mean or that a `lo.Halving` dropped
            before it, and where there is no p value of a difference.

        Raises:
            ValueError: if there is no such metric.

        Source: S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6(2); C. Nadeau and Y. Bengio (2003), "Inference for the generalization error", Machine Learning 52.
        """
        values, best = self._values(metric), int(self.ranking()[0])
        found = np.array([corrected_t_test(row - values[best], self._overlap) for row in values])
        found[(self.rungs != self.rungs[best]) | (np.arange(len(self)) == best)] = np.nan
        return holm(found)

    def replay(self, setting: int, fold: int = 0, seed: int = 0) -> Any:
        """Runs the trial once more for a single lane.

        Args:
            setting: row number of the setting.
            fold: number of the fold, from 0 (the default); 0 for `lo.sweep`.
            seed: number of the seed, from 0 (the default).

        Returns:
            What the trial returns, such as a `Run` with its history and model. Its scores equal those of the search up
            to rounding.

        Raises:
            ValueError: if there is no such lane, it was not run, or the results were read from a file.
            TypeError: if an argument is not a whole number.
        """
        replay = self._trained_again
        _, folds, seeds = self.diverged_at.shape
        for name, value, count in (("fold", fold, folds), ("seed", seed, seeds)):
            if not 0 <= checks.check_count(name, value, least=0) < count:
                raise ValueError(f"{name} must be below {count}; got {value}")
        return replay(self._row("setting", setting), fold, seed)

    def runs(self, setting: int | Mapping[str, Any] | None = None) -> list[Run]:
        """Trains a setting on all folds from all seeds once more, in one compiled program, and returns the runs.

        The search itself keeps scores alone, since all models of all settings would fill the memory. The trainings are
        the same: the scores equal those of the search (to the last bit on CPUs, otherwise up to rounding). The runs of
        the setting that was asked for last are kept; for another one nothing is compiled again.

        Args:
            setting: row number of the setting, or the setting itself, `{"name": value}`; None takes the best one.

        Returns:
            A list of folds * seeds `Run`s: run `fold * seeds + seed` is that of a fold and a seed. Together they are
            an ensemble, `lo.ensemble(results.runs())`.

        Raises:
            ValueError: if there is no such setting, it was not run, or the results were read from a file; if None is
                given and no setting has a finite mean.
            TypeError: if `setting` is neither a whole number nor a dictionary, or the trial does not return a `Run`.

        Source: Goodfellow, Bengio and Courville (2016), "Deep Learning", section 7.11, on averaging models.
        """
        replay = self._trained_again
        return replay.runs(self.best_index if setting is None else self._row("setting", setting))

    def out_of_fold(self, setting: int | Mapping[str, Any] | None = None) -> Any:
        """Returns predictions for each example by the models that have not seen it.

        What `cross_val_predict` of scikit-learn returns. The models are those of `runs`.

        Args:
            setting: row number of the setting, or the setting itself, `{"name": value}`; None takes the best one.

        Returns:
            float32[n, ...], or a tree of such arrays, in the order of the n examples that the folds were made of; if
            they were made of a `Subset`, of all its arrays' rows. They are probabilities for classification (a task
            with the activation "softmax" or "sigmoid"), otherwise the model's outputs; the mean over all runs that left
            the example out (several seeds, or repeated splits). Examples that no run left out, as with a holdout, are
            NaN, and so are those of a fold on which a training diverged.

        Raises:
            ValueError: if the search had no folds, there is no such setting, it was not run, or the results were read
                from a file; if None is given and no setting has a finite mean.
            TypeError: if `setting` is neither a whole number nor a dictionary, or the trial does not return a `Run`.

        Source: Stone (1974), "Cross-validatory choice and assessment of statistical predictions", Journal of the Royal
        Statistical Society B 36.
        """
        if (folds := self._trained_again.shared.folds) is None:
            raise ValueError("out_of_fold needs folds: those of lectopt.cross_validate; lectopt.sweep has none")
        return out_of_fold(folds, self.runs(setting))

    def to_pandas(self) -> Any:
        """Returns a table with one row per setting.

        The columns are the hyperparameters; the mean of each metric and, as `<metric>_sem`, its standard error;
        "diverged", the number of diverged lanes; "rank", 1 for the best setting; and, where they are known, the
        "p_value" of the difference from it, as `p_values` returns them. Where a hyperparameter already has such a name,
        the other column is called `metric_<name>`, "search_diverged", "search_rank" or "search_p_value".

        Returns:
            A `pandas.DataFrame`.
        """
        diverged = (self.diverged_at >= 0).sum(axis=(1, 2))
        rank = np.empty(len(self), int)
        rank[self.ranking()] = np.arange(1, len(self) + 1)
        known = {} if np.isnan(p_values := self.p_values()).all() else {"p_value": p_values}
        others = {"diverged": diverged, "rank": rank} | known
        statistics = {name: (self.mean(name), self.sem(name)) for name in self.metrics}
        return table_of_settings(self.settings, statistics, others)

    def by_fold(self) -> Any:
        """Returns a table with one row per training: setting by setting, fold by fold, seed by seed.

        The columns are the hyperparameters, "fold", "seed", each metric and "diverged_at". Where a hyperparameter
        already has such a name, the other column is called `metric_<name>` or `search_<name>`.

        Returns:
            A `pandas.DataFrame`.
        """
        return table_of_lanes(self.settings, self.metrics, self.diverged_at)

    def pivot(self, rows: str, columns: str, metric: str | None = None) -> Any:
        """Returns a table of one hyperparameter by another.

        Args:
            rows: name of the hyperparameter whose values are the rows.
            columns: name of the one whose values are the columns.
            metric: name of a metric; None takes the one that settings are ranked by.

        Returns:
            A `pandas.DataFrame` of means over folds and seeds. Where several settings share both values, that of the
            best of them (by `ranking`); NaN where there is none.

        Raises:
            ValueError: if there is no such metric or hyperparameter, or `rows` and `columns` are the same.
        """
        down, across, scores = pivoted(self.settings, rows, columns, self.mean(metric), self.ranking())
        names = import_pandas().Index(down, name=rows), import_pandas().Index(across, name=columns)
        return import_pandas().DataFrame(scores, *names)

    def heatmap(self, rows: str, columns: str) -> "Figure":
        """Plots the score as colors over the values of two hyperparameters, as for a grid; the best is framed.

        Args:
            rows: name of the hyperparameter whose values are the rows.
            columns: name of the one whose values are the columns. Where several settings share both values, the best
                of them is shown.

        Returns:
            A matplotlib figure.

        Raises:
            ValueError: if there is no such hyperparameter, or `rows` and `columns` are the same.
        """
        from lectopt.plots.heatmap import plot_heatmap  # noqa: PLC0415, matplotlib is heavy

        grid = pivoted(self.settings, rows, columns, self.mean(), self.ranking())
        return plot_heatmap(*grid, names=(rows, columns), metric=self.metric, maximizes=self.maximizes)

    def save(self, path: str | Path) -> None:
        """Writes the results to a new file of arrays and JSON, which `lo.Results.load` reads.

        Args:
            path: where to write; nothing may exist there.

        Raises:
            ValueError: if something exists at `path`, or it cannot be written.
            TypeError: if a setting holds anything but numbers, strings, flags and None.
        """
        write_results(self, path)

    @classmethod
    def load(cls, path: str | Path) -> "Results":
        """Reads results that `save` wrote.

        Args:
            path: the file.

        Returns:
            The `Results`, without a trial to replay.

        Raises:
            FileNotFoundError: if there is nothing at `path`.
            ValueError: if the file holds something else, or is damaged.
        """
        return cls(**read_results(path))

    @classmethod
    def partial(cls, directory: str | Path) -> "Results":
        """Reads what is done of a search that is running, was interrupted, or has ended.

        Args:
            directory: the `directory` of a search.

        Returns:
            The `Results` of the settings of which a training is done, without a trial to replay; those that are not
            done on all folds from all seeds hold NaN and rank last. Values in settings that are no numbers, strings,
            flags or None are text.

        Warns:
            UserWarning: if a file is damaged, which is left out.

        Raises:
            FileNotFoundError: if there is no such directory.
            ValueError: if it holds no outcomes yet, or those of a search that an earlier version of lectopt began.
        """
        return cls(**read_directory(directory))

    def merge(self, other: "Results") -> "Results":
        """Returns the results of the settings of both searches.

        Args:
            other: the `Results` of another search with the same trial, folds, seeds and key. What a file does not tell
                (trial, folds and key) is not compared for results that were read from one.

        Returns:
            The `Results` of all settings, first those of this search; a setting of both is there once, as this search
            has it unless the other ran more of it.

        Raises:
            ValueError: if the two differ in anything but their settings.
            TypeError: if `other` is no `Results`.
        """
        if not isinstance(other, Results):
            raise TypeError(f"other must be lectopt.Results; got {type(other).__name__}")
        return dataclasses.replace(self, **merged(self, other))

    def plot(self) -> "Figure":
        """Plots the score against each hyperparameter, with the best setting marked.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.scores import plot_scores  # noqa: PLC0415, matplotlib is heavy

        return plot_scores(self.settings.drawable(), self.mean(), self.sem(), best=self.best_index, **self._shown_as)

    def plot_parallel(self) -> "Figure":
        """Plots every setting as a line across its hyperparameters, colored by its score.

        Returns:
            A matplotlib figure.
        """
        from lectopt.plots.parallel_coordinates import plot_parallel  # noqa: PLC0415, matplotlib is heavy

        self.best_index  # noqa: B018, raises where no setting has a score
        return plot_parallel(self.settings.drawable(), self.mean(), self.ranking(), **self._shown_as)

    def plot_folds(self, settings: int = 10) -> "Figure":
        """Plots the scores of the best settings on each fold.

        Args:
            settings: how many settings to show, at least 1; 10 by default.

        Returns:
            A matplotlib figure.

        Raises:
            ValueError: if `settings` is below 1.
            TypeError: if it is not a whole number.
        """
        from lectopt.plots.fold_scores import plot_folds  # noqa: PLC0415, matplotlib is heavy

        count = checks.check_count("settings", settings)
        self.best_index  # noqa: B018, raises where no setting has a score
        values = self._values(None)
        best = [int(i) for i in self.ranking() if not np.isnan(values[i]).any()][:count]
        part = "fold" if self.diverged_at.shape[1] > 1 else "seed"
        return plot_folds(values[best], best, metric=self.metric, part=part)

    def __repr__(self) -> str:
        n, folds, seeds = self.diverged_at.shape
        text = f"Results of {n} settings x {folds} folds x {seeds} seeds, by {self.metric}"
        top = (i for i in self.ranking()[:5] if not np.isnan(self.mean()[i]))
        lines = [f"{_spread(self.mean()[i], self.std()[i])} {_shown(self.settings.row(i))}" for i in top]
        return "\n".join([text, *lines, *filter(None, [self.missing()])])

    @property
    def _shown_as(self) -> dict[str, Any]:
        """What the pictures need to know of the metric and of the settings."""
        logarithmic = [name for name in self.settings if self.settings.is_logarithmic(name)]
        return {"metric": self.metric, "maximizes": self.maximizes, "logarithmic": logarithmic}

    def _values(self, metric: str | None) -> np.ndarray:
        """Returns float32[n, folds], averaged over seeds; for a single fold [n, seeds]."""
        name = self.metric if metric is None else metric
        if not isinstance(name, str) or name not in self.metrics:
            raise ValueError(f"metric must be one of {', '.join(map(repr, self.metrics))}; got {name!r}")
        values = self.metrics[name]
        return values.mean(axis=2) if values.shape[1] > 1 else values[:, 0]

    @property
    def _trained_again(self) -> Any:
        """What trains a setting again."""
        if self._replay is None:
            raise ValueError("results from a file have no trial to replay")
        return self._replay

    @property
    def _overlap(self) -> float:
        """What corrects a t test for training parts that overlap; nothing over the seeds of a single fold."""
        return 0.0 if self.diverged_at.shape[1] == 1 else self.valid_per_train

    def _row(self, name: str, value: Any) -> int:
        if isinstance(value, Mapping):
            wanted = {key: python_value(entry) for key, entry in value.items()}
            if odd := [entry for entry in wanted.values() if isinstance(entry, np.ndarray)]:
                raise TypeError(f"{name} must hold one value for each name; got {odd[0]!r}")
            if found := [i for i in range(len(self)) if self.settings.row(i) == wanted]:
                return found[0]
            raise ValueError(f"{name} must be one of those that were searched; got {wanted}")
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            setting = ' or a setting {"name": value}' if name == "setting" else ""
            raise TypeError(f"{name} must be the number of a row{setting}; got {checks.value_and_type(value)}")
        if checks.check_count(name, value, least=0) >= len(self):
            raise ValueError(f"{name} must be below the number of settings, {len(self)}; got {value}")
        return int(value)


def _spread(mean: float, std: float) -> str:
    return f"{mean:9.4g}" + ("" if np.isnan(std) else f" ± {std:<9.3g}")  # NaN of a single fold and seed


def _shown(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={v:.4g}" if isinstance(v, float) else f"{name}={v}" for name, v in setting.items())
