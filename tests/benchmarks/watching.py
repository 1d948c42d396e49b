"""What looking at the layers costs: `python -m tests.benchmarks.watching [--repeats 30]`.

Compiled `lo.train` with `watch=10` against without, in one process, for small and larger networks and for 64 lanes.
"""

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing

EVERY, TARGET = 10, 1.05


def mlp(*widths: int) -> Callable[[nnx.Rngs], nnx.Module]:
    """A model of dense layers with relus between them."""

    def net(rngs):
        layers = [nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths)]
        return nnx.Sequential(*[part for layer in layers[:-1] for part in (layer, nnx.relu)], layers[-1])

    return net


class Convolutions(nnx.Module):
    """Two convolutions with stride 2 and a dense head."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(7 * 7 * 16, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.head(x.reshape(len(x), -1))


def training(net: Any, data: Any, batch: int, steps: int, watch: int | None, lanes: int = 0) -> Callable[[], Any]:
    """One compiled training, or so many side by side."""
    task = lo.classification(net)

    def train(rate):
        return lo.train(task, lo.momentum(rate), data, batch_size=batch, steps=steps, key=0, watch=watch)

    call = jax.jit(jax.vmap(train) if lanes else train)
    rates = jnp.geomspace(1e-3, 1e-1, lanes) if lanes else jnp.float32(0.01)
    return lambda: jax.block_until_ready(call(rates))


def cases() -> dict[str, tuple]:
    """{name: model, data, batch size, steps, lanes}."""
    images, y = lo.datasets.mnist()
    x, digits = images.reshape(-1, 784), lo.datasets.digits()
    return {
        "digits 64-100-10, batch 32": (mlp(64, 100, 10), digits, 32, 6000, 0),
        "MNIST-5k 784-100-10, batch 64": (mlp(784, 100, 10), (x, y), 64, 1200, 0),
        "MNIST-5k 784-256-256-10, batch 128": (mlp(784, 256, 256, 10), (x, y), 128, 300, 0),
        "MNIST-5k convolutions, batch 64": (Convolutions, (images, y), 64, 60, 0),
        "digits, 64 lanes": (mlp(64, 100, 10), digits, 32, 150, 64),
    }


def main() -> None:
    """Prints the ratios and the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30, help="pairs of trainings")
    repeats = parser.parse_args().repeats
    rows = []
    for name, (net, data, batch, steps, lanes) in cases().items():
        calls = {str(w): training(net, data, batch, steps, w, lanes) for w in (EVERY, None)}
        times = timing.alternate(calls, repeats)
        measured = timing.ratio(times[str(EVERY)], times["None"])
        shown = [timing.milliseconds(column) for column in times.values()]
        rows.append([name, str(steps), *shown, str(measured), timing.verdict(measured, TARGET)])
    print(timing.table(["training", "steps", f"ms, watch={EVERY}", "ms, without", "ratio", "at most"], rows))


if __name__ == "__main__":
    main()
