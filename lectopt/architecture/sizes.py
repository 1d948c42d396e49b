"""The shapes that children are trained in: few, since each is compiled; small, since what is masked costs as much."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lectopt._internal.types import Array
from lectopt.architecture.space import ArchitectureSpace

MOST = 4
"""So many shapes at most."""
COMPILING = 3e10
"""Multiplications of forward passes in the time that one more shape takes to compile: 3 s of a core."""


class Size(NamedTuple):
    """What a masked network is cut to; whatever is beyond it, no architecture of that size has."""

    depth: int
    width: int

    def __str__(self) -> str:
        return f"{self.depth} x {self.width}"


def sizes_worth_compiling(
    space: ArchitectureSpace, inputs: Sequence[int], outputs: int, examples: int
) -> tuple[Size, ...]:
    """Returns the sizes for a search whose children see so many examples in all, from small to large.

    One after the other, that which saves most multiplications for children drawn at random is added, as long as it
    saves more time than it takes to compile. The last one is the largest of the space.
    """
    costs = {
        Size(depth, width): space.masked(depth, width).multiplications(inputs, outputs)
        for depth, width in itertools.product(space.depth, space.width)
    }
    drawn = np.random.default_rng(0).integers(0, space.choices, (256, len(space.choices)))
    needed = [Size(len(a.layers), max(layer.width for layer in a.layers)) for a in map(space.decode, drawn)]

    def mean(sizes: list[Size]) -> float:
        least = [min(costs[s] for s in sizes if s.depth >= n.depth and s.width >= n.width) for n in needed]
        return float(np.mean(least))

    chosen = [max(costs, key=lambda size: (size.depth, size.width))]
    while len(chosen) < min(MOST, len(costs)):
        best = min(costs.keys() - set(chosen), key=lambda size: (mean([*chosen, size]), size))
        if (mean(chosen) - mean([*chosen, best])) * examples < COMPILING:
            break
        chosen.append(best)
    return tuple(sorted(chosen, key=lambda size: (costs[size], size)))


def smallest(sizes: Sequence[Size], depth: Array, width: Array) -> Array:
    """Returns int32[]: which of the sizes, from small to large, is the first with room for so many layers and units."""
    return jnp.argmax((jnp.array([s.depth for s in sizes]) >= depth) & (jnp.array([s.width for s in sizes]) >= width))


def size_of(space: ArchitectureSpace, vector: Array) -> Array:
    """Returns int32[2]: the layers of an architecture, and the units of the widest of them."""
    depth = jnp.asarray(space.values("depth", 0, vector))
    widths = jnp.stack([jnp.asarray(space.values("width", i, vector)) for i in range(1, space.deepest + 1)])
    return jnp.stack([depth, jnp.max(jnp.where(jnp.arange(1, space.deepest + 1) <= depth, widths, 0))])
