"""Tests of other libraries, from their installed sources, with our objects in the place of theirs."""

import ast
import functools
import importlib.util
import sys
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest


def source_of(module: str) -> Path:
    """Returns the file of an installed module, which is not imported."""
    package, _, name = module.rpartition(".")
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations))) / f"{name}.py"


def changed(module: types.ModuleType, **changes: Any) -> types.ModuleType:
    """Returns a module like this one but for some names."""
    other = types.ModuleType(module.__name__)
    other.__dict__.update(changes, __getattr__=functools.partial(getattr, module))
    return other


def borrow(
    file: Path, ours: Mapping[str, Any], tests: Collection[str], apart: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Runs a file of tests in which some names are ours, and not what the file assigns, defines or imports by them.

    Args:
        file: the source.
        ours: the names.
        tests: the classes and functions to return; of the others, tests are left out.
        apart: the tests that do not apply, without the numbers of their cases, and why: they are skipped.

    Returns:
        The tests by their names.
    """
    tree = ast.parse(file.read_text())
    tree.body = [kept for statement in tree.body if (kept := _kept(statement, ours, tests))]
    module = types.ModuleType(f"borrowed_{file.stem}")
    module.__dict__.update(ours, __file__=str(file))
    sys.modules[module.__name__] = module  # where decorators look for it
    exec(compile(tree, str(file), "exec"), module.__dict__)
    for holder in [module, *(getattr(module, name) for name in tests if isinstance(getattr(module, name), type))]:
        for name, test in list(vars(holder).items()):
            if reason := apart.get(name, apart.get(name.rstrip("0123456789"))):
                setattr(holder, name, pytest.mark.skip(reason=reason)(test))
    return {name: getattr(module, name) for name in tests}


def _kept(statement: ast.stmt, ours: Mapping[str, Any], tests: Collection[str]) -> ast.stmt | None:
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        statement.names = [name for name in statement.names if (name.asname or name.name) not in ours]
        return statement if statement.names else None
    name = getattr(statement, "name", "")
    if name.startswith(("test_", "Test")) or name.endswith("Test"):
        return statement if name in tests else None
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    names = [name, *(getattr(target, "id", None) for target in targets)]
    return None if any(name in ours for name in names) else statement
