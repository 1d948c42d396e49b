"""What runs in processes of its own: the main job and the numeric part of the test suite."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax

from tests.benchmarks.device.rows import Row

SUITE = ("tests/optim", "tests/norms", "tests/initializers", "tests/training")
COUNT = re.compile(r"(\d+) (passed|failed|error|skipped)")
LAST_TESTS = 40
"""Seconds that are left to the tests which are running when no more begin."""


def main_job(seconds: float) -> Iterator[Row]:
    """`python -m lectopt`, to the end if that takes no longer than so many seconds."""
    limit = 30 if jax.default_backend() != "cpu" else 45
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "lectopt", "--output", folder],
                capture_output=True, check=True, timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield Row("python -m lectopt, s", f"> {seconds:.0f}", f"<= {limit} MISSED", "stopped")
            return
        took = time.perf_counter() - began
    yield Row("python -m lectopt, s", f"{took:.0f}", f"<= {limit} {'reached' if took <= limit else 'MISSED'}")


def suite(seconds: float) -> Iterator[Row]:
    """The tests of what computes, as many as run in so many seconds."""
    known = {"gpu": "cuda,cpu", "tpu": "tpu,cpu"}.get(jax.default_backend(), "cpu")
    environment = {"JAX_PLATFORMS": known, **os.environ, "PYTEST_SECONDS": str(seconds - LAST_TESTS)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.benchmarks.device.stop_in_time", *SUITE]
    if (cores := os.cpu_count() or 1) >= 8 and importlib.util.find_spec("xdist"):
        command += ["-n", str(min(cores // 2, 8))]
    if importlib.util.find_spec("pytest_timeout"):
        command += ["--timeout", str(LAST_TESTS - 10)]
    try:
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        ).stdout
    except subprocess.TimeoutExpired:
        yield Row("tests, numeric part", "stopped", note=f"one of them took more than {seconds:.0f} s")
        return
    print("\n".join(re.findall(r"^(?:FAILED|ERROR) .*", ran, re.MULTILINE)))
    counts = {kind: int(number) for number, kind in COUNT.findall(ran.splitlines()[-1] if ran else "")}
    bad = counts.get("failed", 0) + counts.get("error", 0)
    note = f"{counts.get('skipped', 0)} skipped, for want of time or as elsewhere"
    yield Row("tests that pass, numeric part", str(counts.get("passed", 0)), f"{bad} that fail", note)
