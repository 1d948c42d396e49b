"""A population beside random search and halving, at equal steps: `python -m tests.benchmarks.population [--seeds 20]`.

All three choose a learning rate (and a momentum) by the validation loss of 15 trainings of 18 epochs, or as many steps;
what they chose is scored on test examples that no trial learns from. Members of the population are compared and
replaced after every epoch. Data, splits, settings and keys differ from seed to seed, and are the same for the three.
"""

import argparse
import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing

MEMBERS, EPOCHS = 15, 18
HALVING = lo.Halving(EPOCHS, 3, least=2)
HALVED = 55  # settings; they take as many epochs in all as the members: 55 x 2 + 19 x 4 + 7 x 12 = 15 x 18
PAIRS = 9  # of the cost's two sides


class Problem(NamedTuple):
    """What the three search on: examples to train and validate on, from a seed, and examples to test on."""

    task: lo.Task
    space: dict[str, Any]
    optimizer: Callable[[dict[str, Any]], Any]
    folds: Callable[[int], lo.Folds]
    test: Any
    metric: str


def classes(arrays: Any, tested: int, hidden: int) -> Problem:
    """An MLP whose rate and momentum are searched; the last examples are those of the test."""
    x, y = arrays[0].reshape(len(arrays[0]), -1), arrays[1]

    def net(rngs: nnx.Rngs) -> nnx.Module:
        layers = nnx.Linear(x.shape[1], hidden, rngs=rngs), nnx.relu, nnx.Linear(hidden, 10, rngs=rngs)
        return nnx.Sequential(*layers)

    def folds(seed: int) -> lo.Folds:
        order = np.random.default_rng(seed).permutation(len(x) - tested)
        return lo.from_indices((x[:-tested], y[:-tested]), [np.split(order, [len(order) * 4 // 5])])

    space = {"learning_rate": lo.space.log_uniform(1e-3, 1.0), "momentum": lo.space.uniform(0.0, 0.95)}
    task = lo.classification(net, standardize=True)
    test = x[-tested:], y[-tested:]
    return Problem(task, space, lambda s: lo.momentum(s["learning_rate"], s["momentum"]), folds, test, "accuracy")


def quadratic(rows: int = 8192, dimensions: int = 20, noise: float = 2.0) -> Problem:
    """A quadratic with noisy gradients, whose best rate falls with time: a linear model of targets with noise."""
    scales = np.geomspace(0.2, 1.0, dimensions)

    def draw(seed: int, rows: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(rows, dimensions)) * scales
        y = x.sum(axis=1, keepdims=True) + noise * rng.normal(size=(rows, 1))
        return x.astype(np.float32), y.astype(np.float32)

    def folds(seed: int) -> lo.Folds:
        parts = draw(seed, rows, noise), draw(seed + 1000, 1024, 0.0)
        train, valid = np.split(np.arange(rows + 1024), [rows])
        return lo.from_indices(tuple(map(np.concatenate, zip(*parts, strict=True))), [(train, valid)])

    task = lo.regression(lambda rngs: nnx.Linear(dimensions, 1, use_bias=False, rngs=rngs))
    space = {"learning_rate": lo.space.log_uniform(1e-3, 0.5)}
    test = draw(2000, 4096, 0.0)
    return Problem(task, space, lambda s: lo.sgd(s["learning_rate"]), folds, test, "loss")


def trial_of(problem: Problem) -> Callable[..., lo.Run]:
    """A training of the problem, scored on the test examples too."""

    def trial(setting, train, valid, key, epochs=EPOCHS, start=None):
        optimizer, options = problem.optimizer(setting), {"batch_size": 32, "epochs": epochs, "start": start}
        run = lo.train(problem.task, optimizer, train, valid=valid, key=key, **options)
        tested = {f"test_{name}": value for name, value in run.evaluate(problem.test).items()}
        return dataclasses.replace(run, metrics={**run.metrics, **tested})

    return trial


def compare(problem: Problem, trial: Callable[..., lo.Run], seed: int) -> tuple[list[float], np.ndarray]:
    """The test scores of what the three chose, and the rates of the population's winner, epoch by epoch."""
    folds, settings = problem.folds(seed), lo.sample(problem.space, MEMBERS, key=seed)
    options: dict[str, Any] = {"minimize": "valid_loss", "key": seed, "progress": False}
    bred = lo.population(trial, settings, folds, rounds=EPOCHS, epochs_per_round=1, **options)
    random = lo.cross_validate(trial, settings, folds, **options)
    more = lo.sample(problem.space, HALVED, key=seed)
    halved = lo.cross_validate(trial, more, folds, halving=HALVING, **options)
    name = f"test_{problem.metric}"
    chosen = bred.metrics[name][-1, bred.best_member], *(r.metrics[name][r.best_index] for r in (random, halved))
    return [float(scores.item()) for scores in chosen], np.asarray(bred.schedule("learning_rate").values)


def mean(values: np.ndarray) -> str:
    """The mean and its standard error."""
    return f"{values.mean():.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def row(name: str, problem: Problem, seeds: int) -> list[str]:
    """A row of the table: scores, the population's gain seed by seed, and what became of its rates."""
    trial = trial_of(problem)
    scores, rates = map(np.array, zip(*(compare(problem, trial, seed) for seed in range(seeds)), strict=True))
    sign = -1 if problem.metric == "loss" else 1
    gains = [mean(sign * (scores[:, 0] - scores[:, other])) for other in (1, 2)]
    first, last = (np.exp(np.log(rates[:, part]).mean()) for part in (slice(0, 3), slice(-3, None)))
    fell = int((rates[:, -3:].mean(axis=1) < rates[:, :3].mean(axis=1)).sum())
    found = f"{first:.3f} to {last:.3f}; falls at {fell} of {seeds} seeds"
    return [f"{name}, test {problem.metric}", *map(mean, scores.T), *gains, found]


def cost(members: int = 32) -> np.ndarray:
    """Seconds of a population's rounds, and of as many plain lanes, alternating; compiled before."""
    problem = PROBLEMS["digits"]()
    settings, folds = lo.sample(problem.space, members, key=0), problem.folds(0)
    options: dict[str, Any] = {"minimize": "valid_loss", "key": 0, "progress": False}

    def trial(setting, train, valid, key, epochs=20, start=None):
        optimizer, lengths = problem.optimizer(setting), {"batch_size": 32, "epochs": epochs}
        return lo.train(problem.task, optimizer, train, valid=valid, key=key, start=start, **lengths)

    def pair() -> tuple[float, float]:
        bred = lo.population(trial, settings, folds, rounds=10, epochs_per_round=2, **options)
        return bred.run_seconds, lo.cross_validate(trial, settings, folds, **options).run_seconds

    return np.array([pair() for _ in range(PAIRS + 1)][1:]).T


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "digits": lambda: classes(lo.datasets.digits(), 360, 32),
    "MNIST-1D": lambda: classes(lo.datasets.mnist1d(), 1000, 32),
    "noisy quadratic": quadratic,
}


def main() -> None:
    """Prints the table and the cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    lo.use_all_cores()
    warnings.simplefilter("ignore")
    header = ["problem", "population", "random search", "halving", "gain on random search", "on halving", "its rate"]
    print(timing.table(header, []), flush=True)
    for name, make in PROBLEMS.items():
        print(f"| {' | '.join(row(name, make(), seeds))} |", flush=True)
    bred, plain = cost()
    measured = timing.ratio(bred, plain)
    print(f"\na population of 32 / 32 plain lanes: {measured}, {timing.verdict(measured, 1.1)}; ", end="")
    print(f"{timing.milliseconds(bred)} ms beside {timing.milliseconds(plain)}")


if __name__ == "__main__":
    main()
