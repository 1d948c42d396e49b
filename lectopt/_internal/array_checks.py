"""Checks of the numbers in arrays, made once for each array that cannot change."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from lectopt._internal.checks import is_traced
from lectopt._internal.weak_keys import SameObject, weak_parts

_passed: set[tuple[Any, ...]] = set()


def check_once(check: Callable[[], None], arrays: Sequence[Any], *facts: Any) -> None:
    """Calls `check`, which raises or passes, unless it has passed before for these very arrays and equal facts.

    A `jax.Array` cannot change, so that it need not be looked at (and fetched from its device) again; what can, such as
    a NumPy array, is checked each time. Neither arrays nor facts are kept alive.
    """
    if is_traced(arrays) or not all(isinstance(array, jax.Array) for array in arrays):
        check()
        return
    key: list[tuple[Any, ...]] = []  # filled below: the callbacks in the key refer to it
    passed = _passed  # held here, since Python clears a module's names when it ends

    def forget(_: Any) -> None:
        passed.difference_update(key)

    found = (*(SameObject(array, forget) for array in arrays), *weak_parts(facts, forget))
    if found not in passed:
        check()
        key.append(found)
        passed.add(found)
