"""What of a training its directory keeps."""

from typing import Any, NamedTuple

from lectopt._internal import checks


class Keep(NamedTuple):
    """How much of a training its directory keeps: the argument `keep=` of `lo.fit`.

    The last copies, written every few seconds, are what a training goes on from that was broken off, and what
    `lo.load(directory, task)` reads. The best runs are written after each validation that is among the best so far, by
    the metric that `best_by` names, or the loss of the first validation set: `lo.load(f"{directory}/best", task)` reads
    the last of them, and `f"{directory}/best/{step}"` the one after so many steps.

    Args:
        last: the number of last copies, at least 1, by default 2: if one is damaged, the one before is used.
        best: the number of runs with the best validations, at least 0 (the default).

    Example:
        >>> import tempfile, lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> train, valid = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> options = {"valid": valid, "batch_size": 30, "epochs": 9, "key": 0, "keep": lo.Keep(best=1)}
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = lo.fit(task, lo.sgd(0.1), train, directory=directory, **options)
        ...     best = lo.load(f"{directory}/best", task)
        >>> best.metrics["valid_loss"] == float(min(run.history.epochs["valid_loss"]))
        True
    """

    last: int = 2
    best: int = 0


def as_keep(keep: Any, directory: Any, valid: Any) -> Keep:
    """Returns what is to be kept, after checking it; None keeps the last two copies."""
    if keep is None:
        return Keep()
    if not isinstance(keep, Keep):
        raise TypeError(f"keep must be a lectopt.Keep; got {checks.value_and_type(keep)}")
    if directory is None:
        raise ValueError("keep says how much directory keeps: give it together with directory")
    kept = Keep(checks.check_count("keep.last", keep.last), checks.check_count("keep.best", keep.best, least=0))
    if kept.best and valid is None:
        raise ValueError("keep.best counts validations: give it together with valid")
    return kept
