"""How large the measurements are: by how fast the device copies."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tests.benchmarks import steps, timing

Shapes = list[tuple[int, ...]]
_FAST = 3e11
"""Bytes a second, above which a device takes the sizes of an accelerator."""


class Scale(NamedTuple):
    """The sizes of what is measured."""

    bandwidth: float  # bytes a second, read and written, of a plain copy
    tree: Shapes
    many: Shapes  # small leaves
    in_flight: int  # steps, called before waiting or inside of one program
    pairs: int  # of measurements
    settings: int  # of the large search
    examples: int  # of the trainings
    side: int  # of the images
    widths: tuple[int, int, int]  # of the CNN
    width: int  # of the MLP

    @property
    def parameters(self) -> int:
        """How many there are in the tree."""
        return sum(map(math.prod, self.tree))


def measure() -> Scale:
    """The scale for this device."""
    bandwidth = copy_bandwidth(1 << 26, 4)
    if bandwidth > _FAST:
        bandwidth = copy_bandwidth(1 << 28, 20)
        return Scale(bandwidth, steps.gpt2(), steps.many(), 50, 7, 4096, 20_000, 32, (64, 128, 256), 2048)
    small = [(-(-rows // 8), *rest) for rows, *rest in steps.gpt2()[::4]]
    return Scale(bandwidth, small, steps.many()[:100], 5, 5, 64, 512, 16, (4, 8, 8), 256)


def copies(numbers: int, calls: int) -> Callable[[], None]:
    """So many float32 numbers read and written so many times, in place: a copy to new memory would have to get it."""
    count = jax.jit(lambda x: jax.lax.fori_loop(0, calls, lambda _, x: x + 1, x), donate_argnums=0)
    carried = [jnp.ones(numbers)]

    def call() -> None:
        carried[0] = jax.block_until_ready(count(carried[0]))

    return call


def copy_bandwidth(numbers: int, calls: int) -> float:
    """Bytes a second of copies, read and written, the best of some times."""
    return 8 * numbers * calls / timing.alternate({"copy": copies(numbers, calls)}, 10)["copy"].min()
