"""`train`: a whole training as a pure function, to be jitted and vmapped."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from lectopt._internal import checks
from lectopt.data.batches import Batch
from lectopt.data.streams import is_stream
from lectopt.tasks.task import Task
from lectopt.training.arguments import TrainingArguments
from lectopt.training.joining import join
from lectopt.training.layer_statistics import Watch
from lectopt.training.optimizer_recipe import Optimizer
from lectopt.training.outcome import as_run
from lectopt.training.run import Run
from lectopt.training.setup import prepare


def train(
    task: Task,
    optimizer: Optimizer,
    train: Any,
    *,
    valid: Any = None,
    validate_every: int | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    max_epochs: int | None = None,
    steps: int | None = None,
    shuffle: bool = True,
    key: Any,
    hyperparameters: Mapping[str, Any] | None = None,
    start: Any = None,
    patience: int | None = None,
    best_by: str | None = None,
    direction: str | None = None,
    min_delta: float = 0.0,
    weights: Any = None,
    weight_validation: bool = False,
    augment: Callable[[jax.Array, Batch], Batch] | None = None,
    watch: Watch | int | None = None,
) -> Run:
    r"""Trains a model by minibatch gradient descent: a pure function without input or output, to be jitted and vmapped.

    At each step k = 0, 1, 2, ... a minibatch b is taken from the current shuffling of the examples, and w moves by the
    optimizer's update for the gradient :math:`g = \nabla_w \frac{1}{|b|} \sum_{n \in b} L_n(w)`.

    Args:
        task: the model with its loss and metrics, a `Task` such as `classification` and `regression` make.
        optimizer: an Optax optimizer, or a function that is called as `optimizer(**hyperparameters)` and returns one,
            such as `lo.momentum`.
        train: the examples to learn from, a tuple of arrays [n, ...] such as (x, y), or a `Subset`.
        valid: the examples to validate on after each epoch and at the end, a tuple of arrays [n, ...] such as (x, y),
            or a `Subset`; or several sets of them by name, {"valid": a, "shifted": b}, whose metrics are "valid_loss",
            "shifted_loss" and so on; None validates nothing.
        validate_every: the number of steps from one validation to the next, at least 1, the last one at the end: for
            epochs that are long, or short. Their records are in `run.history.validations`, and at which steps they were
            in `run.history.validated_steps`. None validates after each epoch.
        batch_size: the number of examples in a minibatch, at least 1; the last minibatch of an epoch may be smaller. If
            there are fewer examples, all of them are one batch (with a warning).
        epochs: the number of passes through the examples, at least 1; give either this or steps. With `max_epochs` it
            may be traced, int32[], so that it can be searched in one program.
        max_epochs: the most that `epochs` may be, at least 1: what records have room for. A training that is past its
            own epochs waits unchanged for the others; one whose traced epochs are above this, or below 1, has no
            metrics (NaN). None takes epochs, which must then be known.
        steps: the number of updates in all, at least 1; give either this or epochs.
        shuffle: whether the minibatches are drawn anew in each epoch; False takes the same ones, in order, in every
            epoch.
        key: an int or a `jax.random.key`, for the initial weights, the shuffling, and what the model draws.
        hyperparameters: {name: value}, the arguments of an optimizer that is a function: numbers, arrays, traced
            values, schedules; others must be hashable. None calls it without arguments.
        start: where to continue from:

            - a Run: with its weights, the other variables of the model, and its optimizer's state;
            - `run.start` (also what `transfer` and the pre-trainings call `start`): with its weights and the other
              variables of the model, for another optimizer;
            - an nnx.Module such as `run.model`: with its weights and other variables;
            - a `Standardize` that was fitted: everything is initialized but how inputs are standardized, which is then
              not learned from `train`;
            - parameters alone, a tree of arrays: other variables, such as batch statistics, are initialized (with a
              warning);
            - None: everything is initialized.

            The history of a Run, or of `run.start`, goes on: it holds what was recorded before, steps and epochs count
            on, and the batches are others than those before, with the same key too. A module and parameters begin anew.

            With `standardize`, a Run and `run.start` keep the means and variances that the run learned, whatever the
            examples; parameters alone learn those of `train`.
        patience: a whole number of at least 1: training ends, and returns the best parameters, after so many
            validations in a row without a gain: a lower "valid_loss" (of several sets, the loss of the first), or what
            `best_by` names. A validation that is not finite is never the best; until one is finite, the best parameters
            are the latest. It may be traced, int32[]; then less than 1 counts as 1. Under `vmap`, a training that has
            ended waits unchanged for the others. None trains to the end.
        best_by: the name of the metric by which the best parameters are known, such as "valid_f1"; with it, they are
            returned without patience too. None takes the loss under patience, and returns the last ones without.
        direction: "minimize" or "maximize", for best_by; if this is None, a loss is minimized, `lo.roc_auc`, `lo.f1`,
            `lo.balanced_accuracy` and `lo.r2` are maximized; other metrics must say.
        min_delta: under patience, how much a validation has to be better than the one that last counted as a gain, a
            number of at least 0. The best parameters are the best all the same.
        weights: the weight of each example in the loss: float[n], one number of at least 0 per example of the arrays;
            or {class: weight} (1 for a class that is not named); or "balanced", n / (classes * examples of the class),
            counted in the training part that is given (in a fold, the fold's), so that all its classes weigh alike.
            Weights are scaled to mean 1 over the training examples. None weights all alike.
        weight_validation: whether weights also weight the loss and the metrics of validation: those by class as the
            training part sets them, those of single examples where valid is a part of the same arrays.
        augment: (key, batch) -> batch of the same shapes and dtypes, written in JAX, applied to training batches inside
            the loop. Validation, evaluation and prediction use the examples unchanged: what prepares the inputs, such
            as scaling them, belongs into the arrays, the model, or `standardize`. None changes nothing.
        watch: what to record of every layer in `run.history.layers`: what `lectopt.watch` returns, or a number of steps
            from one record to the next; None records nothing.

    Returns:
        A `Run`. A training whose loss or weights are no longer finite is frozen at its last finite epoch
        (`run.diverged_at`), which under `vmap` leaves every other lane unchanged (a lane is one training among those
        that a program runs side by side). Records of what was not done (after patience ran out; of another length, in
        folds that differ in size) are NaN: where `train` is compiled, `jax_debug_nans` reports those too. `fit` and the
        searches fill them without that.

    Raises:
        ValueError: before anything compiles, if an argument is out of range, or the examples, the model and the loss do
            not fit each other.
        TypeError: before anything compiles, if an argument is of the wrong type.

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

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.1, and algorithm 7.1 for
    patience.
    """
    if is_stream(train):
        raise TypeError(
            "train must be examples in memory, a tuple of arrays or a Subset; what is read batch by batch, such as "
            f"{checks.type_description(train)}, is for lectopt.fit"
        )
    setup = prepare(
        TrainingArguments(
            task,
            optimizer,
            train,
            valid=valid,
            validate_every=validate_every,
            batch_size=batch_size,
            epochs=epochs,
            max_epochs=max_epochs,
            steps=steps,
            shuffle=shuffle,
            key=key,
            hyperparameters=hyperparameters,
            start=start,
            patience=patience,
            best_by=best_by,
            direction=direction,
            min_delta=min_delta,
            weights=weights,
            weight_validation=weight_validation,
            augment=augment,
            watch=watch,
        )
    )
    loop = setup.loop()
    run = as_run(setup, loop.run(loop.start(setup.learner(), beat_start=setup.start.params is not None)))
    return join(setup.earlier, run)
