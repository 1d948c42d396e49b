"""Optimizer steps against Optax's: `python -m tests.benchmarks.steps [--tree gpt2] [--only adam] [--repeats 30]`.

One step is `update` and `apply_updates`, compiled, with parameters and state donated and the gradients given, on trees
with the shapes of real models (float32). Both sides run in one process, in turns. PyTorch's fused Adam, where it is
installed, and the times of compiling (the first call) are for information.
"""

import argparse
import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import lectopt as lo
from tests.benchmarks import timing

RATE = 1e-3

# Each optimizer, its Optax counterpart (for AdaGrad, none is equal: the nearest), and the ratio to reach.
CASES = {
    "clip + adam": (
        optax.chain(lo.clip_by_norm(1.0), lo.adam(RATE)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE)),
        0.55,
    ),
    "sgd": (lo.sgd(RATE), optax.sgd(RATE), 1.05),
    "momentum": (lo.momentum(RATE), optax.chain(optax.scale_by_learning_rate(RATE), optax.trace(0.9)), 1.05),
    "nesterov": (
        lo.nesterov(RATE),
        optax.chain(optax.scale_by_learning_rate(RATE), optax.trace(0.9, nesterov=True)),
        1.05,
    ),
    "adagrad": (lo.adagrad(RATE), optax.adagrad(RATE), 1.05),
    "rmsprop": (lo.rmsprop(RATE), optax.rmsprop(RATE, decay=0.9, eps=1e-6), 1.05),
    "rmsprop_nesterov": (
        lo.rmsprop_nesterov(RATE),
        optax.rmsprop(RATE, decay=0.9, eps=1e-6, momentum=0.9, nesterov=True),
        1.05,
    ),
    "adam": (lo.adam(RATE), optax.adam(RATE), 1.05),
}


def gpt2() -> list[tuple[int, ...]]:
    """GPT-2 small: 124 M parameters in 148 leaves."""
    width = 768
    norm = [(width,), (width,)]
    attention = [(width, 3 * width), (3 * width,), (width, width), (width,)]
    mlp = [(width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    return [(50257, width), (1024, width), *12 * (norm + attention + norm + mlp), *norm]


def resnet50() -> list[tuple[int, ...]]:
    """ResNet-50: 25.6 M parameters in 161 leaves."""

    def convolution(size: int, inputs: int, outputs: int) -> list[tuple[int, ...]]:
        return [(size, size, inputs, outputs), (outputs,), (outputs,)]  # with the scale and bias of its BatchNorm

    shapes, inputs = convolution(7, 3, 64), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += convolution(1, inputs, width) + convolution(3, width, width) + convolution(1, width, 4 * width)
            shapes += convolution(1, inputs, 4 * width) if block == 0 else []
            inputs = 4 * width
    return [*shapes, (inputs, 1000), (1000,)]


def many() -> list[tuple[int, ...]]:
    """3.5 M parameters in 1000 equal leaves."""
    return 1000 * [(3500,)]


NO_TARGET = {("clip + adam", "resnet50"), ("clip + adam", "many")}

TREES = {"gpt2": gpt2, "resnet50": resnet50, "many": many}


def jax_step(
    optimizer: optax.GradientTransformation, gradients: list[jax.Array], in_flight: int = 1
) -> Callable[[], None]:
    """Training steps, called as a training loop calls them, so many before it waits; the first call compiles them."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.zeros_like, gradients)
    carried = [params, jax.jit(optimizer.init)(params)]

    def call() -> None:
        for _ in range(in_flight):
            carried[:] = step(*carried, gradients)
        jax.block_until_ready(carried)

    return call


def torch_step(shapes: list[tuple[int, ...]], in_flight: int = 1, device: str = "cpu") -> Callable[[], Any]:
    """Steps of PyTorch's fused Adam."""
    torch = importlib.import_module("torch")
    params = [torch.zeros(shape, requires_grad=True, device=device) for shape in shapes]
    for p in params:
        p.grad = 0.01 * torch.randn(p.shape, device=device)
    step = torch.optim.Adam(params, RATE, fused=True).step

    def call() -> None:
        for _ in range(in_flight):
            step()
        if device != "cpu":
            torch.cuda.synchronize()

    return call


def compare(name: str, tree: str, repeats: int) -> list[str]:
    """The row of one optimizer on one tree."""
    *optimizers, target = CASES[name]
    shapes = TREES[tree]()
    keys = jax.random.split(jax.random.key(0), len(shapes))
    gradients = [0.01 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    steps = {peer: jax_step(o, gradients) for peer, o in zip(("lectopt", "optax"), optimizers, strict=True)}
    compiling = [timing.seconds(step) for step in steps.values()]
    times = timing.alternate(steps, repeats)
    if name == "adam" and importlib.util.find_spec("torch"):  # apart: its idle threads spin in the step that follows
        times |= timing.alternate({"torch": torch_step(shapes)}, repeats)
    measured = timing.ratio(times["lectopt"], times["optax"])
    return [
        name,
        *(timing.milliseconds(times[peer]) if peer in times else "" for peer in ("lectopt", "optax", "torch")),
        str(measured),
        "" if (name, tree) in NO_TARGET else timing.verdict(measured, target),
        " / ".join(f"{s:.1f}" for s in compiling),
    ]


def main() -> None:
    """Prints one table a tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="OPTIMIZER")
    parser.add_argument("--repeats", type=int, default=30, help="pairs of steps")
    options = parser.parse_args()
    header = ["step", "lectopt ms", "optax ms", "torch ms", "ratio (quartiles)", "at most", "compile s"]
    for tree in options.tree:
        rows = [compare(name, tree, options.repeats) for name in options.only]
        print(f"\n{TREES[tree].__doc__}\n\n{timing.table(header, rows)}", flush=True)


if __name__ == "__main__":
    main()
