"""Searches: what a training costs when many run side by side, and the first search of a process."""

import json
import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks import search, timing
from tests.benchmarks.device.rows import Row, at_least, at_most
from tests.benchmarks.device.scale import Scale

LIMIT_MS = 0.1  # a training
FIRST = """
import json, time
from tests.benchmarks import search
began = time.perf_counter()
search.search(64)
ours = time.perf_counter() - began
print(json.dumps([ours, search.sklearn_search(8) * 8]))
"""


def large_search(scale: Scale) -> Iterator[Row]:
    """Where the time of a large search goes, and a training's share of its run."""
    results = search.search(scale.settings)
    each = 1e3 * results.run_seconds / (scale.settings * search.FOLDS)
    parts = [(name, getattr(results, f"{name}_seconds")) for name in ("trace", "compile", "run")]
    what = f"search, {scale.settings} x {search.FOLDS} MLPs 64-64-10, ms a training"
    note = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts)
    yield at_most(what, timing.Ratio(each, each, each), LIMIT_MS, note)


def first_search(seconds: float) -> Iterator[Row]:
    """Of a new process, tracing and compiling counted, against scikit-learn on two CPU cores (8 settings, scaled)."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST], capture_output=True, text=True, check=True, timeout=seconds
    )
    ours, theirs = json.loads(ran.stdout.splitlines()[-1])
    note = f"{ours:.1f} s against {theirs:.1f}"
    yield at_least("first search of a process, 64 x 5, scikit-learn's time / ours", theirs / ours, 5, note)
