"""`search_architecture`: a controller learns which networks are good, beside random search and evolution."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.arrays import as_array
from lectopt._internal.keys import as_key
from lectopt._internal.run_directories import make_directory
from lectopt.architecture.children import Children
from lectopt.architecture.finals import Finals
from lectopt.architecture.results import ArchitectureResults
from lectopt.architecture.space import ArchitectureSpace
from lectopt.data import Folds
from lectopt.data.subsets import as_subset
from lectopt.engine.running import SearchOptions
from lectopt.strategies.evolution import Evolution
from lectopt.strategies.random_search import RandomSearch
from lectopt.strategies.reinforcement import SHORT, Controller, Reinforce, checked_controller
from lectopt.strategies.rounds import Compiled, Method, Search
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

    In each round the controller, an LSTM with parameters theta, samples architectures a_1, ..., a_m, all of them are
    trained side by side as masks of one network, and what they reach on the validation part is the reward:

    .. math:: \nabla_\theta J \approx \frac{1}{m} \sum_{k=1}^m \sum_t
        \nabla_\theta \log P_\theta(a_{k,t} \mid a_{k,1}, \dots, a_{k,t-1}) (R_k - b)

    Sampling, training, reward and update are one compiled program. Random search and regularised evolution run beside
    it on as many children, since a controller that is no better than chance is not worth its trouble.

    Args:
        space: the architectures. Inputs are [n, features] for dense ones, [n, length, channels] or [n, height, width,
            channels] for convolutional ones.
        examples: all that is not the test set: a tuple of arrays (inputs, targets), or a Subset.
        test: examples that nothing is chosen by; None leaves testing out.
        rounds: how many rounds.
        children: how many architectures each method tries in a round.
        key: an int or a `jax.random.key`. The children of a round start alike and see the same batches.
        task: model -> Task; by default `classification` for whole-number targets, otherwise `regression`, with
            standardize=True.
        outputs: of the networks; by default as many as there are classes, or numbers in a target.
        optimizer: for all trainings; by default `adam(0.003)`.
        batch_size: for all trainings.
        epochs: for all trainings.
        folds: as for `select`: by default a fifth is held out; with several folds the mean over them counts.
        minimize: the metric of the reward, where less is better, such as "valid_loss"; give this, maximize, or neither.
        maximize: the metric of the reward, where more is better; by default "valid_accuracy" if the task has it.
        last: the best of so many last epochs counts (Zoph and Le: 5).
        controller: the settings of controller and learning; `lectopt.search.ZOPH_LE` has the paper's.
        by_hand: a network to compare with: a `lectopt.search.Architecture`, or a model as `Task` takes; by default the
            largest of the space, with its first activation and norm.
        finalists: so many of the best of each method are trained again before one is chosen by the mean: the best of
            many noisy scores is partly luck.
        seeds: from how many other starts, for that and, on all of the examples, for the test.
        chunk: children at once on each device; by default 8 on CPUs, all on others.
        memory: bytes that the program may take, on all devices together; by default half of what is free.
        directory: keep what is finished here, round by round. Killed at any moment and called again with the same
            arguments, the search goes on from there.
        progress: show a bar on standard error.

    Returns:
        ArchitectureResults. Ctrl-C, where a person sits in front of it, gives back the rounds that are done, with a
        warning: the winner is then the best child so far, and there are no finalists and no run.

    Raises:
        ValueError, TypeError: before anything is trained, if an argument is not as described above, or one child of
            the largest size takes more than memory; if directory holds another search; if every child diverged.

    Example:
        >>> import lectopt as lo
        >>> rest, test = lo.holdout(lo.datasets.digits(), 0.2, key=0, stratify=True)
        >>> space = lo.ArchitectureSpace(depth=[1, 2, 3], width=[16, 32, 64], activation=["relu", "tanh"])
        >>> found = lo.search_architecture(space, rest, test=test, rounds=5, children=8, key=0)  # doctest: +SKIP
        >>> found.winner, found.run.model, found.test_metrics  # doctest: +SKIP

    Source: the lecture, "Neural Architecture Search"; Zoph and Le (2016); Real et al. (2019) for evolution.
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
    finals = Finals(trained, rest, tested, by_hand, count, seeds, jax.random.fold_in(key, rounds))
    finals.check()
    methods = _methods(space, children, controller)
    if options.directory is not None:
        make_directory("directory", options.directory)
    compiled = _within(options.memory, methods, trained, rounds, key)
    began = time.perf_counter()
    found = compiled.run(options.directory, options.progress)
    seconds = time.perf_counter() - began
    records = {name: jax.tree.map(np.asarray, found[name]) for name in methods}  # in this order
    ended = any(len(record.scores) < rounds for record in records.values())  # by hand
    rows, vector, run = finals.unplayed(records) if ended else finals.play(records, options.progress)
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
        compile_seconds=compiled.compile_seconds,
        run_seconds=seconds,
    )


def _methods(space: ArchitectureSpace, children: int, controller: Any) -> dict[str, Method]:
    return {
        "reinforce": Reinforce(space.decisions, children, checked_controller(controller)),
        "evolve": Evolution(space.decisions, children),
        "random": RandomSearch(space.decisions, children),
    }


def _within(budget: int, methods: Mapping[str, Method], trained: Children, rounds: int, key: jax.Array) -> Compiled:
    """The search as a program that takes no more memory than there may be."""
    asked = -(-sum(method.children for method in methods.values()) // len(trained.devices))
    trained = dataclasses.replace(trained, at_once=min(trained.at_once, asked))
    compiled = Compiled(Search(methods, trained, rounds), key)
    while (size := compiled.compile() * len(trained.devices)) > budget:
        if trained.at_once == 1:
            raise ValueError(
                f"memory must be enough for one child as large as the largest of the space on each of "
                f"{len(trained.devices)} device(s), which take {size:,} bytes; got {budget:,}"
            )
        trained = dataclasses.replace(
            trained, at_once=max(1, min(trained.at_once - 1, trained.at_once * budget // size))
        )
        compiled = Compiled(Search(methods, trained, rounds), key)
    return compiled
