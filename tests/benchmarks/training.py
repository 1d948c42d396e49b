"""One training against a loop written by hand, and `fit` against `train`: `python -m tests.benchmarks.training`.

The digits, an MLP 64-64-10, 20 epochs of batches of 32, momentum. Both sides shuffle each epoch and return the loss and
the gradient's norm of each step. PyTorch's eager loop and scikit-learn's MLPClassifier are for information.

A call of `lo.fit` that compiles nothing any more does what `lo.train` does, compiled, and checks, shows and reads back:
that much longer it may take.

A stream of batches trains at 0.95 of the speed of arrays in memory at least, where a step takes a millisecond or more:
an epoch of 60000 examples, MNIST's 5000 twelve times, since each call begins with some hundredths of a second of its
own. A memory map of 4 GB trains in a process that takes less than 1 GB.

`--only streams`, or another part, prints that part alone.
"""

import argparse
import concurrent.futures
import importlib.util
import multiprocessing
import pathlib
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing
from tests.benchmarks.watching import Convolutions

RATE, MOMENTUM, BATCH, EPOCHS = 0.01, 0.9, 32, 20
TARGET = 1.10
STREAM_TARGET = 1 / 0.95
MAP_BYTES, MOST_BYTES = 4 * 2**30, 10**9
FIT_TARGETS = {"MLP on digits, steps of 30 µs": 1.2, "CNN on MNIST": 1 / 0.9}


def net(rngs: nnx.Rngs) -> nnx.Module:
    """The model of both sides."""
    return nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs))


def ours(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """`lo.train`, compiled."""
    task = lo.classification(net)

    @jax.jit
    def train(key):
        return lo.train(task, lo.momentum(RATE, MOMENTUM), (x, y), batch_size=BATCH, epochs=EPOCHS, key=key)

    return lambda: jax.block_until_ready(train(jax.random.key(0)))


def by_hand(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """What one would write without a library: two scans, and all batches full but the last, which is masked."""
    graphdef, _ = nnx.split(net(nnx.Rngs(0)))
    x, y = jnp.asarray(x), jnp.asarray(y)
    count, steps = len(x), lo.steps_per_epoch(len(x), BATCH)

    @jax.jit
    def train(key):
        params = nnx.as_pure(nnx.split(net(nnx.Rngs(key)))[1])

        def loss(params, rows, weights):
            losses = optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graphdef, params)(x[rows]), y[rows])
            return jnp.sum(losses * weights) / jnp.sum(weights)

        def step(carry, batch):
            params, velocity = carry
            value, gradients = jax.value_and_grad(loss)(params, *batch)
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v - RATE * g, velocity, gradients)
            params = jax.tree.map(jnp.add, params, velocity)
            return (params, velocity), (value, optax.tree.norm(gradients))

        def epoch(carry, key):
            order = jnp.argsort(jax.random.uniform(key, (count,)))  # faster here than jax.random.permutation
            rows = jnp.resize(order, (steps, BATCH))
            weights = (jnp.arange(steps * BATCH) < count).astype(jnp.float32).reshape(steps, BATCH)
            return jax.lax.scan(step, carry, (rows, weights))

        start = (params, jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(epoch, start, jax.random.split(key, EPOCHS))

    return lambda: jax.block_until_ready(train(jax.random.key(0)))


def fit_and_train(net: Any, data: Any, batch_size: int, epochs: int) -> dict[str, Callable[[], Any]]:
    """Both ways of the same training, from arrays that are on the device already."""
    task, data = lo.classification(net), jax.tree.map(jnp.asarray, data)
    options = {"batch_size": batch_size, "epochs": epochs}
    rates = {"learning_rate": RATE, "momentum": MOMENTUM}

    def fit() -> Any:
        run = lo.fit(task, lo.momentum, data, hyperparameters=rates, key=0, progress=False, **options)
        return jax.block_until_ready(run)

    @jax.jit
    def train(data, key):
        return lo.train(task, lo.momentum, data, hyperparameters=rates, key=key, **options)

    return {"lo.fit": fit, "lo.train": lambda: jax.block_until_ready(train(data, jax.random.key(0)))}


def stream_and_memory(net: Any, x: np.ndarray, y: np.ndarray, batch_size: int, epochs: int) -> dict[str, Callable]:
    """The same training on a stream of batches, and on arrays that are on the device already."""
    task, data = lo.classification(net), (jnp.asarray(x), jnp.asarray(y))

    def batches():
        for i in range(0, len(x), batch_size):
            yield x[i : i + batch_size], y[i : i + batch_size]

    stream = lo.stream(batches, lo.steps_per_epoch(len(x), batch_size))
    options = {"hyperparameters": {"learning_rate": RATE, "momentum": MOMENTUM}, "epochs": epochs, "key": 0}

    def fit(train: Any, **more: Any) -> Any:
        return jax.block_until_ready(lo.fit(task, lo.momentum, train, progress=False, **options, **more))

    return {"stream": lambda: fit(stream), "memory": lambda: fit(data, batch_size=batch_size, shuffle=False)}


def wide(rngs: nnx.Rngs) -> nnx.Module:
    """An MLP 784-1024-1024-10."""
    layers = nnx.Linear(784, 1024, rngs=rngs), nnx.relu, nnx.Linear(1024, 1024, rngs=rngs), nnx.relu
    return nnx.Sequential(*layers, nnx.Linear(1024, 10, rngs=rngs))


def torch_eager(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """PyTorch's eager loop, on one thread (more are slower at this size)."""
    import torch  # noqa: PLC0415, optional

    torch.set_num_threads(1)
    x, y = torch.tensor(x), torch.tensor(y, dtype=torch.int64)

    def train():
        model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()

    return train


def sklearn_mlp(x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """scikit-learn's MLPClassifier."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415, optional

    options = {"solver": "sgd", "batch_size": BATCH, "learning_rate_init": RATE, "momentum": MOMENTUM}
    options |= {"nesterovs_momentum": False, "alpha": 0, "max_iter": EPOCHS, "tol": 0, "n_iter_no_change": EPOCHS}

    def train():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged
            MLPClassifier([64], **options).fit(x, y)

    return train


def mapped(path: str) -> tuple[int, int]:
    """Trains on a new memory map, a sparse file; returns its bytes, and the most that this process took (Linux)."""
    x = np.memmap(path, np.float32, "w+", shape=(MAP_BYTES // (784 * 4), 784))
    task = lo.classification(lambda rngs: nnx.Linear(784, 10, rngs=rngs))
    lo.fit(task, lo.sgd(0.1), (x, np.zeros(len(x), np.int32)), batch_size=512, steps=600, key=0, progress=False)
    return x.nbytes, int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def trainings(repeats: int) -> None:
    """Prints what one training takes, beside a loop by hand, PyTorch's and scikit-learn's."""
    data = lo.datasets.digits()
    calls = {"lo.train": ours(*data), "by hand": by_hand(*data)}
    compiling = {name: timing.seconds(call) for name, call in calls.items()}
    times = timing.alternate(calls, repeats)
    measured = timing.ratio(times["lo.train"], times["by hand"])
    for name, package, peer in (("torch eager", "torch", torch_eager), ("sklearn", "sklearn", sklearn_mlp)):
        if importlib.util.find_spec(package):  # apart: its idle threads would spin while the others run
            times |= timing.alternate({name: peer(*data)}, max(3, repeats // 6), warmup=1)
    rows = [
        [name, timing.milliseconds(column), f"{compiling[name]:.1f}" if name in compiling else ""]
        for name, column in times.items()
    ]
    print(timing.table(["one training", "ms", "compile s"], rows))
    print(f"\nlo.train / by hand: {measured}, at most {timing.verdict(measured, TARGET)}\n")


def fits(repeats: int) -> None:
    """Prints how much longer `lo.fit` takes than `lo.train`."""
    cases = [fit_and_train(net, lo.datasets.digits(), BATCH, EPOCHS)]
    cases.append(fit_and_train(Convolutions, lo.datasets.mnist(), 64, 1))
    for (name, target), calls in zip(FIT_TARGETS.items(), cases, strict=True):
        times = timing.alternate(calls, max(3, repeats // 3))
        measured = timing.ratio(times["lo.fit"], times["lo.train"])
        print(f"{name}, lo.fit / lo.train: {measured}, at most {timing.verdict(measured, target)}")


def streams(repeats: int) -> None:
    """Prints how much longer a training takes on a stream than on arrays in memory."""
    images, labels = lo.datasets.mnist()
    images, labels = np.tile(images, (12, 1, 1, 1)), np.tile(labels, 12)
    cases = {
        "MLP 784-1024-1024-10": (wide, images.reshape(len(images), -1), labels, 128, 1),
        "CNN on MNIST": (Convolutions, images, labels, 64, 1),
    }
    for name, case in cases.items():
        times = timing.alternate(stream_and_memory(*case), max(3, repeats // 6), warmup=1)
        measured = timing.ratio(times["stream"], times["memory"])
        step = np.median(times["memory"]) / lo.steps_per_epoch(len(labels), case[3])
        verdict = timing.verdict(measured, STREAM_TARGET)
        print(f"{name}, steps of {1e3 * step:.1f} ms, a stream / in memory: {measured}, at most {verdict}", flush=True)


def maps(_: int) -> None:
    """Prints how much memory a process takes that trains on a large map."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
            size, most = process.submit(mapped, f"{folder}/x").result()
    verdict = "reached" if most < MOST_BYTES else "MISSED"
    print(
        f"a memory map of {size / 1e9:.2f} GB, its process: {most / 1e6:.0f} MB, below {MOST_BYTES / 1e6:.0f} {verdict}"
    )


PARTS = {"trainings": trainings, "fits": fits, "streams": streams, "maps": maps}


def main() -> None:
    """Prints the ratios and the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30, help="pairs of trainings; of longer ones fewer")
    parser.add_argument("--only", choices=PARTS, help="one part")
    options = parser.parse_args()
    for name, part in PARTS.items():
        if options.only in (None, name):
            part(options.repeats)


if __name__ == "__main__":
    main()
