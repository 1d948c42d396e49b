"""What is wrong with a training by its curves. Losses are in units of the baseline loss."""

import numpy as np

from lectopt.monitoring.divergence_findings import diverged, validation_not_finite
from lectopt.monitoring.findings import GOODFELLOW, Finding
from lectopt.monitoring.loss_curves import LossCurves, jump_size, late_fall, second_and_last_tenth
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.training.history import History

_PARTS = 5
"""Parts of a training; its updates are judged by the one in which they are largest."""


def wrong_initial_loss(history: History, curves: LossCurves) -> Finding | None:
    """Reports an initial loss far above that of constant outputs."""
    if not curves.has_baseline or not curves.initial > THRESHOLDS.wrong_initial_loss:
        return None
    evidence = f"{curves.initial * curves.unit:.3g}, where constant outputs would have {curves.unit:.3g}"
    remedy = "Start with a smaller last layer, and output_bias; check that inputs and targets are scaled and right."
    remedy += " Weights that were given (start=) may not be of these examples."
    return Finding("wrong initial loss", evidence, remedy, "Karpathy 2019, A Recipe for Training Neural Networks")


def rate_too_low(history: History, curves: LossCurves) -> Finding | None:
    """Reports a loss that falls slowly and in a straight line."""
    update = _largest_update(history)
    slow = 0.0 < curves.fall < THRESHOLDS.slow_fall and curves.train[-1] >= THRESHOLDS.poor
    straight = curves.straightness > THRESHOLDS.straight
    long = curves.steps >= THRESHOLDS.short_steps
    if curves.diverged or not (long and slow and straight) or update >= THRESHOLDS.small_update:  # NaN is not
        return None
    # Of the curve alone it cannot be told from a plateau, from what a rate that decreases leaves at its end, and from
    # what was trained before.
    if np.isnan(update) and (curves.fall < THRESHOLDS.learned or curves.rate_decayed or curves.started_trained):
        return None
    evidence = (
        f"the training loss fell from {curves.train[0] * curves.unit:.3g} to {curves.train[-1] * curves.unit:.3g}, "
        f"{curves.straightness:.0%} of it in the second half"
    )
    if not np.isnan(update):
        evidence += f"; no layer's update is above {update:.1g} of its weights"
    remedy = "Raise the learning rate tenfold, or let lo.suggest_learning_rate choose it."
    if curves.rate_decayed:
        remedy += " If it was higher at first, let it decrease over more steps."
    return Finding("learning rate too low", evidence, remedy, "Karpathy, CS231n, Babysitting the learning process")


def loss_plateau(history: History, curves: LossCurves) -> Finding | None:
    """Reports that nothing was learned, although the steps were large enough."""
    late = curves.train[len(curves.train) // 3 :]
    flat = (
        curves.steps >= THRESHOLDS.short_steps
        and len(curves.train) > 1
        and curves.train.min() > 1 - THRESHOLDS.learned
        and late.max() < THRESHOLDS.flat * late.min()
    )
    if not flat or diverged(history, curves) or rate_too_low(history, curves):
        return None
    low, high = (f"{x * curves.unit:.4g}" for x in (curves.train.min(), curves.train.max()))
    evidence = f"the training loss stayed between {low} and {high}"
    remedy = "Look at the initial weights (lo.inspect): all alike, too small or too large; check inputs and targets "
    remedy += "(lo.check), and try other learning rates (lo.suggest_learning_rate)."
    return Finding("loss plateau", evidence, remedy, GOODFELLOW + "8.4")


def rate_too_high(history: History, curves: LossCurves) -> Finding | None:
    """Reports a loss that jumps, with batches large enough to be steady."""
    size, curve = _jumps(curves)
    small = history.batch_size < THRESHOLDS.small_batch
    if curves.diverged or curves.short or small or not size > THRESHOLDS.jumps:
        return None
    evidence = f"from epoch to epoch the {curve} loss jumps by {size:.0%} of its value"
    if not np.isnan(update := _largest_update(history)):
        evidence += f"; a layer's update is {update:.1g} of its weights"
    remedy = "Lower the learning rate three- to tenfold, or let it decrease (lo.linear_decay)."
    return Finding("learning rate too high", evidence, remedy, GOODFELLOW + "11.4.1")


def noisy_loss(history: History, curves: LossCurves) -> Finding | None:
    """Reports a loss that jumps, with very small batches."""
    size, curve = _jumps(curves)
    small = history.batch_size < THRESHOLDS.small_batch
    if curves.diverged or curves.short or not small or not size > THRESHOLDS.jumps_in_small_batches:
        return None
    evidence = (
        f"from epoch to epoch the {curve} loss jumps by {size:.0%} of its value, in batches of {history.batch_size}"
    )
    remedy = "Take larger batches (32 or more), or lower the learning rate, or let it decrease (lo.linear_decay)."
    return Finding("noisy loss", evidence, remedy, "McCandlish et al. 2018; " + GOODFELLOW + "8.1.3")


def overfitting(history: History, curves: LossCurves) -> Finding | None:
    """Reports a validation loss that rose from its minimum while the training loss kept falling."""
    valid = curves.valid
    if curves.diverged or len(valid) < THRESHOLDS.validations or _jumps(curves)[0] > THRESHOLDS.jumps:
        return None
    best, tail = int(np.argmin(valid)), max(1, len(valid) // 10)
    steps, _ = next(iter(history.validation_losses.values()))
    epochs = np.searchsorted(history.epoch_ends, steps)  # that each validation is in
    train = np.asarray(history.epochs["train_loss"], float)[epochs.clip(max=len(history.epoch_ends) - 1)] / curves.unit
    last = float(np.mean(valid[-tail:]))
    if valid[best] <= 0:  # such as an objective's: ratios say nothing
        return None
    if last < THRESHOLDS.risen * valid[best] or train[len(valid) - 1] > THRESHOLDS.fell_on * train[best]:
        return None
    lowest, end = (f"{x * curves.unit:.3g}" for x in (valid[best], last))
    evidence = f"the validation loss rose from {lowest} in epoch {epochs[best] + 1} to {end}"
    evidence += f", the training loss fell to {train[len(valid) - 1] * curves.unit:.3g}"
    remedy = "Stop early (patience=), penalise weights (lo.add_l2), augment or get more data, or take a smaller model."
    return Finding("overfitting", evidence, remedy, "Prechelt 1998, Early Stopping; " + GOODFELLOW + "7.8")


def learned_nothing_general(history: History, curves: LossCurves) -> Finding | None:
    """Reports that what was learned on the training part does not help on the validation part."""
    valid = curves.valid
    if curves.diverged or curves.short or not curves.has_baseline or len(valid) < THRESHOLDS.validations:
        return None
    if valid.min() < 1 - THRESHOLDS.learned or curves.train[-1] > 1 - THRESHOLDS.memorized:
        return None
    evidence = (
        f"the validation loss was never below {valid.min() * curves.unit:.3g}, where constant outputs would have "
        f"{curves.unit:.3g}; the training loss fell to {curves.train[-1] * curves.unit:.3g}"
    )
    remedy = "Check that targets and inputs belong together in both parts (lo.check), and come from the same source."
    return Finding("learned nothing general", evidence, remedy, GOODFELLOW + "11.5")


def underfitting(history: History, curves: LossCurves) -> Finding | None:
    """Reports that training and validation have both settled at a high loss."""
    level, valid = curves.train[-1], curves.valid
    poor = THRESHOLDS.poor if "valid_accuracy" in history.epochs else THRESHOLDS.poor_with_noise
    if curves.diverged or not _has_settled(curves) or not poor < level < 1 - THRESHOLDS.learned:
        return None
    if len(valid) and valid[-1] > THRESHOLDS.gap * level:
        return None
    evidence = f"the training loss settled at {level * curves.unit:.3g}, {level:.0%} of that of constant outputs"
    if len(valid):
        evidence += f"; validation {valid[-1] * curves.unit:.3g}"
    remedy = "Take a larger model, or penalise less; where neither helps, the rest is noise that no model can learn."
    return Finding("underfitting", evidence, remedy, GOODFELLOW + "11.3")


def still_improving(history: History, curves: LossCurves) -> Finding | None:
    """Reports a loss that was still falling at the end."""
    losses = curves.monitored
    fall = late_fall(losses)
    falling = fall > THRESHOLDS.still_falling and fall * losses[-1] > THRESHOLDS.still_falling_by
    if curves.diverged or curves.short or not falling or _jumps(curves)[0] > THRESHOLDS.jumps:
        return None
    which = "validation" if len(curves.valid) else "training"
    last = losses[-1] * curves.unit
    evidence = f"the {which} loss fell from {(1 + fall) * last:.3g} to {last:.3g} in the last fifth"
    remedy = "Train longer (fit(..., start=run) goes on), or try a higher rate."
    if curves.rate_decayed:  # at its end there is no rate left to go on with
        remedy = "Train longer, with a rate that decreases over more steps, or try a higher one to begin with."
    return Finding("still improving", evidence, remedy, GOODFELLOW + "7.8")


def converged_early(history: History, curves: LossCurves) -> Finding | None:
    """Reports that most epochs gained nothing."""
    long = min(len(curves.train), curves.epochs) >= THRESHOLDS.idle_epochs
    if curves.diverged or not long or not curves.train[-1] < 1 - THRESHOLDS.learned:
        return None
    early, late = second_and_last_tenth(curves.train)
    early_valid, late_valid = second_and_last_tenth(curves.valid) if len(curves.valid) else (1.0, 1.0)
    same_validation = abs(early_valid - late_valid) <= THRESHOLDS.idle_validation * abs(late_valid)
    if not (abs(early - late) < THRESHOLDS.idle_change and same_validation):
        return None
    tenth = max(1, len(curves.train) // 10)
    evidence = (
        f"in epochs {tenth + 1} to {2 * tenth} the training loss was {early * curves.unit:.3g}, "
        f"in the last {tenth} of {len(curves.train)} it was {late * curves.unit:.3g}"
    )
    remedy = "Fewer epochs do as well (patience=, with valid=)."
    if curves.train[-1] > THRESHOLDS.learned:
        better = "A rate that decreases over more steps" if curves.rate_decayed else "A decreasing rate"
        remedy += f" {better} or a larger model may reach a lower loss."
    return Finding("converged early", evidence, remedy, GOODFELLOW + "7.8")


CURVE_FINDINGS = [
    diverged,
    validation_not_finite,
    wrong_initial_loss,
    loss_plateau,
    rate_too_low,
    rate_too_high,
    noisy_loss,
    learned_nothing_general,
    overfitting,
    underfitting,
    still_improving,
    converged_early,
]


def _has_settled(curves: LossCurves) -> bool:
    """Returns whether the training loss has settled, neither falling nor jumping, in a long enough training."""
    return (
        curves.has_baseline
        and curves.epochs >= THRESHOLDS.settling_epochs
        and curves.steps >= THRESHOLDS.short_steps
        and abs(late_fall(curves.train)) < THRESHOLDS.settled
        and curves.straightness < THRESHOLDS.straight
        and not _jumps(curves)[0] > THRESHOLDS.jumps_in_small_batches
    )


def _jumps(curves: LossCurves) -> tuple[float, str]:
    """Returns how much the validation loss jumps; without validation the training loss, once it fell enough."""
    if len(curves.valid):
        long = len(curves.valid) >= THRESHOLDS.jumping_validations
        return (jump_size(curves.valid) if long else 0.0), "validation"
    return (jump_size(curves.train) if len(curves.train) >= THRESHOLDS.jumping_epochs else 0.0), "training"


def _largest_update(history: History) -> float:
    """Returns the largest layer's median of update over weights, in the part of the training in which it is largest (a
    rate may grow at first, and decrease later); NaN if none was watched.
    """
    ratios = [np.asarray(x["update_ratio"], float) for x in history.layers.values() if "update_ratio" in x]
    parts = [part[np.isfinite(part)] for ratio in ratios for part in np.array_split(ratio, _PARTS)]
    return max((float(np.median(part)) for part in parts if len(part)), default=np.nan)
