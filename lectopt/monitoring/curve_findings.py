"""What is wrong with a training by its curves. Losses are in units of the baseline loss.

The thresholds were set on trainings with planted faults (tests/planted_faults.py, seeds 0 to 2), between the values of
the faulty ones and those of all others; the comments give both. Other seeds judge them.
"""

import numpy as np

from lectopt.monitoring.divergence_findings import diverged, validation_not_finite
from lectopt.monitoring.findings import GOODFELLOW, Finding
from lectopt.monitoring.loss_curves import SHORT, Course, early_change, jumps, late_fall
from lectopt.training.history import History

FAR = 2.0
"""Initial losses, over the baseline: wrong ones 2.6 and more, others up to 1.5 (random last layers of regressions)."""
NOTHING = 0.03
"""How far below the baseline, as a share of it, the loss must get if something was learned: plateaus 0.01, others
0.06."""
FLAT = 1.25
"""The largest over the least loss, after the first third, of what stays where it is."""
SLOW = 0.25
"""The fall of the loss that is slow for a whole training: with too low rates 0.03 to 0.13, otherwise 0.3 and more."""
STRAIGHT = 0.25
"""The share of the fall in the second half: straight lines 0.3 to 0.5, others up to 0.25."""
SMALL_STEPS = 3e-4
"""The largest layer's update over its weights: with too low rates up to 1e-4, healthy 9e-4 and more; 1e-3 is the rule
of thumb (Karpathy, CS231n)."""
JUMPING = 0.15
"""The deviation of the validation loss from its neighbours' mean, over the loss: with too high rates 0.23 and more,
otherwise up to 0.09."""
UNSTEADY = 0.08
"""The same in very small batches: 0.12 and more (but one of six runs); healthy ones up to 0.05."""
SMALL_BATCH = 8
"""Jumps are noise in smaller batches, and too high a rate in others."""
RISEN = 1.25
"""The last validation loss over the best: overfitted 1.4 and more, healthy up to 1.1."""
ON = 0.7
"""... while the training loss fell on, below this share of its value at the best validation."""
SETTLED = 0.02
"""The fall in the last fifth of the training, of its value, that is none any more: 0.005; others 0.02 and more."""
UNSHARED = 0.1
"""The share of the baseline that is learned of the training part alone, if validation never gets below it."""
POOR = 0.3
"""A settled training loss, over the baseline, that is too high where the inputs decide the labels: 0.36 and more."""
POOR_WITH_NOISE = 0.6
"""The same where targets may hold noise that nothing can learn, as in regression: half is usual on real data."""
GAP = 1.2
"""Validation over training loss up to which nothing is overfitted."""
FALLING = 0.05, 0.01
"""The fall of the loss in the last fifth, of its value and of the baseline: 0.11 and 0.02; healthy 0.06 and 0.007."""
IDLE = 20, 0.01, 0.03
"""From so many epochs on: the change after the first fifth, of the baseline in training, of its value in validation."""
_PARTS = 5


def wrong_start(history: History, seen: Course) -> Finding | None:
    """The initial loss is far above what constant outputs would have."""
    if not seen.known or not seen.initial > FAR:
        return None
    evidence = f"{seen.initial * seen.unit:.3g}, where constant outputs would have {seen.unit:.3g}"
    remedy = "Start with a smaller last layer, and output_bias; check that inputs and targets are scaled and right."
    remedy += " Weights that were given (start=) may not be of these examples."
    return Finding("wrong initial loss", evidence, remedy, "Karpathy 2019, A Recipe for Training Neural Networks")


def too_low(history: History, seen: Course) -> Finding | None:
    """The loss falls in a straight line, and slowly."""
    steps = _largest_ratio(history)
    slow = 0.0 < seen.drop < SLOW and seen.straightness > STRAIGHT and seen.train[-1] >= POOR
    if seen.broken or seen.steps < SHORT or not slow or steps >= SMALL_STEPS:  # NaN is not
        return None
    # Of the curve alone it cannot be told from a plateau, from what a rate that decreases leaves at its end, and from
    # what was trained before.
    if np.isnan(steps) and (seen.drop < NOTHING or seen.decayed or seen.went_on):
        return None
    evidence = (
        f"the training loss fell from {seen.train[0] * seen.unit:.3g} to {seen.train[-1] * seen.unit:.3g}, "
        f"{seen.straightness:.0%} of it in the second half"
    )
    if not np.isnan(steps):
        evidence += f"; no layer's update is above {steps:.1g} of its weights"
    remedy = "Raise the learning rate tenfold, or let lo.suggest_learning_rate choose it."
    if seen.decayed:
        remedy += " If it was higher at first, let it decrease over more steps."
    return Finding("learning rate too low", evidence, remedy, "Karpathy, CS231n, Babysitting the learning process")


def plateau(history: History, seen: Course) -> Finding | None:
    """Nothing was learned, though the steps were not too small."""
    late = seen.train[len(seen.train) // 3 :]
    flat = (
        seen.steps >= SHORT
        and len(seen.train) > 1
        and seen.train.min() > 1 - NOTHING
        and late.max() < FLAT * late.min()
    )
    if not flat or diverged(history, seen) or too_low(history, seen):
        return None
    low, high = (f"{x * seen.unit:.4g}" for x in (seen.train.min(), seen.train.max()))
    evidence = f"the training loss stayed between {low} and {high}"
    remedy = "Look at the initial weights (lo.inspect): all alike, too small or too large; check inputs and targets "
    remedy += "(lo.check), and try other learning rates (lo.suggest_learning_rate)."
    return Finding("loss plateau", evidence, remedy, GOODFELLOW + "8.4")


def too_high(history: History, seen: Course) -> Finding | None:
    """The loss jumps about, in batches that are large enough to be steady."""
    size, curve = _jumps(seen)
    if seen.broken or seen.short or history.batch_size < SMALL_BATCH or not size > JUMPING:
        return None
    evidence = f"from epoch to epoch the {curve} loss jumps by {size:.0%} of its value"
    if not np.isnan(steps := _largest_ratio(history)):
        evidence += f"; a layer's update is {steps:.1g} of its weights"
    remedy = "Lower the learning rate three- to tenfold, or let it decrease (lo.linear_decay)."
    return Finding("learning rate too high", evidence, remedy, GOODFELLOW + "11.4.1")


def noisy(history: History, seen: Course) -> Finding | None:
    """The loss jumps about in very small batches."""
    size, curve = _jumps(seen)
    if seen.broken or seen.short or history.batch_size >= SMALL_BATCH or not size > UNSTEADY:
        return None
    evidence = (
        f"from epoch to epoch the {curve} loss jumps by {size:.0%} of its value, in batches of {history.batch_size}"
    )
    remedy = "Take larger batches (32 or more), or lower the learning rate, or let it decrease (lo.linear_decay)."
    return Finding("noisy loss", evidence, remedy, "McCandlish et al. 2018; " + GOODFELLOW + "8.1.3")


def overfitting(history: History, seen: Course) -> Finding | None:
    """The validation loss rose from its best while the training loss fell on."""
    if seen.broken or len(seen.valid) < 3 or _jumps(seen)[0] > JUMPING:
        return None
    best, tail = int(np.argmin(seen.valid)), max(1, len(seen.valid) // 10)
    last, train = float(np.mean(seen.valid[-tail:])), np.asarray(history.epochs["train_loss"], float) / seen.unit
    if seen.valid[best] <= 0:  # such as an objective's: ratios say nothing
        return None
    if last < RISEN * seen.valid[best] or train[len(seen.valid) - 1] > ON * train[best]:
        return None
    from_, to = (f"{x * seen.unit:.3g}" for x in (seen.valid[best], last))
    evidence = f"the validation loss rose from {from_} in epoch {best + 1} to {to}"
    evidence += f", the training loss fell to {train[len(seen.valid) - 1] * seen.unit:.3g}"
    remedy = "Stop early (patience=), penalise weights (lo.add_l2), augment or get more data, or take a smaller model."
    return Finding("overfitting", evidence, remedy, "Prechelt 1998, Early Stopping; " + GOODFELLOW + "7.8")


def nothing_general(history: History, seen: Course) -> Finding | None:
    """What was learned of the training part is of no use for the other."""
    if seen.broken or seen.short or len(seen.valid) < 3 or not seen.known or seen.valid.min() < 1 - NOTHING:
        return None
    if seen.train[-1] > 1 - UNSHARED:
        return None
    evidence = (
        f"the validation loss was never below {seen.valid.min() * seen.unit:.3g}, where constant outputs would have "
        f"{seen.unit:.3g}; the training loss fell to {seen.train[-1] * seen.unit:.3g}"
    )
    remedy = "Check that targets and inputs belong together in both parts (lo.check), and come from the same source."
    return Finding("learned nothing general", evidence, remedy, GOODFELLOW + "11.5")


def underfitting(history: History, seen: Course) -> Finding | None:
    """Training has settled at a bad loss, and validation at the same."""
    allowed = POOR if "valid_accuracy" in history.epochs else POOR_WITH_NOISE
    long = seen.known and seen.epochs >= 5 and seen.steps >= SHORT
    settled = long and abs(late_fall(seen.train)) < SETTLED and seen.straightness < STRAIGHT
    level = seen.train[-1]
    gap = len(seen.valid) > 0 and seen.valid[-1] > GAP * level
    if seen.broken or not settled or gap or not allowed < level < 1 - NOTHING or _jumps(seen)[0] > UNSTEADY:
        return None
    evidence = f"the training loss settled at {level * seen.unit:.3g}, {level:.0%} of that of constant outputs"
    if len(seen.valid):
        evidence += f"; validation {seen.valid[-1] * seen.unit:.3g}"
    remedy = "Take a larger model, or penalise less; where neither helps, the rest is noise that no model can learn."
    return Finding("underfitting", evidence, remedy, GOODFELLOW + "11.3")


def still_improving(history: History, seen: Course) -> Finding | None:
    """The loss was still falling at the end."""
    curve = seen.watched_loss
    fall = late_fall(curve)
    if (
        seen.broken
        or seen.short
        or not (fall > FALLING[0] and fall * curve[-1] > FALLING[1])
        or _jumps(seen)[0] > JUMPING
    ):
        return None
    which = "validation" if len(seen.valid) else "training"
    last = curve[-1] * seen.unit
    evidence = f"the {which} loss fell from {(1 + fall) * last:.3g} to {last:.3g} in the last fifth"
    remedy = "Train longer (fit(..., start=run) goes on), or try a higher rate."
    if seen.decayed:  # at its end there is no rate left to go on with
        remedy = "Train longer, with a rate that decreases over more steps, or try a higher one to begin with."
    return Finding("still improving", evidence, remedy, GOODFELLOW + "7.8")


def converged_early(history: History, seen: Course) -> Finding | None:
    """Most epochs brought nothing."""
    epochs, of_baseline, of_value = IDLE
    if seen.broken or len(seen.train) < epochs or seen.epochs < epochs or not seen.train[-1] < 1 - NOTHING:
        return None
    early, late = early_change(seen.train)
    valid = early_change(seen.valid) if len(seen.valid) else (1.0, 1.0)
    if not (abs(early - late) < of_baseline and abs(valid[0] - valid[1]) <= of_value * abs(valid[1])):
        return None
    tenth = max(1, len(seen.train) // 10)
    evidence = (
        f"in epochs {tenth + 1} to {2 * tenth} the training loss was {early * seen.unit:.3g}, "
        f"in the last {tenth} of {len(seen.train)} it was {late * seen.unit:.3g}"
    )
    remedy = "Fewer epochs do as well (patience=, with valid=)."
    if seen.train[-1] > NOTHING:
        better = "A rate that decreases over more steps" if seen.decayed else "A decreasing rate"
        remedy += f" {better} or a larger model may reach a lower loss."
    return Finding("converged early", evidence, remedy, GOODFELLOW + "7.8")


CURVES = [
    diverged,
    validation_not_finite,
    wrong_start,
    plateau,
    too_low,
    too_high,
    noisy,
    nothing_general,
    overfitting,
    underfitting,
    still_improving,
    converged_early,
]


def _jumps(seen: Course) -> tuple[float, str]:
    """How much the validation loss jumps; without validation the training loss, of whose fall enough must be seen."""
    if len(seen.valid):
        return (jumps(seen.valid) if len(seen.valid) >= 4 else 0.0), "validation"
    return (jumps(seen.train) if len(seen.train) >= 8 else 0.0), "training"


def _largest_ratio(history: History) -> float:
    """The largest layer's median of update over weights, in the fifth of the training in which it is largest (a rate
    may grow at first, and decrease later); NaN if none was watched.
    """
    ratios = [np.asarray(x["update_ratio"], float) for x in history.layers.values() if "update_ratio" in x]
    fifths = [part[np.isfinite(part)] for ratio in ratios for part in np.array_split(ratio, _PARTS)]
    return max((float(np.median(part)) for part in fifths if len(part)), default=np.nan)
