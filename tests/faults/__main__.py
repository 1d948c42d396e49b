"""What can go wrong around a training or search, tried on all of them: is anything lost, or silently another result?

    python -m tests.faults [fit | stream | search | ... ] [--only signals | files]

Prints what is bad, and counts: of each kind of fault, how often the result was the same as without it, and how often an
error said what is wrong and where.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.mutants.forks import in_child  # noqa: F401, it imports what takes long, as the tests have it

from .outcomes import LOST, Outcome
from .processes import RESUMED, SAVED, of_processes

TIMES = {"a flipped bit": 6, "cut short": 3, "others": 1}


def of_signals(scratch: Path, names: list[str]) -> Iterator[Outcome]:
    """Yields what comes of processes that end, or are not alone."""
    for name in RESUMED + SAVED:
        if name in names or not names:
            yield from of_processes(scratch, name)


def of_files(scratch: Path, names: list[str]) -> Iterator[Outcome]:
    """Yields what comes of files that are not what was written, or cannot be; it computes in this process."""
    from .damage import damaged, foreign  # noqa: PLC0415, they compute
    from .hindrances import refused  # noqa: PLC0415
    from .works import WORKS  # noqa: PLC0415

    wholes = {name: WORKS[name](_new(scratch, f"{name} whole") / "kept") for name in names or WORKS}
    for name, whole in wholes.items():
        yield from damaged(scratch, name, WORKS[name], whole, TIMES)
        yield from refused(scratch, name, WORKS[name], whole)
    if not names:
        yield from foreign(scratch, wholes)


def _new(scratch: Path, name: str) -> Path:
    (scratch / name).mkdir()
    return scratch / name


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("works", nargs="*")
    parser.add_argument("--only", choices=["signals", "files"])
    arguments, bad = parser.parse_args(), 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        for kind, cases in {"signals": of_signals, "files": of_files}.items():  # before this process has threads
            if arguments.only in (None, kind):
                bad += report(kind, cases(Path(folder), arguments.works))
    return int(bad > 0)


def report(kind: str, cases: Iterator[Outcome]) -> int:
    """Prints what is bad, and counts; returns how many are bad."""
    began, counts = time.monotonic(), Counter[str]()
    for found in cases:
        counts[found.kind] += 1
        if found.kind == LOST:
            print(f"{found.case}: {found.detail}", flush=True)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{kind}: {counts.total()} cases: {told}; {time.monotonic() - began:.0f} s", flush=True)
    return counts[LOST]


sys.exit(main())
