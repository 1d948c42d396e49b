"""The mistakes that `python -m tests.mutants` plants, and how it finds the tests of a line."""

import pytest
from mutants.mutations import compiled, mutations
from mutants.telling import telling

SOURCE = '''"""1 + 1"""
import math

SCALE: int = 2


def size(x, y=1, *, root=False):
    """Returns 2."""
    if x is None:
        return x
    found = math.hypot(x, y + SCALE)
    return math.sqrt(found) if root and found >= 1 else -found
'''


def changes():
    return {mutation.change: mutation for mutation in mutations("module.py", SOURCE)}


def test_what_is_planted():
    assert set(changes()) == {
        "2 -> 3",
        "1 -> 2",
        "False -> True",
        "if x is None:     return x -> if not x is None:     return x",
        "x is None -> x is not None",
        "math.hypot(x, y + SCALE) -> math.hypot(y + SCALE, x)",
        "y + SCALE -> y - SCALE",
        "math.sqrt(found) if root and found >= 1 else -found -> -found if root and found >= 1 else math.sqrt(found)",
        "root and found >= 1 -> root or found >= 1",
        "found >= 1 -> found > 1",
        "math.sqrt(found) -> found",
        "-found -> found",
    }


@pytest.mark.parametrize(
    ("change", "result"),
    [("y + SCALE -> y - SCALE", 10**0.25), ("math.sqrt(found) -> found", 18**0.5), ("2 -> 3", 25**0.25)],
)
def test_one_mistake_is_planted(change, result):
    mutation, names = changes()[change], {}
    exec(compiled(mutation, SOURCE, "module.py"), names)
    assert names["size"](3, root=True) == result
    assert mutation.text == SOURCE.splitlines()[mutation.line - 1].strip()


def test_code_tells_its_lines():
    ran = set()
    names = {"tell": ran.update}
    exec(telling(SOURCE, "module.py", "tell"), names)
    assert names["size"].__doc__ == "Returns 2."
    assert names["size"](None) is None
    assert ran == {9, 10}
    ran.clear()
    assert names["size"](3) < 0
    assert ran == {9, 11, 12}
