"""What became of a work after a fault: the same result, an error that says what is wrong, or something bad."""

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]

SAME, REFUSED, LOST = "the same result", "refused by name", "something else"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    case: str
    kind: str  # one of the above
    detail: str = ""


def outcome(case: str, work: Callable[[Path], Arrays], path: Path, whole: Arrays, *, part: str = "") -> Outcome:
    """Runs a work where something is wrong; with `part`, it may return less than all: "said" in a warning, or not."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = work(path)
    except Exception as error:
        named = re.search(r"\b(directory|path|source) (must|is|cannot) ", str(error)) and str(path.parent) in str(error)
        named = named or "this task's model must have" in str(error)
        fits = isinstance(error, (ValueError, OSError)) and (named or isinstance(error, FileNotFoundError))
        return Outcome(case, REFUSED if fits else LOST, f"{type(error).__name__}: {error}"[:300])
    if equal(found, whole):
        return Outcome(case, SAME)
    if part == "unsaid" or (part and warned):
        return Outcome(case, REFUSED)
    return Outcome(case, LOST, "another result")


def equal(found: Arrays, whole: Arrays) -> bool:
    """Tells whether all arrays are the same, NaN included."""
    return found.keys() == whole.keys() and all(np.array_equal(found[n], whole[n], equal_nan=True) for n in whole)
