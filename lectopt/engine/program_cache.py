"""Programs that were compiled before, so that another search with the same trial compiles nothing again."""

import weakref
from collections.abc import Callable
from typing import Any

from lectopt.engine.tiling import Rectangle
from lectopt.engine.tracing import CompiledProgram

# By the trial, so that it goes when nobody holds that any more, and by the whole text of the program: a trial is traced
# anew for every search, so that what it closes over may have changed in between.
_compiled: weakref.WeakKeyDictionary[Callable[..., Any], dict[str, dict[Rectangle, CompiledProgram]]]
_compiled = weakref.WeakKeyDictionary()


def programs_of(trial: Callable[..., Any], text: Callable[[], str]) -> dict[Rectangle, CompiledProgram]:
    """Returns the programs compiled for this trial from the same text, by shape; callers add to it."""
    try:
        texts = _compiled.setdefault(trial, {})
    except TypeError:  # some callables cannot be referred to weakly, or hashed
        return {}
    return texts.setdefault(text(), {})
