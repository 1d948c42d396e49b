"""What `import lectopt` costs over jax, flax.nnx and optax: `python -m tests.benchmarks.imports [--repeats 15]`.

Each import runs in a fresh process, the two in turns.
"""

import argparse
import functools
import subprocess
import sys

import numpy as np

from tests.benchmarks import timing

STATEMENTS = {"lectopt": "import lectopt", "jax, flax.nnx, optax": "import jax, flax.nnx, optax"}
TARGET = 1.10


def main() -> None:
    """Prints the two times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="pairs of processes")
    repeats = parser.parse_args().repeats
    calls = {
        name: functools.partial(subprocess.run, [sys.executable, "-c", statement], check=True)
        for name, statement in STATEMENTS.items()
    }
    times = timing.alternate(calls, repeats)
    ours, theirs = times.values()
    measured = timing.ratio(ours, theirs)
    of_medians = np.median(ours) / np.median(theirs)
    header = [*(f"{name} ms" for name in times), "ratio (quartiles)", "of medians", "at most"]
    row = [*map(timing.milliseconds, times.values()), str(measured), f"{of_medians:.2f}"]
    print(timing.table(header, [[*row, timing.verdict(measured, TARGET)]]))


if __name__ == "__main__":
    main()
