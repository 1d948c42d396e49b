"""An MLP that computes in bfloat16, beside float32 and beside PyTorch's autocast."""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lectopt as lo
from tests.benchmarks import timing
from tests.benchmarks.device.rows import Row, alternate, at_most
from tests.benchmarks.device.scale import Scale
from tests.benchmarks.watching import mlp

BATCH, RATE, MOMENTUM = 256, 0.01, 0.9
LIMIT = 1.0  # of the time that the others take


def half_precision(scale: Scale) -> Iterator[Row]:
    """The time of one epoch in bfloat16, over that of the others."""
    rng, width = np.random.default_rng(0), scale.width
    x = rng.normal(size=(scale.examples, width)).astype(np.float32)
    y = rng.integers(0, 10, scale.examples).astype(np.int32)
    layers = [width, width, width, 10]
    calls = {"float32": ours(layers, x, y, None), "bfloat16": ours(layers, x, y, jnp.bfloat16)}
    if importlib.util.find_spec("torch"):
        calls["PyTorch's autocast"] = autocast(layers, x, y)
    times = alternate(calls, scale.pairs)
    for name in list(calls)[::2]:
        note = f"{1e3 * np.median(times['bfloat16']):.0f} ms beside {1e3 * np.median(times[name]):.0f}"
        yield at_most(
            f"an epoch in bfloat16, MLP of {width} units, / {name}",
            timing.ratio(times["bfloat16"], times[name]),
            LIMIT,
            note,
        )


def ours(layers: list[int], x: np.ndarray, y: np.ndarray, compute_dtype: Any) -> Callable[[], Any]:
    """`lo.train`, compiled."""
    task, data = lo.classification(mlp(*layers), compute_dtype=compute_dtype), (jnp.asarray(x), jnp.asarray(y))

    @jax.jit
    def train(data, key):
        return lo.train(task, lo.momentum(RATE, MOMENTUM), data, batch_size=BATCH, epochs=1, key=key).params

    return lambda: jax.block_until_ready(train(data, jax.random.key(0)))


def autocast(layers: list[int], x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """PyTorch's loop, on the accelerator if it sees one."""
    import torch  # noqa: PLC0415, optional

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.tensor(x, device=device), torch.tensor(y, dtype=torch.int64, device=device)

    def train() -> None:
        torch.manual_seed(0)
        pairs = itertools.pairwise(layers)
        parts = [part for a, b in pairs for part in (torch.nn.Linear(a, b, device=device), torch.nn.ReLU())]
        model = torch.nn.Sequential(*parts[:-1])
        optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
        for rows in torch.randperm(len(x), device=device).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return train
