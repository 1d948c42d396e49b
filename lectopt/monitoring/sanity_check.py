"""`check`: a task and its data before the first training."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.keys import as_key
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.progress import ProgressBar
from lectopt._internal.types import Array
from lectopt.data.subsets import Subset, as_subset
from lectopt.monitoring.diagnosis import Diagnosis
from lectopt.monitoring.findings import RECIPE, Finding
from lectopt.monitoring.inspection_findings import loss_finding
from lectopt.monitoring.memorization import LEARNING_RATES, STEPS, Outcome, memorization
from lectopt.monitoring.thresholds import THRESHOLDS
from lectopt.optim.optimizers import adam
from lectopt.tasks import evaluation
from lectopt.tasks.example_checks import check_examples
from lectopt.tasks.task import Task
from lectopt.training.starting import init_from_examples
from lectopt.training.training import train

PERMUTATIONS = 9
"""Other orders of the targets, of which none may be learned as well as the true one: a test at the level of 0.1."""
MAX_EXAMPLES = 1000
"""Of more, a sample is used."""

_ALL_ALIKE = Finding(
    "targets all alike", "the same outputs are right for all examples", "Look where the targets come from.", RECIPE
)

_NOT_FINITE = Finding(
    "initial loss not finite",
    "of some examples it is NaN or infinite before anything is learned",
    "Look at the loss (a logarithm or root of 0, a division by 0), at ids beyond an embedding, at the initial weights.",
    RECIPE,
)


def check(task: Task, examples: Any, *, key: Any = 0, progress: bool = True) -> Diagnosis:
    """Checks a task and its data before the first training, for faults that no optimizer can mend.

    It asks

    - whether the targets differ at all ("targets all alike");
    - whether the initial loss is finite ("initial loss not finite") and about that of constant outputs ("wrong initial
      loss");
    - whether a few examples can be memorized ("cannot learn by heart"; "outputs ignore the inputs" if the outputs are
      the same for all examples). Their loss need not reach 0, which it never does with smoothed labels or soft targets:
      it is compared with the loss that each of the examples reaches when it is trained on alone. An objective, whose
      lowest value is unknown, is only reported if it does not fall at all;
    - whether the targets depend on the inputs ("targets do not go with inputs"): a model trained briefly on some
      examples has to score better on others than models trained with permuted targets, in each of nine permutations.

    All trainings use the model and loss of the task, and Adam at four learning rates. Some rates may diverge, so
    `jax_debug_nans` is switched off meanwhile. Products of float32 numbers are not rounded, as an accelerator otherwise
    would.

    Args:
        task: the `Task` to check.
        examples: the training examples, at least 20: a tuple of arrays [n, ...], inputs first and targets last, or a
            `Subset`. Of more than 1000, a random sample is used.
        key: an int or a `jax.random.key`, by default 0, for the initial weights, the sample and the permutations.
        progress: whether to show a progress bar on standard error if the check takes more than a second; True by
            default.

    Returns:
        A `Diagnosis`: findings with evidence and remedies, and notes on what is in order.

    Raises:
        ValueError: if the examples do not fit the task, or are fewer than 20.
        TypeError: if `task` is not a `Task`, or another argument has the wrong type.

    Example:
        >>> import lectopt as lo, numpy as np
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(64, 10, rngs=rngs), standardize=True)
        >>> x, y = lo.datasets.digits()
        >>> [finding.name for finding in lo.check(task, (x, np.zeros_like(y)))]
        ['targets all alike']
        >>> [finding.name for finding in lo.check(task, (x, np.random.default_rng(0).permutation(y)))]  # doctest: +SKIP
        ['targets do not go with inputs']

    Source: Karpathy (2019), "A recipe for training neural networks"; Goodfellow, Bengio and Courville (2016), "Deep
    Learning", section 11.5.
    """
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    checks.check_flag("progress", progress)
    subset, key = as_subset(examples), as_key(key)
    check_examples(task, subset, "examples")
    if len(subset) < (least := THRESHOLDS.check_examples):
        raise ValueError(f"examples must be at least {least}; got {len(subset)}")
    rows = jax.random.permutation(jax.random.fold_in(key, 0), subset.indices[: len(subset)])[:MAX_EXAMPLES]
    sample = jax.tree.map(lambda a: jnp.asarray(a)[rows], subset.arrays)
    if _targets_alike(task, subset):
        return Diagnosis([_ALL_ALIKE], [])
    findings: list[Finding | None] = []
    notes: list[str] = []
    # Of the rates, some may diverge: what `jax_debug_nans` is to find is no fault here. And it is the task that is
    # checked, not how an accelerator rounds.
    precision = jax.default_matmul_precision("highest")
    with jit_without_nan_checks(), precision, ProgressBar("checks", 3, show=progress) as bar:
        for done, step in enumerate((_initial_loss, memorization, _target_alignment)):
            bar.update(done, step.__name__.strip("_").replace("_", " "))
            new_findings, new_notes = step(task, sample, jax.random.fold_in(key, done + 1))
            findings += new_findings
            notes += new_notes
            if new_findings == [_NOT_FINITE]:
                break  # nothing can be learned from such a loss
    return Diagnosis([finding for finding in findings if finding is not None], notes)


def _targets_alike(task: Task, subset: Subset) -> bool:
    """Tells whether constant outputs are right for all: by the targets too, since smoothed labels have some loss."""
    baseline = task.baseline_loss(subset)
    if baseline is None or baseline == 0:
        return baseline is not None
    rows = np.asarray(subset.indices[: len(subset)])
    targets = [np.asarray(leaf)[rows] for leaf in jax.tree.leaves(subset.arrays[-1])]
    return all(bool((leaf == leaf[:1]).all()) for leaf in targets)


def _initial_loss(task: Task, sample: Any, key: jax.Array) -> Outcome:
    loss, baseline = cached_jit(_initial_and_baseline_loss, task)(as_subset(sample), key)
    if not np.isfinite(loss):
        return [_NOT_FINITE], []
    if baseline is None:
        return [], [f"Initial loss {loss:.3g}; the task does not know that of constant outputs."]
    finding = loss_finding(float(loss), float(baseline), trained=False)
    return [finding], [] if finding else [f"Initial loss {loss:.3g}, constant outputs {baseline:.3g}."]


def _initial_and_baseline_loss(task: Task, subset: Subset, key: jax.Array) -> tuple[Any, Array | None]:
    params, state = init_from_examples(task, key, subset)
    return evaluation.evaluate(task, params, state, subset)["loss"], task.baseline_loss(subset)


def _target_alignment(task: Task, sample: Any, key: jax.Array) -> Outcome:
    if not task.has_targets:
        return [], ["An objective has no targets to compare with permuted ones."]
    count = len(jax.tree.leaves(sample)[0])
    permuted = [jax.random.permutation(jax.random.fold_in(key, i), count) for i in range(PERMUTATIONS)]
    orders = jnp.stack([jnp.arange(count), *permuted])
    train_rows, test_rows = _split_rows(count)
    losses = np.asarray(cached_jit(_validation_losses, task)(sample, orders, key), np.float64)
    best = np.where(np.isnan(losses), np.inf, losses).min(axis=1)
    if np.isinf(best[0]):
        return [], ["Whether targets go with inputs is not known: the loss of other examples is not finite."]
    evidence = f"trained on {len(train_rows)} examples, the loss of {len(test_rows)} others is {best[0]:.3g}"
    evidence += f", with permuted targets {best[1:].min():.3g} to {best[1:].max():.3g}"
    if best[0] < best[1:].min():
        return [], [f"Targets go with inputs: {evidence}."]
    remedy = "Look at some examples with their targets: they may have been shuffled or shifted apart."
    if len(train_rows) < THRESHOLDS.alignment_examples:
        remedy += f" Or they have too little in common to be seen in {len(train_rows)} examples: give more."
    return [Finding("targets do not go with inputs", evidence, remedy, RECIPE)], []


def _validation_losses(task: Task, sample: Any, orders: Array, key: jax.Array) -> Array:
    """Returns float32[orders, rates]: the best validation loss, with targets in each order, at each rate."""
    *inputs, targets = sample
    train_rows, test_rows = _split_rows(orders.shape[1])

    def validation_loss(order: Array, rate: Array) -> Array:
        arrays = (*inputs, jax.tree.map(lambda a: a[order], targets))
        part, others = (
            Subset(arrays, jnp.asarray(rows), jnp.int32(len(rows)), len(rows)) for rows in (train_rows, test_rows)
        )
        batch_size = min(32, len(train_rows))
        run = train(task, adam(rate), part, valid=others, batch_size=batch_size, steps=STEPS, key=key)
        return jnp.nanmin(run.history.epochs["valid_loss"])

    return jax.lax.map(
        lambda order: jax.lax.map(lambda rate: validation_loss(order, rate), jnp.array(LEARNING_RATES)), orders
    )


def _split_rows(count: int) -> list[np.ndarray]:
    """Returns the examples to learn from, and the others."""
    return np.split(np.arange(count), [round(0.7 * count)])
