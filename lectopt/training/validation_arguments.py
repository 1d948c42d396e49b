"""The arguments that say what is validated, when, and what is made of it: checked."""

from collections.abc import Mapping
from typing import Any

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt.data.subsets import Subset, as_subset
from lectopt.tasks.metrics import WholeSetMetric
from lectopt.tasks.task import Task
from lectopt.training.carry import Judge
from lectopt.training.example_weights import as_valid_weights

_DIRECTIONS = ("minimize", "maximize")


def as_valid(valid: Any) -> dict[str, Subset]:
    """Returns the validation sets by name, in the order given; examples without a name are "valid"."""
    if valid is None:
        return {}
    if not isinstance(valid, Mapping):
        return {"valid": as_subset(valid, "valid", as_array)}
    for name in valid:
        if not isinstance(name, str) or not name or name == "train":
            raise ValueError(f"valid must be examples, or a dictionary of them by name, not 'train'; got {name!r}")
    if not valid:
        raise ValueError("valid must hold at least 1 set of examples; got an empty dictionary")
    return {name: as_subset(part, f"valid[{name!r}]", as_array) for name, part in valid.items()}


def valid_name(valid: Mapping[str, Subset], name: str) -> str:
    """Returns what messages call a validation set."""
    return "valid" if list(valid) == ["valid"] else f"valid[{name!r}]"


def as_validate_every(validate_every: Any, valid: Mapping[str, Subset]) -> int | None:
    """Returns the number of steps from one validation to the next; None for the ends of epochs."""
    if validate_every is None:
        return None
    validate_every = checks.check_count("validate_every", validate_every)
    if not valid:
        raise ValueError("validate_every counts steps between validations: give it together with valid")
    return validate_every


def as_judge(
    patience: Any, best_by: Any, direction: Any, min_delta: Any, valid: Mapping[str, Subset], task: Task
) -> Judge | None:
    """Returns by what the best validation is known; None where the last one counts."""
    if patience is not None:
        patience = checks.check_traceable_count("patience", patience)
        if not valid:
            raise ValueError("patience counts validations: give it together with valid")
    checks.check_number("min_delta", min_delta, checks.NON_NEGATIVE)
    if checks.is_traced(min_delta):
        raise TypeError("min_delta must be a number, not traced")
    if min_delta and patience is None:
        raise ValueError("min_delta is what patience takes for a gain: give it together with patience")
    if best_by is None and direction is not None:
        raise ValueError("direction is that of best_by: give it together with best_by")
    if best_by is None and patience is None:
        return None
    if not valid:
        raise ValueError("best_by judges validations: give it together with valid")
    metric = f"{next(iter(valid))}_loss" if best_by is None else best_by
    _check_metric(metric, valid, task)
    static = None if checks.is_traced(patience) else patience
    return Judge(metric, _maximizes(metric, direction, valid, task), static, float(min_delta))


def as_weights_of_validation(
    weight_validation: Any, weights: Any, valid: Mapping[str, Subset], train: Subset, task: Task
) -> dict[str, Any] | None:
    """Returns the weights of the examples of each validation set; None where all count alike."""
    if not checks.check_flag("weight_validation", weight_validation):
        return None
    if weights is None or not valid:
        raise ValueError("weight_validation weights valid as weights does train: give it together with both")
    return {name: as_valid_weights(weights, part, valid_name(valid, name), train, task) for name, part in valid.items()}


def _check_metric(metric: Any, valid: Mapping[str, Subset], task: Task) -> None:
    if not isinstance(metric, str):
        raise TypeError(f"best_by must be the name of a metric, such as 'valid_loss'; got {metric!r}")
    names = [f"{name}_{metric}" for name in valid for metric in ("loss", *task.metrics)]
    if task.has_targets and metric not in names:  # what an objective returns is known once it is traced
        raise ValueError(f"best_by must be one of {', '.join(map(repr, names))}; got {metric!r}")


def _maximizes(metric: str, direction: Any, valid: Mapping[str, Subset], task: Task) -> bool:
    if direction is None and metric.endswith("_loss"):
        return False
    of_whole = {
        f"{name}_{key}": m for name in valid for key, m in task.metrics.items() if isinstance(m, WholeSetMetric)
    }
    if direction is None and metric in of_whole and (known := of_whole[metric].maximizes) is not None:
        return known
    if direction not in _DIRECTIONS:
        got = "" if direction is None else f"; got {checks.value_and_type(direction)}"
        raise ValueError(f"direction must be 'minimize' or 'maximize', which best_by={metric!r} does not tell{got}")
    return direction == "maximize"
