"""`search_architecture`: a controller learns which networks are good, beside random search and evolution."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.keys import as_key
from lectopt._internal.live_picture import live_picture
from lectopt._internal.run_directories import make_directory
from lectopt.architecture.children import Children
from lectopt.architecture.final_trainings import FinalTrainings
from lectopt.architecture.results import ArchitectureResults, plot_records
from lectopt.architecture.space import ArchitectureSpace
from lectopt.data.folds import Folds
from lectopt.data.subsets import as_subset
from lectopt.engine.memory import fitted_count
from lectopt.engine.options import SearchOptions
from lectopt.strategies.choices import Record
from lectopt.strategies.evolution import Evolution
from lectopt.strategies.random_search import RandomSearch
from lectopt.strategies.reinforcement import SHORT, Controller, Reinforce, checked_controller
from lectopt.strategies.round_program import RoundProgram
from lectopt.strategies.rounds import Method, Rounds
from lectopt.strategies.running import run_program
from lectopt.tasks.task import Task
from lectopt.training.optimizer_recipe import Optimizer


def search_architecture(
    space: ArchitectureSpace,
    examples: Any,
    *,
    test: Any = None,
    rounds: int,
    children: int,
    key: Any,
    task: Callable[[Any], Task] | None = None,
    outputs: int | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int = 32,
    epochs: int = 20,
    folds: int | float | Folds = 0.2,
    minimize: str | None = None,
    maximize: str | None = None,
    last: int = 5,
    controller: Controller = SHORT,
    by_hand: Any = None,
    finalists: int = 5,
    seeds: int = 3,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> ArchitectureResults:
    r"""Searches for a network architecture with a recurrent controller that learns by reinforcement.

    In each round the controller, an LSTM with parameters :math:`\theta`, samples architectures :math:`a_1, \dots, a_m`.
    All of these *children* are trained side by side, each as masks of the largest network of the space, or in a long
    search, sorted by size, of one of up to four networks that has room for it; their metric on the validation part is
    the reward :math:`R_k`. The controller then takes a step of Adam along

    .. math:: \nabla_\theta J \approx \frac{1}{m} \sum_{k=1}^m \sum_t
        \nabla_\theta \log P_\theta(a_{k,t} \mid a_{k,1}, \dots, a_{k,t-1}) (R_k - b)

    with b a moving average of earlier rewards. Sampling, training, reward and update are one compiled program. For
    comparison, random search and regularized evolution try as many children each.

    After the search the best few of each method are trained again from other seeds, and the winner is chosen by the
    mean of those scores: the best of many noisy scores is partly luck. The winner is then trained as a plain network on
    all examples but the test set.

    Args:
        space: the `lo.ArchitectureSpace`. Dense networks take inputs [n, features], convolutional ones [n, length,
            channels] or [n, height, width, channels].
        examples: all examples but the test set, a tuple (inputs, targets) of arrays [n, ...], or a `Subset`.
        test: examples to score the winner on, a tuple of arrays or a `Subset`; None skips this.
        rounds: number of rounds, at least 1.
        children: m, the number of architectures that each method tries in a round, at least 1.
        key: an int or a `jax.random.key`. All children of a round start from the same key and see the same minibatches.
        task: a function from a model to a `Task`. None takes `lo.classification` for targets that are whole numbers and
            `lo.regression` for others, with `standardize=True`.
        outputs: number of outputs of the networks, at least 1. None takes the number of classes, or of target values
            per example.
        optimizer: an Optax optimizer, or a function that returns one, called without arguments, for all trainings. None
            takes `lo.adam(0.003)`.
        batch_size: number of examples in a minibatch, at least 1, for all trainings; 32 by default.
        epochs: number of passes through the training part, at least 1, for all trainings; 20 by default.
        folds: how children are validated: a share in (0, 1) of the examples to hold out, by default 0.2; a number of
            folds, at least 2, over which the metric is averaged; or `Folds` over these examples. Folds that are made
            here are stratified if the targets look like labels, that is, if they are whole numbers of shape [n] of
            which each value occurs at least once per fold (twice, for a single part).
        minimize: name of the metric of the reward if lower is better, such as "valid_loss". Give this, or `maximize`,
            or neither.
        maximize: name of the metric of the reward if higher is better. If neither is given, it is "valid_accuracy"
            maximized where the task has that metric, and otherwise "valid_loss" minimized.
        last: the reward is the best value of the metric in so many last epochs, at least 1; by default 5, as in Zoph
            and Le.
        controller: a `lo.search.Controller`: size and learning of the controller, by default for some hundred children;
            `lo.search.ZOPH_LE` has the paper's.
        by_hand: a network to compare with: a `lo.search.Architecture`, or a model as `lo.Task` takes it. None takes the
            largest of the space, with its first activation and norm and without skips.
        finalists: number of best children of each method that are trained again, at least 1; 5 by default.
        seeds: number of trainings of each of them, at least 1 and by default 3, from keys that the search did not use.
        chunk: number of children that are trained at once on each device. None takes 8 on CPU devices, and all children
            on accelerators.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the state of the search between rounds; it is created if necessary. A search that
            was interrupted in any way continues from there when it is called again with the same arguments, and ends as
            an uninterrupted one would. None keeps nothing on disk.
        progress: whether to show progress bars on standard error, and in a notebook, after some seconds, the scores so
            far as a picture that grows; True by default.

    Returns:
        `ArchitectureResults`; its fields `winner`, `run` and `test_metrics` are the outcome. In an interactive session
        (a notebook, IPython or the Python prompt), Ctrl-C returns the rounds so far, with a warning, without finalists
        and without a run.

    Raises:
        ValueError: before anything is trained, if an argument is not as described above, or the largest child alone
            needs more than `memory`; if `directory` holds another search; if every child diverged.
        TypeError: if an argument has the wrong type.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. What is in `directory` is kept.

    Example:
        >>> import lectopt as lo
        >>> rest, test = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
        >>> space = lo.ArchitectureSpace(depth=[1, 2, 3], width=[16, 32, 64], activation=["relu", "tanh"])
        >>> found = lo.search_architecture(space, rest, test=test, rounds=5, children=8, key=0)  # doctest: +SKIP
        >>> found.winner, found.run.model, found.test_metrics  # doctest: +SKIP

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578; for evolution Real, Aggarwal,
    Huang and Le (2019), "Regularized evolution for image classifier architecture search", AAAI, algorithm 1.
    """
    rest, tested = as_subset(examples), None if test is None else as_subset(test, "test", as_array)
    rounds, children = checks.check_count("rounds", rounds), checks.check_count("children", children)
    options = SearchOptions.of(chunk=None, memory=memory, directory=directory, progress=progress)
    key = as_key(key)
    trained = Children.of(
        space,
        rest,
        task=task,
        outputs=outputs,
        optimizer=optimizer,
        batch_size=batch_size,
        epochs=epochs,
        folds=folds,
        minimize=minimize,
        maximize=maximize,
        last=last,
        chunk=chunk,
        key=key,
    )
    count, seeds = checks.check_count("finalists", finalists), checks.check_count("seeds", seeds)
    finals = FinalTrainings(trained, rest, tested, by_hand, count, seeds, jax.random.fold_in(key, rounds))
    finals.check()
    methods = _methods(space, children, controller)
    if options.directory is not None:
        make_directory("directory", options.directory)
    program = _fitted(options, methods, trained, rounds, key)
    began = time.perf_counter()
    records = _run(program, options, methods, trained)
    seconds = time.perf_counter() - began
    ended = any(len(record.scores) < rounds for record in records.values())  # by hand
    rows, vector, run = finals.of_interrupted(records) if ended else finals.run(records, options.progress)
    return ArchitectureResults(
        space=space,
        records=records,
        metric=trained.goal.metric,
        maximizes=trained.goal.maximizes,
        finalists=tuple(rows),
        winner=space.decode(vector),
        run=run,
        test_metrics=None if tested is None or run is None else run.evaluate(tested),
        waste=trained.waste(np.concatenate([np.concatenate(record.choices) for record in records.values()])),
        compile_seconds=program.compile().seconds,
        run_seconds=seconds,
    )


def _run(
    program: RoundProgram, options: SearchOptions, methods: Mapping[str, Method], children: Children
) -> dict[str, Record]:
    """Runs all rounds, which a picture may show while they run; returns the record of each method, in their order."""
    picture, goal, total = live_picture(options.progress), children.goal, program.rounds.total

    def ordered(found: Mapping[str, Record], done: int) -> dict[str, Record]:
        return {name: jax.tree.map(lambda leaf: np.asarray(leaf)[:done], found[name]) for name in methods}

    def look(found: Mapping[str, Record], done: int) -> None:
        def draw() -> Any:
            records = ordered(found, done)
            known = any(np.isfinite(record.scores).any() for record in records.values())
            return plot_records(records, children.space, goal.metric, maximizes=goal.maximizes) if known else None

        if picture is not None:
            picture.look(draw, is_last=done == total)

    return ordered(run_program(program, options.directory, options.progress, smaller=_halved, look=look), total)


def _methods(space: ArchitectureSpace, children: int, controller: Any) -> dict[str, Method]:
    return {
        "reinforce": Reinforce(space.decisions, children, checked_controller(controller)),
        "evolve": Evolution(space.decisions, children),
        "random": RandomSearch(space.decisions, children),
    }


def _fitted(
    options: SearchOptions, methods: Mapping[str, Method], children: Children, rounds: int, key: jax.Array
) -> RoundProgram:
    """Returns the search as a program that fits into memory, after saying in which sizes children are compiled."""
    count, devices, budget = sum(method.children for method in methods.values()), len(children.devices), options.memory
    trained, wanted = children.sorted_for(rounds * count), -(-count // devices)
    if options.progress:
        Console(stderr=True).print(trained.plan(count), highlight=False, soft_wrap=True)

    def program(at_once: int) -> RoundProgram:
        return RoundProgram(Rounds(methods, dataclasses.replace(trained, at_once=at_once), rounds), key)

    return fitted_count(
        min(trained.at_once, wanted),
        program,
        budget,
        devices=devices,
        name=lambda _: f"one child as large as the largest of the space on each of {devices} device(s)",
    )


def _halved(program: RoundProgram, error: Exception) -> RoundProgram:
    """Returns the same search with half as many children at once, after a device ran out of memory."""
    children: Any = program.rounds.score  # it goes on from a state, so that where it starts is of no matter
    return RoundProgram(dataclasses.replace(program.rounds, score=children.halved(error)), program.start.key)
