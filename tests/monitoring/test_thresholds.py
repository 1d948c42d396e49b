"""Each number that a finding is judged by says its unit and its source, and stands in one place."""

import ast
import dataclasses
from pathlib import Path

import pytest

from lectopt import monitoring
from lectopt.monitoring.thresholds import THRESHOLDS, Thresholds

FINDINGS = sorted(Path(monitoring.__file__).parent.glob("*_findings.py"))


@pytest.mark.parametrize("field", dataclasses.fields(Thresholds), ids=lambda field: field.name)
def test_each_says_its_unit_and_its_source(field):
    assert set(field.metadata) == {"unit", "source"}
    assert all(text and text == text.strip() for text in field.metadata.values())
    assert getattr(THRESHOLDS, field.name) > 0


def test_they_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        THRESHOLDS.dead = 0.9


def test_each_is_used():
    text = "".join(file.read_text() for file in Path(monitoring.__file__).parent.glob("*.py"))
    assert [field.name for field in dataclasses.fields(Thresholds) if f"THRESHOLDS.{field.name}" not in text] == []


@pytest.mark.parametrize("file", FINDINGS, ids=lambda file: file.stem)
def test_findings_compare_with_no_numbers_of_their_own(file):
    own = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and isinstance(side.value, (int, float)) and side.value not in (0, 1, 2)
    ]
    assert own == []
