"""Plants mistakes in lectopt, one at a time, and runs the tests that concern each: which survive?

    python -m tests.mutants [package, file or file:line below lectopt/ ...] [--sample N] [--seed S] [--fast]

Runs the fast tests first, those of them first that run the line; on what survives these, unless --fast is given, the
slow tests of the files that are named after the module or import it. Prints each survivor, and counts. The first time,
and after changes, it finds out which tests run which lines, which takes as long as these tests. Mistakes that no test
can find, since nothing that is promised changes, stand in equivalent.txt with the reason.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .coverage import PACKAGE, slow_files, tests_of
from .forks import LATE, Changed, in_child, run_tests
from .mutations import Mutation, compiled, mutations

EQUIVALENT = Path(__file__).with_name("equivalent.txt")
NO_TESTS = 5
FIRST = 15
THERE_SECONDS = 30
ELSEWHERE_SECONDS = 10
SECONDS = 20
SLOW_SECONDS = 120


class Only:
    """A plugin of pytest: of the tests that are found, these, in this order."""

    def __init__(self, names: list[str]):
        self._place = {name: i for i, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Picks and sorts."""
        items[:] = sorted((x for x in items if x.nodeid in self._place), key=lambda x: self._place[x.nodeid])


def batches(mutation: Mutation) -> list[dict[str, float]]:
    """Returns the fast tests that concern a mistake, in the order in which to run them: a few quick ones that run the
    line, others that do, and those that run other lines of the module; of both kinds as many as are quick."""
    there, elsewhere = tests_of(mutation.module, mutation.line)
    first = dict(list(there.items())[:FIRST])
    others = {name: seconds for name, seconds in quick(there, THERE_SECONDS).items() if name not in first}
    return [tests for tests in (first, others, quick(elsewhere, ELSEWHERE_SECONDS)) if tests]


def quick(tests: dict[str, float], most: float) -> dict[str, float]:
    """Returns the first of some tests that take so many seconds in all."""
    sums = itertools.accumulate(tests.values())
    return {name: tests[name] for name, seconds in zip(tests, sums, strict=True) if seconds <= most}


def outcome(mutation: Mutation, fast: bool) -> str:
    """Runs the tests that concern a mistake, the slow ones too unless `fast`; returns what became of it."""
    path = PACKAGE / mutation.module
    code = compiled(mutation, path.read_text(), str(path))

    def work(files: Iterable[str], *plugins: object, marked: str = "not slow") -> int:
        sys.meta_path.insert(0, Changed(lambda other: code if other == path else None))
        return int(run_tests(sorted(files), *plugins, marked=marked))

    for tests in batches(mutation):
        files = {name.partition("::")[0] for name in tests}
        status = in_child(lambda: work(files, Only(list(tests))), SECONDS + 3 * sum(tests.values()))  # noqa: B023
        if status not in (0, NO_TESTS):
            return "killed in time" if status == LATE else "killed"
    slow = [] if fast else list(map(str, slow_files(mutation.module)))
    if slow and in_child(lambda: work(slow, marked="slow"), SLOW_SECONDS) not in (0, NO_TESTS):
        return "killed by a slow test"
    return "survived" if tests_of(mutation.module, mutation.line)[0] else "survived, since no fast test runs the line"


def equivalent() -> dict[tuple[str, ...], str]:
    """Returns the mistakes that nothing depends on, with the reasons."""
    lines = [line.split(" | ") for line in EQUIVALENT.read_text().splitlines() if " | " in line]
    return {tuple(fields[:3]): fields[3] for fields in lines}


def chosen(targets: list[str], sample: int | None, seed: int) -> list[Mutation]:
    """Returns the mistakes to plant."""
    found = []
    for target, _, line in (text.partition(":") for text in targets or [""]):
        path = PACKAGE / target
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            planted = mutations(str(file.relative_to(PACKAGE)), file.read_text())
            found += [mutation for mutation in planted if line in ("", str(mutation.line))]
    if sample is None or sample >= len(found):
        return found
    return sorted(random.Random(seed).sample(found, sample), key=lambda m: (m.module, m.line))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    mutants = chosen(arguments.targets, arguments.sample, arguments.seed)
    reasons, counts, began = equivalent(), Counter[str](), time.monotonic()
    for mutation in mutants:
        found = "equivalent" if mutation.key in reasons else outcome(mutation, arguments.fast)
        counts[found] += 1
        if found.startswith("survived"):
            print(f"{found}: {mutation}", flush=True)
    seconds = time.monotonic() - began
    told = ", ".join(f"{count} {found}" for found, count in sorted(counts.items()))
    print(f"{len(mutants)} mutants of {', '.join(arguments.targets) or 'lectopt'}: {told}; {seconds:.0f} s")


main()
