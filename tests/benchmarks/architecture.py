"""Children side by side as masks, against each by itself: `python -m tests.benchmarks.architecture [--repeats 3]`.

Two spaces: convolutions on MNIST-1D, dense networks on the digits. Peers build the plain Flax network of each child,
and compile and train it with `lo.train`; they use both cores too, a thread and a device for each. Their seconds are
those of a few children. Seconds of two noisy cores: rely on the ratios.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

import lectopt as lo
from lectopt.architecture.children import Children
from tests.benchmarks import timing

OURS, THEIRS, SEARCHED = 64, 8, 2000
KINDS = {"activation": ["relu", "tanh"], "norm": ["none", "batch"]}
SPACES = {
    "MNIST-1D": lo.ArchitectureSpace(depth=[1, 2, 3], width=[4, 8, 16], kernel_size=[3, 7], strides=2),
    "digits": lo.ArchitectureSpace(depth=[1, 2, 3], width=[16, 32, 64], **KINDS),
}


def examples(name: str) -> Any:
    """The data of a space."""
    whole = lo.datasets.mnist1d() if name == "MNIST-1D" else lo.datasets.digits()
    return lo.holdout(whole, 0.2, key=0, stratify=True)[0]


def measure(name: str, repeats: int) -> None:
    """Prints what the children of one space take."""
    space, rest = SPACES[name], examples(name)
    children = Children.of(space, rest, optimizer=lo.adam(0.003), batch_size=32, epochs=20, folds=0.2, last=5, key=0)
    children = children.sorted_for(SEARCHED)
    rng, key = np.random.default_rng(0), jax.random.key(0)
    vectors = rng.integers(0, space.choices, (OURS, len(space.choices))).astype(np.int32)
    side_by_side = jax.jit(children.__call__)
    compiling = timing.seconds(lambda: side_by_side.lower(vectors, key).compile())
    together = side_by_side.lower(vectors, key).compile()

    def plain(i: int) -> Any:
        network = space.decode(vectors[i]).network(children.shape, children.outputs)
        with jax.default_device(jax.devices()[i % len(jax.devices())]):
            return jax.jit(lambda key: children.score(network, key)).lower(key).compile()

    def on_all_cores(function: Any, arguments: Any) -> list[Any]:
        with ThreadPoolExecutor(len(jax.devices())) as pool:
            return list(pool.map(function, arguments))

    compiled: list[Any] = []
    building = timing.seconds(lambda: compiled.extend(on_all_cores(plain, range(THEIRS)))) / THEIRS

    def run(i: int) -> float:
        device = jax.devices()[i % len(jax.devices())]
        return float(compiled[i](jax.device_put(key, device)))

    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(timing.seconds(lambda: np.asarray(together(vectors, key))) / OURS)
        theirs.append(timing.seconds(lambda: on_all_cores(run, range(THEIRS))) / THEIRS)
    mine, alone = float(np.median(ours)), float(np.median(theirs))
    ratio = float(np.median(np.array(theirs) / np.array(ours)))
    print(f"\n{name}: {space!r}")
    speed = f"{1 / mine:.3g} children/s, compiled once in {compiling:.1f} s"
    print(f"  side by side: {speed}; {children.waste(vectors):.0%} of the work is masked")
    print(f"  each by itself: {alone:.2f} s, and {building:.2f} s to compile each one")
    print(f"  faster by {ratio:.1f} without compiling, {(building + alone) / mine:.0f} with theirs,", end=" ")
    print(f"{(building + alone) / (mine + compiling / OURS):.0f} with theirs and ours ({OURS} children)")


def main() -> None:
    """Measures both spaces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    lo.use_all_cores()
    for name in SPACES:
        measure(name, repeats)


if __name__ == "__main__":
    main()
