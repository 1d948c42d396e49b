"""Processes that end amid their work, and two that do the same at once.

They are children of a process in which JAX has not computed yet, since its threads would not be there in a child: so
works are called by their names here.
"""

import importlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .outcomes import LOST, REFUSED, SAME, Outcome, equal

RESUMED = ("fit", "stream", "search", "halving", "population", "rounds", "architecture search")
SAVED = ("run", "results", "history")
TOGETHER = {"fit": 10}  # how often two begin at once
SIGNALS = {"kill -9": signal.SIGKILL, "Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
REFUSAL = 3


def started(name: str, directory: Path, result: Path) -> int:
    """Starts a work in a child of this process, and returns its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        part = result.with_suffix(".part.npz")
        np.savez(part, **importlib.import_module("tests.faults.works").WORKS[name](directory))
        part.rename(result)
        code = 0
    except ValueError:
        code = REFUSAL
    finally:
        os._exit(code)


def code_of(child: int) -> int:
    """Waits for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def read(result: Path) -> dict[str, np.ndarray]:
    """Returns what a child came to."""
    with np.load(result) as file:
        return {name: file[name] for name in file.files}


def of_processes(scratch: Path, name: str, times: int = 1) -> Iterator[Outcome]:
    """Yields what becomes of a work whose process ends, or is not alone."""
    assert code_of(started(name, _new(scratch / f"{name} alone"), scratch / f"{name} alone.npz")) == 0
    whole, draw = read(scratch / f"{name} alone.npz"), random.Random(name)
    for how in [how for how in SIGNALS for _ in range(times)]:
        place = _new(scratch / f"{name} {how} {draw.random()}")
        result = place.parent.with_suffix(".npz")
        starts = _start_until_done(name, place, result, SIGNALS[how], draw)
        same = result.exists() and equal(read(result), whole)
        yield Outcome(
            f"{name}: {how}", SAME if same else LOST, "" if same else f"another result, or none in {starts} starts"
        )
    for time_ in range(TOGETHER.get(name, 1)):
        yield _together(scratch, f"{name} {time_}", name, whole)


def _start_until_done(name: str, place: Path, result: Path, number: int, draw: random.Random) -> int:
    """Ends the first two processes at some moment after they wrote something; returns how many there were."""
    for start in range(20):
        child, there = started(name, place, result), _entries(place)
        longest = 0.02 if name in SAVED else 0.3  # seconds
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if start < 2 and _entries(place) - there:
                time.sleep(draw.uniform(0, longest))
                os.kill(child, number)
                os.waitpid(child, 0)
                break
            time.sleep(0.005)
        if result.exists():
            break
    return start + 1


def _together(scratch: Path, case: str, name: str, whole: dict[str, np.ndarray]) -> Outcome:
    place, results = _new(scratch / f"{case} twice"), [scratch / f"{case} {i}.npz" for i in range(3)]
    codes = [code_of(child) for child in [started(name, place, result) for result in results[:2]]]
    codes.append(code_of(started(name, place, results[2])))
    good = all(equal(read(result), whole) for result in results if result.exists()) and codes[2] == 0
    if not good or not set(codes) <= {0, REFUSAL} or codes[:2] == [REFUSAL, REFUSAL]:
        return Outcome(f"{case}: two processes", LOST, f"they and a third one ended with {codes}, {good}")
    return Outcome(f"{case}: two processes", REFUSED if REFUSAL in codes else SAME)


def _entries(place: Path) -> set[Path]:
    return set(place.parent.rglob("*"))


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder / "kept"
