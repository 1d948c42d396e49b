"""Settings from a space: laid out over it as a grid, or drawn from it at random."""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt.search.conditions import apply_conditions
from lectopt.search.setting_columns import canonical, checked_values
from lectopt.search.settings import Settings, checked_space, identity, taken_rows
from lectopt.search.space import Static

_MOST = 10**7
"""Settings of a grid."""
_LEAST_DRAWS = 1024
"""At once, where not all of them are taken."""
_FRUITLESS = 30
"""Rounds of draws after which a space that gives nothing new is taken to be exhausted."""


def grid(
    space: Mapping[str, Any],
    points: int | Mapping[str, int] = 5,
    *,
    where: Callable[[dict[str, Any]], bool] | None = None,
) -> Settings:
    """Returns all combinations of values of the hyperparameters: a grid over the space.

    Args:
        space: `{"name": distribution}`, at least one, where a distribution is made by `lo.space` or is one of SciPy's
            with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`.
        points: number of values of each range, at least 1 and by default 5, or `{"name": number}` with 5 for names that
            it lacks. Values are spaced as the distribution is, ends included: evenly for `lo.space.uniform`, evenly in
            the logarithm for `lo.space.log_uniform`, at even quantiles for SciPy's. A `lo.space.choice` always
            contributes all its values.
        where: a function of a setting, `{"name": value}` with None for what does not apply, that returns whether to
            take it, such as `lambda setting: setting["warmup"] <= setting["steps"]`; None (the default) takes all.

    Returns:
        `Settings`, a dictionary `{"name": array[n] or list of n}` of all n combinations; the last hyperparameter varies
        fastest. Combinations that differ only in what does not apply (`lo.space.when`) are one.

    Raises:
        ValueError: if the space is empty, a number of points is below 1 or has an unknown name, there are more than 10
            million combinations, or `where` takes none of them.
        TypeError: if `space` is not a dictionary of distributions, a number of points is not a whole number, or `where`
            is not a function that returns True or False.

    Example:
        >>> import lectopt as lo
        >>> space = {"learning_rate": lo.space.log_uniform(0.01, 1.0), "momentum": lo.space.choice([0.0, 0.9])}
        >>> settings = lo.grid(space, points=3)
        >>> print(settings["learning_rate"], settings["momentum"])
        [0.01 0.01 0.1  0.1  1.   1.  ] [0.  0.9 0.  0.9 0.  0.9]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search"; Goodfellow,
    Bengio and Courville (2016), "Deep Learning", section 11.4.3.
    """
    space = checked_space(space)
    if isinstance(points, Mapping) and (unknown := set(points) - set(space)):
        raise ValueError(
            f"points must be for hyperparameters of the space, {', '.join(space)}; got {', '.join(map(str, unknown))}"
        )
    columns = []
    for name, distribution in space.items():
        number = points.get(name, 5) if isinstance(points, Mapping) else points
        columns.append(checked_values(name, distribution.spaced(checks.check_count("points", number))))
    if (count := math.prod(map(len, columns))) > _MOST:
        raise ValueError(f"points must give at most {_MOST:,} settings; got {count:,}: draw some with lectopt.sample")
    places = np.array(list(itertools.product(*(range(len(column)) for column in columns))))
    named = {
        name: _pick(canonical(name, column), places[:, i])
        for i, (name, column) in enumerate(zip(space, columns, strict=True))
    }
    found = _conditioned(space, named)
    rows = list(taken_rows(found, _where(where))) if found.missing or where is not None else range(found.count)
    if not rows:
        raise ValueError(f"where must take some of the settings; it took none of {found.count}")
    return found.take(rows) if len(rows) < found.count else found


def sample(
    space: Mapping[str, Any], n: int, key: Any, *, where: Callable[[dict[str, Any]], bool] | None = None
) -> Settings:
    """Draws settings at random, each hyperparameter independently of the others.

    No setting is drawn twice. The draws of a hyperparameter depend on the key and its own name alone; adding another
    one to the space does not change them.

    Args:
        space: `{"name": distribution}`, at least one, where a distribution is made by `lo.space` or is one of SciPy's
            with its parameters, such as `scipy.stats.loguniform(1e-4, 1)`.
        n: number of settings, at least 1.
        key: an int or a `jax.random.key`.
        where: a function of a setting, `{"name": value}` with None for what does not apply, that returns whether to
            take it, such as `lambda setting: setting["warmup"] <= setting["steps"]`; None (the default) takes all.

    Returns:
        `Settings`, a dictionary `{"name": array[n] or list of n}`.

    Raises:
        ValueError: if the space is empty, or holds fewer than n different settings; if `where` takes fewer of some ten
            thousand draws, at least.
        TypeError: if `space` is not a dictionary of distributions, n is not a whole number, the key is traced, or
            `where` is not a function that returns True or False.

    Example:
        >>> import lectopt as lo
        >>> settings = lo.sample({"learning_rate": lo.space.log_uniform(1e-3, 1.0)}, 64, key=0)
        >>> bool((settings["learning_rate"] < 0.03).mean() > 0.4)  # about half lie below the geometric middle
        True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search"; Bergstra and
    Bengio (2012), "Random search for hyper-parameter optimization", Journal of Machine Learning Research 13.
    """
    space = checked_space(space)
    n = checks.check_count("n", n)
    counts = [distribution.count for distribution in space.values()]
    if None not in counts and (total := math.prod(counts)) < n:  # type: ignore[arg-type]
        raise ValueError(f"n must be at most the {total} settings that the space holds; got {n}: take lectopt.grid")
    checks.check_known("key", key, "draw settings")
    streams = {name: uniforms_of(as_key(key), name) for name in space}
    takes, size = _where(where), n if where is None else max(n, _LEAST_DRAWS)
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # by what tells them apart, in the order drawn
    for since in itertools.count():
        uniforms = {name: streams[name](size) for name in space}
        drawn = {name: checked_values(name, space[name].drawn(u), size) for name, u in uniforms.items()}
        found = _conditioned(space, {name: canonical(name, column) for name, column in drawn.items()})
        before = len(rows)
        for i in taken_rows(found, takes):
            row = tuple(column[i] for column in found.values())
            rows.setdefault(identity(row), row)
        if len(rows) >= n:
            break
        if len(rows) == before and since >= _FRUITLESS:
            which = "different settings that the space holds" if where is None else "settings that where takes of"
            draws = "" if where is None else f" {(since + 1) * size} draws"
            raise ValueError(f"n must be at most the {len(rows)} {which}{draws}; got {n}")
    columns = zip(*list(rows.values())[:n], strict=True)
    kinds = found.values()
    made = [Static(c) if isinstance(d, Static) else np.asarray(c) for c, d in zip(columns, kinds, strict=True)]
    return _conditioned(space, dict(zip(space, made, strict=True)))


def _conditioned(space: Mapping[str, Any], columns: dict[str, Any]) -> Settings:
    columns, missing = apply_conditions(space, columns)
    return Settings(columns, space, missing)


def _pick(column: Any, places: np.ndarray) -> Any:
    return Static(column[i] for i in places) if isinstance(column, Static) else column[places]


def _where(where: Any) -> Callable[[dict[str, Any]], bool] | None:
    if where is not None and not callable(where):
        raise TypeError(f"where must be a function of a setting; got {where!r}")
    return where


def uniforms_of(key: jax.Array, name: str) -> Callable[[int], np.ndarray]:
    """Returns a function that draws n more uniforms at each call, float64[n]; each name has a stream of its own."""
    stream: Iterator[jax.Array] = (
        jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(name.encode())), i) for i in itertools.count()
    )

    def draw(n: int) -> np.ndarray:
        with jax.ensure_compile_time_eval():
            high, low = np.asarray(jax.random.bits(next(stream), (2, n), np.uint32))
        return (high + (low >> 11) / 2**21) / 2**32  # all 53 bits: float32 uniforms repeat after some thousands

    return draw
