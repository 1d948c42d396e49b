"""A second `lo.fit` against `lo.train`, compiled: what its checks, its chunks and its reading back cost."""

import itertools
from collections.abc import Iterator

import numpy as np
from flax import nnx

import lectopt as lo
from tests.benchmarks import timing
from tests.benchmarks.device.rows import Row, alternate, at_least
from tests.benchmarks.device.scale import Scale
from tests.benchmarks.training import fit_and_train
from tests.benchmarks.watching import mlp

BATCH, EPOCHS = 256, 3


class Convolutional(nnx.Module):
    """Three convolutions with batch normalization, each followed by pooling, and a dense head."""

    def __init__(self, widths: tuple[int, ...], rngs: nnx.Rngs):
        pairs = itertools.pairwise((3, *widths))
        self.convolutions = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in pairs])
        self.norms = nnx.List([lo.BatchNorm(b, rngs=rngs) for b in widths])
        self.head = nnx.Linear(widths[-1], 10, rngs=rngs)

    def __call__(self, x):
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.max_pool(nnx.relu(norm(convolution(x))), (2, 2), strides=(2, 2))
        return self.head(x.mean(axis=(1, 2)))


def second_fit(kind: str, scale: Scale) -> Iterator[Row]:
    """The speed of `lo.fit` relative to `lo.train`, for the "CNN" or the "MLP"."""
    rng, width = np.random.default_rng(0), scale.width
    shape = (scale.side, scale.side, 3) if kind == "CNN" else (width // 2,)
    x = rng.normal(size=(scale.examples, *shape)).astype(np.float32)
    y = rng.integers(0, 10, scale.examples).astype(np.int32)

    def convolutional(rngs):
        return Convolutional(scale.widths, rngs)

    net = convolutional if kind == "CNN" else mlp(width // 2, width, width, width, 10)
    times = alternate(fit_and_train(net, (x, y), BATCH, EPOCHS), scale.pairs)
    fit, train = (float(np.median(times[name])) for name in ("lo.fit", "lo.train"))
    speed = EPOCHS * scale.examples / fit
    note = f"{speed:.0f} examples/s; a call costs {1e3 * (fit - train):.1f} ms beside {1e3 * train:.0f}"
    share = 1 / timing.ratio(times["lo.fit"], times["lo.train"]).median
    yield at_least(f"second lo.fit, {kind}, speed / lo.train compiled", share, 0.9, note)
