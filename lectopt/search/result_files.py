"""Results in files: those of a whole search, and what a directory holds of one that goes on."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lectopt._internal.files import DamagedError, checked_path, read_arrays, save_arrays
from lectopt.engine.lanes import Outcome
from lectopt.search.scores import Scores
from lectopt.search.settings import Settings, as_settings
from lectopt.search.space import Static

_FORMAT = "lectopt results 1"


def write_results(results: Any, path: str | Path) -> None:
    """Writes results to a new file.

    Raises:
        TypeError, ValueError: as `Results.save`.
    """
    path = checked_path("path", path)
    if path.exists():
        raise ValueError(f"path must be new; there is something at {path} already")
    settings = results.settings
    static = {name: list(column) for name, column in settings.items() if isinstance(column, Static)}
    for name, column in static.items():
        if odd := [v for v in column if not (v is None or isinstance(v, (str, int, float, bool)))]:
            raise TypeError(f"settings must hold numbers, strings, flags or None to be saved; {name} has {odd[0]!r}")
    about = {
        "format": _FORMAT,
        "names": list(settings),
        "logarithmic": [name for name in settings if settings.is_logarithmic(name)],
        "static": static,
        "missing": {name: np.flatnonzero(lacks).tolist() for name, lacks in settings.missing.items()},
        "omits_missing": settings.omits_missing,
        "metric": results.metric,
        "maximizes": results.maximizes,
        "seconds": [results.compile_seconds, results.run_seconds, results.trace_seconds],
        "valid_per_train": None if np.isnan(results.valid_per_train) else results.valid_per_train,
    }
    numbers = {f"setting {name}": column for name, column in settings.items() if name not in static}
    metrics = {f"metric {name}": values for name, values in results.metrics.items()}
    arrays: dict[str, Any] = {"diverged_at": results.diverged_at, "rungs": results.rungs, **numbers, **metrics}
    save_arrays(path, {"about": np.array(json.dumps(about)), **arrays})


def read_results(path: str | Path) -> dict[str, Any]:
    """Returns the fields of the results in a file.

    Raises:
        FileNotFoundError, ValueError: as `Results.load`.
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
    count = len(arrays["rungs"])
    lacking = about.get("missing", {}).items()  # earlier versions wrote none
    settings = _settings(columns, {name: np.isin(np.arange(count), rows) for name, rows in lacking}, about)
    # Earlier versions wrote two.
    seconds = dict(zip(("compile_seconds", "run_seconds", "trace_seconds"), about["seconds"], strict=False))
    return {
        "settings": settings,
        "metrics": {name.removeprefix("metric "): a for name, a in arrays.items() if name.startswith("metric ")},
        "diverged_at": arrays["diverged_at"],
        "metric": about["metric"],
        "maximizes": about["maximizes"],
        "rungs": arrays["rungs"],
        "valid_per_train": np.nan if (ratio := about.get("valid_per_train")) is None else ratio,
        **seconds,
    }


def read_directory(path: str | Path) -> dict[str, Any]:
    """Returns the fields of the results of all settings that a directory has the outcomes of.

    Raises:
        FileNotFoundError, ValueError: as `Results.partial`.
    """
    path = checked_path("directory", path)
    if not path.is_dir():
        raise FileNotFoundError(f"directory must be that of a search; there is none at {path}")
    files = [one for file in sorted(path.glob("rung*-*/lanes-*.npz")) if (one := _read(file)) is not None]
    if not files:
        raise ValueError(
            f"directory must hold outcomes of a search, by this version of lectopt or a later one; {path} has none"
        )
    abouts = [about for _, about, _ in files]
    rows: dict[str, dict[str, Any]] = {}  # by what tells them apart, in the order of the search
    placed = [one for about in abouts for one in zip(about["places"], about["settings"], strict=True)]
    for _, row in sorted(placed, key=lambda one: one[0]):
        rows.setdefault(json.dumps(row), row)
    folds, seeds = (max(about["shape"][axis] for about in abouts) for axis in (0, 1))
    scores = Scores(len(rows), folds * seeds)
    place = {name: i for i, name in enumerate(rows)}
    for rung in sorted({rung for rung, _, _ in files}):
        _score([(about, arrays) for at, about, arrays in files if at == rung], place, seeds, scores)
    last = abouts[-1]
    shape = len(rows), folds, seeds
    return {
        "settings": _settings_of_rows(list(rows.values()), last),
        "metrics": {name: values.reshape(shape) for name, values in scores.metrics.items()},
        "diverged_at": scores.diverged_at.reshape(shape),
        "metric": last["metric"],
        "maximizes": last["maximizes"],
        "rungs": scores.rungs,
    }


def _read(file: Path) -> tuple[int, dict[str, Any], dict[str, np.ndarray]] | None:
    """Returns the rung, what the file says about itself, and its arrays; None for an earlier version's."""
    try:
        arrays = read_arrays(file)
    except DamagedError as error:
        warnings.warn(f"{error}: left out", stacklevel=4)
        return None
    if "about" not in arrays:
        return None
    about = json.loads(bytes(arrays["about"]))
    return int(file.parent.name.partition("-")[0].removeprefix("rung")), about, arrays


def _score(files: list[Any], place: dict[str, int], seeds: int, scores: Scores) -> None:
    """Writes the scores of the settings all of whose lanes on a rung are done."""
    names = files[0][0]["metrics"]
    table = np.full((len(names) + 1, *scores.diverged_at.shape), np.nan)
    done = np.zeros(scores.diverged_at.shape, bool)
    for about, arrays in files:
        rows = [place[json.dumps(row)] for row in about["settings"]]
        fold, seed = np.array([name.split(b"-") for name in arrays["pairs"].tolist()], int).T
        at = np.ix_(rows, fold * seeds + seed)
        for i in range(len(names) + 1):  # sorted metrics, then where they diverged: the order of the leaves
            table[i][at] = arrays[f"leaf{i:04}"]
        done[at] = True
    whole = np.flatnonzero(done.all(axis=1))
    metrics = {name: table[i, whole].astype(np.float32) for i, name in enumerate(names)}
    if len(whole):
        scores.write(whole, Outcome(metrics, table[-1, whole].astype(np.int32), None))  # type: ignore[arg-type]


def _settings(columns: dict[str, Any], missing: dict[str, np.ndarray], about: dict[str, Any]) -> Settings:
    """Returns the settings that a file tells of, which have no space but know what it said."""
    settings = as_settings(Settings(columns, missing=missing))
    settings.omits_missing = about.get("omits_missing", False)
    settings.logarithmic = {name: name in about["logarithmic"] for name in settings}
    return settings


def _settings_of_rows(rows: list[dict[str, Any]], about: dict[str, Any]) -> Settings:
    missing = {name: np.array([row[name] is None for row in rows]) for name in about["missing"]}
    columns: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in missing:  # any value is a placeholder
            given = [value for value in values if value is not None]
            values = [(given[0] if given else 0) if value is None else value for value in values]
        columns[name] = Static(values) if name in about["static"] else values
    return _settings(columns, missing, about)
