"""How the package is built: imports run one way, files and functions are short, and importing it is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lectopt"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports, at its top, only what stands in an earlier layer. (What it imports inside a function, because it is
# heavy or optional, may stand anywhere.) A new module takes its place here.
LAYERS = [
    ["_types", "_checks"],
    ["_keys", "_leaves", "_numerics", "_shapes", "_tables", "datasets", "interrupts", "progress"],
    ["files"],
    ["_arrays", "claims", "meshes", "flags", "interception", "modes", "nnx_parts", "programs"],
    ["task_checks"],
    ["metrics", "scores"],
    ["transforms", "initializers", "norms"],
    ["subsets", "models"],
    ["schedules", "splits"],
    ["optimizers"],
    ["task", "history", "archives"],
    ["probe", "weighting", "labels", "troubles"],
    ["standard_tasks", "evaluation", "predicting", "statistics", "origin"],
    ["run", "carry"],
    ["loop"],
    ["starting", "recipes"],
    ["setup"],
    ["training", "checkpoints", "comparison"],
    ["stretches"],
    ["fitting"],
    ["monitoring", "pretraining"],
    ["search"],
    ["main_job"],
    ["rate_job", "architecture_job", "pretrain_job"],
    ["__main__", "__init__"],
]
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}


def layer_name(file):
    """The module directly below the package."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def top_imports(tree):
    """The modules of this package that are imported when the module is."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_for_types(node):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lectopt."))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "lectopt":
                yield from (alias.name for alias in node.names)
            elif (node.module or "").startswith("lectopt."):
                yield node.module.split(".")[1]


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def test_imports_run_one_way():
    wrong = []
    for file in FILES:
        name = layer_name(file)
        assert name in LAYER, f"{name} has no place in LAYERS"
        for other in top_imports(ast.parse(file.read_text())):
            inside = other == name and len(file.relative_to(PACKAGE).parts) > 1
            if other in LAYER and not inside and LAYER[other] >= LAYER[name]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_the_imports_of_this_test_are_seen():
    tree = ast.parse(
        "import lectopt.a\nif x:\n  from lectopt import b\nfrom lectopt.c.d import e\ndef f():\n  import lectopt.g"
    )
    assert sorted(top_imports(tree)) == ["a", "b", "c"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_and_functions_are_short(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert body_lines(node) <= 45, node.name


def body_lines(function):
    """Lines below the signature and the docstring, without those of a nested function's own docstring."""
    docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if docstring else function.body
    if not body:
        return 0
    nested = [n for n in ast.walk(function) if isinstance(n, ast.FunctionDef) and n is not function]
    skipped = sum(n.body[0].end_lineno - n.body[0].lineno + 1 for n in nested if ast.get_docstring(n) is not None)
    return body[-1].end_lineno - body[0].lineno + 1 - skipped


def test_init_holds_no_logic():
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    assert all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body[1:])


def test_import_is_light():
    """It brings nothing heavy that jax, optax and flax.nnx do not bring themselves."""
    heavy = ["matplotlib", "orbax", "sklearn", "pandas", "torch", "optuna", "tensorboardX"]
    ours, theirs = (
        subprocess.run(
            [sys.executable, "-c", f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for modules in ("lectopt", "jax, optax, flax.nnx")
    )
    assert set(ast.literal_eval(ours)) <= set(ast.literal_eval(theirs))
