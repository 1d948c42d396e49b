"""The main job, small, as a user calls it."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lectopt.jobs.main import Outcome, grids
from lectopt.search.results import Results
from lectopt.search.selection import Selection
from lectopt.search.settings import Settings


def lectopt(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lectopt", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.fixture
def ended(monkeypatch, capsys):
    """What `python -m lectopt` ends with where it runs no job: its exit status and what it printed, in this process."""

    def end(*arguments):
        monkeypatch.setattr(sys, "argv", ["lectopt", *arguments])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("lectopt", run_name="__main__")
        return caught.value.code, capsys.readouterr()

    return end


def test_help_tells_every_option(ended):
    status, (said, _) = ended("--help")
    assert status == 0
    for option in ("architecture", "pretrain", "--output", "--epochs", "--rates", "--rate", "--seed"):
        assert option in said


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--rates", "1"), ("--seed", "x")])
def test_bad_options_are_refused(arguments, ended):
    status, (_, complaint) = ended(*arguments)
    assert status == 2
    assert arguments[0] in complaint


@pytest.mark.parametrize(
    ("arguments", "job", "given"),
    [
        (["--epochs", "3", "--rates", "4", "--seed", "5", "--output", "a"], "main.main_job", (Path("a"), 3, 4, 5)),
        (["--rate", "--seed", "5"], "rate.rate_job", (Path("lectopt-output"), 5)),
        (["architecture", "--output", "a"], "architecture.architecture_job", (Path("a"), 0)),
        (["pretrain", "--seed", "5"], "pretrain.pretrain_job", (Path("lectopt-output"), 5)),
    ],
)
def test_each_job_is_given_what_the_command_line_says(arguments, job, given, monkeypatch):
    """When all cores are in use."""
    called = []
    monkeypatch.setattr("lectopt.engine.devices.use_all_cores", lambda: called.append("cores"))
    monkeypatch.setattr(f"lectopt.jobs.{job}", lambda *received: called.append(received))
    monkeypatch.setattr(sys, "argv", ["lectopt", *arguments])
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")  # what a user asks for comes last
    runpy.run_module("lectopt", run_name="__main__")
    assert called == ["cores", given]
    short = "--xla_backend_optimization_level=2 " * (job in ("main.main_job", "rate.rate_job"))
    assert os.environ["XLA_FLAGS"] == f"{short}--xla_backend_optimization_level=3"


@pytest.mark.parametrize(
    ("accuracy", "best", "near"),
    [
        ([0.1, 0.95, 0.955, 0.96, 0.951, 0.9], 3, (0.1, 10)),
        ([0.955, 0.9, 0.955, 0.96, np.nan, 0.96], 3, (1, 3)),
        ([0.96, 0.9, 0.1, 0.1, 0.1, 0.96], 0, (0.01, 0.01)),
        ([0.9, 0.9, 0.9, 0.9, 0.95, 0.96], 5, (10, 30)),
    ],
)
def test_rates_that_are_nearly_best(accuracy, best, near):
    """Those around the best within 1 % of its accuracy, without a gap."""
    rates = np.array([0.01, 0.1, 1, 3, 10, 30])
    loss = np.arange(1.0, 7)
    loss[best] = 0
    lanes = {"valid_loss": loss[:, None, None], "valid_accuracy": np.array(accuracy)[:, None, None]}
    found = Results(
        Settings({"learning_rate": rates}), lanes, np.full((6, 1, 1), -1), "valid_loss", False, np.ones(6, int)
    )
    assert Outcome("x", Selection({}, found, None, None)).nearly_best_rates == near


@pytest.mark.parametrize(("rates", "extra"), [(19, 0), (3, 1)])
def test_the_grids_of_all_algorithms_are_one_search_and_adam_untuned_is_in_it(rates, extra):
    settings, parts = grids(["sgd", "adam"], rates)
    assert len(settings["algorithm"]) == len(settings["learning_rate"]) == 2 * rates + extra
    assert list(parts) == ["sgd", "adam", "adam, untuned"]
    for name, rows in parts.items():
        assert {settings["algorithm"][row] for row in rows} == {name.split(",")[0]}
    for name in ("sgd", "adam"):
        np.testing.assert_allclose(settings["learning_rate"][parts[name]], np.geomspace(1e-5, 10, rates), rtol=1e-6)
    assert settings["learning_rate"][parts["adam, untuned"]] == np.float32(1e-3)


@pytest.fixture
def main_job(tmp_path):
    """What the main job printed, and where it wrote: .ci/run has run it by README's command; elsewhere it runs here."""
    if log := os.environ.get("LECTOPT_MAIN_JOB"):
        return Path(log).read_text(), Path(log).parents[1]
    result = lectopt("--epochs", "10", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr, tmp_path


@pytest.mark.slow
def test_main_job(main_job):
    printed, folder = main_job
    rows = dict(re.findall(r"^ *([a-z_, ]+?) +(\d[\d.e-]* .*)$", printed, flags=re.MULTILINE))
    assert "…" not in printed, "the table is cut off"
    names = ["sgd", "sgd, decreasing", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop_nesterov", "adam"]
    assert [name for name in rows if name in (*names, "adam, untuned")] == [*names, "adam, untuned"]
    for name in names:
        rate, _, _, valid_accuracy, _, test_accuracy = re.findall(r"\d[\d.e-]*", rows[name])[:6]
        assert 1e-5 < float(rate) < 10, "the best rate stands at the edge of the grid"
        assert float(valid_accuracy) > 90
        assert float(test_accuracy) > 90
    assert re.search(
        r"^The best, .* at .*, watched on the first fold:\n(Nothing found|\w+.*: )", printed, flags=re.MULTILINE
    )
    assert "152 settings x 5 folds x 1 seeds: 760 trainings in 8 program(s)" in printed
    assert "Warning" not in printed
    paths = re.search(r"Pictures: (.*)", printed)[1].split(", ")
    assert paths == [str(folder / "lectopt-output" / name) for name in ("optimizers.png", "best.png")]
    assert all(Path(path).stat().st_size > 20_000 for path in paths)


@pytest.mark.slow
def test_rate_job(tmp_path):
    result = lectopt("--rate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "…" not in result.stdout, "the table is cut off"
    rows = dict(re.findall(r"^ *([a-z_, ]+?) +(\d[\d.e-]* .*)$", result.stdout, flags=re.MULTILINE))
    assert len(rows) == 8
    for row in rows.values():
        suggestion, best, low, high, stable = map(float, re.findall(r"\d[\d.]*(?:e-\d+)?", row))
        assert 1e-5 < best <= suggestion <= stable < 10
        assert low <= high <= stable
    assert (tmp_path / "lectopt-output" / "rates.png").stat().st_size > 20_000
