"""What is wrong inside of the layers, from what was watched of them while training."""

from collections.abc import Mapping

import numpy as np

from lectopt.monitoring.findings import Finding, dead_units_remedy, list_layers
from lectopt.monitoring.loss_curves import LossCurves
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.training.history import History

_GLOROT = "Glorot and Bengio 2010"


def vanishing_gradients(history: History, curves: LossCurves) -> Finding | None:
    """Reports a gradient that shrinks on its way back through the layers."""
    ratio, first, last = _gradient_ratio(history)
    if not ratio < 1 / THRESHOLDS.uneven_gradients:
        return None
    evidence = f"at {first} the back-propagated gradient is {ratio:.1e} times as large as at {last}"
    remedy = "Scale the initial weights (glorot_uniform, lo.rescale), normalise, take ReLUs or skip connections."
    return Finding("vanishing gradients", evidence, remedy, _GLOROT)


def exploding_gradients(history: History, curves: LossCurves) -> Finding | None:
    """Reports a gradient that grows on its way back, or is very large as a whole."""
    ratio, first, last = _gradient_ratio(history)
    norms = np.asarray(history.steps["gradient_norm"], float)[: curves.steps]
    size = float(np.median(norms)) / curves.unit if len(norms) and curves.has_baseline else 0.0
    if curves.diverged or not (ratio > THRESHOLDS.uneven_gradients or size > THRESHOLDS.large_gradient):
        return None
    parts = []
    if ratio > THRESHOLDS.uneven_gradients:
        parts.append(f"at {first} the back-propagated gradient is {ratio:.3g} times as large as at {last}")
    if size > THRESHOLDS.large_gradient:
        parts.append(f"the median of the gradient's norm is {size:.3g} times the loss of constant outputs")
    remedy = "Scale the initial weights (glorot_uniform, lo.rescale), normalise, or clip (lo.clip_by_norm)."
    return Finding("exploding gradients", "; ".join(parts), remedy, "Pascanu et al. 2013")


def dead_units(history: History, curves: LossCurves) -> Finding | None:
    """Units that are 0 for every example."""
    if history.batch_size < THRESHOLDS.dead_batch:
        return None
    first = next((layer for layer in history.layers.values() if _final_share(layer, "dead") > THRESHOLDS.dead), {})
    remedy = dead_units_remedy(*(_median(_record(first, name)) for name in ("output_std", "output_mean")))
    return _over_share(history, "dead", "dead units", THRESHOLDS.dead, "of the units", remedy)


def saturated_units(history: History, curves: LossCurves) -> Finding | None:
    """Values in the flat parts of a tanh or sigmoid."""
    remedy = "Scale inputs (standardize=True) and initial weights (glorot_uniform), or normalise (lo.LayerNorm)."
    return _over_share(history, "saturated", "saturated units", THRESHOLDS.saturated, "of the outputs", remedy)


def clipped_too_often(history: History, curves: LossCurves) -> Finding | None:
    """Reports that more steps are clipped than not."""
    if "clipped" not in history.steps:
        return None
    share = np.asarray(history.steps["clipped"], float)[: curves.steps].mean() if curves.steps else 0.0
    if not share > THRESHOLDS.clipped:
        return None
    norm, threshold = (
        float(np.median(np.asarray(history.steps[name])[: curves.steps]))
        for name in ("gradient_norm", "clip_threshold")
    )
    evidence = (
        f"{share:.0%} of the steps; the median of the gradient's norm is {norm:.2g}, the threshold {threshold:.2g}"
    )
    remedy = "Raise the threshold above the usual norm; where that diverges, lower the learning rate. (Under Adam or "
    remedy += "RMSProp, which divide by the gradient's size, it does little harm.)"
    return Finding("clipped too often", evidence, remedy, "Goodfellow et al. 2016, section 10.11.1")


LAYER_FINDINGS = [clipped_too_often, vanishing_gradients, exploding_gradients, dead_units, saturated_units]


def _gradient_ratio(history: History) -> tuple[float, str, str]:
    """Returns the gradient's size at the first layer with weights relative to the last; NaN if there are not two."""
    layers = {
        name: layer for name, layer in history.layers.items() if {"output_gradient_std", "weight_norm"} <= layer.keys()
    }
    if len(layers) < 2:
        return np.nan, "", ""
    first, *_, last = layers
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = _record(layers[first], "output_gradient_std") / _record(layers[last], "output_gradient_std")
    return _median(ratios), first, last


def _over_share(history: History, statistic: str, name: str, allowed: float, of: str, remedy: str) -> Finding | None:
    final_shares = {
        layer: _final_share(records, statistic) for layer, records in history.layers.items() if statistic in records
    }
    over = [f"{share:.0%} {of} of {layer}" for layer, share in final_shares.items() if share > allowed]
    return Finding(name, list_layers(over), remedy, _GLOROT) if over else None


def _final_share(layer: Mapping[str, object], statistic: str) -> float:
    """Returns the share over the second half of the training: what training left so; NaN if it was not recorded."""
    shares = _record(layer, statistic)
    return _median(shares[len(shares) // 2 :])


def _record(layer: Mapping[str, object], statistic: str) -> np.ndarray:
    """Returns a record of a layer, empty if there is none."""
    return np.asarray(layer.get(statistic, ()), float)


def _median(values: np.ndarray) -> float:
    recorded = values[~np.isnan(values)]
    return float(np.median(recorded)) if len(recorded) else np.nan
