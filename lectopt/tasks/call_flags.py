"""The flags that tell modules whether they train, such as `train=True`: which a call takes, and leaves out."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lectopt._internal import checks

FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "is_train": True,
    "enable_dropout": True,
    "update_stats": True,
    "deterministic": False,
    "use_running_average": False,
    "inference": False,
    "is_inference": False,
    "eval": False,
    "evaluation": False,
    "evaluate": False,
    "is_eval": False,
    "eval_mode": False,
    "is_evaluation": False,
}
"""What a module may call its flag, and the flag's value in training."""

_WORDS = "train training eval evaluate evaluation evaluating infer inference deterministic stochastic dropout"
_HINTS = {*_WORDS.split(), "running", "mode", "test", "testing"}
"""Words in the names of other flags, which may be meant to tell training from evaluation."""
_ASKS = ("return", "output", "with")
"""How names begin that ask for more outputs, such as return_train_features."""
_MODES = ("train", "training", "eval", "evaluation", "test", "inference")
"""What a default may be that is a mode by its name."""


def call_arguments(
    module_type: type, training: bool, leave: Callable[[str], bool] = lambda name: False, inputs: int = 1
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns what a call of such a module is given beside its inputs.

    Args:
        module_type: the class of the module.
        training: whether it trains.
        leave: whether to leave a flag of this name at its default None, so that the layers keep their own mode.
        inputs: the number of its inputs, the first arguments of the call.

    Raises:
        TypeError: if the call takes fewer inputs, or needs more than these and flags of these names.
    """
    name = f"{module_type.__name__}.__call__"
    parameters = _parameters(module_type)
    others = _without_inputs(name, parameters, inputs)
    positional: list[Any] = []
    by_name: dict[str, Any] = {}
    last = 0
    for parameter in others:
        is_flag = parameter.name in FLAGS
        _check(name, parameter)
        value = parameter.default
        if is_flag and not (value is None and leave(parameter.name)):
            value = FLAGS[parameter.name] == training
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            # By position, since the static arguments of `jit` and `remat` are known by theirs.
            positional.append(value)
            last = len(positional) if is_flag else last
        elif is_flag:
            by_name[parameter.name] = value
    return tuple(positional[:last]), by_name


def optional_flags(module_type: type) -> list[str]:
    """Returns the flags that a call may leave at their defaults."""
    defaults = (None, inspect.Parameter.empty)
    return [p.name for p in _parameters(module_type) if p.name in FLAGS and p.default not in defaults]


def omitted_flags(module_type: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """Returns the flags that a call with these arguments, x among them, leaves at their defaults."""
    given = {p.name for p, _ in zip(_parameters(module_type), args, strict=False)} | set(kwargs)
    return [name for name in optional_flags(module_type) if name not in given]


def _parameters(module_type: type) -> list[inspect.Parameter]:
    """Returns the parameters of `__call__`, without self."""
    if not any("__call__" in vars(base) for base in module_type.__mro__):
        raise checks.ArgumentError(
            f"model must have a __call__ that takes its inputs x; {module_type.__name__} has none"
        )
    return list(inspect.signature(module_type.__call__).parameters.values())[1:]


def _without_inputs(name: str, parameters: list[inspect.Parameter], inputs: int) -> list[inspect.Parameter]:
    """Returns the parameters behind those that take the inputs, by position; raises if these are too few."""
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    for taken in range(inputs):
        if taken == len(parameters) or parameters[taken].kind in by_name:
            wanted = "one argument, its inputs x" if inputs == 1 else f"its {inputs} inputs, by position"
            raise checks.ArgumentError(f"model must be called with {wanted}; {name} takes {taken or 'none'}")
        if parameters[taken].kind is inspect.Parameter.VAR_POSITIONAL:
            return parameters[taken + 1 :]
    return parameters[inputs:]


def _check(name: str, parameter: inspect.Parameter) -> None:
    """Raises if a parameter beside x needs a value that is unknown, or might tell training from evaluation."""
    if parameter.name in FLAGS or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return
    words = parameter.name.split("_")
    is_flag = isinstance(parameter.default, bool) or "bool" in str(parameter.annotation)
    is_mode = isinstance(parameter.default, str) and parameter.default in _MODES
    if is_mode or (is_flag and _HINTS.intersection(words) and words[0] not in _ASKS):
        raise checks.ArgumentError(
            f"model must call its flag of training by a name that lectopt passes, one of {', '.join(FLAGS)}; {name} "
            f"takes {parameter.name!r}"
        )
    if parameter.default is parameter.empty:
        raise checks.ArgumentError(
            f"model must be called with its inputs x, and flags of training such as train=True; {name} also needs "
            f"{parameter.name!r}. Give it a default, take it from x (a tuple or dictionary of arrays), or write a Task "
            "with an objective, which calls the model itself"
        )
