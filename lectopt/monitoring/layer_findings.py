"""What is wrong inside of the layers, from what was watched of them while training."""

from collections.abc import Mapping

import numpy as np

from lectopt.monitoring.findings import Finding, listed
from lectopt.monitoring.inspection_findings import DEAD, SATURATED
from lectopt.monitoring.loss_curves import Course
from lectopt.training.history import History

UNEVEN = 100.0
"""How many times as large, or small, the gradient may be at the first layer as at the last (median of all looks): in
our healthy trainings it is within 10. Glorot and Bengio (2010) saw layers stall beyond."""
LARGE = 100.0
"""A gradient norm, in units of the loss of constant outputs, that no healthy training keeps up: ours are below 10.
A step of a hundredth then changes the loss by as much as there is to learn."""
CLIPPED = 0.5
"""The share of steps that may be clipped: clipping is for cliffs, and beyond it is a hidden learning rate
(Goodfellow et al. 2016, section 10.11.1)."""
FEW_EXAMPLES = 16
"""In smaller batches a unit is silent for all examples by chance."""

_GLOROT = "Glorot and Bengio 2010"


def vanishing(history: History, seen: Course) -> Finding | None:
    """The gradient gets lost on its way back through the layers."""
    ratio, first, last = _passed_back(history)
    if not ratio < 1 / UNEVEN:
        return None
    evidence = f"at {first} the back-propagated gradient is {ratio:.1e} times as large as at {last}"
    remedy = "Scale the initial weights (glorot_uniform, lo.rescale), normalise, take ReLUs or skip connections."
    return Finding("vanishing gradients", evidence, remedy, _GLOROT)


def exploding(history: History, seen: Course) -> Finding | None:
    """The gradient grows on its way back, or is very large as a whole."""
    ratio, first, last = _passed_back(history)
    norms = np.asarray(history.steps["gradient_norm"], float)[: seen.steps]
    size = float(np.median(norms)) / seen.unit if len(norms) and seen.known else 0.0
    if seen.broken or not (ratio > UNEVEN or size > LARGE):
        return None
    parts = []
    if ratio > UNEVEN:
        parts.append(f"at {first} the back-propagated gradient is {ratio:.3g} times as large as at {last}")
    if size > LARGE:
        parts.append(f"the median of the gradient's norm is {size:.3g} times the loss of constant outputs")
    remedy = "Scale the initial weights (glorot_uniform, lo.rescale), normalise, or clip (lo.clip_by_norm)."
    return Finding("exploding gradients", "; ".join(parts), remedy, "Pascanu et al. 2013")


def dead(history: History, seen: Course) -> Finding | None:
    """Units that are 0 for every example."""
    if history.batch_size < FEW_EXAMPLES:
        return None
    remedy = "Start with small positive biases (initializers.relu_bias), smaller weights or a smaller rate."
    return _flat(history, "dead", "dead units", DEAD, "of the units", remedy)


def saturated(history: History, seen: Course) -> Finding | None:
    """Values in the flat parts of a tanh or sigmoid."""
    remedy = "Scale inputs (standardize=True) and initial weights (glorot_uniform), or normalise (lo.LayerNorm)."
    return _flat(history, "saturated", "saturated units", SATURATED, "of the outputs", remedy)


def clipped(history: History, seen: Course) -> Finding | None:
    """More steps are clipped than not."""
    if "clipped" not in history.steps:
        return None
    share = np.asarray(history.steps["clipped"], float)[: seen.steps].mean() if seen.steps else 0.0
    if not share > CLIPPED:
        return None
    norm, threshold = (
        float(np.median(np.asarray(history.steps[name])[: seen.steps])) for name in ("gradient_norm", "clip_threshold")
    )
    evidence = (
        f"{share:.0%} of the steps; the median of the gradient's norm is {norm:.2g}, the threshold {threshold:.2g}"
    )
    remedy = "Raise the threshold above the usual norm; where that diverges, lower the learning rate. (Under Adam or "
    remedy += "RMSProp, which divide by the gradient's size, it does little harm.)"
    return Finding("clipped too often", evidence, remedy, "Goodfellow et al. 2016, section 10.11.1")


LAYERS = [clipped, vanishing, exploding, dead, saturated]


def _passed_back(history: History) -> tuple[float, str, str]:
    """How large the gradient is at the first layer with weights, relative to the last one; NaN if there are not two."""
    layers = {
        name: layer for name, layer in history.layers.items() if {"output_gradient_std", "weight_norm"} <= layer.keys()
    }
    if len(layers) < 2:
        return np.nan, "", ""
    first, *_, last = layers
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _record(layers[first], "output_gradient_std") / _record(layers[last], "output_gradient_std")
    return _median(ratios), first, last


def _flat(history: History, statistic: str, name: str, allowed: float, of: str, remedy: str) -> Finding | None:
    left = {
        layer: _median((shares := _record(records, statistic))[len(shares) // 2 :])  # what training left so
        for layer, records in history.layers.items()
        if statistic in records
    }
    over = [f"{share:.0%} {of} of {layer}" for layer, share in left.items() if share > allowed]
    return Finding(name, listed(over), remedy, _GLOROT) if over else None


def _record(layer: Mapping[str, object], statistic: str) -> np.ndarray:
    return np.asarray(layer[statistic], float)


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else np.nan
