"""`diagnose`: what is wrong with a training, from what was recorded of it."""

import dataclasses
from collections.abc import Callable, Iterator
from html import escape

import numpy as np

from lectopt.monitoring.curve_findings import CURVE_FINDINGS
from lectopt.monitoring.divergence_findings import diverged
from lectopt.monitoring.findings import Finding
from lectopt.monitoring.layer_findings import LAYER_FINDINGS
from lectopt.monitoring.loss_curves import LossCurves, loss_curves
from lectopt.monitoring.norm_findings import small_batches
from lectopt.training.history import History
from lectopt.training.run import Run


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """The findings of `lo.diagnose` or `lo.check`.

    Print it, or let a notebook show it. Iterating goes through the findings, and `len(diagnosis)` is their number.

    Attributes:
        findings: the faults, each a `Finding` with the fields `name`, `evidence`, `remedy` and `reference`; [] if none
            was found.
        notes: sentences on what is in order, and on what could not be judged.

    Example:
        >>> import lectopt as lo
        >>> print(lo.Diagnosis([], ["The layers were not watched (watch=10)."]))
        Nothing found wrong.
        The layers were not watched (watch=10).

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Monitoring the Training Process";
    Goodfellow, Bengio and Courville (2016), "Deep Learning", section 11.5.
    """

    findings: list[Finding]
    notes: list[str]

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
    """Reports what is wrong with a training, from its records.

    It may find, by these names,

    - of the losses: "diverged", "not finite from the start", "gradient not finite", "validation loss not finite",
      "wrong initial loss", "loss plateau" (nothing was learned), "learning rate too low", "learning rate too high",
      "noisy loss", "learned nothing general" (validation is no better than with constant outputs), "overfitting",
      "underfitting", "still improving", "converged early" and "clipped too often";
    - of layers that were watched: "vanishing gradients", "exploding gradients", "dead units" and "saturated units";
    - of a `Run`, whose model is known: "batches too small for BatchNorm", which then replaces "underfitting".

    The curves of fewer than 100 steps (and 10 epochs) tell little; then only non-finite values, a wrong initial loss,
    overfitting and the layers are judged, and a note says so. All thresholds are in `lectopt.monitoring.thresholds`,
    each with its unit and source.

    Args:
        run: a `Run`, or its `History`. Train with `watch=10` to have layers judged, and with `valid=` for overfitting.

    Returns:
        A `Diagnosis` with findings and notes.

    Raises:
        ValueError: if the run holds several trainings, as one returned from `vmap` does.
        TypeError: if `run` is neither a `Run` nor a `History`.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Linear(4, 3, kernel_init=nnx.initializers.zeros, rngs=rngs)
        >>> task = lo.classification(net)
        >>> run = lo.fit(task, lo.sgd(1e38), lo.datasets.iris(), batch_size=30, epochs=2, key=0)
        >>> [finding.name for finding in lo.diagnose(run)]
        ['diverged']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Monitoring the Training Process";
    Goodfellow, Bengio and Courville (2016), "Deep Learning", chapter 11.
    """
    if not isinstance(run, (Run, History)):
        raise TypeError(f"run must be a lectopt Run or its History; got {type(run).__name__}")
    run.check_single()
    history = run.history if isinstance(run, Run) else run
    curves = loss_curves(history)
    judges: list[Callable[[History, LossCurves], Finding | None]]
    judges = [*CURVE_FINDINGS, *LAYER_FINDINGS] if curves.steps else [diverged]
    findings = [finding for judge in judges if (finding := judge(history, curves)) is not None]
    if isinstance(run, Run) and (noise := small_batches(run)) is not None:
        # The training loss is that of the noise, and says nothing of how well the model could fit.
        findings = [noise, *(finding for finding in findings if finding.name != "underfitting")]
    if isinstance(run, Run) and _returns_best_epoch(run):
        findings = [_with_remedy_of_best(finding) if finding.name == "overfitting" else finding for finding in findings]
    return Diagnosis(findings, _notes(history, curves))


def _returns_best_epoch(run: Run) -> bool:
    """Returns whether the run holds the best validation, not the last one."""
    name, (_, record) = next(iter(run.history.validation_losses.items()), ("", (None, [])))
    losses = np.asarray(record, float)[np.isfinite(record)]
    return len(losses) > 0 and bool(np.asarray(run.metrics.get(name, np.nan)) < losses[-1])


def _with_remedy_of_best(overfitting: Finding) -> Finding:
    remedy = "The run holds the weights of the best epoch (patience=). For better ones penalise weights (lo.add_l2), "
    return overfitting._replace(remedy=remedy + "augment or get more data, or take a smaller model.")


def _notes(history: History, curves: LossCurves) -> list[str]:
    notes = []
    if curves.short:
        notes.append(f"Of {curves.steps} steps the curves say little.")
    if not history.validation_losses:
        notes.append("Without validation (valid=) nothing can be said of overfitting, and less of too high a rate.")
    if not history.layers:
        notes.append("The layers were not watched (watch=10).")
    return notes
