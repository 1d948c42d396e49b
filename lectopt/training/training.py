"""`train`: a whole training as a pure function, to be jitted and vmapped."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.checks import is_traced
from lectopt._internal.types import Array
from lectopt.data.batches import Batch
from lectopt.optim import eval_params
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training.carry import Carry, Learner
from lectopt.training.history import History
from lectopt.training.layer_statistics import Looks, Watch
from lectopt.training.loop import Loop
from lectopt.training.optimizer_recipe import Optimizer
from lectopt.training.run import Run
from lectopt.training.setup import Setup, begin, prepare


def train(
    task: Task,
    optimizer: Optimizer,
    train: Any,
    *,
    valid: Any = None,
    batch_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    shuffle: bool = True,
    key: Any,
    hyperparameters: Mapping[str, Any] | None = None,
    start: Any = None,
    patience: int | None = None,
    weights: Any = None,
    augment: Callable[[jax.Array, Batch], Batch] | None = None,
    watch: Watch | int | None = None,
) -> Run:
    r"""Trains a model by minibatch gradient descent; pure, without input or output, to be jitted and vmapped.

    For each step k = 0, 1, 2, ... a minibatch b is taken from the present shuffling of the examples, and w moves by
    the optimizer's update for :math:`g = \nabla_w \frac{1}{|b|} \sum_{n \in b} L_n(w)`.

    Args:
        task: the model with its loss and metrics.
        optimizer: an Optax optimizer, or a function called as `optimizer(**hyperparameters)`, such as `lo.momentum`.
        train: the examples to learn from, a tuple of arrays [n, ...] or a Subset.
        valid: examples to validate on after each epoch and at the end.
        batch_size: examples in a minibatch; the last one of an epoch may be smaller. More than there are examples
            means one batch of all of them (with a warning).
        epochs: passes through the examples; give this or steps.
        steps: updates in all; give this or epochs.
        shuffle: False takes the same minibatches in every epoch.
        key: an int or a `jax.random.key`: for the initial weights, the shuffling, and what the model draws.
        hyperparameters: arguments for an optimizer that is a function. Numbers, arrays, traced values, schedules.
        start: where to go on from. A Run: with its optimizer's state. `run.start`: with its weights and all else of the
            model, for another optimizer (also what `transfer` and the pre-trainings call `start`). A module such as
            `run.model`: with its weights and other variables. Parameters alone: other variables, such as batch
            statistics, begin afresh (with a warning). With `standardize`, a Run and `run.start` keep the means and
            variances that the run learned, whatever the examples; parameters alone learn those of `train` anew.
        patience: stop after so many validations without a lower "valid_loss", and return the best. A validation loss
            that is not finite is never the best; until one is finite, the best is what was trained last.
        weights: float[n], one for each example of the arrays, {class: weight} (1 for a class that is not named), or
            "balanced": n / (classes * examples of the class), counted in the training part that is given (in a fold,
            the fold's), so that all its classes weigh alike. Weights are scaled to mean 1 over the training examples.
        augment: (key, batch) -> batch of the same shapes and dtypes, applied to training batches inside the loop.
            Validation, evaluation and prediction get examples as they are: what prepares the inputs, such as scaling
            them, belongs into the arrays, the model, or `standardize`.
        watch: look at every layer each so many steps, for `run.history.layers`; see `lectopt.watch`.

    Returns:
        A Run. A training whose loss or weights cease to be finite is frozen at its last finite epoch
        (`run.diverged_at`), which under `vmap` leaves every other lane as it is. Records of what was not done (after
        patience ran out; of another length, in folds that differ in size) are NaN: where `train` is compiled,
        `jax_debug_nans` reports those too. `fit` and the searches fill them without that.

    Raises:
        ValueError, TypeError: before anything compiles, if an argument is not as described above or the examples,
            the model and the loss do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> flowers = lo.datasets.iris()
        >>> def final_loss(rate):
        ...     run = lo.train(task, lo.sgd(rate), flowers, batch_size=30, epochs=10, key=0)
        ...     return run.metrics["train_loss"]
        >>> losses = jax.jit(jax.vmap(final_loss))(jnp.array([0.001, 0.01, 0.1]))  # three trainings side by side
        >>> losses.shape
        (3,)

    Source: the lecture, "Recap: Stochastic Gradient Descent".
    """
    setup = prepare(
        task,
        optimizer,
        train,
        valid=valid,
        batch_size=batch_size,
        epochs=epochs,
        steps=steps,
        shuffle=shuffle,
        key=key,
        hyperparameters=hyperparameters,
        start=start,
        patience=patience,
        weights=weights,
        augment=augment,
        watch=watch,
    )
    loop = make_loop(setup)
    return conclude(setup, loop.run(loop.start(begin(setup), known=setup.origin.known)))


def to_evaluate(learner: Learner) -> Params:
    """The parameters w of what the optimizer holds."""
    return eval_params(learner.opt_state, learner.params)


def make_loop(setup: Setup) -> Loop:
    """The loop of a training."""
    return Loop(setup.plan, setup.recipe.make(setup.numbers), setup.data)


def conclude(setup: Setup, carry: Carry, evaluated: Callable[[Learner], Params] = to_evaluate) -> Run:
    """What a training gives back after its last step, or as far as it has come.

    `evaluated` is `to_evaluate`, perhaps compiled.
    """
    plan = setup.plan
    learner = carry.learner if carry.best is None else carry.best
    ended = jnp.where(carry.running, carry.step, carry.ended)
    step, epoch = jnp.arange(plan.steps), jnp.arange(plan.epochs)
    # Not the batches that hold no example of this part, because other parts are larger.
    met = (step < ended) & (step % plan.steps_per_epoch * plan.batch_size < setup.data.train.size)
    losses = carry.step_records["loss"].reshape(-1)[: plan.steps]
    lasted = jnp.where(carry.running, carry.epoch, -(-ended // plan.steps_per_epoch))
    lasted = lasted - (carry.diverged_at >= 0).astype(lasted.dtype)
    return Run(
        params=evaluated(learner),
        model_state=learner.state,
        opt_state=learner.opt_state,
        lookahead_params=learner.params,
        metrics={name: _blank(x, carry.known[name] & (carry.diverged_at < 0)) for name, x in carry.metrics.items()},
        history=History(
            steps={name: _blank(r.reshape(-1)[: plan.steps], met) for name, r in carry.step_records.items()},
            epochs={name: _blank(record, epoch < lasted) for name, record in carry.epoch_records.items()},
            layers=OrderedDict() if carry.looks is None else _layers(carry.looks, met & ~jnp.isnan(losses)),
            baseline_loss=carry.chance,
            diverged_at=carry.diverged_at,
            steps_per_epoch=plan.steps_per_epoch,
            batch_size=plan.batch_size,
            watched_every=0 if plan.watch is None else plan.watch.every,
        ),
        diverged_at=carry.diverged_at,
        task=plan.task,
        inputs=plan.inputs,
    )


def _layers(looks: Looks, known: Array) -> OrderedDict[str, dict[str, Array]]:
    """The looks by layer; NaN at steps that are not recorded, after divergence and after patience ran out."""
    done = known[:: looks.every][: len(looks.values)]
    return jax.tree.map(lambda record: _blank(record, done), looks.by_layer())


def _blank(values: Array, known: Array) -> Array:
    """NaN where they are not known."""
    if is_traced((values, known)):
        return jnp.where(known, values, jnp.nan)
    # On the host: `jax_debug_nans` is to complain of what was computed, and this was not.
    return jax.device_put(np.where(np.asarray(known), np.asarray(values), np.float32(np.nan)))
