"""Which lines of lectopt each test runs, and how long it takes: found once a test file, and kept."""

import hashlib
import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

from .forks import ROOT, in_child, run_tests

PACKAGE = ROOT / "lectopt"
KEPT = ROOT / ".pytest_cache" / "d" / "mutants"
BESIDE = {  # whose tests, beside its own, concern a package
    "_internal": ["data", "optim", "tasks"],
    "engine": ["search"],
    "strategies": ["architecture"],
    "training": ["tasks"],
}
MOST_SECONDS = 1200


def digest(file: Path) -> str:
    """Returns what changes when the file does."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def test_files(module: str) -> list[Path]:
    """Returns the files of the tests that concern a module: those of its package, and of packages named above."""
    package = module.split("/", maxsplit=1)[0]
    folders = [ROOT / "tests" / name for name in [package, *BESIDE.get(package, [])]]
    return [file for folder in folders for file in sorted(folder.glob("test_*.py"))]


def slow_files(module: str) -> list[Path]:
    """Returns the files whose slow tests concern a module: that is named after it, and those that import it."""
    stem = Path(module).stem
    dotted = "lectopt." + module.removesuffix(".py").replace("/", ".")
    files = test_files(module)
    return [
        f for f in files if f.stem == f"test_{stem}" or dotted in f.read_text() or f"import {stem}" in f.read_text()
    ]


def tests_of(module: str, line: int) -> tuple[list[str], list[str]]:
    """Returns the tests that run a line, and the others that run some line of its module; the quickest first."""
    there, elsewhere = [], []
    for file in test_files(module):
        for name, test in tests_in(file, module).items():
            if lines := test["lines"].get(module):
                (there if line in lines else elsewhere).append((test["seconds"], name))
    return [name for _, name in sorted(there)], [name for _, name in sorted(elsewhere)]


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
        self._start = len(str(PACKAGE)) + 1

    def run(self, kept: Path) -> int:
        """Runs the tests of the file and writes what was found."""
        modules = {str(path.relative_to(PACKAGE)): digest(path) for path in PACKAGE.rglob("*.py")}
        status = run_tests([str(self._file), "--maxfail=1000"], self)
        found = {"of": digest(self._file), "modules": modules, "tests": self._tests, "status": int(status)}
        kept.write_text(json.dumps(found))
        return 0

    def pytest_runtest_setup(self, item: Any) -> None:
        """Begins to watch."""
        self._lines.clear()
        self._began = time.process_time()
        threading.settrace(self._calls)
        sys.settrace(self._calls)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keeps what a test ran that passed."""
        if report.when == "call":
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            if report.passed:
                lines = {module: sorted(found) for module, found in self._lines.items()}
                self._tests[report.nodeid] = {"seconds": time.process_time() - self._began, "lines": lines}

    def _calls(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        lines = self._lines[frame.f_code.co_filename[self._start :]]

        def note(frame: FrameType, event: str, arg: object) -> Any:
            lines.add(frame.f_lineno)
            return note

        return note(frame, event, arg)
