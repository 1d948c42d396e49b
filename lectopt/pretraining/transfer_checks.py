"""What is refused before anything is transferred: models without a path in common, statistics without a place."""

from collections.abc import Collection, Mapping, Sequence

from lectopt.pretraining import pytorch_names
from lectopt.pretraining.renaming_rules import ModelPath
from lectopt.pretraining.transfer_sources import SourceArrays

_COUNTERS = ("num_batches_tracked",)  # of PyTorch's BatchNorm, which Flax's has no use for


def check_overlap(renamed: Mapping[ModelPath, ModelPath], param_paths: Sequence[ModelPath], layout: str) -> None:
    """Raises ValueError where no path agrees, or the names in source are PyTorch's without that being said."""
    if not {*renamed} & {*param_paths}:
        hint = ""
        if layout == "flax" and any(path[-1:] == ("weight",) for path in renamed):
            hint = ". Names such as 'weight' are PyTorch's: give layout='torch'"
        raise ValueError(
            "source and target must have paths in common, or rename must make them so; source has "
            f"{_listed(renamed)}, target {_listed(param_paths)}{hint}"
        )
    for path in renamed if layout == "flax" else ():
        new = pytorch_names.translate(path, {*param_paths} - {*renamed})
        if new != path:
            raise ValueError(
                f"layout must be 'torch' where names are PyTorch's; source has {'/'.join(path)} where target has "
                f"{'/'.join(new)}. If it is not PyTorch's, rename one to the other, or leave it out"
            )


def check_statistics(statistics: str | None, common: Sequence[ModelPath], loaded: SourceArrays) -> None:
    """Raises ValueError unless it is said what becomes of statistics, where source holds any that target has."""
    if statistics is None and (common or loaded.inputs is not None):
        what = _listed(common) if common else "how the run standardises its inputs"
        raise ValueError(
            f"statistics must be 'take' or 'keep', since source holds variables that are not trained: {what}"
        )


def check_all_statistics(
    variable_paths: Sequence[ModelPath],
    param_paths: Sequence[ModelPath],
    renamed: Collection[ModelPath],
    taken: Collection[ModelPath],
) -> None:
    """Raises ValueError where a layer has other statistics than what is offered for it: it would go on with its own."""
    for layer in {path[:-1] for path in variable_paths if path not in taken}:
        current = [path for path in variable_paths if path[:-1] == layer]
        of_source = [path for path in renamed if path[:-1] == layer and path[-1] not in _COUNTERS]
        unplaced = [path for path in of_source if path not in taken and path not in param_paths]
        if unplaced:
            raise ValueError(
                f"target must have the statistics of source; {_listed(unplaced)} of source have no place among "
                f"{_listed(current)} (a window keeps batches, not an average). Give statistics='keep' and let target "
                "collect its own, or make it without a window"
            )


def _listed(paths: Collection[ModelPath]) -> str:
    names = list(map("/".join, paths)) or ["nothing"]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
