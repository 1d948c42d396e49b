"""The names and signatures that lectopt promises, as text: `python -m tests.public_surface` writes the file anew."""

import functools
import inspect
import pathlib
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import lectopt as lo
import lectopt.data.datasets
import lectopt.search.optuna
import lectopt.search.space
import lectopt.sklearn

FILE = pathlib.Path(__file__).with_name("public_surface.txt")
PLACES: dict[str, ModuleType] = {
    "lectopt": lo,
    "lectopt.space": lo.space,
    "lectopt.search": lo.search,
    "lectopt.search.optuna": lectopt.search.optuna,
    "lectopt.initializers": lo.initializers,
    "lectopt.datasets": lo.datasets,
    "lectopt.sklearn": lectopt.sklearn,
    "lectopt.exercises": lo.exercises,
}


def text() -> str:
    """Returns a line for each name."""
    return "".join(
        f"{name}{described(value)}\n" for place, module in PLACES.items() for name, value in of(place, module)
    )


def of(place: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields what a module hands on, and the methods of its classes, by their names."""
    listed = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if _is_its_own(v, module)]
    for name in sorted(listed):
        value = getattr(module, name)
        yield f"{place}.{name}", value
        if isinstance(value, type):
            for method, function in sorted(vars(value).items()):
                if method == "__call__" or not method.startswith("_"):
                    yield f"{place}.{name}.{method}", function


def _is_its_own(value: Any, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__ and not value.__name__.startswith("_")


def described(value: Any) -> str:
    """Returns a signature without annotations; what is no function says what it is."""
    if isinstance(value, (staticmethod, classmethod)):
        return described(value.__func__)
    if isinstance(value, (property, functools.cached_property)):
        return ": property"
    if isinstance(value, type) and "__init__" in vars(value):
        value = value.__init__
    if not isinstance(value, (type, FunctionType)):
        return "" if isinstance(value, ModuleType) else f": {type(value).__name__}"
    try:
        signature = inspect.signature(value)
    except ValueError:
        return ""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return re.sub(r" at 0x\w+", "", str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)))


if __name__ == "__main__":
    FILE.write_text(text())
