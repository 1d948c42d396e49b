"""Programs that were compiled before, so that another search with the same trial compiles nothing again."""

import contextlib
import weakref
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import jax

from lectopt.engine.devices import cores
from lectopt.engine.tracing import CompiledProgram, compiled


class Programs:
    """The programs that a text has been compiled to, by the shape of what they take; some may still be compiling."""

    def __init__(self) -> None:
        self._begun: dict[Hashable, Future[CompiledProgram]] = {}

    def __contains__(self, shape: Hashable) -> bool:
        return shape in self._begun and not self._begun[shape].cancelled()

    def begin(self, shape: Hashable, lowered: jax.stages.Lowered, threads: Executor | None) -> None:
        """Begins to compile a program in one of the threads; without threads, compiles it."""
        if threads is not None:
            self._begun[shape] = threads.submit(compiled, lowered)
            return
        done: Future[CompiledProgram] = Future()
        done.set_result(compiled(lowered))
        self._begun[shape] = done

    def get(self, shape: Hashable) -> CompiledProgram:
        """Returns a program that was begun, once it is compiled; one that cannot be is forgotten."""
        try:
            return self._begun[shape].result()
        except Exception:
            del self._begun[shape]
            raise

    def seconds(self, shape: Hashable) -> float:
        """Returns how long a program took to compile; 0 if it is not done."""
        begun = self._begun.get(shape)
        return begun.result().seconds if begun and begun.done() and not begun.cancelled() else 0.0


@contextlib.contextmanager
def compile_threads() -> Iterator[Executor]:
    """Threads in which programs compile beside each other and beside what runs.

    None of them outlives the block: what has not begun by its end is dropped.
    """
    threads = ThreadPoolExecutor(cores())
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


# By the trial, so that it goes when nobody holds that any more, and by the whole text of the program: a trial is traced
# anew for every search, so that what it closes over may have changed in between. What is static in the arguments, such
# as the size of the smallest fold, need not be in the text, and belongs to what a program takes all the same.
_compiled: weakref.WeakKeyDictionary[Callable[..., Any], dict[Hashable, Programs]] = weakref.WeakKeyDictionary()


def programs_of(trial: Callable[..., Any], text: Callable[[], str], arguments: jax.tree_util.PyTreeDef) -> Programs:
    """Returns the programs compiled for this trial from the same text, for arguments alike; callers add to it."""
    try:
        texts = _compiled.setdefault(trial, {})
    except TypeError:  # some callables cannot be referred to weakly, or hashed
        return Programs()
    return texts.setdefault((text(), arguments), Programs())
