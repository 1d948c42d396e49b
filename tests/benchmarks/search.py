"""A cross-validated search against its peers: `python -m tests.benchmarks.search [--settings 64] [--many 4096]`.

The digits, an MLP 64-64-10, 20 epochs of batches of 32, settings of learning rate and momentum x 5 stratified folds,
the same for all. Peers that would take minutes run a part of the settings, and their time is scaled; the
table says how many they ran. Seconds of two noisy cores: rely on the ratios.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing

BATCH, EPOCHS, FOLDS = 32, 20, 5


def net(rngs: nnx.Rngs) -> nnx.Module:
    """The model of all."""
    return nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs))


def problem(count: int) -> tuple[lo.Folds, dict[str, np.ndarray]]:
    """Folds and settings."""
    folds = lo.stratified_k_fold(lo.datasets.digits(), FOLDS, key=0)
    space = {"learning_rate": lo.space.log_uniform(1e-3, 0.5), "momentum": lo.space.uniform(0.0, 0.95)}
    return folds, lo.sample(space, count, key=0)


def make_trial() -> Callable[..., lo.Run]:
    """A new function each time, so that nothing is compiled for it yet."""
    task = lo.classification(net)

    def trial(setting, train, valid, key, epochs=EPOCHS, start=None):
        optimizer = lo.momentum(setting["learning_rate"], setting["momentum"])
        return lo.train(task, optimizer, train, valid=valid, batch_size=BATCH, epochs=epochs, key=key, start=start)

    return trial


def search(count: int, **options: Any) -> lo.Results:
    """Ours."""
    folds, settings = problem(count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lo.cross_validate(make_trial(), settings, folds, minimize="valid_loss", key=0, progress=False, **options)


def one_lane_at_a_time(count: int) -> tuple[float, float]:
    """The same trainings, compiled once and called one after the other: seconds to compile, and to run."""
    folds, settings = problem(count)
    trial = make_trial()

    @jax.jit
    def lane(setting, fold):
        run = trial(setting, *folds.at(fold), jax.random.fold_in(jax.random.key(0), fold))
        return run.metrics

    def call(i, fold):
        return jax.block_until_ready(lane({name: column[i] for name, column in settings.items()}, np.int32(fold)))

    compiling = timing.seconds(lambda: call(0, 0))
    return compiling, timing.seconds(lambda: [call(i, fold) for i in range(count) for fold in range(FOLDS)])


def sklearn_search(count: int) -> float:
    """RandomizedSearchCV over the same settings, two processes."""
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV  # noqa: PLC0415, optional
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    folds, settings = problem(count)
    x, y = lo.datasets.digits()
    part = np.empty(len(x), int)
    for i, (_, valid) in enumerate(folds):
        part[np.asarray(valid.indices)] = i
    fixed = {"solver": "sgd", "batch_size": BATCH, "nesterovs_momentum": False, "alpha": 0, "max_iter": EPOCHS}
    model = MLPClassifier([64], **fixed, tol=0, n_iter_no_change=EPOCHS)
    rows = zip(settings["learning_rate"].tolist(), settings["momentum"].tolist(), strict=True)
    lists = [{"learning_rate_init": [rate], "momentum": [momentum]} for rate, momentum in rows]
    options = {"cv": PredefinedSplit(part), "scoring": "neg_log_loss", "n_jobs": 2, "refit": False, "random_state": 0}

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            RandomizedSearchCV(model, lists, n_iter=count, **options).fit(x, y)

    os.environ["PYTHONWARNINGS"] = "ignore"  # of its workers: that 20 epochs have not converged
    return timing.seconds(run)


def _torch_worker(path: str, count: int) -> None:
    import optuna  # noqa: PLC0415, optional
    import torch  # noqa: PLC0415
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    x, y = lo.datasets.digits()
    folds, _ = problem(1)

    def tensors(part):
        rows = np.asarray(part.indices)
        return torch.tensor(x[rows]), torch.tensor(y[rows], dtype=torch.int64)

    parts = [(tensors(train), tensors(valid)) for train, valid in folds]

    def objective(trial):
        rate, momentum = trial.suggest_float("rate", 1e-3, 0.5, log=True), trial.suggest_float("momentum", 0.0, 0.95)
        losses = []
        for (xt, yt), (xv, yv) in parts:
            model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
            optimizer = torch.optim.SGD(model.parameters(), rate, momentum)
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(xt)).split(BATCH):
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(xt[rows]), yt[rows]).backward()
                    optimizer.step()
                with torch.no_grad():
                    loss = torch.nn.functional.cross_entropy(model(xv), yv).item()
            losses.append(loss)
        return float(np.nan_to_num(np.mean(losses), nan=1e30))

    storage = optuna.storages.JournalStorage(JournalFileBackend(path))
    sampler = optuna.samplers.RandomSampler()
    optuna.load_study(study_name="s", storage=storage, sampler=sampler).optimize(objective, n_trials=count)


def optuna_and_torch(count: int) -> float:
    """Optuna with PyTorch's eager loop, in two processes that share a journal; importing is not counted."""
    import optuna  # noqa: PLC0415, optional
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "journal")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(JournalFileBackend(path)))
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            pool.starmap(_torch_worker, [(path, 1)] * 2)  # imports and warms up
            return timing.seconds(lambda: pool.starmap(_torch_worker, [(path, count // 2)] * 2, chunksize=1))


def optuna_and_optax(count: int) -> float:
    """Optuna with Optax as its users write it: the optimizer made in the objective, a jitted step in a Python loop."""
    import optax  # noqa: PLC0415
    import optuna  # noqa: PLC0415, optional

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folds, _ = problem(1)
    parts = [(train.examples(), valid.examples()) for train, valid in folds]

    def objective(trial):
        rate, momentum = trial.suggest_float("rate", 1e-3, 0.5, log=True), trial.suggest_float("momentum", 0.0, 0.95)
        losses = []
        for (xt, yt), (xv, yv) in parts:
            model = net(nnx.Rngs(0))
            optimizer = nnx.Optimizer(model, optax.sgd(rate, momentum), wrt=nnx.Param)

            def loss(model, x, y):
                return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

            @nnx.jit
            def step(model, optimizer, x, y, loss=loss):
                optimizer.update(model, nnx.grad(loss)(model, x, y))

            rng = np.random.default_rng(0)
            for _ in range(EPOCHS):
                order = rng.permutation(len(xt))
                for at in range(0, len(xt), BATCH):
                    rows = order[at : at + BATCH]
                    step(model, optimizer, xt[rows], yt[rows])
                valid_loss = float(loss(model, xv, yv))
            losses.append(valid_loss)
        return float(np.nan_to_num(np.mean(losses), nan=1e30))

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return timing.seconds(lambda: study.optimize(objective, n_trials=count))


def against(ours: lo.Results, count: int) -> list[list[str]]:
    """A row for each peer: its seconds for all settings, and how many times as long as ours that is."""
    peers = [
        ("scikit-learn RandomizedSearchCV(MLPClassifier, n_jobs=2)", sklearn_search, count, 10),
        ("Optuna + PyTorch eager, two processes", optuna_and_torch, max(count // 4, 2), 8),
        ("Optuna + Optax, jitted step in a Python loop", optuna_and_optax, max(count // 32, 1), 100),
    ]
    rows = []
    for name, peer, part, target in peers:
        seconds = peer(part) * count / part
        rows.append(_row(name, seconds, part, ours, target))
    _, seconds = one_lane_at_a_time(count)
    rows.append(_row("the same `train`, compiled once, one lane at a time", seconds, count, ours, 3))
    return rows


def _row(name: str, seconds: float, part: int, ours: lo.Results, target: float) -> list[str]:
    whole = ours.run_seconds + ours.compile_seconds + ours.trace_seconds
    ratio, counted = seconds / ours.run_seconds, seconds / whole
    return [name, f"{seconds:.1f}", str(part), f"{ratio:.1f}", f"{counted:.1f}", f"{target:g}"]


def main() -> None:
    """Prints the tables."""
    lo.use_all_cores()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=int, default=64)
    parser.add_argument("--many", type=int, default=4096, help="settings in the large search; 0 leaves it out")
    arguments = parser.parse_args()
    count = arguments.settings

    runs = [search(count) for _ in range(3)]
    ours = sorted(runs, key=lambda run: run.run_seconds)[1]
    print(
        f"lectopt: {count} x {FOLDS} trainings in {ours.run_seconds:.2f} s; traced in {ours.trace_seconds:.1f} s, "
        f"compiled in {ours.compile_seconds:.1f} s"
    )
    header = ["against", "seconds", "settings run", "x ours", "x ours with compiling", "target"]
    print(timing.table(header, against(ours, count)))

    halved = sorted((search(count, halving=lo.Halving(EPOCHS)) for _ in range(3)), key=lambda run: run.run_seconds)[1]
    apart = ours.mean()[halved.best_index] - ours.mean()[ours.best_index]
    print(
        f"\nhalving: {halved.run_seconds / ours.run_seconds:.2f} of the time (target 0.45), compiled in "
        f"{halved.compile_seconds:.1f} s; its winner is {apart:.4f} from the best, whose standard error is "
        f"{ours.sem()[ours.best_index]:.4f}"
    )
    if arguments.many:
        began = time.perf_counter()
        large = search(arguments.many)
        each = large.run_seconds / arguments.many, ours.run_seconds / count
        print(
            f"{arguments.many} settings: {1e3 * each[0] / FOLDS:.1f} ms a lane against {1e3 * each[1] / FOLDS:.1f} ms: "
            f"{each[0] / each[1]:.2f} (target 1.2); {time.perf_counter() - began:.0f} s in all, of which "
            f"{large.compile_seconds:.1f} s compiling"
        )


if __name__ == "__main__":
    main()
