"""`diagnose`: against trainings with planted faults, and each finding alone on curves made by hand.

The thresholds stand here as numbers, not as the library's constants: whoever changes one runs `test_judged` again.
"""

import dataclasses
import re
import warnings
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import planted_faults
import pytest
from flax import linen, nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")
SEED = 10
"""Seeds 0 to 2 set the thresholds."""
PER_EPOCH = 10
LOOKS = 6


# Against trainings.


def names(diagnosed):
    return [finding.name for finding in diagnosed]


def judged(scenario, seed):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="training diverged")
        return names(lo.diagnose(scenario.train(seed)))


def verdict(scenario, found):
    if scenario.fault is None:
        return "alarm" if found else ""
    return "" if scenario.fault in found else "missed"


def table(rows):
    lines = [("scenario", "planted", "found besides", "verdict")]
    for scenario, found in rows:
        besides = ", ".join(name for name in found if name != scenario.fault)
        lines.append((scenario.name, scenario.fault or "-", besides or "-", verdict(scenario, found) or "right"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


LONG = ["mnist, one by one", "mnist, conv, 4 epochs", "mnist, conv, rmsprop", "digits, conv, adam"]
LONG += ["digits, conv, rmsprop, rate 0.05"]
"""These run longer than they compile."""


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("scenarios", "wrong", "most"),
    [(planted_faults.FAULTS, "missed", 3), (planted_faults.HEALTHY, "alarm", 1)],  # of 33: nine of ten are found
    ids=["faults", "healthy"],
)
def test_judged(scenarios, wrong, most, capsys, request):
    """All trainings on a seed that no threshold has seen."""
    rows = [(s, judged(s, SEED)) for s in scenarios if s.name not in LONG]
    request.getfixturevalue("fully_compiled")
    rows += [(s, judged(s, SEED)) for s in scenarios if s.name in LONG]
    shown = table(rows)
    with capsys.disabled():
        print(f"\nseed {SEED}\n{shown}")
    assert [verdict(scenario, found) for scenario, found in rows].count(wrong) <= most, shown


QUICK = ["diabetes, linear, one by one", "cancer, logistic, adagrad"]
MORE = [
    "diabetes, momentum, rate 0.3",
    "diabetes, linear, adam, rate 0.5",
    "digits, sgd, rate 1e-4",
    "mnist, 250 images",
]
MORE += ["mnist, biases -1.5", "diabetes, clipped at 0.005", "digits, softmax, 200 epochs", "digits, momentum"]
MORE += ["mnist, last biases of size 5", "mnist, nesterov"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_some_of_the_trainings(name):
    (scenario,) = (s for s in planted_faults.FAULTS + planted_faults.HEALTHY if s.name == name)
    found = judged(scenario, SEED)
    assert found == ([scenario.fault] if scenario.fault else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK))
def test_some_of_the_trainings_with_rounded_products(name, product_bits):
    test_some_of_the_trainings(name)


# On curves made by hand.


def history(
    train, valid=None, *, initial=1.0, norm=1.0, baseline_loss=1.0, batch=32, accuracy=True, layers=None, more=None
):
    """A training with these losses in its epochs, each met in all of the epoch's steps, but the first step's."""
    steps = np.repeat(np.asarray(train, float), PER_EPOCH)
    if initial is not None:
        steps[0] = initial
    epochs = {"train_loss": np.array(train, float)}
    if valid is not None:
        epochs["valid_loss"] = np.array(valid, float)
        if accuracy:
            epochs["valid_accuracy"] = np.full(len(valid), 0.5)
    records = {"loss": steps, "gradient_norm": np.full(len(steps), norm), **(more or {})}
    looked = OrderedDict((n, {k: np.full(LOOKS, v) for k, v in layer.items()}) for n, layer in (layers or {}).items())
    bad = ~np.isfinite(steps)
    diverged_at = int(bad.argmax()) if bad.any() else -1
    return lo.History(records, epochs, looked, np.float64(baseline_loss), diverged_at, PER_EPOCH, batch, 10)


def in_units(given, unit):
    """The same training with a loss in other units."""
    steps = {name: x * unit if name != "clipped" else x for name, x in given.steps.items()}
    epochs = {name: x * unit if "loss" in name else x for name, x in given.epochs.items()}
    layers = OrderedDict(
        (name, {k: x * unit if k == "output_gradient_std" else x for k, x in layer.items()})
        for name, layer in given.layers.items()
    )
    return dataclasses.replace(
        given, steps=steps, epochs=epochs, layers=layers, baseline_loss=given.baseline_loss * unit
    )


def settling(level, epochs=20, at=2.5):
    """From 1 down to a level."""
    return level + (1 - level) * np.exp(-np.arange(epochs) / at)


GOOD = settling(0.2)


def healthy(**options):
    return history(GOOD, settling(0.22), **options)


def line(fall, start=1.0, epochs=15):
    return np.linspace(start, start - fall, epochs)


def watched(**statistics):
    return {"a": statistics, "b": statistics}


def zigzag(size, **options):
    """Validation losses whose jumps are of that size: alternating m + a and m - a jump by 4 a / sqrt 6."""
    return history(GOOD, 0.22 * (1 + size * np.sqrt(6) / 4 * (-1.0) ** np.arange(20)), **options)


def overfitted(rise=1.5, on=0.3):
    """The best validation loss is that of epoch 8."""
    epochs = np.arange(1, 21)
    valid = np.interp(epochs, [1, 8, 19, 20], [1, 0.3, 0.3 * rise, 0.3 * rise])
    return history(np.interp(epochs, [1, 8, 20], [1, 0.5, 0.5 * on]), valid)


def settled(level, valid=1.03, **options):
    return history(settling(level, 15, 1.2), valid * settling(level, 15, 1.2), **options)


def falling(fall, end):
    """By a share of its value, in the last fifth of 20 epochs."""
    return history(GOOD, np.interp(np.arange(20), [0, 5, 15, 19], [1, end * (1 + fall), end * (1 + fall), end]))


def idle(change=0.0, valid=0.0, epochs=20):
    """Of training from the second tenth to the last one, in units of the baseline loss; of validation as a share."""
    drifts = np.interp(np.arange(epochs), [2, 3, epochs - 2, epochs - 1], [1, 1, 0, 0])
    train, of_valid = 0.2 + change * drifts, 0.22 * (1 + valid * drifts)
    train[0] = of_valid[0] = 0.9
    return history(train, of_valid)


def clipping(count):
    flags = np.zeros(200)
    flags[:count] = 1
    return healthy(norm=1.5, more={"clipped": flags, "clip_threshold": np.full(200, 0.9)})


def chain(first, last):
    """Three layers; what has no weights does not count."""
    ends = {"a": {"output_gradient_std": first, "weight_norm": 1.0}, "b": {"output_gradient_std": last}}
    silent = {"output_gradient_std": 1e-30}
    layers = {"in": silent, "first": ends["a"], "tanh": silent, "last": ends["b"] | {"weight_norm": 1.0}, "end": silent}
    return healthy(layers=layers)


LOW, HIGH, PLATEAU = "learning rate too low", "learning rate too high", "loss plateau"
STILL, EARLY, UNDER = "still improving", "converged early", "underfitting"
SLOW_LINE = line(0.1)

CASES = {
    # what is varied: (just beyond the threshold, its findings, part of the first one's evidence, just within, findings)
    "diverged, last loss": (
        history(np.interp(np.arange(15), [0, 7, 14], [1, 0.5, 1.02]), initial=1.0), ["diverged"],
        "ended at 1.02, and had been down to 0.5",
        history(np.interp(np.arange(15), [0, 7, 14], [1, 0.5, 0.98]), initial=1.0), [],
    ),
    "diverged, nothing learned before": (
        history(np.geomspace(1, 2.05, 15)), ["diverged"], "2.05", history(np.geomspace(1, 1.95, 15)), [],
    ),
    "wrong initial loss": (
        healthy(initial=2.05), ["wrong initial loss"], "2.05, where constant outputs would have 1",
        healthy(initial=1.95), [],
    ),
    "too low, fall": (
        history(line(0.245), np.full(15, 0.9)), [LOW], "fell from 1 to 0.755, 50% of it in the second half",
        history(line(0.255), np.full(15, 0.9)), [],
    ),
    "too low, update ratio": (
        history(SLOW_LINE, layers=watched(update_ratio=2.9e-4)), [LOW], "update is above 0.0003 of its weights",
        history(SLOW_LINE, layers=watched(update_ratio=3.1e-4)), [],
    ),
    "too low, one layer moves": (
        history(SLOW_LINE, layers=watched(update_ratio=1e-4)), [LOW], "0.0001",
        history(SLOW_LINE, layers=watched(update_ratio=1e-4) | {"c": {"update_ratio": 1e-3}}), [],
    ),
    "too low, straightness": (
        history(np.interp(np.arange(15), [0, 7, 14], [1, 0.872, 0.828])), [LOW], "26% of it in the second half",
        history(np.interp(np.arange(15), [0, 7, 14], [1, 0.872, 0.831])), [],
    ),
    "too low, level": (
        history(line(0.19, 0.5), np.full(15, 0.9)), [LOW], "0.31", history(line(0.21, 0.5), np.full(15, 0.9)), [],
    ),
    "too low, or a plateau": (
        history(line(0.02), layers=watched(update_ratio=1e-4)), [LOW], "0.98",
        history(line(0.02), layers=watched(update_ratio=1e-3)), [PLATEAU],
    ),
    "plateau, flat": (
        history(np.interp(np.arange(15), [0, 5, 14], [1, 1, 1.24])), [PLATEAU], "between 1 and 1.24",
        history(np.interp(np.arange(15), [0, 5, 14], [1, 1, 1.26])), [],
    ),
    "nothing general": (
        history(settling(0.2), np.full(20, 0.98)), ["learned nothing general"], "never below 0.98",
        history(settling(0.2), np.full(20, 0.96)), [],
    ),
    "nothing general, little learned": (
        history(settling(0.89), np.full(20, 0.98)), ["learned nothing general", UNDER], "fell to 0.89",
        history(settling(0.91), np.full(20, 0.98)), [UNDER],
    ),
    "plateau": (
        history([1, *[0.971] * 14]), [PLATEAU], "stayed between 0.971 and 1", history([1, *[0.969] * 14]), [UNDER],
    ),
    "too high": (
        zigzag(0.155), [HIGH], "epoch to epoch the validation loss jumps by 1[56]%", zigzag(0.145), [],
    ),
    "too high, in batches of 8": (zigzag(0.2, batch=8), [HIGH], "20%", zigzag(0.2, batch=7), ["noisy loss"]),
    "noisy": (
        zigzag(0.083, batch=4), ["noisy loss"], "by 8% of its value, in batches of 4", zigzag(0.077, batch=4), [],
    ),
    "overfitting, validation": (
        overfitted(rise=1.27), ["overfitting"],
        "validation loss rose from 0.3 in epoch 8 to 0.381, the training loss fell to 0.15", overfitted(rise=1.23), [],
    ),
    "overfitting, training": (overfitted(on=0.69), ["overfitting"], "fell to 0.345", overfitted(on=0.71), []),
    "underfitting, of labels": (
        settled(0.31), [UNDER], "settled at 0.31, 31% of that of constant outputs; validation 0.319", settled(0.29), [],
    ),
    "underfitting, of numbers": (
        settled(0.62, accuracy=False), [UNDER], "62%", settled(0.58, accuracy=False), [],
    ),
    "underfitting, gap": (settled(0.5, 1.19), [UNDER], "validation 0.595", settled(0.5, 1.21), []),
    "underfitting, has settled": (
        history([1, *[0.7] * 10, 0.711, 0.707, 0.704, 0.7]), [UNDER], "0.7, 70%",
        history([1, *[0.7] * 10, 0.717, 0.712, 0.706, 0.7]), [],
    ),
    "still improving, of its value": (
        falling(0.053, 0.25), [STILL], "validation loss fell from 0.263 to 0.25 in the last fifth",
        falling(0.047, 0.25), [],
    ),
    "still improving, of the baseline": (falling(0.1, 0.11), [STILL], "from 0.121 to 0.11", falling(0.1, 0.09), []),
    "still improving, no validation": (
        history(falling(0.1, 0.25).epochs["valid_loss"]), [STILL], "the training loss",
        history(falling(0.03, 0.25).epochs["valid_loss"]), [],
    ),
    "converged early, training": (
        idle(0.0092), [EARLY], "in epochs 3 to 4 the training loss was 0.209, in the last 2 of 20 it was 0.2",
        idle(0.0105), [],
    ),
    "converged early, validation": (idle(valid=0.029), [EARLY], "0.2", idle(valid=0.031), []),
    "converged early, rising validation": (idle(valid=-0.029), [EARLY], "0.2", idle(valid=-0.032), []),
    "converged early, epochs": (idle(epochs=20), [EARLY], "20", idle(epochs=19), []),
    "clipped": (
        clipping(101), ["clipped too often"], "50% of the steps; the median .* is 1.5, the threshold 0.9",
        clipping(100), [],
    ),
    "vanishing": (
        chain(0.0099, 1.0), ["vanishing gradients"], "at first .* is 9.9e-03 times as large as at last",
        chain(0.0101, 1.0), [],
    ),
    "exploding": (
        chain(101.0, 1.0), ["exploding gradients"], "at first .* is 101 times as large as at last",
        chain(99.0, 1.0), [],
    ),
    "exploding, norm": (
        healthy(norm=101.0), ["exploding gradients"], "norm is 101 times the loss", healthy(norm=99.0), [],
    ),
    "dead": (
        healthy(layers={"a": {"dead": 0.1}, "b": {"dead": 0.51}}), ["dead units"], "^51% of the units of b$",
        healthy(layers={"a": {"dead": 0.1}, "b": {"dead": 0.49}}), [],
    ),
    "dead, in batches of 16": (
        healthy(batch=16, layers={"a": {"dead": 0.9}}), ["dead units"], "90%",
        healthy(batch=15, layers={"a": {"dead": 0.9}}), [],
    ),
    "saturated": (
        healthy(batch=4, layers={"a": {"saturated": 0.31}, "b": {"saturated": 0.2}}), ["saturated units"],
        "^31% of the outputs of a$", healthy(batch=4, layers={"a": {"saturated": 0.29}, "b": {"saturated": 0.2}}), [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("unit", [1, 1000, 1e-3])
@pytest.mark.parametrize("case", CASES)
def test_each_finding_alone(case, unit):
    wrong, found, evidence, right, others = CASES[case]
    seen = lo.diagnose(in_units(wrong, unit))
    assert names(seen) == found
    assert names(lo.diagnose(in_units(right, unit))) == others
    if unit == 1:
        assert re.search(evidence, seen.findings[0].evidence), seen.findings[0].evidence


@pytest.mark.parametrize("unit", [1, 1000])
def test_nothing_is_wrong_with_a_healthy_course(unit):
    assert names(lo.diagnose(in_units(healthy(), unit))) == []
    assert names(lo.diagnose(in_units(history(GOOD), unit))) == []


def test_every_finding_has_a_case():
    known = {
        judge.__name__ for judge in (*lo.monitoring.diagnosis.CURVE_FINDINGS, *lo.monitoring.diagnosis.LAYER_FINDINGS)
    }
    known.remove("validation_not_finite")  # which has tests of its own
    assert len(known) == len({name for case in CASES.values() for name in case[1]})


def test_numbers_of_the_evidence_are_in_the_units_of_the_loss():
    (finding,) = lo.diagnose(in_units(overfitted(), 1000))
    assert finding.evidence == "the validation loss rose from 300 in epoch 8 to 450, the training loss fell to 150"
    (finding,) = lo.diagnose(in_units(healthy(initial=3.0), 1000))
    assert finding.evidence == "3e+03, where constant outputs would have 1e+03"
    (finding,) = lo.diagnose(in_units(settled(0.5), 10))
    assert finding.evidence == "the training loss settled at 5, 50% of that of constant outputs; validation 5.15"


def test_the_initial_loss_is_of_32_examples():
    """Of batches of 8 the first four."""
    steps = np.repeat(GOOD, PER_EPOCH)
    for fifth, found in ((1.0, []), (100.0, [])):
        steps[:5] = [4.0, 1, 1, 1, fifth]
        given = dataclasses.replace(healthy(batch=8), steps={"loss": steps, "gradient_norm": np.ones(200)})
        assert names(lo.diagnose(given)) == found
    steps[:4] = [6.0, 1, 1, 1]
    given = dataclasses.replace(given, steps={"loss": steps, "gradient_norm": np.ones(200)})
    (finding,) = lo.diagnose(given)
    assert finding.name == "wrong initial loss"
    assert finding.evidence.startswith("2.25,")


def test_of_few_epochs_the_curve_is_of_stretches_of_steps():
    """Here twenty of six steps, whose mean is 1."""
    given = fragment(
        steps={"loss": np.tile([0.5, 1.5], 60), "gradient_norm": np.ones(120)}, epochs={"train_loss": np.ones(4)}
    )
    (finding,) = lo.diagnose(given)
    assert finding.evidence == "the training loss stayed between 1 and 1"


@pytest.mark.parametrize("baseline_loss", [np.nan, 0.0])
def test_without_the_loss_of_constant_outputs(baseline_loss):
    """The first loss is the unit, and cannot be wrong."""
    assert names(lo.diagnose(healthy(baseline_loss=baseline_loss))) == []
    assert names(lo.diagnose(in_units(healthy(baseline_loss=baseline_loss), 50))) == []
    assert names(lo.diagnose(history(50 * line(0.01), baseline_loss=baseline_loss, initial=50))) == [PLATEAU]
    (finding,) = lo.diagnose(history(line(0.1), initial=None, baseline_loss=baseline_loss))
    assert finding.name == LOW
    assert names(lo.diagnose(history(np.zeros(15), initial=0, baseline_loss=baseline_loss))) == []


def test_layers_beyond_the_fifth_are_counted():
    layers = {f"layer {i}": {"dead": 0.6 + i / 100} for i in range(7)}
    (finding,) = lo.diagnose(healthy(layers=layers))
    assert finding.evidence == (
        ", ".join(f"{60 + i}% of the units of layer {i}" for i in range(5)) + " and 2 layers more"
    )


def test_what_training_left_of_the_units_counts():
    """The second half of the looks, NaN left out; of the gradient and the update the median of all."""
    given = healthy(layers={"a": {"dead": 0.0, "saturated": 0.0}})
    given.layers["a"]["dead"] = np.array([1.0, 1, 1, 0, 0, np.nan])
    given.layers["a"]["saturated"] = np.array([0.0, 0, 0, np.nan, 0.8, np.nan])
    assert names(lo.diagnose(given)) == ["saturated units"]
    given = chain(1.0, 1.0)
    for ratios, found in (
        ([1e-3, 1e-3, 1e-3, 1e-3, 1, np.nan], ["vanishing gradients"]),
        ([1e-3, 1e-3, 1, 1, 1, 1], []),
    ):
        given.layers["first"]["output_gradient_std"] = np.array(ratios)
        assert names(lo.diagnose(given)) == found


# What is unusual.


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(bad):
    given = healthy()
    given.steps["loss"][57:] = np.nan
    given.steps["loss"][57] = bad
    for record in given.epochs.values():
        record[5:] = np.nan
    (finding,) = lo.diagnose(dataclasses.replace(given, diverged_at=57))
    assert finding.name == "diverged"
    assert "at step 57" in finding.evidence


SLOWER = "Lower the learning rate"


def broken(after, losses=GOOD, **records):
    """A training whose loss is NaN after so many steps; of the other records as it was given."""
    given = history(losses, more=records)
    given.steps["loss"][after:] = np.nan
    given.epochs["train_loss"][after // PER_EPOCH :] = np.nan
    return dataclasses.replace(given, diverged_at=after)


def test_a_loss_that_is_nan_before_any_update_is_not_the_rates_fault():
    (finding,) = lo.diagnose(broken(0))
    assert finding.name == "not finite from the start"
    assert "before any update" in finding.evidence
    for cause in ("inputs", "ids beyond", "initial weights", "logarithm or root of 0"):
        assert cause in finding.remedy
    assert SLOWER not in finding.remedy


@pytest.mark.parametrize("step", [0, 57])
def test_a_gradient_that_is_nan_where_the_loss_is_a_number(step):
    norms = np.where(np.arange(200) < step, 1.0, np.nan)
    (finding,) = lo.diagnose(broken(step + 1, gradient_norm=norms))
    assert finding.name == "gradient not finite"
    loss = history(GOOD).steps["loss"][step]
    assert finding.evidence == f"at step {step} the loss was {loss:.3g}, and its gradient not finite"
    assert "no derivative" in finding.remedy
    assert SLOWER not in finding.remedy


def test_what_grew_first_has_diverged():
    """Also where it is the gradient that overflows first."""
    for norm in (np.full(200, 1.0), np.where(np.arange(200) < 57, 1.0, np.inf)):
        (finding,) = lo.diagnose(broken(58, np.geomspace(1, 1e30, 20), gradient_norm=norm))
        assert finding.name == "diverged"
        assert finding.remedy.startswith(SLOWER)
        assert "embedding" not in finding.remedy


def test_what_had_not_grown_may_have_met_a_bad_example():
    (finding,) = lo.diagnose(broken(57))
    assert finding.name == "diverged"
    assert "had not grown before: it was 0.308" in finding.evidence
    assert finding.remedy.startswith(SLOWER)
    assert "ids beyond an embedding" in finding.remedy


def test_a_schedule_that_is_not_finite():
    rates = np.where(np.arange(200) < 56, 0.1, np.nan)
    (finding,) = lo.diagnose(broken(57, learning_rate=rates))
    assert finding.name == "diverged"
    assert finding.evidence.endswith("at step 57, nor was the learning rate")
    assert finding.remedy == "Look at its schedule."


class Words(nnx.Module):
    """An embedding of five words."""

    def __init__(self, rngs):
        self.words, self.out = nnx.Embed(5, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.words(x).mean(1))


def nan_weights(rngs):
    return nnx.Linear(4, 3, kernel_init=nnx.initializers.constant(np.nan), rngs=rngs)


def rooted(z, t):
    """0 at z = 0, where it has no derivative."""
    return jnp.sqrt(jnp.sum(z**2, -1)) + 1


def zero_weights(rngs):
    return nnx.Linear(4, 3, kernel_init=nnx.initializers.zeros, rngs=rngs)


X, Y = lo.datasets.iris()
START, LOG = "not finite from the start", (lambda z, t: jnp.log(z[:, 0]))
NOT_FINITE = {
    "ids": (lambda: lo.classification(Words), (np.full((40, 2), 7), Y[:40]), START),
    "weights": (lambda: lo.classification(nan_weights), (X, Y), START),
    "a logarithm of 0": (lambda: lo.Task(zero_weights, LOG), (X, Y), START),
    "a root of 0": (lambda: lo.Task(zero_weights, rooted), (X, Y), "gradient not finite"),
}  # fmt: skip


@pytest.mark.slow  # on curves made by hand, the same is above
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("case", NOT_FINITE)
def test_trainings_that_are_not_finite(case):
    task, examples, found = NOT_FINITE[case]
    run = lo.train(task(), lo.sgd(0.1), examples, batch_size=20, steps=3, key=0)
    assert names(lo.diagnose(run)) == [found]


def test_a_validation_loss_that_is_not_finite():
    valid = np.where(np.arange(20) < 4, GOOD, np.nan)
    (finding,) = lo.diagnose(history(GOOD, valid))
    assert finding.name == "validation loss not finite"
    assert finding.evidence == "the validation loss was not finite after 16 of 20 epochs, the first of them epoch 5"
    assert "validation examples" in finding.remedy
    given = history(np.where(np.arange(20) < 10, GOOD, np.nan), np.where(np.arange(20) < 10, GOOD, np.nan))
    assert "validation loss not finite" not in names(lo.diagnose(given)), "patience ran out"


# Short runs.


def steps_alone(losses, valid=None, batch=32, per_epoch=PER_EPOCH):
    """A training of so many steps."""
    epochs = {"train_loss": np.asarray(losses, float)[per_epoch - 1 :: per_epoch]}
    if valid is not None:
        epochs["valid_loss"] = np.array(valid, float)
    steps = {"loss": np.array(losses, float), "gradient_norm": np.ones(len(losses))}
    return dataclasses.replace(
        history(GOOD, batch=batch), steps=steps, epochs=epochs, steps_per_epoch=per_epoch, baseline_loss=np.float64(1)
    )


NOISE = np.random.default_rng(0).uniform(-0.35, 0.35, 8)


@pytest.mark.parametrize("batch", [4, 32])
@pytest.mark.parametrize("losses", [0.95 + NOISE, 0.9 + 3 * NOISE, np.geomspace(1, 0.05, 8), np.linspace(1, 0.99, 8)])
def test_eight_steps_say_little(losses, batch):
    for per_epoch in (1, 2, 10):
        valid = losses[per_epoch - 1 :: per_epoch]
        for given in (steps_alone(losses, valid, batch, per_epoch), steps_alone(losses, None, batch, per_epoch)):
            seen = lo.diagnose(given)
            assert names(seen) == []
            assert "Of 8 steps the curves say little." in seen.notes


def test_even_eight_steps_can_diverge():
    (finding,) = lo.diagnose(steps_alone(np.geomspace(1, 5.1, 8)))
    assert finding.name == "diverged"
    assert names(lo.diagnose(steps_alone(np.geomspace(1, 4.9, 8)))) == []
    assert names(lo.diagnose(steps_alone(3 + np.geomspace(1, 4.9, 8)))) == ["wrong initial loss"]


def test_ten_epochs_of_one_batch_say_something():
    zigzags = 0.5 * (1 + 0.4 * (-1.0) ** np.arange(12))
    assert HIGH in names(lo.diagnose(steps_alone(zigzags, zigzags, per_epoch=1)))


def test_a_bend_is_no_jump():
    """Only what turns jumps about, however steep it falls."""
    curve = np.array([1.0] * 6 + [0.3] + [0.2] * 5)
    assert HIGH not in names(lo.diagnose(history(curve, curve)))
    curve[-3] = 0.9
    assert HIGH in names(lo.diagnose(history(curve, curve)))


# A rate that decreases, weights that were trained before, losses with a floor or below 0.


def decaying(losses, valid=None, **options):
    rates = np.linspace(0.1, 0.001, len(losses) * PER_EPOCH)
    return history(losses, valid, more={"learning_rate": rates}, **options)


def test_a_rate_that_decreases_is_not_too_low():
    assert names(lo.diagnose(history(SLOW_LINE))) == [LOW]
    assert names(lo.diagnose(decaying(SLOW_LINE))) == []
    (finding,) = lo.diagnose(decaying(SLOW_LINE, layers=watched(update_ratio=1e-5)))
    assert finding.name == LOW
    assert "over more steps" in finding.remedy


def test_the_updates_are_those_of_the_largest_part():
    """Those at the end of a decay, or at the begin of a warm-up, are small."""
    for ratios in (np.geomspace(1e-3, 1e-6, LOOKS), np.geomspace(1e-6, 1e-3, LOOKS)):
        given = history(SLOW_LINE, layers=watched(update_ratio=1.0))
        for layer in given.layers.values():
            layer["update_ratio"] = ratios
        assert names(lo.diagnose(given)) == []


def test_what_was_trained_before_is_not_too_slow():
    assert names(lo.diagnose(history(line(0.1, 0.7), initial=0.7))) == []
    assert names(lo.diagnose(history(line(0.1, 0.7), initial=0.7, layers=watched(update_ratio=1e-5)))) == [LOW]


def test_remedies_where_the_rate_has_decreased():
    curve = falling(0.1, 0.25).epochs["valid_loss"]
    (finding,) = lo.diagnose(history(curve))
    assert "start=run" in finding.remedy
    (finding,) = lo.diagnose(decaying(curve))
    assert finding.name == STILL
    assert "start=run" not in finding.remedy, "at the end of a decay there is no rate left"
    ended = idle().epochs
    (finding,) = lo.diagnose(decaying(ended["train_loss"], ended["valid_loss"]))
    assert finding.name == EARLY
    assert "decreases over more steps" in finding.remedy
    (finding,) = lo.diagnose(history(np.append(1, np.full(19, 1e-3))))
    assert finding.remedy == "Fewer epochs do as well (patience=, with valid=)."


def test_a_run_that_holds_the_best_epoch_need_not_stop_earlier(lanes):
    for loss, early in ((0.45, True), (0.3, False)):
        kept = dataclasses.replace(lane(lanes, 0), history=overfitted(), metrics={"valid_loss": loss})
        (finding,) = lo.diagnose(kept)
        assert finding.name == "overfitting"
        assert ("Stop early" in finding.remedy) == early


def test_where_the_floor_is_not_known_nothing_is_underfitted():
    assert UNDER in names(lo.diagnose(settled(0.5)))
    assert names(lo.diagnose(settled(0.5, baseline_loss=np.nan))) == []


def test_the_gradient_is_measured_by_the_loss_of_constant_outputs_only():
    """Not by a first loss, which may be small by chance or after other training."""
    assert names(lo.diagnose(healthy(norm=101.0, baseline_loss=np.nan))) == []


def test_losses_below_0_are_steady_too():
    noise = 0.02 * (-1.0) ** np.arange(20)
    assert (
        names(lo.diagnose(history(2 * GOOD - 3 + noise, 2 * GOOD - 3 + noise, initial=-0.1, baseline_loss=np.nan)))
        == []
    )


def stopped(*, after=16):
    given = healthy()
    for records, kept in ((given.steps, after * PER_EPOCH), (given.epochs, after)):
        for record in records.values():
            record[kept:] = np.nan
    return given


def test_what_ran_out_of_patience_has_not_diverged():
    assert names(lo.diagnose(stopped())) == []
    assert names(lo.diagnose(dataclasses.replace(stopped(), diverged_at=160))) == ["diverged"]


def test_what_was_clipped_until_patience_ran_out():
    given = stopped()
    given.steps["clipped"] = np.where(np.arange(200) < 160, 1.0, np.nan)
    given.steps["clip_threshold"] = np.where(np.arange(200) < 160, 0.5, np.nan)
    (finding,) = lo.diagnose(given)
    assert finding.evidence == "100% of the steps; the median of the gradient's norm is 1, the threshold 0.5"


@pytest.fixture(scope="module")
def lanes():
    """Three trainings at once: one learns, one runs out of patience at rate 0, one diverges."""
    x, y = lo.datasets.iris()
    task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
    rates = jnp.array([0.05, 0.0, 3e38])
    options = {"valid": (x, y), "batch_size": 32, "epochs": 12, "key": 0, "patience": 2, "watch": 2}
    return jax.jit(jax.vmap(lambda rate: lo.train(task, lo.sgd(rate), (x, y), **options)))(rates)


def lane(run, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], run)


@pytest.mark.parametrize("record", [lambda run: run, lambda run: run.history], ids=["run", "history"])
def test_lanes(lanes, record):
    assert "diverged" not in names(lo.diagnose(record(lane(lanes, 0))))
    assert np.isnan(lanes.history.steps["loss"][1][-1])
    assert "diverged" not in names(lo.diagnose(record(lane(lanes, 1))))
    assert "diverged" in names(lo.diagnose(record(lane(lanes, 2))))
    with pytest.raises(ValueError, match=r"holds \(3,\) trainings"):
        lo.diagnose(record(lanes))


def test_a_history_from_a_file(lanes, tmp_path):
    history = lane(lanes, 0).history
    history.save(tmp_path / "history.npz")
    assert str(lo.diagnose(lo.History.load(tmp_path / "history.npz"))) == str(lo.diagnose(history))


def fragment(**changes):
    return dataclasses.replace(healthy(), **changes)


FRAGMENTS = {
    "no validation": history(GOOD),
    "one step": fragment(steps={"loss": np.ones(1), "gradient_norm": np.ones(1)}, epochs={}),
    "less than an epoch": fragment(steps={"loss": np.ones(7), "gradient_norm": np.ones(7)}, epochs={}),
    "empty epochs": fragment(
        steps={"loss": np.ones(7), "gradient_norm": np.ones(7)},
        epochs={"train_loss": np.ones(0), "valid_loss": np.ones(0)},
    ),
    "all NaN": history(
        np.full(5, np.nan), np.full(5, np.nan), initial=np.nan, norm=np.nan, baseline_loss=np.nan,
        layers=watched(**dict.fromkeys(("update_ratio", "dead", "output_gradient_std", "weight_norm"), np.nan)),
    ),
    "validation NaN": history(GOOD, np.full(20, np.nan)),
    "validation missing in places": history(GOOD, np.where(np.arange(20) % 3 == 2, np.nan, GOOD)),
    "negative": history(-3 + 2 * GOOD, -3 + 2 * GOOD, initial=-1.0, baseline_loss=np.nan),
    "from positive to negative": history(GOOD - 0.5, GOOD - 0.5, baseline_loss=np.nan),
    "zero": history(np.zeros(20), np.zeros(20), initial=0, norm=0, baseline_loss=0),
    "gradients of zero": healthy(layers=watched(output_gradient_std=0.0, weight_norm=0.0, update_ratio=np.inf)),
    "one epoch": history([1.0], [1.0]),
    "two epochs": history([1.0, 0.5], [1.0, 0.5]),
    "four epochs": history(GOOD[:4], GOOD[:4]),
}  # fmt: skip


@pytest.mark.parametrize("case", FRAGMENTS)
def test_fragments(case):
    seen = lo.diagnose(FRAGMENTS[case])
    expected = {
        "all NaN": ["not finite from the start"],
        "zero": [EARLY],
        "validation NaN": ["validation loss not finite"],
        "validation missing in places": ["validation loss not finite"],
        "four epochs": None,
        "two epochs": None,
        "one epoch": None,
    }.get(case, [])
    assert expected is None or names(seen) == expected
    assert str(seen)
    assert all(isinstance(note, str) for note in seen.notes)


def test_notes():
    watched_ = {"a": {"weight_norm": 1.0}}
    assert lo.diagnose(healthy(layers=watched_)).notes == []
    (note,) = lo.diagnose(healthy()).notes
    assert note == "The layers were not watched (watch=10)."
    (note,) = lo.diagnose(history(GOOD, layers=watched_)).notes
    assert note == "Without validation (valid=) nothing can be said of overfitting, and less of too high a rate."
    (note,) = lo.diagnose(history([1.0], [1.0], layers=watched_)).notes
    assert note == "Of 10 steps the curves say little."
    assert lo.diagnose(history(GOOD[:10], GOOD[:10], layers=watched_)).notes == []  # 100 steps


class LinenNet(linen.Module):
    """With BatchNorm between its layers."""

    @linen.compact
    def __call__(self, x, train=False):
        norm = linen.BatchNorm(use_running_average=not train)
        return linen.Dense(3)(norm(linen.Dense(4)(x)))


def normalised(norm):
    return lambda rngs: nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), norm(5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs))


NETS = {
    "lectopt": (normalised(lo.BatchNorm), "in layers/1"),
    "window": (normalised(lambda n, rngs: lo.BatchNorm(n, window=3, rngs=rngs)), "in layers/1"),
    "NNX": (normalised(nnx.BatchNorm), "in layers/1"),
    "NNX, inside": (normalised(lambda n, rngs: nnx.Sequential(nnx.BatchNorm(n, rngs=rngs))), "in layers/1/layers/0"),
    "Linen": (LinenNet(), "in BatchNorm_0"),
    "LayerNorm": (normalised(lo.LayerNorm), None),
}


def begun(run, net, **history):
    """The run, of that network and with its initial weights."""
    task = lo.classification(net)
    params, state = jax.jit(task.init)(jax.random.key(0), (X[:7],))
    history = dataclasses.replace(run.history, **history)
    return dataclasses.replace(run, task=task, params=params, model_state=state, history=history)


@pytest.mark.parametrize("net", NETS)
def test_small_batches_are_not_for_batch_norm(net, lanes):
    net, where = NETS[net]
    run = begun(lane(lanes, 0), net)
    for size in (2, 7, 8):
        run = dataclasses.replace(run, history=dataclasses.replace(run.history, batch_size=size))
        found = [finding for finding in lo.diagnose(run) if finding.name == "batches too small for BatchNorm"]
        assert len(found) == (size < 8 and where is not None)
        for finding in found:
            of = f"mean and variance are those of {size} examples, which are mostly noise, {where}"
            assert finding.evidence == of
        assert not [finding for finding in lo.diagnose(run.history) if "BatchNorm" in finding.name]


@pytest.mark.parametrize("size", [4, 8])
def test_noise_of_small_batches_is_not_taken_for_underfitting(size, lanes):
    run = begun(lane(lanes, 0), normalised(lo.BatchNorm), **vars(settled(0.5)) | {"batch_size": size})
    assert names(lo.diagnose(run)) == (["underfitting"] if size == 8 else ["batches too small for BatchNorm"])


@pytest.mark.parametrize("wrong", [None, {}, [1.0, 0.5], "run", lo.History])
def test_wrong_types(wrong):
    with pytest.raises(TypeError, match="run must be a lectopt Run or its History; got"):
        lo.diagnose(wrong)


@pytest.mark.parametrize(
    ("mean", "std", "remedy"),
    [
        (0.0, 0.0, "at random"),
        (-5.0, 2e-7, "at random"),
        (-5.0, 1.0, "positive biases"),
        (0.0, 1e-9, "positive biases"),
    ],
)
def test_units_that_are_dead_because_all_weights_are_0_need_other_weights(mean, std, remedy):
    """The first dead layer decides: what follows may be dead because of it."""
    dead, alive = ({"dead": share, "output_mean": mean, "output_std": std} for share in (1.0, 0.0))
    after = {"dead": 1.0, "output_mean": 0.0, "output_std": 0.0}
    (finding,) = lo.diagnose(healthy(layers={"first": alive, "second": dead, "third": after}))
    assert remedy in finding.remedy


def test_print_and_html():
    well = lo.diagnose(healthy())
    assert not len(well)
    assert str(well) == repr(well) == "Nothing found wrong.\nThe layers were not watched (watch=10)."
    assert well._repr_html_() == (
        "<ul><li>Nothing found wrong.</li></ul><p>The layers were not watched (watch=10).</p>"
    )
    ill = lo.diagnose(healthy(layers={"<a & b>": {"dead": 0.6, "saturated": 0.5}}))
    assert len(ill) == 2
    assert list(ill) == ill.findings
    dead, saturated = map(str, ill)
    assert dead == (f"dead units: 60% of the units of <a & b>. {ill.findings[0].remedy} [{ill.findings[0].reference}]")
    assert str(ill) == f"{dead}\n{saturated}"
    html = ill._repr_html_()
    assert html.count("<li>") == 2
    assert "of &lt;a &amp; b&gt;." in html
    assert "<a" not in html
    assert "Nothing found" not in html
