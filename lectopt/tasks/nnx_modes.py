"""Training and evaluation mode of NNX modules: which layers are switched, and which stay as the user froze them."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from flax import nnx

SWITCHES = ("deterministic", "use_running_average")
"""The attributes that `nnx.Module.train` and `eval` set."""


class _HandedOut(int):
    """True, as lectopt sets it in a model that users get in evaluation mode; the user has frozen nothing there."""

    def __eq__(self, other: object) -> bool:  # or NNX could take a graph with True for it
        return isinstance(other, _HandedOut)

    def __hash__(self) -> int:
        return hash(_HandedOut)

    def __repr__(self) -> str:
        return "True"


HANDED_OUT = _HandedOut(True)


def switch(module: nnx.Module, evaluates: int) -> nnx.Module:
    """Switches the module to training or evaluation mode, or to what users get (`HANDED_OUT`); frozen layers stay."""
    for layer, name in _switches(module):
        if not _is_frozen(getattr(layer, name)):
            setattr(layer, name, evaluates)
    return module


def frozen(module: nnx.Module) -> list[bool]:
    """Tells whether it is frozen, for each switch in the module."""
    return [_is_frozen(getattr(layer, name)) for layer, name in _switches(module)]


def warn_if_frozen(module: nnx.Module) -> None:
    """Warns if a module is frozen as a whole."""
    if (found := frozen(module)) and all(found):
        warnings.warn(
            "the module is in evaluation mode (each use_running_average and deterministic in it is True), and stays so "
            "in training: statistics are frozen, and nothing is dropped. If that is not meant, call its train() before "
            "it is given to Task; if it is, a function rngs -> module brings no warning",
            stacklevel=4,
        )


def _switches(module: nnx.Module) -> Iterator[tuple[nnx.Module, str]]:
    for _, layer in nnx.iter_modules(module):
        for name in SWITCHES:
            if isinstance(getattr(layer, name, ...), bool | int | np.bool_ | None):
                yield layer, name


def _is_frozen(value: Any) -> bool:
    return bool(value) and not isinstance(value, _HandedOut)
