"""All that is to be seen on a device, in eight minutes: `python -m tests.benchmarks.device`.

Optimizer steps, trainings and searches as ratios with their limits beside, whether donation keeps the numbers, the
main job, and the numeric part of the tests: one Markdown table. What finds no time any more is skipped, with a word. A
device that copies slowly, such as a CPU, gets smaller sizes.
"""

import argparse
import datetime
import functools
import os
import warnings

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # other processes need memory of the device too

import flax
import jax
import jaxlib
import optax

from tests.benchmarks import steps, timing
from tests.benchmarks.device import (
    aliasing,
    commands,
    optimizer_rows,
    precision_rows,
    scale,
    search_rows,
    training_rows,
)
from tests.benchmarks.device.rows import Clock

FOR_COMMANDS = 190.0
"""Seconds of all that are kept for the main job and the tests."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=470, help="in all")
    clock = Clock(parser.parse_args().seconds)
    warnings.simplefilter("ignore")
    sizes = scale.measure()
    called = [(f"{name}, called", 15, functools.partial(optimizer_rows.called, name, sizes)) for name in steps.CASES]
    looped = [
        (f"{name}, in a loop", 15, functools.partial(optimizer_rows.looped, name, sizes))
        for name in optimizer_rows.IN_A_LOOP
    ]
    fits = [
        (f"second lo.fit, {kind}", 25, functools.partial(training_rows.second_fit, kind, sizes))
        for kind in ("CNN", "MLP")
    ]
    rows = clock.collect(
        [
            ("donation", 5, aliasing.checks),
            *looped,
            *called,
            *fits,
            ("half precision", 25, functools.partial(precision_rows.half_precision, sizes)),
            ("large search", 30, functools.partial(search_rows.large_search, sizes)),
            ("first search of a process", 45, functools.partial(search_rows.first_search, 60)),
            ("many leaves", 30, functools.partial(optimizer_rows.many_leaves, sizes)),
        ],
        reserve=FOR_COMMANDS,
    )
    jobs = [("python -m lectopt", 90, functools.partial(commands.main_job, 95))]
    rows += clock.collect(jobs, reserve=60)
    rows += clock.collect([("tests", 45, lambda: commands.suite(clock.left - 5))], reserve=0)
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (jax, jaxlib, flax, optax))
    print(f"\n{jax.devices()[0].device_kind}, {datetime.date.today()}, {versions}; ", end="")
    print(f"a plain copy moves {sizes.bandwidth / 1e9:.0f} GB/s; {sizes.parameters / 1e6:.1f} M parameters\n")
    print(timing.table(["what", "measured", "limit", ""], rows))


if __name__ == "__main__":
    main()
