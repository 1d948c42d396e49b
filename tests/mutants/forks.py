"""A session of tests in a child of this process, which has imported what takes long: JAX, Flax and what tests need."""

import contextlib
import importlib.machinery
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
sys.dont_write_bytecode = False  # each child imports lectopt and tests anew
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # and compiles what is in the cache

import conftest  # noqa: E402, first: it sets what JAX reads when it is imported
import flax.linen  # noqa: E402, F401
import hypothesis  # noqa: E402, F401
import orbax.checkpoint  # noqa: E402, F401
import pytest  # noqa: E402

with contextlib.suppress(ImportError):
    import matplotlib.pyplot  # noqa: F401
    import optuna  # noqa: F401
    import pandas  # noqa: F401

LATE = -1  # the status of a child that did not end in time
MEMORY = 12 << 30


def in_child(work: Callable[[], int], seconds: float) -> int:
    """Runs a function in a child of this process and returns the status it returns, or LATE."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX says that it has threads; it starts them with its first computation
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            status = work()
        finally:
            os._exit(status)
    end = time.monotonic() + 10 * seconds  # other processes want the processor too
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if found == (0, 0):
        found = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(found[1])
    return LATE if code in (-signal.SIGKILL, -signal.SIGXCPU) else code


def run_tests(files: list[str], *plugins: object, marked: str = "not slow") -> int:
    """Runs the tests of some files in this process, up to the first that fails; returns pytest's status."""
    os.chdir(ROOT)
    quiet = ["-q", "-x", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-m", marked]
    return pytest.main([*quiet, "--hypothesis-seed=0", "--strict-markers", *files], plugins=[conftest, *plugins])


class Changed:
    """Loads modules of lectopt from other code than their files': from `code_of(path)`, where it returns some."""

    def __init__(self, code_of: Callable[[Path], CodeType | None]):
        self._code_of = code_of

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Finds the modules that change."""
        if name.partition(".")[0] != "lectopt":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)  # type: ignore[arg-type]
        if spec is None or spec.origin is None or (code := self._code_of(Path(spec.origin))) is None:
            return None
        spec.loader = _Code(name, spec.origin, code)
        return spec


class _Code(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType):
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        """Returns the other code."""
        return self._code
