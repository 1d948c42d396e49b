"""How the package is built: imports run one way, files and functions are short, and importing it is cheap."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lectopt"
FILES = sorted(PACKAGE.rglob("*.py"))

# The floors, from the ground up: a package imports only what stands below it, and packages on one floor know nothing of
# each other. All imports count, those inside functions and those for types too.
FLOORS = [
    ["_internal"],
    ["plots", "norms", "initializers", "optim", "data", "exercises"],
    ["tasks", "teaching"],
    ["training"],
    ["engine", "monitoring"],
    ["pretraining", "strategies"],
    ["architecture"],
    ["search"],
    ["jobs", "sklearn"],
    ["__main__", "__init__"],
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def module_name(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imports(tree):
    """The modules of this package that a module imports, anywhere in it: a submodule by its own name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "lectopt")
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module.split(".")[0] == "lectopt":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else node.module for name in names)


GRAPH = {name: set(imports(ast.parse(file.read_text()))) for name, file in MODULES.items()}


def package_of(module):
    """The package below lectopt that a module stands in."""
    return module.split(".")[1] if "." in module else "__init__"


def test_there_are_packages_alone():
    assert {package_of(name) for name in MODULES} == set(FLOOR)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_imports_run_one_way():
    wrong = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if package_of(other) != package_of(name) and FLOOR[package_of(other)] >= FLOOR[package_of(name)]
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    sorter = graphlib.TopologicalSorter(GRAPH)
    sorter.prepare()  # raises CycleError, which names the circle


def test_modules_import_modules():
    """By their full names, no package in their place: what a package hands on is for those who use it."""
    packages = {name for name, file in MODULES.items() if file.name == "__init__.py"}
    assert not {(name, other) for name in GRAPH.keys() - packages for other in GRAPH[name] & packages}


def test_only_what_is_heavy_is_imported_late():
    """Inside of functions, that is: modules that need Matplotlib or tensorboardX, none to break a circle."""
    functions = [n for f in FILES for n in ast.walk(ast.parse(f.read_text())) if isinstance(n, ast.FunctionDef)]
    late = {name for function in functions for name in imports(function)}
    assert late
    assert not {name for name in late if package_of(name) != "plots"} - {"lectopt.training.tensorboard"}


def test_the_imports_of_this_test_are_seen():
    tree = ast.parse(
        "import lectopt.a\nif TYPE_CHECKING:\n  from lectopt.data import folds, Folds\n"
        "from lectopt.c.d import e\ndef f():\n  import lectopt.g"
    )
    assert sorted(imports(tree)) == ["lectopt.a", "lectopt.c.d", "lectopt.data", "lectopt.data.folds", "lectopt.g"]


@pytest.mark.parametrize("name", [name for name in FLOOR if not name.startswith("__")])
def test_each_package_says_what_lives_there(name):
    assert len(ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())).splitlines()) >= 3


@pytest.mark.parametrize("name", [name for name in FLOOR if not name.startswith("__") and name != "jobs"])
def test_each_package_says_what_it_imports(name):
    """Jobs may import everything."""
    _, _, said = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())).rpartition("Imports ")
    modules = [others for module, others in GRAPH.items() if package_of(module) == name]
    imported = {package_of(other) for others in modules for other in others} - {name, "__init__"}
    assert {other for other in FLOOR if f"`{other}`" in said} - {name} == imported


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_and_functions_are_short(file):
    text = file.read_text()
    assert code_lines(text) <= 260
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert body_lines(node) <= 45, node.name


def code_lines(text):
    """The lines of a file without its docstrings, of classes with many methods half of it."""
    strings = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return len(text.splitlines()) - sum(node.end_lineno - node.lineno + 1 for node in strings)


def body_lines(function):
    """Lines below the signature and the docstring, without those of a nested function's own docstring."""
    docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if docstring else function.body
    if not body:
        return 0
    nested = [n for n in ast.walk(function) if isinstance(n, ast.FunctionDef) and n is not function]
    skipped = sum(n.body[0].end_lineno - n.body[0].lineno + 1 for n in nested if ast.get_docstring(n) is not None)
    return body[-1].end_lineno - body[0].lineno + 1 - skipped


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_init_holds_no_logic(file):
    body = ast.parse(file.read_text()).body[1:]
    assert all(
        isinstance(node, (ast.Import, ast.ImportFrom)) or ast.unparse(node).startswith("__all__ = [") for node in body
    )


def test_import_is_light():
    """It brings nothing heavy that jax, optax and flax.nnx do not bring themselves."""
    heavy = ["matplotlib", "orbax", "sklearn", "pandas", "torch", "optuna", "tensorboardX"]
    found = f"print([m for m in {heavy} if m in sys.modules])"
    code = f"import sys, jax, optax, flax.nnx; {found}; import lectopt; {found}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs, ours = map(ast.literal_eval, run.stdout.splitlines())
    assert ours == theirs
