"""What users build on: it changes on purpose alone."""

import difflib
import inspect
from pathlib import Path
from types import FunctionType

import pytest

pytest.importorskip("optuna")
pytest.importorskip("sklearn")
from public_surface import FILE, PLACES, of, text

import lectopt


def test_names_and_signatures_are_as_written_down():
    changes = list(difflib.unified_diff(FILE.read_text().splitlines(), text().splitlines(), lineterm="", n=0))[2:]
    assert not changes, "if that is meant, and in the changelog: python -m tests.public_surface"


def test_all_arguments_and_results_have_types():
    functions = {n: v for place, module in PLACES.items() for n, v in of(place, module) if isinstance(v, FunctionType)}
    for name, function in functions.items():
        signature = inspect.signature(function)
        assert signature.return_annotation is not signature.empty, name
        kinds = {n: p.annotation for n, p in signature.parameters.items() if n not in ("self", "cls")}
        assert inspect.Parameter.empty not in kinds.values(), (name, kinds)
    assert len(functions) > 150


def test_users_type_checkers_see_the_types():
    assert Path(lectopt.__file__).with_name("py.typed").exists()
