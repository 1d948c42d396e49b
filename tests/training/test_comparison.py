"""Tables and pictures of trainings."""

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("eager")]

X, Y = lo.datasets.iris()


@pytest.fixture(scope="module")
def runs():
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))

    def fit(optimizer, **options):
        with jax.disable_jit():
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


def test_table(runs):
    head, first, second, wild = str(lo.compare(runs)).splitlines()
    assert head.split() == ["run", "train_loss", "valid_accuracy", "valid_loss", "diverged", "at"]
    numbers = [f"{runs[0.01].metrics[name]:.4g}" for name in ("train_loss", "valid_accuracy", "valid_loss")]
    assert first.split() == ["0.01", *numbers, "-"]
    assert second.split() == ["<adam>", f"{runs['<adam>'].metrics['train_loss']:.4g}", "-", "-", "-"]
    assert wild.split() == ["wild", "nan", "nan", "nan", str(runs["wild"].diverged_at)]
    assert {line.index(line.split()[1]) for line in (head, first, second, wild)} == {head.index("train_loss")}
    assert repr(lo.compare(runs)) == str(lo.compare(runs))


def test_html(runs):
    html = lo.compare(runs)._repr_html_()
    assert html.count("<tr>") == 4
    assert html.count("<th>") == 5
    assert html.count("<td>") == 15
    assert "&lt;adam&gt;" in html
    assert "<adam>" not in html


def test_pandas(runs):
    frame = lo.compare(runs).to_pandas()
    assert list(frame.index) == ["0.01", "<adam>", "wild"]
    np.testing.assert_allclose(frame.loc["0.01", "valid_loss"], runs[0.01].metrics["valid_loss"])
    assert np.isnan(frame.loc["<adam>", "valid_loss"])


def curves(figure):
    return [(line.get_xdata(), line.get_ydata()) for axis in figure.axes for line in axis.get_lines()]


def drawn(figure, x, y):
    """How many curves of the figure are these."""
    return sum(
        np.array_equal(x, a) and np.array_equal(y, b, equal_nan=True) for a, b in curves(figure) if len(a) == len(x)
    )


def test_history_plot(runs):
    history = runs[0.01].history
    figure = history.plot()
    per_step, per_epoch = np.arange(1, 13) / 3, np.arange(1, 5)
    for name in ("train_loss", "valid_loss", "valid_accuracy"):
        assert drawn(figure, per_epoch, history.epochs[name]) == 1, name
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert drawn(figure, per_step, history.steps[name]) == 1, name
    assert len(curves(figure)) == 7  # the seventh is the loss of constant outputs
    figure.canvas.draw()


def test_comparison_plot(runs):
    figure = lo.compare(runs).plot()
    for run in (runs[0.01], runs["wild"]):
        epochs = np.arange(1, 1 + len(run.history.epochs["valid_loss"]))
        assert drawn(figure, epochs, run.history.epochs["valid_loss"]) >= 1
        assert drawn(figure, epochs, run.history.epochs["valid_accuracy"]) >= 1
    names = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert names == {"0.01", "<adam>", "wild"}
    figure.canvas.draw()


def test_a_plot_shows_one_training(runs):
    many = jax.tree.map(lambda a: np.stack([a, a]), runs[0.01].history)
    with pytest.raises(ValueError, match="holds \\(2,\\) trainings"):
        many.plot()


def test_bad_input(runs):
    with pytest.raises(ValueError, match="runs must hold at least 1 run; got none"):
        lo.compare({})
    with pytest.raises(TypeError, match="runs must hold lectopt Runs, or Histories; got dict for 'a'"):
        lo.compare({"a": {}})
