"""What is wrong with a network, from one minibatch."""

import numpy as np

from lectopt.monitoring.findings import Finding, dead_units_remedy, list_layers
from lectopt.monitoring.layer_reports import LayerReport
from lectopt.monitoring.thresholds import THRESHOLDS

_GLOROT = "Glorot and Bengio 2010"
_SATURATED = "Start with smaller weights (initializers.glorot_uniform) or normalise (lo.LayerNorm)."
_START = "Goodfellow et al. 2016, section 8.4"


def inspection_findings(
    layers: list[LayerReport], loss: float, baseline: float | None, trained: bool, rounding: float = 0.0
) -> list[Finding]:
    """Returns the findings of `inspect`; `rounding` is that of the factors of products."""
    weighted = [layer for layer in layers if not np.isnan(layer.weight_std)]
    outputs = [(x.name, x.output_std) for x in weighted]
    gradients = [(x.name, x.gradient_std) for x in weighted[::-1]]
    findings = [
        _symmetric_units(weighted),
        _size_change("outputs", "exploding", outputs, loss, rounding),
        _size_change("outputs", "vanishing", outputs, loss, rounding),
        _size_change("gradients", "exploding", gradients, loss, rounding),
        _size_change("gradients", "vanishing", gradients, loss, rounding),
        _over_share("dead units", [(x.name, x.dead) for x in layers], THRESHOLDS.dead, _dead_remedy(layers)),
        _over_share("saturated units", [(x.name, x.saturated) for x in layers], THRESHOLDS.saturated, _SATURATED),
        _alike_examples(weighted[:-1]),
        loss_finding(loss, baseline, trained),
    ]
    return [finding for finding in findings if finding is not None]


def _symmetric_units(layers: list[LayerReport]) -> Finding | None:
    alike = [(x.name, x.symmetric) for x in layers if x.symmetric]
    if not alike:
        return None
    evidence = ", ".join(f"{count} in {name}" for name, count in alike[:5])
    remedy = "Draw the initial weights at random (initializers.glorot_uniform), not all alike."
    return Finding("symmetric units", f"units that compute and learn the same as another: {evidence}", remedy, _START)


def _size_change(what: str, how: str, sizes: list[tuple[str, float]], loss: float, rounding: float) -> Finding | None:
    """Reports `sizes` that shrink or grow, listed from the end that the signal comes from."""
    if len(sizes) < 2:
        return None
    (first, start), (last, end) = sizes[0], sizes[-1]
    if how == "exploding":
        # Layers that make a signal so much larger do so to its rounding, and the size is not known better than that.
        growth = (1 + rounding / THRESHOLDS.faded) / THRESHOLDS.faded
        wrong = not np.isfinite([start, end, loss]).all() or (start > 0 and end / start > growth)
    else:
        wrong = end == 0 or (start > 0 and end / start < THRESHOLDS.faded)
    if not wrong:
        return None
    evidence = f"their standard deviation goes from {start:.2g} in {first} to {end:.2g} in {last}"
    remedy = "Scale the initial weights (initializers.glorot_uniform, lo.rescale) or normalise (lo.LayerNorm)."
    return Finding(f"{how} {what}", evidence, remedy, _GLOROT)


def _dead_remedy(layers: list[LayerReport]) -> str:
    """What to do, by the first layer that is dead: the others may be dead because of it."""
    first = next((x for x in layers if x.dead > THRESHOLDS.dead), None)
    return (
        dead_units_remedy(np.nan, np.nan) if first is None else dead_units_remedy(first.output_std, first.output_mean)
    )


def _over_share(name: str, shares: list[tuple[str, float]], allowed: float, remedy: str) -> Finding | None:
    over = [(layer, share) for layer, share in shares if share > allowed]
    if not over:
        return None
    evidence = list_layers([f"{share:.0%} in {layer}" for layer, share in over])
    return Finding(name, evidence, remedy, _GLOROT)


def _alike_examples(layers: list[LayerReport]) -> Finding | None:
    alike = [x for x in layers if x.distinct < THRESHOLDS.alike]
    if not alike:
        return None
    evidence = f"only {alike[-1].distinct:.0%} of the variance in {alike[-1].name} is between examples"
    remedy = "Normalise over the batch (lo.BatchNorm), take tanh, fewer layers or skip connections."
    return Finding("examples look alike", evidence, remedy, "Daneshmand et al. 2020")


def loss_finding(loss: float, baseline: float | None, trained: bool) -> Finding | None:
    """Reports a loss over many examples that is far above that of constant outputs."""
    # None where it is not known, 0 where all targets are alike.
    if not baseline or not loss > THRESHOLDS.high_loss * baseline:
        return None
    evidence = f"{loss:.3g}, where constant outputs would have {baseline:.3g}"
    if trained:
        remedy = (
            "Look at the course of the training (lo.diagnose); check that these examples come from the same source "
        )
        remedy += "as those it was trained on, and that their targets are right."
        return Finding("loss above baseline", evidence, remedy, _START)
    remedy = "Start with a smaller last layer, and output_bias; check that inputs are standardised and labels right."
    return Finding("wrong initial loss", evidence, remedy, _START)
