"""README's examples run as they stand."""

import re
from pathlib import Path

import pytest

import lectopt as lo

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.usefixtures("fully_compiled")  # convolutions without LLVM's optimizations take minutes
@pytest.mark.filterwarnings("ignore:use_all_cores")  # here JAX has computed something already
@pytest.mark.parametrize("block", BLOCKS)
def test_example_runs(block, tmp_path, monkeypatch, capsys):
    x, y = lo.datasets.mnist()
    monkeypatch.setattr(lo.datasets, "mnist", lambda: (x[::5], y[::5]))  # what is written, on fewer examples
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, str(README), "exec"), names)
    if "history.png" in block:
        assert (tmp_path / "history.png").stat().st_size > 10_000
        assert names["run"].evaluate(names["test"])["accuracy"] > 0.95


def test_ten_lines_are_ten_lines():
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 10
