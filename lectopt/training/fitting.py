"""`fit`: the loop of `train` in chunks, with progress and copies on disk between them."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lectopt._internal import checks, meshes
from lectopt.data.batches import Batch
from lectopt.data.readers import read_all
from lectopt.data.streams import as_stream, is_stream
from lectopt.tasks.task import Task
from lectopt.training.arguments import TrainingArguments
from lectopt.training.carry import Judge
from lectopt.training.hooks import as_hooks
from lectopt.training.keeping import Keep, as_keep
from lectopt.training.layer_statistics import Watch
from lectopt.training.nonfinite import divergence, nonfinite_validation
from lectopt.training.optimizer_recipe import Optimizer
from lectopt.training.run import Run
from lectopt.training.running import run_in_chunks
from lectopt.training.setup import prepare
from lectopt.training.sources import Resident
from lectopt.training.stream_setup import is_streamed, prepare_stream


def fit(
    task: Task,
    optimizer: Optimizer,
    train: Any,
    *,
    valid: Any = None,
    validate_every: int | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
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
    progress: bool = True,
    on_epoch: Callable[[Run], bool | None] | None = None,
    on_steps: tuple[int, Callable[[Run], bool | None]] | None = None,
    directory: str | Path | None = None,
    keep: Keep | None = None,
    log_dir: str | Path | None = None,
    mesh: Mesh | None = None,
) -> Run:
    """Trains a model by minibatch gradient descent, compiled, with progress, logging and checkpoints.

    It is the loop of `train`, run in chunks. Called again with the same task, optimizer function and shapes, it
    compiles nothing again, whatever the numbers in `hyperparameters`. The compiled program is freed when the task or
    the optimizer is.

    Ctrl-C ends the training after the current chunk, some tenths of a second. At a prompt or in a notebook the run is
    returned as far as it came, its last epoch ending there, with a warning; in a script what is done is kept in
    `directory`, if there is one, and KeyboardInterrupt is raised. A second Ctrl-C raises it at once.

    Args:
        task: the model with its loss and metrics, a `Task` such as `classification` and `regression` make.
        optimizer: an Optax optimizer, or a function that is called as `optimizer(**hyperparameters)` and returns one,
            such as `lo.momentum`.
        train: the examples to learn from: a tuple of arrays [n, ...] such as (x, y), or a `Subset`. What does not fit
            into memory is read while the training runs, one part after the other, and each batch is checked:

            - a tuple with an `np.memmap`, such as `np.load(path, mmap_mode="r")`, trains as the arrays would;
            - a stream: what `lectopt.stream` returns, a Grain `DataLoader` or dataset, a PyTorch `DataLoader`, or
              another iterable of tuples of arrays [batch_size, ...] (a list of them in `lectopt.stream`). Its batches
              are taken as they come.

            For these, `history.baseline_loss` is None; `standardize` takes one pass before training, unless start gives
            its statistics. `weights` and an `output_bias` depend on all targets at once: of a map, those alone are read
            into memory, if they are needed; for a stream, both are refused.
        valid: the examples to validate on after each epoch and at the end, a tuple of arrays [n, ...] such as (x, y),
            or a `Subset`; or a stream that ends, which is read into memory; or several sets of them by name,
            {"valid": a, "shifted": b}, whose metrics are "valid_loss", "shifted_loss" and so on; None validates
            nothing.
        validate_every: the number of steps from one validation to the next, at least 1, the last one at the end: for
            epochs that are long, or short. Their records are in `run.history.validations`, and at which steps they were
            in `run.history.validated_steps`. None validates after each epoch.
        batch_size: the number of examples in a minibatch, at least 1; the last minibatch of an epoch may be smaller. If
            there are fewer examples, all of them are one batch (with a warning). None for a stream, whose first batch
            says it.
        epochs: the number of passes through the examples, at least 1; give either this or steps. A stream without end
            needs steps, or its steps_per_epoch.
        steps: the number of updates in all, at least 1; give either this or epochs.
        shuffle: whether the minibatches are drawn anew in each epoch; False takes the same ones, in order, in every
            epoch. The order of a stream is its own.
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
            are the latest. None trains to the end.
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
        progress: whether to show the progress: on standard error, once training takes more than a second, a bar with
            the epoch, the loss, that of the last validation, the steps in a second and the time that is left; in a
            notebook, after some seconds, growing curves too; in a log file one line per epoch, at most one a second.
        on_epoch: a function that is called with the `Run` so far at the end of each epoch: a logger, a tracker, a
            picture. If it returns True, training ends there. The run is fetched from the device for each call. If the
            function raises, its error ends the training, and what is done is kept in `directory`. None calls nothing.
        on_steps: a pair (n, function): the function is called with the `Run` so far after every n steps. If it returns
            True, the training and its epoch end there. None calls nothing.
        directory: a path, where the training is kept every few seconds, in its last two copies. Killed at any moment
            and called again with the same arguments, it resumes there and ends as it would have;
            `lectopt.load(directory, task)` reads how far it came. If a copy is damaged, there is a warning, and the one
            before is used. None keeps nothing.
        keep: a `lectopt.Keep`, how many of the last copies directory keeps, and how many of the best runs. None keeps
            the last two copies.
        log_dir: a path, where the records and histograms of the weights are written during training, for TensorBoard
            (needs `pip install 'lectopt[logging]'`). Use one directory per training; one that resumes writes to the
            same. None writes nothing.
        mesh: a `jax.sharding.Mesh` on all of whose devices to train, such as `jax.make_mesh((2,), ("data",))` for two.
            Each batch is split over its first axis; the gradient, batch statistics and other means are those of the
            whole batch. Examples and parameters are on every device, except for annotated parameters of an NNX model
            (`nnx.with_partitioning`): they, and their moments, are split as annotated. A mesh over several processes
            (`jax.distributed`) needs the same call in each; the first one shows and logs. None trains on the default
            device.

    Returns:
        A `Run` whose metrics are Python numbers and whose history is as long as the training was. If it diverges,
        training ends with a warning that names the step, and the run holds the parameters of the last finite epoch.

    Raises:
        ValueError: before anything compiles, if an argument is out of range, the examples, the model and the loss do
            not fit each other, directory holds another training, a directory cannot be written, or mesh does not split
            batch_size evenly.
        TypeError: before anything compiles, if an argument is of the wrong type, or traced: inside `jit`, `vmap` or
            `grad`, call `train`; during training, if on_epoch or the function of on_steps returns something else than a
            flag or None.
        ImportError: if log_dir is given and tensorboardX is not installed.
        OSError: if the disk is full during training; what was kept is kept.
        MemoryError: if the device has no memory for a step. Where it has none for a chunk, half as many steps run at
            once, with a warning.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
        >>> rest, test = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> run = lo.fit(task, lo.adam(0.05), rest, batch_size=30, epochs=50, key=0)
        >>> run.evaluate(test)["accuracy"] > 0.9
        True

        What is logged elsewhere, by a function that gets the run so far; for MLflow it would call
        `mlflow.log_metrics(last, step=steps)`, for Weights & Biases `wandb.log(last, step=steps)`:

        >>> def log(run):
        ...     last = {name: float(record[-1]) for name, record in run.history.epochs.items()}
        ...     steps = len(run.history.steps["loss"])
        ...     print(steps, sorted(last))
        >>> run = lo.fit(task, lo.adam(0.05), rest, batch_size=30, epochs=3, key=0, on_epoch=log)
        4 ['train_loss']
        8 ['train_loss']
        12 ['train_loss']

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Recap: Stochastic Gradient Descent (SGD)";
    I. Goodfellow, Y. Bengio and A. Courville (2016), "Deep Learning", MIT Press, algorithm 8.1, and algorithm 7.1 for
    patience.
    """
    checks.check_flag("progress", progress)
    mesh, hooks, kept = meshes.as_mesh(mesh), as_hooks(on_epoch, on_steps), as_keep(keep, directory, valid)
    given = TrainingArguments(
        task,
        optimizer,
        train,
        valid=_in_memory(valid),
        validate_every=validate_every,
        batch_size=batch_size,
        epochs=epochs,
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
    source = prepare_stream(given, mesh) if is_streamed(train) else Resident(prepare(given, mesh))
    setup = source.setup
    arrays = setup.numbers, setup.data, setup.start
    if checks.is_traced(arrays):
        raise TypeError("fit compiles, shows and stores: inside of jit, vmap or grad, call lectopt.train")
    with meshes.as_context(mesh):
        numbers, data, start = meshes.replicate(mesh, arrays)
        source.setup = setup._replace(numbers=numbers, data=data, start=start)
        run = run_in_chunks(source, progress, hooks, directory, kept, log_dir)
    _warn_of_nonfinite(run, setup.plan.judge)
    return run


def _in_memory(valid: Any, name: str = "valid") -> Any:
    """Returns the examples to validate on, in memory where they are a stream."""
    if isinstance(valid, Mapping):
        return {key: _in_memory(part, f"valid[{key!r}]") for key, part in valid.items()}
    return read_all(name, as_stream(valid)) if is_stream(valid) else valid


def _warn_of_nonfinite(run: Run, judge: Judge | None) -> None:
    """Warns of what was not finite in a run that looks like any other."""
    if (diverged := divergence(run.history)) is not None:
        warnings.warn(
            f"training diverged: {diverged.evidence}; the run holds the weights of the last finite epoch. "
            f"{diverged.remedy}",
            stacklevel=3,
        )
    if (bad := nonfinite_validation(run.history)) is not None:
        judged = ""
        if judge is not None:
            failure = "" if judge.patience is None else "each a failure for patience; "
            any_finite = np.isfinite(run.history.curves[judge.metric][1]).any()
            judged = f" ({failure}the run holds " + (
                "the best of the others)" if any_finite else "what was trained last, since there is no best)"
            )
        warnings.warn(f"{bad.evidence}{judged}. {bad.remedy}", stacklevel=3)
