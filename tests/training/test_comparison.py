"""Tables and pictures of trainings."""

import dataclasses
import sys
from collections import OrderedDict

import jax
import numpy as np
import pytest
from figure_parts import legend_texts, lines, panels, same
from flax import nnx

import lectopt as lo
from lectopt.plots.names import display_name

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

X, Y = lo.datasets.iris()


@pytest.fixture(scope="module")
def runs():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))

    def fit(optimizer, **options):
        return lo.fit(task, optimizer, (X, Y), batch_size=50, key=0, **options)

    with pytest.warns(UserWarning, match="diverged"):
        wild = fit(lo.sgd(3e38), valid=(X, Y), epochs=4)
    return {0.01: fit(lo.sgd(0.01), valid=(X, Y), epochs=4), "<adam>": fit(lo.adam(0.1), epochs=2), "wild": wild}


@pytest.mark.slow
def test_rows(runs):
    first, second, wild = lo.compare(runs).rows
    assert first == {"run": "0.01", **runs[0.01].metrics, "diverged at": None}
    assert second == {"run": "<adam>", "train_loss": runs["<adam>"].metrics["train_loss"], "diverged at": None}
    assert wild["diverged at"] == runs["wild"].diverged_at
    assert np.isnan(wild["valid_loss"])


@pytest.mark.slow
def test_table(runs):
    head, first, second, wild = str(lo.compare(runs)).splitlines()
    assert head.split() == ["run", "train_loss", "valid_accuracy", "valid_loss", "diverged", "at"]
    numbers = [f"{runs[0.01].metrics[name]:.4g}" for name in ("train_loss", "valid_accuracy", "valid_loss")]
    assert first.split() == ["0.01", *numbers, "-"]
    assert second.split() == ["<adam>", f"{runs['<adam>'].metrics['train_loss']:.4g}", "-", "-", "-"]
    assert wild.split() == ["wild", "nan", "nan", "nan", str(runs["wild"].diverged_at)]
    assert {line.index(line.split()[1]) for line in (head, first, second, wild)} == {head.index("train_loss")}
    assert repr(lo.compare(runs)) == str(lo.compare(runs))


@pytest.mark.slow
def test_html(runs):
    html = lo.compare(runs)._repr_html_()
    assert html.count("<tr>") == 4
    assert html.count("<th>") == 5
    assert html.count("<td>") == 15
    assert "&lt;adam&gt;" in html
    assert "<adam>" not in html


@pytest.mark.slow
def test_pandas(runs):
    frame = lo.compare(runs).to_pandas()
    assert list(frame.index) == ["0.01", "<adam>", "wild"]
    np.testing.assert_allclose(frame.loc["0.01", "valid_loss"], runs[0.01].metrics["valid_loss"])
    assert np.isnan(frame.loc["<adam>", "valid_loss"])


def by_hand(steps=25, per_epoch=10):
    """The history of two epochs and a half."""
    records = {"loss": np.geomspace(2, 0.1, steps), "gradient_norm": np.geomspace(5, 0.01, steps)}
    of_epochs = {"train_loss": np.array([1.5, 1, 0.5]), "valid_loss": np.array([2, 1.5, 1])}
    layers = {"Linear": {"dead": np.linspace(0.1, 0.5, 9)}, "Conv": {"dead": np.linspace(0.2, 0.6, 9)}}
    return lo.History(records, of_epochs, OrderedDict(layers), np.float32(2.3), -1, per_epoch, 32, 3)


def test_history_plot():
    history = by_hand()
    drawn = panels(history.plot())
    assert list(drawn) == ["loss", "gradient norm", "dead units, by layer"]
    loss, norm, dead = (lines(axis) for axis in drawn.values())
    same(loss["each batch"], np.arange(1, 26) / 10, history.steps["loss"])
    same(norm["each batch"], np.arange(1, 26) / 10, history.steps["gradient_norm"])
    for name in ("train_loss", "valid_loss"):
        same(loss[display_name(name)], [1, 2, 2.5], history.epochs[name])
    for name in ("Linear", "Conv"):
        same(dead[name], (np.arange(9) * 3 + 1) / 10, history.layers[name]["dead"])
    assert [text.get_text() for text in drawn["loss"].texts] == ["constant outputs"]
    assert any(np.allclose(y, 2.3) for _, y in lines(drawn["loss"]).values())
    unknown = dataclasses.replace(history, baseline_loss=None)
    assert not panels(unknown.plot())["loss"].texts


def test_comparison_plot(runs):
    figure = lo.compare({**runs, "history": by_hand()}).plot()
    drawn = panels(figure)
    assert list(drawn) == ["validation loss", "validation accuracy", "gradient norm"]
    assert list(lines(drawn["validation loss"])) == ["0.01", "wild", "history"]
    same(lines(drawn["validation loss"])["history"], [1, 2, 2.5], by_hand().epochs["valid_loss"])
    accuracy = lines(drawn["validation accuracy"])["0.01"]
    np.testing.assert_array_equal(accuracy, (np.arange(1, 5), runs[0.01].history.epochs["valid_accuracy"]))
    same(lines(drawn["gradient norm"])["history"], np.arange(1, 26) / 10, by_hand().steps["gradient_norm"])
    assert legend_texts(figure.legends[0]) == ["0.01", "<adam>", "wild", "history"]


def test_a_run_as_it_was_trained_is_plotted(runs):
    history = runs[0.01].history
    drawn = panels(history.plot())
    assert list(drawn) == ["loss", "validation accuracy", "gradient norm", "learning rate"]
    np.testing.assert_array_equal(lines(drawn["loss"])["each batch"], (np.arange(1, 13) / 3, history.steps["loss"]))
    rates = lines(drawn["learning rate"])["learning rate"]
    np.testing.assert_array_equal(rates, (np.arange(1, 13) / 3, history.steps["learning_rate"]))


def test_a_plot_shows_one_training(runs):
    many = jax.tree.map(lambda a: np.stack([a, a]), runs[0.01].history)
    for call in (many.plot, lambda: lo.compare({"a": many})):
        with pytest.raises(ValueError, match=r"holds \(2,\) trainings"):
            call()


def test_bad_input(runs):
    with pytest.raises(ValueError, match="runs must hold at least 1 run; got none"):
        lo.compare({})
    with pytest.raises(TypeError, match="runs must hold lectopt Runs, or Histories; got dict for 'a'"):
        lo.compare({"a": {}})


def test_columns_are_kept_apart():
    given = by_hand()
    given = dataclasses.replace(
        given,
        steps=given.steps | {"epoch": np.full(25, 7.0), "valid_a dead": np.zeros(25)},
        layers=OrderedDict({"valid_a": {"dead": np.ones(9)}, "epoch": {"dead": np.ones(9)}}),
    )
    frame = given.to_pandas()
    assert {"epoch", "epoch (2)", "valid_a dead", "valid_a dead (2)", "epoch dead"} <= set(frame.columns)
    np.testing.assert_array_equal(frame["epoch"], np.arange(1, 26) / 10)
    assert set(frame["epoch (2)"]) == {7.0}
    assert set(frame["valid_a dead"]) == {0.0}
    assert frame["valid_a dead (2)"].sum() == 9
    odd = dataclasses.replace(given, epochs={"run": [0.5], "diverged at": [0.25]})
    row, _ = lo.compare({"x": odd, "y": by_hand()}).rows
    assert row == {"run": "x", "run (2)": 0.5, "diverged at (2)": 0.25, "diverged at": None}


def test_that_pandas_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (by_hand().to_pandas, lo.compare({"a": by_hand()}).to_pandas):
        with pytest.raises(ImportError, match=r"need.* pandas: pip install 'lectopt\[examples\]'"):
            call()


def test_runs_in_a_list_are_refused():
    with pytest.raises((TypeError, ValueError), match="must"):
        lo.compare([1])
