"""`diagnose`: what is wrong with a training, from what was recorded of it."""

import dataclasses
from collections.abc import Callable, Iterator
from html import escape

import numpy as np

from lectopt.monitoring.curve_findings import CURVES
from lectopt.monitoring.divergence_findings import diverged
from lectopt.monitoring.findings import Finding
from lectopt.monitoring.layer_findings import LAYERS
from lectopt.monitoring.loss_curves import Course, course
from lectopt.monitoring.norm_findings import small_batches
from lectopt.training.history import History
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` and `check` return: print it, let a notebook show it, or go through its findings."""

    findings: list[Finding]
    notes: list[str]
    """What was found to be well, or could not be judged."""

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join([*(map(str, self.findings) if self.findings else ["Nothing found wrong."]), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(str(finding))}</li>" for finding in self.findings)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<ul>{items or '<li>Nothing found wrong.</li>'}</ul>{notes}"


def diagnose(run: Run | History) -> Diagnosis:
    """Reads the records of a training and says what is wrong with it.

    It finds, by these names: "diverged", "not finite from the start", "gradient not finite", "validation loss not
    finite", "wrong initial loss", "loss plateau" (nothing was learned), "learning rate too low", "learning rate too
    high", "noisy loss", "learned nothing general" (validation is no better than constant outputs), "overfitting",
    "underfitting", "still improving", "converged early", "clipped too often", and of layers that were watched
    "vanishing gradients", "exploding gradients", "dead units", "saturated units"; of a run (a history does not hold the
    model) "batches too small for BatchNorm", which then takes the place of "underfitting". The thresholds are the
    constants of `curve_findings`, `finite_findings`, `layer_findings` and `norm_findings` in `lectopt.monitoring`; how
    often it is right on trainings with planted faults, and on healthy ones, is counted in `tests/test_diagnosis.py`.

    Of fewer than 100 steps (and 10 epochs) the curves say little: what is not finite, a wrong initial loss, overfitting
    and the layers are judged, and a note says so.

    Args:
        run: a run, or its history; with `watch=` for what goes on in the layers, with `valid=` for overfitting.

    Returns:
        A Diagnosis: findings, each with its name, the evidence in numbers, a remedy and a reference; empty where
        nothing is wrong. Its notes say what could not be judged.

    Raises:
        TypeError: if run is neither. ValueError: if it holds several trainings.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs), standardize=True)
        >>> train, valid = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
        >>> run = lo.fit(task, lo.sgd(1e-5), train, valid=valid, batch_size=32, epochs=10, key=0, watch=10)
        >>> [finding.name for finding in lo.diagnose(run)]
        ['learning rate too low']

    Source: the lecture, "Monitoring the Training Process"; Goodfellow et al. (2016), chapter 11.
    """
    if not isinstance(run, (Run, History)):
        raise TypeError(f"run must be a lectopt Run or its History; got {type(run).__name__}")
    run.check_single()
    history = run.history if isinstance(run, Run) else run
    seen = course(history)
    judges: list[Callable[[History, Course], Finding | None]] = [*CURVES, *LAYERS] if seen.steps else [diverged]
    found = [finding for judge in judges if (finding := judge(history, seen)) is not None]
    if isinstance(run, Run) and (noise := small_batches(run)) is not None:
        # The training loss is that of the noise, and says nothing of how well the model could fit.
        found = [noise, *(finding for finding in found if finding.name != "underfitting")]
    if isinstance(run, Run) and _holds_best(run):
        found = [_stopped(finding) if finding.name == "overfitting" else finding for finding in found]
    return Diagnosis(found, _not_judged(history, seen))


def _holds_best(run: Run) -> bool:
    """Whether it gave back the best validation, not the last one."""
    losses = np.asarray(run.history.epochs.get("valid_loss", []), float)
    losses = losses[np.isfinite(losses)]
    return len(losses) > 0 and bool(np.asarray(run.metrics.get("valid_loss", np.nan)) < losses[-1])


def _stopped(overfitting: Finding) -> Finding:
    remedy = "The run holds the weights of the best epoch (patience=). For better ones penalise weights (lo.add_l2), "
    return overfitting._replace(remedy=remedy + "augment or get more data, or take a smaller model.")


def _not_judged(history: History, seen: Course) -> list[str]:
    notes = []
    if seen.short:
        notes.append(f"Of {seen.steps} steps the curves say little.")
    if "valid_loss" not in history.epochs:
        notes.append("Without validation (valid=) nothing can be said of overfitting, and less of too high a rate.")
    if not history.layers:
        notes.append("The layers were not watched (watch=10).")
    return notes
