"""What a search prints: before it runs, what it is going to do; after it, what that cost."""

import jax

from lectopt.engine import devices
from lectopt.engine.options import SearchOptions
from lectopt.search.results import Results


def plan(
    shape: tuple[int, int, int], lanes: int, programs: int, rungs: int, retraining: int, options: SearchOptions
) -> str:
    """Returns a line on a search over so many settings, folds and seeds, with so many programs on each rung.

    `retraining` is how many more, at most, retrain what is found.
    """
    settings, folds, seeds = shape
    count = len(options.devices)
    idle = devices.cores() - count if options.devices[0].platform == "cpu" else 0
    hint = f"; {idle} core(s) idle: call lectopt.use_all_cores() first" if idle > 0 else ""
    at_most = "up to " if retraining > 1 else ""
    together = min(max(programs, rungs), devices.cores())
    return (
        f"{settings} settings x {folds} folds x {seeds} seeds: {lanes} trainings in {programs} program(s)"
        f"{f' for each of {rungs} rungs' if rungs > 1 else ''}"
        f"{f', and {at_most}{retraining} to retrain' if retraining else ''}"
        f"{f', {together} compiled at a time,' if together > 1 else ''}"
        f" on {count * jax.process_count()} device(s){hint}"
    )


def costs(results: Results) -> str:
    """Returns a line on the seconds that a search took."""
    return (
        f"  traced in {results.trace_seconds:.1f} s, compiled in {results.compile_seconds:.1f} s (beside each other "
        f"and what ran), ran in {results.run_seconds:.1f} s"
    )
