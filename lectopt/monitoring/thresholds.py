"""The numbers that findings are judged by, each with its unit and where it comes from.

Where a source begins with "measured", the values are those of trainings with planted faults and of healthy ones
(tests/planted_faults.py, seeds 0 to 2 unless one is named); the threshold stands between the two. Other seeds judge it
(tests/monitoring/test_diagnosis.py). "A choice" is what no measurement decides. Losses are in units of the baseline
loss, that of the best constant outputs, unless another unit is named.
"""

import dataclasses
from typing import Any

from lectopt.training.nonfinite import BLOWN_UP

_BASELINE = "baseline losses"


def _threshold(value: Any, unit: str, source: str) -> Any:
    """Returns a field whose metadata states its unit and its source, or the measurement behind it."""
    return dataclasses.field(default=value, metadata={"unit": unit, "source": source})


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What `diagnose`, `inspect` and `check` judge by; `dataclasses.fields` gives the unit and the source of each."""

    # How long a training must be.
    short_steps: int = _threshold(
        100, "steps", "Goodfellow et al. 2016, section 8.3.1: a learning rate is judged by the first 100 iterations"
    )
    """The curves of fewer steps say little ..."""
    short_epochs: int = _threshold(10, "epochs", "a choice: few large batches, whose losses are hardly noisy")
    """... unless they are as many epochs."""
    initial_examples: int = _threshold(32, "examples", "a choice: the loss of one small batch says little")
    """The initial loss is the mean over so many examples at least."""
    curve_epochs: int = _threshold(5, "epochs", "a choice: halves and fifths of fewer points are no curve")
    """With fewer epochs, the training loss is averaged over parts of the steps instead."""
    validations: int = _threshold(3, "validations", "a choice: a first, a best and a last one")
    """Fewer are not judged against training."""
    jumping_validations: int = _threshold(4, "validations", "a choice: two thirds of them must have a turn")
    """Fewer do not jump."""
    jumping_epochs: int = _threshold(8, "epochs", "a choice: a training loss still falls in the first ones")
    """The training loss of fewer does not jump."""
    settling_epochs: int = _threshold(5, "epochs", "a choice: the last fifth is an epoch")
    """The training loss of fewer has not settled."""

    # The start, and the learning rate.
    wrong_initial_loss: float = _threshold(
        2.0, _BASELINE, "measured: wrong ones 2.6 and more, others up to 1.5 (random last layers of regressions)"
    )
    """An initial loss above it is wrong."""
    trained_initial_loss: float = _threshold(
        0.8, _BASELINE, "measured, seed 0: fresh weights begin at 0.86 and more, one by one at 0.73"
    )
    """An initial loss below it is that of weights that were trained before."""
    decayed_rate: float = _threshold(0.5, "largest learning rates", "a choice: the lecture's schedule ends at 0.01")
    """A rate that ends below it was let decrease."""
    small_update: float = _threshold(
        3e-4,
        "norms of the weights",
        "measured: too low rates up to 1e-4, healthy 9e-4 and more; 1e-3 is the rule of thumb (Karpathy, CS231n)",
    )
    """If the updates of all layers are below it, the rate may be too low."""

    # A loss that grows.
    grown_loss: float = _threshold(
        BLOWN_UP, "least training losses", "measured, seed 0: diverged 1e16 and more, others up to 1.6"
    )
    """A loss that ends above it, and above the baseline, diverged ..."""
    exploded_loss: float = _threshold(
        5.0, "initial losses", "a choice: single batches of a healthy short training are worse than the first"
    )
    """... or, of a short training, above this, and above as many baseline losses."""

    # A loss that does not fall enough.
    learned: float = _threshold(0.03, _BASELINE, "measured: plateaus 0.01, others 0.06")
    """A loss that is further than this below the baseline has learned something."""
    flat: float = _threshold(1.25, "least losses", "measured, seed 0: plateaus up to 1.01")
    """A loss that stays within it after its first third is flat."""
    slow_fall: float = _threshold(0.25, _BASELINE, "measured: too low rates 0.03 to 0.13, others 0.3 and more")
    """A smaller fall in the whole training is slow."""
    straight: float = _threshold(0.25, "shares of the fall", "measured: straight lines 0.3 to 0.5, others up to 0.25")
    """A curve with more of its fall in the second half is straight."""
    settled: float = _threshold(0.02, "final losses", "measured: underfitted 0.005, others 0.02 and more")
    """A loss that changes by less in the last fifth has settled."""
    poor: float = _threshold(0.3, _BASELINE, "measured: underfitted 0.36 and more")
    """A settled training loss above it is too high where the inputs decide the labels ..."""
    poor_with_noise: float = _threshold(0.6, _BASELINE, "a choice: on real data, noise that nothing can learn is half")
    """... and above this where they do not, as in regression."""

    # A loss that is not steady.
    jumps: float = _threshold(0.15, "losses", "measured: too high rates 0.23 and more, others up to 0.09")
    """A loss whose deviation from its neighbours' mean is larger jumps ..."""
    jumps_in_small_batches: float = _threshold(
        0.08, "losses", "measured: noisy 0.12 and more (but one of six runs), healthy up to 0.05"
    )
    """... and in small batches, one of this size."""
    small_batch: int = _threshold(8, "examples", "a choice: jumps are noise below it, and too high a rate from it on")
    """Batches of fewer examples are small."""
    jump_floor: float = _threshold(0.1, _BASELINE, "a choice: small losses always jump, relative to themselves")
    """The jumps of losses below it are measured relative to it."""

    # Validation against training.
    risen: float = _threshold(1.25, "least validation losses", "measured: overfitted 1.4 and more, healthy up to 1.1")
    """A validation loss that ends above it has risen ..."""
    fell_on: float = _threshold(
        0.7, "training losses at the best validation", "measured, seed 0: overfitted 0.14 and less"
    )
    """... and is overfitted, if the training loss ends below this."""
    memorized: float = _threshold(0.1, _BASELINE, "a choice")
    """If validation never learns, training that falls further than this below the baseline learned nothing general."""
    gap: float = _threshold(1.2, "training losses", "measured, seed 0: underfitted 1.0, overfitted 11 and more")
    """A model whose validation loss is above it is not underfitted."""

    # The end.
    still_falling: float = _threshold(0.05, "final losses", "measured: too few epochs 0.11, healthy 0.06")
    """A loss that falls by more in the last fifth is still improving ..."""
    still_falling_by: float = _threshold(0.01, _BASELINE, "measured: too few epochs 0.02, healthy 0.007")
    """... if it falls by more than this, too."""
    idle_epochs: int = _threshold(20, "epochs", "a choice: there is little to save in shorter trainings")
    """Trainings of fewer epochs are not too long."""
    idle_change: float = _threshold(
        0.01,
        _BASELINE,
        "measured, seed 0: converged early 0.005 and less, others that learned 0.03 and more (but overfitted ones)",
    )
    """A training loss that changes by less after the second tenth has converged early ..."""
    idle_validation: float = _threshold(
        0.03,
        "final validation losses",
        "measured, seed 0: converged early 0.004 and less, others that learned 0.04 and more",
    )
    """... if the validation loss changes by no more than this."""

    # The layers.
    uneven_gradients: float = _threshold(
        100.0,
        "gradients of the last layer",
        "measured: healthy within 10, either way; Glorot and Bengio 2010 saw layers stall beyond",
    )
    """Gradients of the first layer that are as many times larger or smaller explode or vanish (median of all steps)."""
    large_gradient: float = _threshold(
        100.0, _BASELINE, "measured: healthy below 10; a step of 0.01 would change the loss by all there is to learn"
    )
    """A median of the gradient's norm above it explodes."""
    clipped: float = _threshold(
        0.5,
        "shares of the steps",
        "Goodfellow et al. 2016, section 10.11.1: beyond, clipping is a hidden learning rate",
    )
    """Clipping in more steps is too often."""
    dead_batch: int = _threshold(16, "examples", "a choice: a unit that is active for half is silent once in 65,536")
    """In smaller batches a unit may be silent for all examples by chance."""
    dead: float = _threshold(
        0.5, "shares of the units", "a choice: half of a healthy ReLU layer is active at a time (Glorot et al. 2011)"
    )
    """More dead units in a layer are too many."""
    constant: float = _threshold(
        1e-5, "means", "a choice: float32 rounds the mean of equal numbers to about 1e-7 of it"
    )
    """Outputs whose standard deviation is at most so large are the same for every example."""
    saturated: float = _threshold(
        0.3, "shares of the values", "Glorot and Bengio 2010, figure 2: layers above it had stalled"
    )
    """More values at the bounds of a layer's activation are too many."""
    faded: float = _threshold(1e-3, "standard deviations at the first layer", "a choice: a thousandfold change")
    """Outputs or gradients that shrink below it on their way vanish; they explode if they grow as much."""
    alike: float = _threshold(
        0.1,
        "shares of the variance",
        "measured: 1 at first, 0.7 with BatchNorm, 0.3 in a plain deep ReLU net; below, 20 layers learned far slower",
    )
    """Examples look alike to a hidden layer with less of its variance between examples."""
    high_loss: float = _threshold(1.5, _BASELINE, "as measured for `wrong_initial_loss`: others begin up to 1.5")
    """A higher loss of a minibatch is found."""
    batch_norm_batch: int = _threshold(
        8,
        "examples",
        "Wu and He 2018, table 2: ImageNet's error is 23.6 % in batches of 32, 24.8 % of 8, 27.3 % of 4, 34.7 % of 2",
    )
    """Mean and variance of smaller batches are mostly noise."""

    # A few examples, learned by heart; targets, permuted.
    memorizing_rest: float = _threshold(0.1, "distances from the baseline to the floor", "a choice")
    """Examples are learned by heart if no more is left."""
    memorizing_fall: float = _threshold(0.05, "shares of the fall", "a choice: a likelihood may have no bound")
    """A loss that falls by more in the last third of the steps is still falling: too few of them are no inability."""
    floor_error: float = _threshold(1e-3, "falls of the loss", "a choice: the floor is where Adam ends, and not exact")
    """The floor is not known better than to this."""
    same_outputs: float = _threshold(1e-6, "largest outputs", "the rounding of float32, 6e-8, several times over")
    """Outputs that differ by no more do not depend on the input."""
    alignment_examples: int = _threshold(100, "examples", "a choice: in fewer a weak dependence may not be seen")
    """Training on fewer may miss that targets go with inputs."""
    check_examples: int = _threshold(20, "examples", "a choice: 14 to train on and 6 to test on")
    """`check` takes no fewer."""


THRESHOLDS = Thresholds()
