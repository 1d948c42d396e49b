"""Disks that are full, and directories without rights."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from .outcomes import REFUSED, Outcome, outcome
from .works import RESUMED, Arrays, Work, begin

NOBODY = 65534


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full, nearly: no file becomes longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of the administrator, who may write anywhere."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def refused(scratch: Path, name: str, work: Work, whole: Arrays) -> Iterator[Outcome]:
    """Yields what becomes of a work that cannot write, and of what was kept before when it can again."""
    limits = {f"no file above {size} bytes": files_of_at_most(size) for size in (0, 60, 700, 3000)}
    for how, hindrance in (limits | {"no right to write": as_nobody()}).items():
        for begun in (False, True) if name in RESUMED else (False,):
            place = scratch / f"{name} {how} {begun}" / "kept"
            place.parent.mkdir()
            if begun:
                begin(work, place)
            case = f"{name}: {how}{', begun before' if begun else ''}"
            with hindrance if not begun else _again(how):
                found = outcome(case, work, place, whole)
            yield found
            if found.kind == REFUSED:
                yield outcome(f"{case}, then as ever", work, place, whole)


def _again(how: str) -> contextlib.AbstractContextManager[None]:
    return as_nobody() if how == "no right to write" else files_of_at_most(int(how.split()[3]))
