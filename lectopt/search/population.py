"""`population`: trainings side by side, the worst of which go on from the best with other settings."""

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._internal import checks
from lectopt._internal.keys import as_key
from lectopt._internal.live_picture import live_picture
from lectopt._internal.numerics import jit_without_nan_checks
from lectopt._internal.out_of_memory import warn_of_less
from lectopt._internal.run_directories import make_directory
from lectopt.data.folds import Folds, check_folds
from lectopt.engine.lane_program import LaneProgram
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared, Trial
from lectopt.engine.memory import fitted_count
from lectopt.engine.objective import check_metrics, checked_metric
from lectopt.engine.options import SearchOptions
from lectopt.engine.rungs import RungLane
from lectopt.engine.tiling import pace
from lectopt.search.drawing import uniforms_of
from lectopt.search.exploring import Exploration, checked_explore
from lectopt.search.population_results import PopulationReplay, PopulationResults
from lectopt.search.settings import as_settings
from lectopt.strategies.population import PopulationRounds
from lectopt.strategies.round_program import RoundProgram
from lectopt.strategies.running import run_program
from lectopt.strategies.truncation import Truncation

_NEEDS = "a population"


def population(
    trial: Callable[..., Any],
    settings: Any,
    folds: Folds | None = None,
    *,
    minimize: str | None = None,
    maximize: str | None = None,
    rounds: int,
    epochs_per_round: int | None = None,
    steps_per_round: int | None = None,
    exploit: float = 0.2,
    explore: Sequence[float] | Callable[..., Any] = (0.8, 1.2),
    resample: float = 0.0,
    seeds: int = 1,
    key: Any,
    chunk: int | None = None,
    memory: int | None = None,
    directory: str | Path | None = None,
    progress: bool = True,
) -> PopulationResults:
    r"""Trains a population whose settings change while it trains, all in one compiled program.

    Population-based training: the n settings are n *members*, which train side by side. After each round they are
    ranked by their scores, and each of the worst fifth (truncation selection) goes on from one of the best fifth, drawn
    at random: it takes over that member's weights, optimizer state and setting :math:`h`, and explores from there,

    .. math:: h \leftarrow \operatorname{clip}(c\,h, \mathrm{low}, \mathrm{high})

    with c drawn from the factors 0.8 and 1.2, for each hyperparameter by itself. What is found is a schedule: the
    settings that led to the best member, round by round. Members that diverged in a round have no score and are always
    among the worst; all of them are replaced.

    Members are ranked by what `minimize` or `maximize` names, which should be of validation examples. As the best of
    many, the winner's score is optimistic: score its replay on test examples that the trial has not seen.

    All members start from the same weights and see the same batches: one key gives the initial weights, and each round
    has a shuffling of its own.

    Args:
        trial: a pure JAX function `trial(setting, key, *, epochs, start)`, with folds `trial(setting, train, valid,
            key, *, epochs, start)`. It must pass `epochs` and `start` on to `lo.train` and return the
            `Run`. With `steps_per_round` it is called with `steps` in place of `epochs`.
        settings: the n settings to begin with, at least 2: a dictionary `{"name": array[n]}` of numbers, as `lo.sample`
            returns it; a list of n dictionaries `{"name": value}`; or a pandas DataFrame. With a space, as `lo.sample`
            keeps it, values are clipped to its ranges, and whole numbers of it rounded.
        folds: the `Folds` to train each member on; members are ranked by the mean over all folds and seeds. None calls
            the trial without examples.
        minimize: name of the metric to rank by if lower is better, such as "valid_loss". Exactly one of `minimize` and
            `maximize` must be given.
        maximize: name of the metric to rank by if higher is better, such as "valid_accuracy".
        rounds: number of rounds, at least 1.
        epochs_per_round: number of epochs in a round, at least 1; None if `steps_per_round` is given. Exactly one of
            the two must be.
        steps_per_round: number of steps in a round, at least 1, for rounds shorter or longer than whole epochs. Each
            round draws its minibatches from a shuffling of its own, whether the one before was used up or not.
        exploit: the share of members that is replaced after a round, in (0, 0.5], by default a fifth; at least one is.
        explore: the factors c, positive numbers, of which one is drawn for each hyperparameter of each copy; or a
            function `(setting, key) -> setting` in JAX, which changes it as it likes (what it returns is clipped too).
        resample: the probability with which a copy takes a setting that is drawn anew from the space, in [0, 1]; 0 by
            default.
        seeds: number of trainings of each member, at least 1 (the default), each from a key of its own.
        key: an int or a `jax.random.key`.
        chunk: number of members that are trained at once on each device. None takes about 40 trainings on CPU devices,
            and all of them on accelerators.
        memory: upper limit, in bytes, on what the compiled program may use on all devices of this process together.
            None takes half of the host's free memory for CPU devices, and 80 % of the free memory of accelerators.
        directory: folder that keeps the population between rounds; it is created if necessary. A search that was
            interrupted in any way continues from there when it is called again with the same arguments, and ends as an
            uninterrupted one would. None keeps nothing on disk.
        progress: whether to show a progress bar on standard error, and in a notebook, after some seconds, a picture of
            the rounds so far; True by default.

    Returns:
        The `PopulationResults`. In an interactive session (a notebook, IPython or the Python prompt), Ctrl-C returns
        the rounds so far, with a warning.

    Warns:
        UserWarning: if no member has a score in the last round, such as where all of them diverged.

    Raises:
        ValueError: before anything is compiled, if an argument is not as described above: a hyperparameter that is
            static, or a choice that factors would change; if the trial does not return the metric, or does not pass
            `epochs` (or `steps`) and `start` on; if `directory` holds another search; if one member alone needs more
            than `memory`.
        TypeError: if an argument has the wrong type, or the trial does not take these arguments or return a `Run`.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. What is in `directory` is kept.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> task = lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True)
        >>> train, valid = lo.holdout(lo.datasets.iris(), 0.2, key=0, stratify=True)
        >>> def trial(setting, key, *, epochs, start):
        ...     optimizer = lo.sgd(setting["learning_rate"])
        ...     return lo.train(task, optimizer, train, valid=valid, batch_size=30, epochs=epochs, key=key, start=start)
        >>> settings = lo.sample({"learning_rate": lo.space.log_uniform(1e-3, 1.0)}, 8, key=0)
        >>> found = lo.population(
        ...     trial, settings, minimize="valid_loss", rounds=4, epochs_per_round=2, key=0, progress=False
        ... )
        >>> found.settings["learning_rate"].shape, found.schedule("learning_rate").values.shape
        ((4, 8), (4,))

    Source: Jaderberg et al. (2017), "Population based training of neural networks", arXiv:1711.09846.
    """
    if not callable(trial):
        raise TypeError(f"trial must be a function; got {type(trial).__name__}")
    if folds is not None:
        check_folds(folds)
    metric, settings = checked_metric(minimize, maximize), as_settings(settings)
    rounds, seeds = checks.check_count("rounds", rounds), checks.check_count("seeds", seeds)
    unit, length = _round_length(epochs_per_round, steps_per_round)
    checks.check_number("exploit", exploit, checks.Interval(0, 0.5, low_open=True))
    checks.check_known("exploit", exploit, "search")
    if settings.count < 2:
        raise ValueError(f"settings must be at least 2, a population; got {settings.count}")
    options, called = _options(chunk, memory, directory, progress), Trial(trial)
    names = ["setting", "key"] if folds is None else ["setting", "train", "valid", "key"]
    called.check_call(names, [unit, "start"], f" for {_NEEDS}")
    shared, draws = Shared(folds, as_key(key)), jax.random.fold_in(as_key(key), rounds)
    explored = Exploration.of(settings, checked_explore(explore), resample, rounds, draws)
    numbers, pairs = settings.numbers(np.arange(settings.count)), _pairs(folds, seeds)
    with jit_without_nan_checks():
        first, later, outcome, devices = _traced_lanes(called, numbers, (unit, length), shared, options.devices)
    check_metrics(metric, maximize is not None, outcome.metrics, outcome.metrics)
    whole = PopulationRounds(
        first=first,
        later=later,
        numbers=numbers,
        pairs=pairs,
        shared=shared,
        metric=metric,
        maximizes=maximize is not None,
        truncation=Truncation(max(int(exploit * settings.count), 1)),
        uniforms=uniforms_of(draws, "parents")(rounds * settings.count).reshape(rounds, -1).astype(np.float32),
        explore=explored,
        devices=devices,
        at_once=options.chunk or _usual(settings.count, len(pairs.fold), options.devices),
        outcome=outcome,
        total=rounds,
    )
    replay, logarithmic = PopulationReplay(called, shared, length, unit), filter(settings.is_logarithmic, settings)
    counts = len(pairs.fold) // seeds, seeds
    of = functools.partial(
        PopulationResults.of, whole, pairs=counts, steps=first.steps, replay=replay, logarithmic=frozenset(logarithmic)
    )
    return _warned(_run(_fitted(whole, options.memory, trial), options, of))


def _run(program: RoundProgram, options: SearchOptions, of: Callable[..., PopulationResults]) -> PopulationResults:
    """Runs all rounds, which a picture may show while they run; `of` makes results of records."""
    rounds, picture, began = program.rounds, live_picture(options.progress), time.perf_counter()

    def look(records: Any, done: int) -> None:
        if picture is not None:
            cut = jax.tree.map(lambda leaf: leaf[:done], records)
            picture.look(lambda: _drawn(of(cut)), is_last=done == rounds.total)

    records = run_program(program, options.directory, options.progress, smaller=_halved, best=rounds.best, look=look)
    return of(records, compile_seconds=program.compile_seconds, run_seconds=time.perf_counter() - began)


def _drawn(results: PopulationResults) -> Any:
    """Returns the picture of the rounds that are done; None if no member has a score."""
    return None if np.isnan(results.scores[-1]).all() else results.plot()


def _warned(results: PopulationResults) -> PopulationResults:
    """Returns the results themselves, with a warning if nothing can be made of them."""
    if np.isnan(results.scores[-1]).all():
        lost = int((results.diverged_at[-1] >= 0).any(axis=(1, 2)).sum())
        warnings.warn(
            f"no member has a finite {results.metric} in the last round, so that there is no best one; {lost} of "
            f"{results.parents.shape[1]} diverged in it",
            stacklevel=3,
        )
    return results


def _round_length(epochs: Any, steps: Any) -> tuple[str, int]:
    """Returns in what a round is counted, epochs or steps, and how many it has."""
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs_per_round and steps_per_round must be given; got {epochs} and {steps}")
    if epochs is None:
        return "steps", checks.check_count("steps_per_round", steps)
    return "epochs", checks.check_count("epochs_per_round", epochs)


def _options(chunk: Any, memory: Any, directory: Any, progress: Any) -> SearchOptions:
    """Returns the checked options; the directory is made, since a fault of it is to be known before compiling."""
    options = SearchOptions.of(chunk=chunk, memory=memory, directory=directory, progress=progress)
    if options.directory is not None:
        make_directory("directory", options.directory)
    return options


def _pairs(folds: Folds | None, seeds: int) -> FoldAndSeed:
    fold, seed = np.divmod(np.arange((1 if folds is None else len(folds)) * seeds, dtype=np.int32), np.int32(seeds))
    return FoldAndSeed(fold, seed)


def _traced_lanes(
    trial: Trial, numbers: Mapping[str, np.ndarray], length: tuple[str, int], shared: Shared, devices: tuple[Any, ...]
) -> tuple[RungLane, RungLane, Outcome, tuple[Any, ...]]:
    """Returns a lane of the first round and of later ones, the shapes of their outcomes, and what devices they run on.

    Raises:
        ValueError, TypeError: if the trial does not do what a population asks of it.
    """
    row, (unit, count) = {name: column[0] for name, column in numbers.items()}, length
    first = RungLane(trial, {}, 0, count, None, _NEEDS, unit)
    outcome = LaneProgram(first, row, None, shared, devices, trial.function).outcome
    later = RungLane(trial, {}, 0, count, first, _NEEDS, unit)
    program = LaneProgram(later, row, outcome.kept, shared, devices, trial.function)
    if not program.reads_start():
        raise ValueError(f"trial must pass start on to lectopt.train for {_NEEDS}; its run does not depend on it")
    return first, later, outcome, tuple(program.devices)


def _usual(members: int, pairs: int, devices: tuple[Any, ...]) -> int:
    """Returns how many members are trained at once on a device."""
    return max(min(pace(devices).first // pairs, members), 1)


def _fitted(rounds: PopulationRounds, budget: int, trial: Callable[..., Any]) -> RoundProgram:
    """Returns the rounds as a program that fits into memory."""

    def program(at_once: int) -> RoundProgram:
        return RoundProgram(dataclasses.replace(rounds, at_once=at_once), rounds.shared.key, trial)

    count = len(rounds.devices)
    each = -(-rounds.uniforms.shape[1] // count)
    return fitted_count(
        min(rounds.at_once, each),
        program,
        budget,
        devices=count,
        name=lambda _: f"{each} members, and the training of one, on each of {count} device(s)",
    )


def _halved(program: RoundProgram, error: Exception) -> RoundProgram:
    """Returns the same rounds with half as many members at once, after a device ran out of memory."""
    rounds = program.rounds
    warn_of_less(error, "members", rounds.at_once, rounds.at_once // 2)
    return RoundProgram(dataclasses.replace(rounds, at_once=rounds.at_once // 2), rounds.shared.key, program.owner)
