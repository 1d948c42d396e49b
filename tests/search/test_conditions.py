"""Hyperparameters that apply in some settings only; constraints; settings by hand; distributions of one's own."""

import jax.numpy as jnp
import numpy as np
import optuna
import pandas
import pytest
from scipy import stats

import lectopt as lo
from lectopt.search.space import Static

SPACE = {
    "momentum": lo.space.when("optimizer", "sgd", lo.space.uniform(0.25, 0.99)),
    "optimizer": lo.space.choice(["sgd", "adam"]),
    "rate": lo.space.log_uniform(1e-3, 1.0),
}


def test_a_conditional_hyperparameter_is_missing_where_it_does_not_apply():
    drawn = lo.sample(SPACE, 40, key=0)
    sgd = np.array([name == "sgd" for name in drawn["optimizer"]])
    assert 5 < sgd.sum() < 35
    assert (drawn["momentum"][~sgd] == 0.25).all()
    assert drawn["momentum"].dtype == np.float32
    assert len(set(drawn["momentum"][sgd])) == sgd.sum()
    for i in range(40):
        assert (drawn.row(i)["momentum"] is None) == (drawn["optimizer"][i] == "adam")
    kept = drawn.take([3, 5])
    assert [kept.row(i) for i in range(2)] == [drawn.row(i) for i in (3, 5)]


def test_a_grid_has_settings_that_differ_in_nothing_that_applies_once():
    deep = {
        "units": lo.space.when("depth", [1, 3], lo.space.choice([8, 16], static=True)),
        "depth": lo.space.when("kind", "mlp", lo.space.integers(1, 3)),
        "kind": lo.space.choice(["mlp", "linear"]),
    }
    found = lo.grid(deep)
    rows = {tuple(found.row(i).values()) for i in range(found.count)}
    mlps = {(None, 2, "mlp")} | {(units, depth, "mlp") for units in (8, 16) for depth in (1, 3)}
    assert rows == mlps | {(None, None, "linear")}
    assert found.count == 6
    assert isinstance(found["units"], Static)
    assert lo.sample(deep, 6, key=0).count == 6
    with pytest.raises(ValueError, match="at most the 6 different settings"):
        lo.sample(deep, 7, key=0)


def test_a_search_computes_with_the_placeholder_and_shows_none(tmp_path):
    def trial(setting, key):
        return {"loss": setting["momentum"] + setting["rate"] + (setting["optimizer"] == "sgd")}

    found = lo.sweep(trial, lo.sample(SPACE, 8, key=1), minimize="loss", key=0, progress=False)
    adam = np.array([name == "adam" for name in found.settings["optimizer"]])
    assert found.best()["momentum"] is None
    np.testing.assert_allclose(found.mean()[adam], 0.25 + found.settings["rate"][adam], rtol=1e-6)
    np.testing.assert_array_equal(found.to_pandas()["momentum"].isna(), adam)
    found.save(tmp_path / "results")
    loaded = lo.Results.load(tmp_path / "results")
    np.testing.assert_array_equal(loaded.to_pandas()["momentum"].isna(), adam)
    assert loaded.best() == found.best()
    assert found.plot()
    assert found.plot_parallel()


def test_constraints_hold_and_too_few_settings_are_told():
    where = lambda s: s["momentum"] is None or s["momentum"] > 0.9  # noqa: E731
    found = lo.sample(SPACE, 30, key=0, where=where)
    rows = [found.row(i) for i in range(30)]
    assert all(map(where, rows))
    assert {row["optimizer"] for row in rows} == {"sgd", "adam"}
    squares = lo.grid({"a": lo.space.integers(1, 4), "b": lo.space.integers(1, 4)}, where=lambda s: s["a"] <= s["b"])
    assert squares.count == 10
    with pytest.raises(ValueError, match=r"n must be at most the 0 settings that where takes of \d+ draws; got 3"):
        lo.sample(SPACE, 3, key=0, where=lambda s: s["rate"] > 2)


def test_log_uniform_integers_in_steps():
    entry = lo.space.integers(8, 512, log=True, step=8)
    values = np.arange(8, 513, 8)
    drawn = entry.drawn(np.random.default_rng(0).random(20000))
    law = np.diff(np.log(np.append(values, 520))) / np.log(520 / 8)
    assert set(drawn) <= set(values)
    counts = np.array([(drawn == value).sum() for value in values])
    assert stats.chisquare(counts, law * 20000).pvalue > 0.01
    assert drawn.dtype == np.int32
    assert entry.drawn(np.array([0.0, 1 - 2.0**-53])).tolist() == [8, 512]
    assert entry.spaced(4).tolist() == [8, 32, 128, 512]
    assert entry.spaced(100).tolist() == values.tolist()
    assert entry.count == 64
    assert lo.sample({"a": entry}, 8, key=0).is_logarithmic("a")
    assert set(lo.space.integers(1, 7, step=3).drawn(np.linspace(0, 0.999, 50))) == {1, 4, 7}


class Triangular:
    """A distribution of a user's own."""

    count = None

    def spaced(self, points):
        return self.drawn((np.arange(points) + 0.5) / points).tolist()

    def drawn(self, uniforms):
        return np.sqrt(uniforms)


def test_a_distribution_of_ones_own():
    drawn = lo.sample({"a": Triangular()}, 500, key=0)["a"]
    assert drawn.dtype == np.float32
    assert stats.kstest(drawn, stats.triang(1).cdf).pvalue > 0.01
    np.testing.assert_allclose(lo.grid({"a": Triangular()}, points=2)["a"], np.sqrt([0.25, 0.75]))


@pytest.mark.parametrize(
    ("entry", "same"),
    [
        (optuna.distributions.FloatDistribution(0.1, 0.5), lo.space.uniform(0.1, 0.5)),
        (optuna.distributions.FloatDistribution(0.1, 0.5, log=True), lo.space.log_uniform(0.1, 0.5)),
        (optuna.distributions.FloatDistribution(0.0, 1.0, step=0.25), lo.space.choice([0.0, 0.25, 0.5, 0.75, 1.0])),
        (optuna.distributions.IntDistribution(2, 8, step=3), lo.space.integers(2, 8, step=3)),
        (optuna.distributions.IntDistribution(1, 64, log=True), lo.space.integers(1, 64, log=True)),
        (optuna.distributions.IntDistribution(4, 4), lo.space.choice([4])),
        (optuna.distributions.CategoricalDistribution(["a", None]), lo.space.choice(["a", None])),
    ],
)
def test_optunas_distributions(entry, same):
    assert lo.space.as_distribution("a", entry) == same


ROWS = [{"rate": 0.1, "width": 8, "act": "relu"}, {"rate": 0.5, "width": 16, "act": "tanh"}]


@pytest.mark.parametrize("rows", [ROWS, pandas.DataFrame(ROWS), {k: [r[k] for r in ROWS] for k in ROWS[0]}])
def test_settings_by_hand(rows):
    made = lo.settings(rows, static=["width"])
    assert [made.row(i) for i in range(2)] == ROWS
    assert isinstance(made["width"], Static)
    assert isinstance(made["act"], Static)
    assert made["rate"].dtype == np.float32


def test_settings_are_added():
    first = lo.settings(ROWS, static=["width"])
    more = [{"rate": 1, "width": 8, "act": None}, ROWS[0]]
    for found in (first + more, first + pandas.DataFrame(more[:1]), first + lo.settings(more)):
        assert [found.row(i) for i in range(found.count)] == [*ROWS, more[0]]
        assert isinstance(found["width"], Static)
        assert found["rate"].dtype == np.float32
    turned = more + first
    assert [turned.row(i) for i in range(3)] == [more[0], *ROWS]
    drawn = lo.sample(SPACE, 4, key=0)
    rows = [{"optimizer": "adam", "rate": 0.5}, {"optimizer": "sgd", "rate": 0.5, "momentum": 0.9}]
    found = drawn + rows
    assert found.row(4) == {"momentum": None, "optimizer": "adam", "rate": 0.5}
    assert found.row(5) == {"momentum": 0.9, "optimizer": "sgd", "rate": 0.5}
    assert [found.row(i) for i in range(4)] == [drawn.row(i) for i in range(4)]
    assert found.space == drawn.space
    assert (drawn + lo.sample(SPACE, 3, key=1)).count == 7


MORE = [{"rate": 1.0}]
CHOICE = lo.space.choice(["a", "b"])
BAD = {
    "another name": (
        lambda: lo.grid({"m": lo.space.when("x", 1, CHOICE)}),
        ValueError,
        r"\['m'\] .* another entry",
    ),
    "no such value": (lambda: lo.grid({"m": lo.space.when("o", "sdg", CHOICE), "o": CHOICE}), ValueError, "got 'sdg'"),
    "real": (
        lambda: lo.grid({"m": lo.space.when("o", 0.5, CHOICE), "o": lo.space.uniform(0, 1)}),
        ValueError,
        "o has any real value",
    ),
    "a circle": (
        lambda: lo.grid({"m": lo.space.when("o", "a", CHOICE), "o": lo.space.when("m", "a", CHOICE)}),
        ValueError,
        "conditional on itself",
    ),
    "a value that is none": (lambda: lo.space.when("o", [["a"]], CHOICE), TypeError, "value must be .*hashed; got"),
    "static's words": (lambda: lo.settings(ROWS, static="rate"), TypeError, "static must be a list of names"),
    "a static number": (lambda: lo.settings(ROWS, static=3), TypeError, "static must be a list of names .*got 3"),
    "static lists": (lambda: lo.settings(ROWS, static=[["a"]]), ValueError, "static must be a list of names"),
    "no values": (lambda: lo.space.when("o", [], CHOICE), ValueError, "at least 1"),
    "no distribution": (lambda: lo.space.when("o", 1, 3), TypeError, r"space\['distribution'\] must be made"),
    "no name": (lambda: lo.space.when(3, 1, CHOICE), TypeError, "name must be"),
    "twice": (lambda: lo.space.when("o", 1, lo.space.when("p", 1, CHOICE)), TypeError, "conditional itself"),
    "a step": (lambda: lo.space.integers(1, 8, step=3), ValueError, "low plus a multiple of step"),
    "no step": (lambda: lo.space.integers(1, 8, step=0), ValueError, "step must be"),
    "log of 0": (lambda: lo.space.integers(0, 8, log=True), ValueError, "low must be at least 1"),
    "where": (lambda: lo.sample({"a": CHOICE}, 1, 0, where=3), TypeError, "where must be a function"),
    "where's words": (lambda: lo.grid({"a": CHOICE}, where=lambda s: "yes"), TypeError, "where must return True or"),
    "where none": (lambda: lo.grid({"a": CHOICE}, where=lambda s: False), ValueError, "took none of 2"),
    "a static name": (lambda: lo.settings(ROWS, static=["depth"]), ValueError, r"static must be .*got \['depth'\]"),
    "names": (lambda: lo.settings(ROWS) + MORE, ValueError, "only one of them has 'act', 'width'"),
    "out of a space": (lambda: lo.settings(ROWS, space={"rate": CHOICE}), ValueError, "names of the space"),
    "a missing value": (
        lambda: lo.settings([{"optimizer": "sgd", "rate": 0.1}], space=SPACE),
        ValueError,
        r"settings\['momentum'\] must have a value where optimizer is 'sgd'; row 0",
    ),
    "too few values": (
        lambda: lo.sample({"a": type("D", (Triangular,), {"drawn": lambda self, u: u[1:]})()}, 3, key=0),
        ValueError,
        r"space\['a'\] must give 3 values; got 2",
    ),
    "NaN of one's own": (
        lambda: lo.sample({"a": type("D", (Triangular,), {"drawn": lambda self, u: u * np.nan})()}, 3, key=0),
        ValueError,
        "must be finite",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_edge_is_told_of_the_settings_that_have_a_value():
    def trial(setting, key):
        return {"loss": (setting["optimizer"] != "sgd") + setting["momentum"]}

    with pytest.warns(UserWarning, match="the best momentum, .* lies at the low end"):
        lo.sweep(trial, lo.sample({**SPACE}, 40, key=0), minimize="loss", key=0, progress=False)


BY_OPTIMIZER = {
    "optimizer": lo.space.choice(["sgd", "adam"]),
    "momentum": lo.space.when("optimizer", "sgd", lo.space.choice([0.5, 0.9])),
}


@pytest.mark.parametrize("lacks", [{}, {"momentum": None}, {"momentum": float("nan")}])
def test_a_value_that_does_not_apply_is_not_lost_in_silence(lacks):
    rows = [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam", **lacks}]
    assert lo.settings(rows, space=BY_OPTIMIZER).shown()["momentum"] == [0.9, None]
    rows[1]["momentum"] = 0.5
    told = r"settings\['momentum'\] must be None, or left out, where optimizer is not 'sgd'; row 1 has 0.5"
    with pytest.raises(ValueError, match=told):
        lo.settings(rows, space=BY_OPTIMIZER)
    with pytest.raises(ValueError, match=r"must be None, or left out, .* row 0 has 0.5"):
        lo.grid(BY_OPTIMIZER) + rows[1:]


def test_settings_that_were_made_before_keep_their_placeholders():
    made = lo.grid(BY_OPTIMIZER)
    assert lo.settings(made, space=BY_OPTIMIZER).shown() == made.shown()


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"optimizer": ["sgd", "adam"], "momentum": [0.9]}, ValueError, "settings must be columns of equal length"),
        ({"optimizer": ["sgd"], "momentum": 0.9}, TypeError, r"settings\['momentum'\] must be an array or a list"),
    ],
)
def test_columns_of_a_space_are_checked_before_its_conditions(columns, error, message):
    with pytest.raises(error, match=message):
        lo.settings(columns, space=BY_OPTIMIZER)


def test_a_condition_names_the_others():
    space = {"a": lo.space.when("b", 1, lo.space.uniform(0, 1))}
    with pytest.raises(ValueError, match=r"must be conditional on another entry of the space; got 'b'"):
        lo.grid(space)
    with pytest.raises(ValueError, match=r"must be conditional on one of c; got 'b'"):
        lo.grid({**space, "c": lo.space.choice([1, 2])})


def test_where_takes_an_answer_of_jax():
    space = {"a": lo.space.choice([1, 2, 3])}
    assert lo.grid(space, where=lambda setting: jnp.asarray(setting["a"]) > 1)["a"].tolist() == [2, 3]
    with pytest.raises(TypeError, match="where must return True or False; it returned 1 "):
        lo.grid(space, where=lambda setting: jnp.asarray(1))
