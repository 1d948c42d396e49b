"""`python -m lectopt`: the main job, and others by name."""

import argparse
from collections.abc import Callable
from pathlib import Path

from lectopt.engine.devices import use_all_cores
from lectopt.jobs.architecture import architecture_job
from lectopt.jobs.compiling import compile_for_short_runs
from lectopt.jobs.main import main_job
from lectopt.jobs.pretrain import pretrain_job
from lectopt.jobs.rate import rate_job


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; got {value}")
        return value

    return parse


def main() -> None:
    """Reads the command line and runs a job."""
    parser = argparse.ArgumentParser(
        prog="python -m lectopt",
        description="Compares the lecture's training algorithms on real handwritten digits: each one's learning "
        "rate chosen by cross-validation in one compiled program.",
    )
    parser.add_argument(
        "job",
        nargs="?",
        choices=["architecture", "pretrain"],
        help="architecture: search for a small convolutional network, and rank what each way of searching finds; "
        "pretrain: what pre-training without labels, and a network for a similar task, are worth with few labels",
    )
    parser.add_argument("--output", type=Path, default=Path("lectopt-output"), help="folder for the pictures")
    parser.add_argument("--epochs", type=_at_least(1), default=30, help="passes through the data (default 30)")
    parser.add_argument("--rates", type=_at_least(2), default=19, help="learning rates for each algorithm (default 19)")
    parser.add_argument(
        "--rate", action="store_true", help="only suggest a learning rate for each algorithm, by its first iterations"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0, help="for split, weights and shuffling (default 0)")
    arguments = parser.parse_args()
    use_all_cores()
    if arguments.job is None:
        compile_for_short_runs()
    if arguments.job == "architecture":
        architecture_job(arguments.output, arguments.seed)
    elif arguments.job == "pretrain":
        pretrain_job(arguments.output, arguments.seed)
    elif arguments.rate:
        rate_job(arguments.output, arguments.seed)
    else:
        main_job(arguments.output, arguments.epochs, arguments.rates, arguments.seed)


if __name__ == "__main__":
    main()
