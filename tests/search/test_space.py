"""Spaces of hyperparameters and the settings taken from them: the right distributions, grids and columns."""

import functools
import itertools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lectopt as lo
from lectopt.search.setting_columns import canonical
from lectopt.search.settings import Settings, as_settings, groups
from lectopt.search.space import Static

pytestmark = pytest.mark.filterwarnings("error")

space = lo.space
KEYS = st.integers(0, 2**31 - 1)
N = 2000
LAST = 1 - 2.0**-53  # the largest of the uniforms that are drawn


def drawn(distribution, n=N, key=0, name="a"):
    """n draws; a real number beside them lets values come again."""
    return lo.sample({name: distribution, "beside": space.uniform(0, 1)}, n, key=key)[name]


@pytest.fixture
def in_time():
    """Stops what would go on for ever."""

    def stop(*_):
        raise TimeoutError("still drawing")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# distributions --------------------------------------------------------------------------------------------------------
CONTINUOUS = {
    "uniform": (space.uniform(-2, 3), stats.uniform(-2, 5)),
    "log_uniform": (space.log_uniform(1e-4, 10), stats.loguniform(1e-4, 10)),
    "narrow log_uniform": (space.log_uniform(1, 2), stats.loguniform(1, 2)),
    **{
        dist.dist.name + str(i): (dist, dist)
        for i, dist in enumerate(
            [stats.norm(1, 2), stats.loguniform(1e-3, 1), stats.beta(2, 5), stats.expon(scale=3), stats.uniform(2, 3)]
        )
    },
}


@pytest.mark.parametrize(("entry", "law"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_draws_follow_the_distribution(entry, law):
    draws = lo.sample({"a": entry}, N, key=0)["a"]
    assert draws.shape == (N,)
    assert draws.dtype == np.float32
    assert stats.kstest(draws, law.cdf).pvalue > 0.01
    # Nor are they spread more evenly, or run on from one to the next, than chance would.
    assert stats.kstest(draws, law.cdf).pvalue < 0.999
    assert stats.spearmanr(draws[1:], draws[:-1]).pvalue > 0.01


DISCRETE = {
    "integers": (space.integers(3, 9), list(range(3, 10))),
    "negative integers": (space.integers(-2, 1), [-2, -1, 0, 1]),
    "static integers": (space.integers(0, 1, static=True), [0, 1]),
    "choice": (space.choice([0.5, 0.25, 8, 1, 2]), [0.5, 0.25, 8, 1, 2]),
    "static choice": (space.choice((8, 16, 32), static=True), [8, 16, 32]),
    "words": (space.choice(["relu", "tanh", "gelu"]), ["relu", "tanh", "gelu"]),
}


@pytest.mark.parametrize(("entry", "values"), DISCRETE.values(), ids=DISCRETE)
def test_each_value_is_equally_likely(entry, values):
    draws = list(drawn(entry))
    counts = [draws.count(value) for value in values]
    assert sum(counts) == N
    assert stats.chisquare(counts).pvalue > 0.01


def test_the_first_setting_of_a_finite_space_is_any_of_them():
    finite = {"a": space.choice(["x", "y"], static=True), "b": space.integers(0, 2)}
    firsts = [tuple(lo.sample(finite, 3, key=key).row(0).values()) for key in range(300)]
    counts = [firsts.count(row) for row in itertools.product("xy", range(3))]
    assert sum(counts) == 300
    assert stats.chisquare(counts).pvalue > 0.01


def test_hyperparameters_are_drawn_independently_of_each_other():
    names = ["a", "b", "learning_rate", "learning_rate2", "momentum"]
    columns = lo.sample({name: space.uniform(0, 1) for name in names}, N, key=0)
    for one, other in itertools.combinations(names, 2):
        assert stats.spearmanr(columns[one], columns[other]).pvalue > 0.002
        table, _, _ = np.histogram2d(columns[one], columns[other], bins=4, range=[[0, 1], [0, 1]])
        assert stats.chi2_contingency(table).pvalue > 0.002


def test_draws_follow_the_key_alone():
    draws = [tuple(drawn(space.uniform(0, 1), 5, key).tolist()) for key in (3, 3, jax.random.key(3), 4, 5)]
    assert draws[0] == draws[1] == draws[2]
    assert len(set(draws)) == 3
    assert abs(np.corrcoef(*(drawn(space.uniform(0, 1), N, key) for key in (0, 1)))[0, 1]) < 0.08


def test_draws_have_all_digits_of_float64(x64):
    draws = drawn(space.uniform(0, 1))
    assert draws.dtype == np.float64
    scaled = draws * 2.0**53
    np.testing.assert_array_equal(scaled, np.floor(scaled))
    assert np.mean(scaled % 2 == 1) > 0.4
    assert np.mean(draws * 2.0**32 % 1 > 0.5) > 0.4


# bounds ---------------------------------------------------------------------------------------------------------------
REALS = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=40, deadline=None)
@given(low=REALS, width=st.floats(0.25, 1e6, width=32), key=KEYS)
def test_uniform_stays_within_its_ends(low, width, key):
    low, high = np.float32(low), np.float32(low) + np.float32(width)
    entry = space.uniform(float(low), float(high))
    draws = lo.sample({"a": entry}, 20 if width > 2 else 2, key=key)["a"]
    ends = canonical("x", entry.drawn(np.array([0.0, LAST])))
    assert low == ends[0] <= draws.min() <= draws.max() <= ends[1] <= high
    assert abs(ends[1] - high) <= 1e-6 * max(abs(high), width)
    assert canonical("x", entry.drawn(np.array([0.5])))[0] == np.float32((float(low) + float(high)) / 2)


@settings(max_examples=40, deadline=None)
@given(low=st.floats(2.0**-100, 2.0**60, width=32), ratio=st.floats(1.5, 2.0**60, width=32), key=KEYS)
def test_log_uniform_stays_within_its_ends(low, ratio, key):
    low, high = np.float32(low), np.float32(low) * np.float32(ratio)
    entry = space.log_uniform(float(low), float(high))
    draws = lo.sample({"a": entry}, 20, key=key)["a"]
    ends = canonical("x", entry.drawn(np.array([0.0, LAST])))
    assert low == ends[0] <= draws.min() <= draws.max() <= ends[1] <= high
    np.testing.assert_allclose(ends[1], high, rtol=1e-6)
    middle = canonical("x", entry.drawn(np.array([0.5])))[0]
    np.testing.assert_allclose(middle, np.sqrt(float(low) * float(high)), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(low=st.integers(-(2**31), 2**31 - 2), data=st.data())
def test_integers_reach_both_ends_and_no_further(low, data):
    high = data.draw(st.integers(low + 1, 2**31 - 1))
    for static in (False, True):
        assert list(space.integers(low, high, static=static).drawn(np.array([0.0, LAST]))) == [low, high]
        assert list(space.integers(low, high, static=static).spaced(2)) == [low, high]


def test_both_ends_are_drawn():
    assert set(drawn(space.integers(-1, 2), 60).tolist()) == {-1, 0, 1, 2}
    assert set(drawn(space.choice([5, 6, 7]), 60).tolist()) == {5, 6, 7}


# no setting twice -----------------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(n=st.sampled_from([1, 5, 11, 12]), key=KEYS)
def test_no_setting_is_drawn_twice(n, key):
    finite = {"a": space.integers(1, 3), "b": space.choice(["x", "y"]), "c": space.choice([0.1, 0.2])}
    found = lo.sample(finite, n, key=key)
    rows = {tuple(found.row(i).values()) for i in range(n)}
    assert found.count == n
    assert all(len(column) == n for column in found.values())
    assert len(rows) == n
    assert rows <= set(itertools.product([1, 2, 3], "xy", [0.1, 0.2]))


def test_another_hyperparameter_beside_it_changes_nothing():
    rate, width = space.log_uniform(1e-3, 1), space.choice([8, 16], static=True)
    alone = lo.sample({"rate": rate}, 50, key=7)["rate"]
    for beside in (
        {"rate": rate, "width": width},
        {"width": width, "rate": rate},
        {"momentum": space.uniform(0, 1), "depth": space.integers(1, 3), "rate": rate},
    ):
        found = lo.sample(beside, 50, key=7)
        assert list(found) == list(beside)
        np.testing.assert_array_equal(found["rate"], alone)


# grid -----------------------------------------------------------------------------------------------------------------
MIXED = {
    "rate": space.log_uniform(0.01, 1),
    "width": space.integers(1, 9, static=True),
    "shift": space.uniform(-1, 1),
    "act": space.choice(["relu", "tanh"]),
    "m": space.choice([0, 0.9, 0.5]),
}


@pytest.mark.parametrize("points", [1, 3, {}, {"width": 2}, {"rate": 2, "shift": 4, "width": 20, "m": 1}])
def test_grid_is_the_cartesian_product_the_last_fastest(points):
    number = {name: points if isinstance(points, int) else points.get(name, 5) for name in MIXED}
    widths = {1: [1], 2: [1, 9], 3: [1, 5, 9], 5: [1, 3, 5, 7, 9], 20: list(range(1, 10))}
    columns = [
        np.float32(10 ** np.linspace(-2, 0, number["rate"])),
        widths[number["width"]],
        np.float32(np.linspace(-1, 1, number["shift"])),
        ["relu", "tanh"],
        np.float32([0, 0.9, 0.5]),
    ]
    expected = list(itertools.product(*columns))
    found = lo.grid(MIXED, points) if points != {} else lo.grid(MIXED)
    assert list(found) == list(MIXED)
    assert found.count == len(expected)
    for column, values in zip(found.values(), zip(*expected, strict=True), strict=True):
        if isinstance(column, Static):
            assert list(column) == list(values)
        else:
            np.testing.assert_allclose(column, values, rtol=1e-6, atol=1e-7)


def test_grid_takes_the_ends_themselves():
    found = lo.grid({"a": space.log_uniform(3e-4, 0.7)}, 7)["a"]
    assert (found[0], found[-1]) == (np.float32(3e-4), np.float32(0.7))
    assert lo.grid({"a": space.uniform(0.1, 0.7)}, 7)["a"][-1] == np.float32(0.7)


@settings(max_examples=50, deadline=None)
@given(low=st.integers(-20, 20), width=st.integers(1, 30), points=st.integers(2, 40))
def test_whole_numbers_of_a_grid_are_different_and_evenly_spaced(low, width, points):
    found = lo.grid({"a": space.integers(low, low + width)}, points)["a"]
    assert len(found) == min(points, width + 1)
    assert (found[0], found[-1]) == (low, low + width)
    assert (np.diff(found) >= 1).all()
    assert np.ptp(np.diff(found)) <= 1 or np.abs(found - np.linspace(low, low + width, len(found))).max() <= 0.5


def test_grid_of_scipys_distributions_stands_in_the_middle_of_equal_slices():
    law = stats.norm(1, 2)
    np.testing.assert_allclose(lo.grid({"a": law}, 4)["a"], law.ppf([0.125, 0.375, 0.625, 0.875]), rtol=1e-6)


# columns --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [lo.grid, functools.partial(lo.sample, n=40, key=0)])
def test_numbers_are_arrays_and_the_rest_python_values(make):
    functions = (np.sin, np.cos)
    found = make(
        {
            "real": space.uniform(0, 1),
            "log": space.log_uniform(1, 2),
            "whole": space.integers(1, 3),
            "whole of choice": space.choice([1, 2]),
            "real of choice": space.choice([1, 0.5]),
            "scipy": stats.norm(),
            "static whole": space.integers(4, 6, static=True),
            "static": space.choice(np.array([8, 16]), static=True),
            "flag": space.choice([True, False]),
            "word": space.choice(["a", "b"]),
            "function": space.choice(functions),
            "tuple": space.choice([(8, 8), (16,)]),
        },
        **({"points": 2} if make is lo.grid else {}),
    )
    for name in ("real", "log", "real of choice", "scipy"):
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == np.float32
    for name in ("whole", "whole of choice"):
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == np.int32
    kinds = {"static whole": int, "static": int, "flag": bool, "word": str, "tuple": tuple, "function": type(np.sin)}
    for name, kind in kinds.items():
        assert isinstance(found[name], Static)
        assert {type(value) for value in found[name]} == {kind}
    assert set(found["function"]) == set(functions)
    again = as_settings(found)
    assert all(again[name] is found[name] or (again[name] == found[name]).all() for name in found)
    assert {type(column) for column in again.values()} == {np.ndarray, Static}


def test_columns_are_wider_under_x64(x64):
    entries = {"a": space.log_uniform(0.1, 0.7), "b": space.integers(1, 3), "c": space.choice([0.1, 0.3])}
    for found in (lo.grid(entries), lo.sample(entries, 20, key=0), as_settings({"a": [0.1], "b": [1], "c": [0.3]})):
        assert [column.dtype for column in found.values()] == [np.float64, np.int64, np.float64]
    assert lo.grid(entries).row(0) == {"a": 0.1, "b": 1, "c": 0.1}


def test_a_row_is_of_python_values_as_they_were_written():
    columns = as_settings({"a": np.float32([0.1, 1e-7, 3]), "b": [1, 2, 3], "c": ["x", "y", "z"], "d": [True] * 3})
    assert [columns.row(i) for i in range(3)] == [
        {"a": 0.1, "b": 1, "c": "x", "d": True},
        {"a": 1e-7, "b": 2, "c": "y", "d": True},
        {"a": 3.0, "b": 3, "c": "z", "d": True},
    ]
    assert [type(value) for value in columns.row(0).values()] == [float, int, str, bool]
    assert lo.grid({"a": space.choice([0.1, 0.7, 1 / 3])}).row(1) == {"a": 0.7}


def test_taking_rows():
    columns = lo.grid({"a": space.uniform(0, 1), "b": space.choice(["x", "y"])}, 2)
    for rows in ([3, 0, 2], np.array([3, 0, 2])):
        part = columns.take(rows)
        assert isinstance(part, Settings)
        assert part.count == 3
        assert [part.row(i) for i in range(3)] == [columns.row(i) for i in (3, 0, 2)]
        assert isinstance(part["b"], Static)
        assert part["a"].dtype == np.float32
        assert part.space == columns.space
        assert set(part.space) == {"a", "b"}


def test_what_is_spread_over_magnitudes():
    drawn_so = lo.sample({"a": space.log_uniform(1, 2), "b": space.uniform(1, 1000), "c": space.integers(1, 99)}, 9, 0)
    assert [drawn_so.is_logarithmic(name) for name in "abc"] == [True, False, False]
    looks = {"a": [1e-3, 1.0], "b": [1, 50], "c": [1, 49], "d": [0, 1000], "e": [-1, 1000], "f": Static([1, 1000])}
    looks = as_settings(looks)
    assert [looks.is_logarithmic(name) for name in "abcdef"] == [True, True, False, False, False, False]
    assert not as_settings(drawn_so).is_logarithmic("b")


def test_groups_share_their_static_values_and_come_in_order():
    columns = as_settings({"rate": np.arange(6), "width": Static([8, 4, 8, 4, 4, 8]), "act": list("abbaba")})
    found = groups(columns)
    assert [group.rows.tolist() for group in found] == [[0, 5], [1, 4], [2], [3]]
    assert [group.static for group in found] == [
        {"width": w, "act": a} for w, a in [(8, "a"), (4, "b"), (8, "b"), (4, "a")]
    ]
    (only,) = groups(as_settings({"rate": np.arange(6)}))
    assert only.rows.tolist() == list(range(6))
    assert only.static == {}


def test_true_and_1_are_different_groups():
    columns = Settings({"x": np.arange(5), "flag": Static([True, 1, True, 1.0, 1])})
    found = groups(columns)
    assert [group.rows.tolist() for group in found] == [[0, 2], [1, 4], [3]]
    assert [type(group.static["flag"]) for group in found] == [bool, int, float]


def test_own_columns():
    found = as_settings(
        {
            "real": [0.1, 2],
            "whole": (1, 2),
            "double": np.array([1e-3, 1.0]),
            "long": np.array([5, 6], np.int64),
            "jax": jnp.array([1.0, 2.0]),
            "jax list": [jnp.float32(1), jnp.float32(3)],
            "numpy list": [np.float64(0.5), np.int8(1)],
            "words": ["a", "b"],
            "word array": np.array(["a", "b"]),
            "flags": [True, False],
            "flag array": np.array([True, False]),
            "mixed": [None, 3],
            "static": Static([1, 2]),
        }
    )
    assert isinstance(found, Settings)
    real = ["real", "double", "jax", "jax list", "numpy list"]
    assert [found[name].dtype for name in real] == [np.float32] * len(real)
    assert [found[name].dtype for name in ("whole", "long")] == [np.int32] * 2
    static = ["words", "word array", "flags", "flag array", "mixed", "static"]
    assert all(isinstance(found[name], Static) for name in static)
    assert [found.row(1)[name] for name in static] == ["b", "b", False, False, 3, 2]
    assert [type(found.row(1)[name]) for name in static] == [str, str, bool, bool, int, int]
    assert found["double"].tolist() == [np.float32(1e-3), 1.0]


# bad input ------------------------------------------------------------------------------------------------------------
U = space.uniform(0, 1)
ROWS = [{"rate": 0.1, "count": 3, "name": "a", "flag": True}, {"rate": 0.5, "count": 4, "name": "b", "flag": False}]
COLUMNS = {"rate": [0.1, 0.5], "count": [3, 4], "name": ["a", "b"], "flag": [True, False]}
FORMS = {
    "a list of dictionaries": lambda: ROWS,
    "in another order": lambda: [ROWS[0], dict(reversed(ROWS[1].items()))],
    "a DataFrame": lambda: pandas.DataFrame(ROWS, index=[7, 3]),
    "its categories": lambda: pandas.DataFrame(ROWS).astype({"name": "category"}),
    "Series": lambda: {name: pandas.Series(values, index=[5, 2]) for name, values in COLUMNS.items()},
    "arrays": lambda: {name: np.array(values) for name, values in COLUMNS.items()},
    "arrays of objects": lambda: {name: np.array(values, object) for name, values in COLUMNS.items()},
    "NumPy's scalars": lambda: {name: list(np.array(values)) for name, values in COLUMNS.items()},
    "tuples": lambda: {name: tuple(values) for name, values in COLUMNS.items()},
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_settings_in_any_form_are_the_same_columns(make):
    found, plain = as_settings(make()), as_settings(COLUMNS)
    assert list(found) == list(plain)
    assert [found.row(i) for i in range(2)] == ROWS
    for name, column in plain.items():
        assert type(found[name]) is type(column)
        assert getattr(found[name], "dtype", None) == getattr(column, "dtype", None)
        assert [type(value) for value in found[name]] == [type(value) for value in column]


def test_numbers_of_any_dtype_are_traced():
    assert as_settings({"a": jnp.array([0.5, 2.0], jnp.bfloat16)})["a"].dtype == np.float32
    assert as_settings({"a": np.array([1, 2], np.uint8)})["a"].dtype == np.int32


BAD = {
    "no space": (lambda: lo.grid({}), ValueError, "space must hold at least 1 hyperparameter; got none"),
    "nothing to draw": (lambda: lo.sample({}, 3, key=0), ValueError, "space must hold at least 1 hyperparameter"),
    "a list": (lambda: lo.grid([U]), TypeError, r'space must be a dictionary \{"name": distribution\}; got list'),
    "bare values": (lambda: lo.grid({"m": [1, 2]}), TypeError, r"space\['m'\] must be made by lectopt.space.*got list"),
    "a number": (lambda: lo.sample({"a": U, "m": 3}, 1, key=0), TypeError, r"space\['m'\] must be made.*got int"),
    "its kind": (lambda: lo.grid({"m": space.Uniform}), TypeError, r"space\['m'\] must be made"),
    "low = high": (lambda: space.uniform(1, 1), ValueError, "low must be below high; got low=1, high=1"),
    "low > high": (lambda: space.uniform(2, -1), ValueError, "low must be below high; got low=2, high=-1"),
    "low > high, log": (lambda: space.log_uniform(2, 1), ValueError, "low must be below high; got low=2, high=1"),
    "log of 0": (lambda: space.log_uniform(0, 1), ValueError, r"low must be in \(0, inf\); got 0"),
    "log of -1": (lambda: space.log_uniform(-1, 1), ValueError, r"low must be in \(0, inf\); got -1"),
    "log up to -1": (lambda: space.log_uniform(1, -1), ValueError, r"high must be in \(0, inf\); got -1"),
    "log of 1e-50": (lambda: space.log_uniform(1e-50, 1), ValueError, r"low must be in \(0, inf\); got 1e-50, which"),
    "NaN": (lambda: space.uniform(np.nan, 1), ValueError, r"low must be in \(-inf, inf\); got nan"),
    "NaN above": (lambda: space.log_uniform(1, np.nan), ValueError, r"high must be in \(0, inf\); got nan"),
    "infinite": (lambda: space.uniform(0, np.inf), ValueError, r"high must be in \(-inf, inf\); got inf"),
    "words": (lambda: space.uniform("0", 1), TypeError, r"low must be a number in \(-inf, inf\); got '0'"),
    "None": (lambda: space.log_uniform(1, None), TypeError, r"high must be a number in \(0, inf\); got None"),
    "a flag": (lambda: space.uniform(False, 1), TypeError, "low must be a number.*got False"),
    "an array": (lambda: space.uniform(0, np.ones(2)), ValueError, "high must be one number.*shape \\(2,\\)"),
    "integers 2 to 2": (lambda: space.integers(2, 2), ValueError, "low must be below high.*got low=2, high=2"),
    "integers 3 to 2": (lambda: space.integers(3, 2), ValueError, "low must be below high.*got low=3, high=2"),
    "integers from 0.5": (lambda: space.integers(0.5, 2), TypeError, r"low must be a whole number.*got 0\.5"),
    "integers to 2.0": (lambda: space.integers(0, 2.0), TypeError, r"high must be a whole number.*got 2\.0"),
    "integers to True": (lambda: space.integers(0, True), TypeError, "high must be a whole number.*got True"),
    "integers to NaN": (lambda: space.integers(0, np.nan), TypeError, "high must be a whole number.*got nan"),
    "integers to 2^31": (lambda: space.integers(0, 2**31), ValueError, r"high below 2\*\*31; got.*high=2147483648"),
    "integers below": (
        lambda: space.integers(-(2**31) - 1, 0),
        ValueError,
        "low must be at least -2147483648; got -21",
    ),
    "no choice": (lambda: space.choice([]), ValueError, "values must hold at least 1 value to choose; got none"),
    "chosen twice": (lambda: space.choice([1, 2, 1]), ValueError, r"values must differ.*got \[1, 2, 1\]"),
    "1 and 1.0": (lambda: space.choice([1, 1.0]), ValueError, "values must differ from each other"),
    "words twice": (lambda: space.choice(["a", "a"]), ValueError, r"values must differ.*got \['a', 'a'\]"),
    "choice of NaN": (lambda: space.choice([0.5, np.nan]), ValueError, r"values must be finite; got \[0\.5, nan\]"),
    "choice of inf": (lambda: space.choice([np.inf, 1]), ValueError, "values must be finite; got"),
    "choice of lists": (
        lambda: space.choice([[8], [16]]),
        TypeError,
        r"values must be hashable; got \(\[8\], \[16\]\)",
    ),
    "0 points": (lambda: lo.grid({"a": U}, 0), ValueError, "points must be at least 1; got 0"),
    "2.5 points": (lambda: lo.grid({"a": U}, 2.5), TypeError, r"points must be a whole number.*got 2\.5"),
    "True points": (lambda: lo.grid({"a": U}, {"a": True}), TypeError, "points must be a whole number.*got True"),
    "points of none": (lambda: lo.grid({"a": U}, {"b": 2}), ValueError, "points.*hyperparameters.*space, a; got b"),
    "n = 0": (lambda: lo.sample({"a": U}, 0, key=0), ValueError, "n must be at least 1; got 0"),
    "n = 3.0": (lambda: lo.sample({"a": U}, 3.0, key=0), TypeError, r"n must be a whole number.*got 3\.0"),
    "n = '3'": (lambda: lo.sample({"a": U}, "3", key=0), TypeError, "n must be a whole number.*got '3'"),
    "n = 7 of 6": (
        lambda: lo.sample({"a": space.integers(1, 3), "b": space.choice("xy")}, 7, key=0),
        ValueError,
        "n must be at most the 6 settings that the space holds; got 7: take lectopt.grid",
    ),
    "no key": (lambda: lo.sample({"a": U}, 3, key=None), TypeError, "key must be an int.*got None"),
    "traced key": (
        lambda: jax.jit(lambda key: lo.sample({"a": U}, 3, key=key)["a"])(jax.random.key(0)),
        TypeError,
        "key must not be traced here: draw settings outside of jit and vmap",
    ),
    "a grid of billions": (
        lambda: lo.grid({name: space.uniform(0, 1) for name in "abcdefghijkl"}, 30),
        ValueError,
        "points must give at most 10,000,000 settings; got 531,441,",
    ),
    "one choice": (lambda: space.choice(3), TypeError, "values must be a list of values to choose from; got 3"),
    "points of no name": (lambda: lo.grid({"a": space.uniform(0, 1)}, {3: 1}), ValueError, "points must be for.*got 3"),
    "no settings in a list": (lambda: as_settings([]), ValueError, "settings must hold at least 1 hyperparameter"),
    "a set of settings": (lambda: as_settings({1}), TypeError, "settings must be a dictionary.*DataFrame; got set"),
    "no rows": (lambda: as_settings([{"a": 1}, 3]), TypeError, "settings must be a dictionary.*entry 1 is int"),
    "a key is missing": (
        lambda: as_settings([{"a": 1, "b": 2}, {"a": 2}]),
        ValueError,
        "settings must have the same names in all rows; 'b' is in only one of rows 0 and 1",
    ),
    "no name": (lambda: as_settings({3: [1.0]}), TypeError, "settings must have strings for names; got 3"),
    "a missing word": (
        lambda: as_settings({"a": ["x", float("nan")]}),
        ValueError,
        r"settings\['a'\] must have a value for each setting; got nan",
    ),
    "a square of words": (
        lambda: as_settings({"a": np.array([["x"]])}),
        ValueError,
        r"settings\['a'\] must have shape \(n,\), one value for each setting; got \(1, 1\)",
    ),
    "a long number": (lambda: as_settings({"a": [1, 2**70]}), ValueError, "must be numbers of at most 64 bits"),
    "columns of one name": (
        lambda: as_settings(pandas.DataFrame([[1, 2]], columns=["a", "a"])),
        ValueError,
        "settings must have columns of different names",
    ),
    "a gap in a frame": (
        lambda: as_settings(pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64")})),
        ValueError,
        r"settings\['a'\] must have a value for each setting; got <NA>",
    ),
    "no settings": (lambda: as_settings({}), ValueError, "settings must hold at least 1 hyperparameter; got none"),
    "one value": (lambda: as_settings({"a": 0.1}), TypeError, r"settings\['a'\] must be an array or a list.*got 0\.1"),
    "one word": (lambda: as_settings({"a": "adam"}), TypeError, r"settings\['a'\] must be an array.*got 'adam'"),
    "a set": (lambda: as_settings({"a": {1, 2}}), TypeError, r"settings\['a'\] must be an array or a list"),
    "lengths": (
        lambda: as_settings({"a": [1, 2], "b": Static([1])}),
        ValueError,
        "equal.*got lengths {'a': 2, 'b': 1}",
    ),
    "empty columns": (lambda: as_settings({"a": []}), ValueError, "equal length, at least 1; got lengths {'a': 0}"),
    "NaN setting": (lambda: as_settings({"a": [1, np.nan]}), ValueError, r"settings\['a'\] must be finite; got nan"),
    "inf setting": (lambda: as_settings({"a": np.array([1, -np.inf])}), ValueError, "must be finite; got -inf"),
    "two axes": (lambda: as_settings({"a": np.ones((2, 3))}), ValueError, r"must have shape \(n,\).*got \(2, 3\)"),
    "no axis": (lambda: as_settings({"a": jnp.float32(1)}), (TypeError, ValueError), r"settings\['a'\] must"),
    "unhashable": (
        lambda: as_settings({"a": [[1], [2]]}),
        TypeError,
        r"settings\['a'\] must hold.*hashable.*got \[1\]",
    ),
    "twice": (
        lambda: as_settings({"a": [0.1, 0.2, 0.1], "b": ["x", "x", "x"]}),
        ValueError,
        r"settings must differ.*rows 0 and 2 are both \{'a': 0.1, 'b': 'x'\}",
    ),
    "twice, as float32": (lambda: as_settings({"a": [0.1, 0.1 + 1e-12]}), ValueError, "rows 0 and 1 are both"),
    "traced settings": (
        lambda: jax.jit(lambda a: as_settings({"a": a})["a"])(np.ones(2)),
        TypeError,
        "settings must not be traced: call the search outside of jit and vmap",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_whole_finite_spaces_may_be_drawn_and_infinite_ones_have_no_end():
    assert lo.sample({"a": space.integers(1, 3), "b": space.choice("xy")}, 6, key=0).count == 6
    assert lo.sample({"a": space.choice([1]), "b": U}, 6, key=0).count == 6


# at the limits --------------------------------------------------------------------------------------------------------
ENDLESS = {
    "too few values of scipy": (lambda: {"a": stats.randint(0, 3)}, 5, ValueError),
    "float32 has one such number": (lambda: {"a": space.uniform(1, 1 + 1e-9)}, 2, ValueError),
    "float32 has one such choice": (lambda: {"a": space.choice([0.1, 0.1 + 1e-10])}, 2, ValueError),
}


@pytest.mark.parametrize(("entries", "n", "error"), ENDLESS.values(), ids=ENDLESS)
def test_what_cannot_be_drawn_is_refused(in_time, entries, n, error):
    with pytest.raises(error, match="must"):
        lo.sample(entries(), n, key=0)


def test_true_and_1_are_two_settings_to_draw(in_time):
    assert lo.sample({"a": space.choice([True, 1])}, 2, key=0).count == 2


def test_true_and_1_are_two_settings():
    assert as_settings(lo.grid({"a": space.choice([True, 1])})).count == 2


def test_the_dtype_does_not_depend_on_chance():
    entries = {"momentum": space.choice([0, 0.9]), "rate": U}
    assert {lo.sample(entries, 1, key=key)["momentum"].dtype for key in range(6)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [2**33 + 5, 2**31, 1e39])
@pytest.mark.parametrize("make", [as_settings, lambda s: lo.grid({"a": space.choice(s["a"])})], ids=["list", "choice"])
def test_numbers_beyond_the_dtype_are_refused(make, value):
    with pytest.raises(ValueError, match="must"):
        make({"a": [1, value]})


def test_scipys_loguniform_is_spread_over_magnitudes():
    assert lo.sample({"a": stats.loguniform(1e-4, 1)}, 9, key=0).is_logarithmic("a")


def test_grid_of_scipys_whole_numbers_has_none_twice():
    assert lo.grid({"a": stats.randint(0, 3)})["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "entries",
    [{"a": stats.loguniform}, {"a": stats.norm(0, -1)}, {1: U}],
    ids=["no parameters", "impossible parameters", "a name that is no string"],
)
def test_bad_spaces_are_refused_clearly(entries):
    with pytest.raises((TypeError, ValueError), match="space"):
        lo.sample(entries, 3, key=0)
