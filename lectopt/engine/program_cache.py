"""What was compiled before, so that another search with the same trial compiles nothing again."""

import weakref
from collections.abc import Callable
from typing import Any

from lectopt.engine.lane_program import Compiled, Program, Rectangle

# By the trial, so that it goes when nobody holds that any more, and by the whole text of the program: a trial is traced
# anew for every search, so that what it closes over may have changed in between.
_compiled: weakref.WeakKeyDictionary[Callable[..., Any], dict[str, dict[Rectangle, Compiled]]]
_compiled = weakref.WeakKeyDictionary()


def recall(function: Callable[..., Any], program: Program) -> Program:
    """The program, which knows what was compiled from the same text for this function, and adds to it."""
    try:
        texts = _compiled.setdefault(function, {})
    except TypeError:  # some callables cannot be referred to weakly, or hashed
        return program
    program.compiled = texts.setdefault(program.text(), program.compiled)
    return program
