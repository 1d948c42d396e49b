"""Every argument of every public function, made wrong in every way: is each refused by name before anything compiles?

    python -m tests.bad_input [function ...]

Prints what is raised from inside of JAX, NumPy or Python instead of by lectopt, what is refused without the name of the
argument, and what is accepted though the annotation does not allow it; and counts.
"""

import argparse
import ast
import functools
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

importlib.import_module("tests.mutants.forks")  # JAX as the tests have it

import flax.errors  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

from .good_calls import NEW, arguments, calls  # noqa: E402
from .wrong_values import VALUES, accepts  # noqa: E402

NAMED, SENSIBLE, UNNAMED, RAW, NONSENSE = "refused by name", "sensible", "refused unnamed", "raw errors", "nonsense"
OWN = "errors of the function that was given"
BAD = (RAW, NONSENSE)
HERE = str(Path(__file__).parent)
SECONDS = 60
PACKAGE = str(Path(__file__).parents[2] / "lectopt")


def judge(function: Callable[..., Any], good: dict[str, Any], name: str, value: Any, parameter: Any) -> tuple[str, str]:
    """Calls a function with one wrong value; returns what became of it, and the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**good | {name: value})
    except Exception as error:
        return of_error(error, name, value)
    return (SENSIBLE if accepts(parameter, value) else NONSENSE), "accepted"


def judge_traced(function: Callable[..., Any], good: dict[str, Any], name: str) -> tuple[str, str]:
    """Calls a function with a value that JAX does not know yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.eval_shape(lambda value: (function(**good | {name: value}), value)[1], np.float32(0.5))
    except Exception as error:
        return of_error(error, name)
    return SENSIBLE, "accepted"


def of_error(error: Exception, name: str, value: Any = None) -> tuple[str, str]:
    """Tells an error that lectopt raises on purpose, with the argument's name, from others.

    What a function of the user's raises, or being called with other arguments than it takes, is the user's own.
    """
    told = f"{type(error).__name__}: {str(error)[:150]!r}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    on_purpose = last.filename.startswith(PACKAGE) and last.lineno in raising_lines(last.filename)
    if isinstance(error, flax.errors.TraceContextError):  # the random streams here are not those of the trace
        return OWN, told
    if last.filename.startswith(HERE) or (
        callable(value) and isinstance(error, (TypeError, ValueError)) and not on_purpose
    ):
        return OWN, told
    if not on_purpose or not isinstance(error, (ValueError, TypeError, OSError, ImportError)):
        where = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
        at = f"{where[-1].filename[len(PACKAGE) + 1 :]}:{where[-1].lineno}" if where else "the call"
        return RAW, f"{told} from {at}"
    return (NAMED if name in str(error) or name.split("_", maxsplit=1)[0] in str(error) else UNNAMED), told


@functools.cache
def raising_lines(file: str) -> set[int]:
    """Returns the lines of a file's raise statements."""
    raises = [node for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.Raise)]
    return {line for node in raises for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


class TooLongError(Exception):
    """A call did not end."""


def outcomes(wanted: list[str]) -> Iterator[tuple[str, str, str, str, str]]:
    """Yields (function, argument, value, outcome, error)."""

    def stop(*_: object) -> None:
        raise TooLongError(f"nothing after {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    for function_name, (function, good) in calls().items():
        if wanted and function_name not in wanted:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(**good)  # it is right
        parameters = arguments(function) if all(value is not NEW for value in good.values()) else dict.fromkeys(good)
        for name, parameter in parameters.items():
            for kind, make in VALUES.items():
                signal.alarm(SECONDS)
                value = make()
                yield function_name, name, kind, *judge(function, good, name, value, parameter)
            yield function_name, name, "traced", *judge_traced(function, good, name)
            signal.alarm(0)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bad_input", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("functions", nargs="*")
    began, counts = time.monotonic(), Counter[str]()
    os.chdir(tempfile.mkdtemp())  # where "abc" may be a directory
    for function, argument, kind, found, error in outcomes(parser.parse_args().functions):
        counts[found] += 1
        if found in BAD:
            print(f"{found}: {function}({argument}={kind}): {error}", flush=True)
    print(f"{counts.total()} cases: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}; "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return int(any(counts[kind] for kind in BAD))


sys.exit(main())
