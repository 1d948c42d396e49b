"""The architecture job, small: what it prints and draws, and how it ranks what each way of searching finds."""

import re

import numpy as np
import pytest

import lectopt as lo
from lectopt.architecture.design import Architecture, Layer
from lectopt.jobs import architecture
from lectopt.strategies.choices import Record

METHODS = ["reinforce", "reinforce, as Zoph & Le", "evolve", "random"]


def run_job(monkeypatch, folder, capsys, small, epochs):
    """What the job prints with smaller numbers, and the test accuracies of the four in it; its pictures are there."""
    for name, value in small.items():
        monkeypatch.setattr(architecture, name, value)
    monkeypatch.setitem(architecture.TRAINING, "epochs", epochs)
    architecture.architecture_job(folder, 0)
    told = capsys.readouterr().out
    tests = re.findall(r"^(?:reinforce|evolve|random|by hand) .*accuracy (0\.\d+)", told, flags=re.MULTILINE)
    assert len(tests) == 4
    for name in ("ranks", "search", "winner"):
        assert (folder / f"{name}.png").stat().st_size > 8_000
    return told, list(map(float, tests))


def fewer(rest, test, name):
    return lo.holdout(rest, 0.9, key=0, stratify=True)[0], test, name


@pytest.mark.slow
def test_a_short_form_of_the_job(monkeypatch, tmp_path, capsys):
    """Two networks of one layer, hardly trained: all is printed and drawn."""
    space = lo.ArchitectureSpace(depth=1, width=[2, 4], kernel_size=5, strides=2)
    small = {"SPACE": space, "BY_HAND": Architecture((Layer(4, 5),), (2,)), "ROUNDS": 1, "CHILDREN": 2, "FINALISTS": 1}
    examples = architecture._examples
    small |= {"SEEDS": 2, "AT_A_TIME": 2, "_examples": lambda seed: fewer(*examples(seed))}
    told, _ = run_job(monkeypatch, tmp_path, capsys, small, epochs=1)
    assert "2 architectures, on MNIST-1D" in told
    assert [told.count(f"{name} ") > 0 for name in METHODS] == [True] * 4


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.usefixtures("fully_compiled")
def test_the_job(monkeypatch, tmp_path, capsys):
    space = lo.ArchitectureSpace(depth=[1, 2], width=[8, 16], kernel_size=[5, 7], strides=2)
    small = {
        "SPACE": space,
        "ROUNDS": 2,
        "CHILDREN": 3,
        "FINALISTS": 1,
        "SEEDS": 3,
        "AT_A_TIME": 8,
    }  # the last of the table are fewer
    told, accuracies = run_job(monkeypatch, tmp_path, capsys, small, epochs=12)
    assert "20 architectures, on MNIST-1D" in told
    row = r"^ (\w[\w, &]*?)  +(\d+\.\d)  +\d+\.\d  +[\d.]+  +\d+  +\d+% *$"
    ranks = {name: float(mean) for name, mean in re.findall(row, told, flags=re.MULTILINE)}
    assert list(ranks) == METHODS
    assert all(1 <= mean <= 14 for mean in ranks.values()), ranks  # the best of six trainings, by chance, is the third
    assert min(accuracies) > 0.7, accuracies


def table():
    """A table of the job's space, as its trainings give one: wide and deep is good, one kernel is better."""
    space = architecture.SPACE
    members, values = space.members(), np.full(space.choices, np.nan, np.float32)
    layers = [space.decode(vector).layers for vector in members]
    merits = [sum(np.log2(layer.width) + (layer.kernel_size == 7) for layer in each) for each in layers]
    noise = np.random.default_rng(0).normal(size=len(members))
    values[tuple(members.T)] = np.array(merits, np.float32) / 20 + 0.03 * noise.astype(np.float32)
    return values


@pytest.mark.slow
def test_learning_ranks_before_chance():
    values = table()
    ranks = {name: architecture._ranks(architecture.METHODS[name], values) for name in ("reinforce", "random")}
    assert all(each.shape == (architecture.SEEDS,) and each.min() >= 1 for each in ranks.values())
    assert ranks["reinforce"].mean() < ranks["random"].mean() - 2


def test_a_rank_is_one_more_than_how_many_are_better():
    """Architectures that mean nothing have no place in the table."""
    values = table()
    order = np.sort(values[~np.isnan(values)])[::-1]
    best = iter(order[[0, 6]])

    def method(space, scores, rounds, children, key):
        assert (rounds, children) == (architecture.ROUNDS, architecture.CHILDREN)
        return Record(np.zeros((rounds, children, 1), np.int32), np.full((rounds, children), found, np.float32))

    for expected in (1, 7):
        found = next(best)
        assert set(architecture._ranks(method, values)) == {expected}
