"""Tests of Optax, scikit-learn and Flax, from their packages, in which our objects take the place of theirs.

    python -m tests.peers [optax | scikit | flax]

Prints how many pass, and how many do not apply, for each reason.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import jax
import pytest

from . import flax_source

HERE = Path(__file__).parent


class Counts:
    """A plugin of pytest that counts, file by file."""

    def __init__(self) -> None:
        self.found, self.reasons = defaultdict[str, Counter[str]](Counter), defaultdict[str, Counter[str]](Counter)

    def pytest_sessionstart(self) -> None:
        """Optax's tests of shardings take eight devices."""
        jax.config.update("jax_num_cpu_devices", 8)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a test, and says what fails."""
        file = Path(report.fspath).stem
        if report.when == "call" or report.outcome != "passed":
            self.found[file][report.outcome] += type(report) is pytest.TestReport  # and not a part of a test
        if report.skipped:
            self.reasons[file][re.sub(r"^Skipped: ", "", report.longrepr[2])] += 1
        if report.failed:
            print(report.nodeid, report.longreprtext, sep="\n")

    def print(self) -> None:
        """Prints the counts."""
        for file, found in sorted(self.found.items()):
            print(f"{file}: {found['passed']} passed, {found['failed']} failed, {found['skipped']} do not apply")
            for reason, count in self.reasons[file].most_common():
                print(f"  {count}: {reason}")


def main() -> int:
    """Runs the command."""
    wanted, counts = sys.argv[1:], Counts()
    files = [str(file) for file in sorted(HERE.glob("test_*.py")) if not wanted or file.stem.split("_")[1] in wanted]
    flax_source.download()
    code = pytest.main([*files, "-o", "addopts=", "-p", "no:terminal", "-p", "no:cacheprovider"], plugins=[counts])
    counts.print()
    return int(code)


sys.exit(main())
