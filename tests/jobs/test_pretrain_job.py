"""What better starts are worth: the job's experiments, small, and its picture."""

import numpy as np
import pytest

import lectopt as lo
from lectopt.jobs import pretrain


def digits():
    x, y = lo.datasets.digits()
    return x / 16, y


def gain(accuracies, start, row):
    """The mean gain over learning from scratch, and its standard error."""
    values = accuracies[start][row] - accuracies["from scratch"][row]
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


@pytest.fixture
def shorter(monkeypatch):
    """Half of the seeds, and sources that are trained for less long: gains are still five standard errors."""
    monkeypatch.setattr(pretrain, "SEEDS", 10)
    monkeypatch.setitem(pretrain.UNSUPERVISED, "epochs", 40)
    monkeypatch.setitem(pretrain.SIMILAR, "epochs", 10)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.usefixtures("fully_compiled", "shorter")
def test_layers_that_learned_without_labels_help_where_labels_are_few(monkeypatch):
    monkeypatch.setattr(pretrain, "LABELS", (1, 50))
    found = pretrain.without_labels_first(digits(), 1)
    assert found["from scratch"].shape == (2, pretrain.SEEDS)
    for start in ("fine-tuned", "frozen"):
        mean, error = gain(found, start, 0)
        assert mean > 0.03
        assert mean > 2 * error
        assert gain(found, start, 1)[0] < 0.005  # not where there are many
    assert found["from scratch"][1].mean() > 0.95


@pytest.mark.slow
@pytest.mark.usefixtures("fully_compiled", "shorter")
def test_layers_of_a_network_for_a_similar_task_help_where_labels_are_few(monkeypatch):
    monkeypatch.setattr(pretrain, "LABELS", (2,))
    found = pretrain.other_source_first(digits(), 1)
    for start in ("fine-tuned", "frozen"):
        mean, error = gain(found, start, 0)
        assert mean > 0.03
        assert mean > 2 * error


@pytest.mark.slow
def test_the_job(monkeypatch, tmp_path, capsys):
    """With the experiment that has no test above, cut short."""
    (similar,) = [title for title in pretrain.EXPERIMENTS if "0-4" in title]
    one = {similar: pretrain.EXPERIMENTS[similar]}
    for name, value in {"EXPERIMENTS": one, "LABELS": (1, 3), "SEEDS": 2, "STEPS": 3}.items():
        monkeypatch.setattr(pretrain, name, value)
    monkeypatch.setitem(pretrain.SIMILAR, "epochs", 1)
    pretrain.pretrain_job(tmp_path, 0)
    told = capsys.readouterr().out
    assert similar in told
    assert [told.count(start) for start in pretrain.STARTS] == [1, 1, 1]
    assert "…" not in told, "the table is cut off"
    assert (tmp_path / "pretraining.png").stat().st_size > 20_000


def test_stars_stand_for_more_than_two_standard_errors():
    assert pretrain._gain(np.array([0.1, 0.12, 0.11])) == "+11.0 ± 0.6*"
    assert pretrain._gain(np.array([0.1, -0.01, 0.03])) == "+4.0 ± 3.2 "
    assert pretrain._gain(-np.array([0.1, 0.12, 0.11])) == "-11.0 ± 0.6*"
