"""Which lines of lectopt each test runs, and how long it takes: found once a test file, and kept."""

import ast
import builtins
import functools
import hashlib
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType
from typing import Any

from .forks import ROOT, Changed, in_child, run_tests
from .telling import telling

PACKAGE = ROOT / "lectopt"
KEPT = ROOT / ".pytest_cache" / "d" / "mutants"
MOST_SECONDS = 1200


def digest(file: Path) -> str:
    """Returns what changes when the file does."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@functools.cache
def imported(file: Path) -> set[str]:
    """Returns the modules, or names in modules, that a file imports."""
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}{name}" for node in found for name in ["", *(f".{alias.name}" for alias in node.names)]}


@functools.cache
def test_files(module: str) -> list[Path]:
    """Returns the files of the tests that concern a module: those of its package, and of packages that import it."""
    dotted = "lectopt." + module.removesuffix(".py").replace("/", ".")
    users = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py") if dotted in imported(file)}
    folders = [ROOT / "tests" / name for name in sorted({module.partition("/")[0], *users})]
    return [file for folder in folders for file in sorted(folder.glob("test_*.py"))]


def slow_files(module: str) -> list[Path]:
    """Returns the files whose slow tests concern a module: that is named after it, and those that import it."""
    dotted = "lectopt." + module.removesuffix(".py").replace("/", ".")
    return [f for f in test_files(module) if f.stem == f"test_{Path(module).stem}" or dotted in imported(f)]


def tests_of(module: str, line: int) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the tests that run a line, and others that concern its module, each with the seconds it takes; the
    quickest first. The others are all tests of files that run the module: what was traced before runs no line."""
    there, beside, elsewhere = [], [], []
    for file in test_files(module):
        found = [(t["seconds"], name, t["lines"].get(module, ())) for name, t in tests_in(file, module).items()]
        there += [(seconds, name) for seconds, name, lines in found if line in lines]
        others = [(seconds, name) for seconds, name, lines in found if line not in lines]
        if len(others) < len(found):
            beside += others
        elif any(lines for *_, lines in found):
            elsewhere += others
    return _by_name(there), _by_name(beside) | _by_name(elsewhere)


def _by_name(tests: list[tuple[float, str]]) -> dict[str, float]:
    return {name: seconds for seconds, name in sorted(tests)}


_read: dict[tuple[Path, str], dict[str, Any]] = {}


def tests_in(file: Path, module: str) -> dict[str, Any]:
    """Returns `{test: {"seconds": float, "lines": {module: [line]}}}`, of tests that pass, as of this module's text."""
    now = digest(PACKAGE / module)
    if (file, module) not in _read:
        kept = KEPT / f"{file.stem}.json"
        known = json.loads(kept.read_text()) if kept.exists() else {"of": None, "modules": {}}
        if known["of"] != digest(file) or known["modules"].get(module, now) != now:
            print(f"finding out what {file.relative_to(ROOT)} runs", flush=True)
            KEPT.mkdir(parents=True, exist_ok=True)
            in_child(lambda: Recorder(file).run(kept), MOST_SECONDS)
            known = json.loads(kept.read_text())
        _read[file, module] = known["tests"]
    return _read[file, module]


class Recorder:
    """A plugin of pytest that writes down which lines each test runs."""

    def __init__(self, file: Path):
        self._file = file
        self._tests: dict[str, Any] = {}
        self._lines: defaultdict[str, set[int]] = defaultdict(set)

    def run(self, kept: Path) -> int:
        """Runs the tests of the file and writes what was found."""
        modules = {str(path.relative_to(PACKAGE)): digest(path) for path in PACKAGE.rglob("*.py")}
        sys.meta_path.insert(0, Changed(self._telling))
        status = run_tests([str(self._file), "--maxfail=1000"], self)
        found = {"of": digest(self._file), "modules": modules, "tests": self._tests, "status": int(status)}
        kept.write_text(json.dumps(found))
        return 0

    def pytest_runtest_setup(self, item: Any) -> None:
        """Begins to watch."""
        for lines in self._lines.values():
            lines.clear()
        self._began = time.process_time()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keeps what a test ran that passed."""
        if report.when == "call" and report.passed:
            lines = {module: sorted(found) for module, found in self._lines.items() if found}
            self._tests[report.nodeid] = {"seconds": time.process_time() - self._began, "lines": lines}

    def _telling(self, path: Path) -> CodeType:
        """Returns the code of a module whose functions tell which lines they run."""
        module = str(path.relative_to(PACKAGE))
        tell = "ran_" + module.replace("/", "_").removesuffix(".py")
        setattr(builtins, tell, self._lines[module].update)
        return telling(path.read_text(), str(path), tell)
