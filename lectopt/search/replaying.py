"""One lane of a search, run again alone."""

import dataclasses
from typing import Any

import jax
import numpy as np

from lectopt.engine.lanes import FoldAndSeed, Shared, Trial
from lectopt.search.halving import RungLane
from lectopt.search.settings import Settings, group_of


@dataclasses.dataclass(frozen=True)
class Replay:
    """What a replay needs of a search: it outlives the search, whose programs go."""

    trial: Trial
    settings: Settings
    shared: Shared
    halving: list[tuple[int, int]] | None  # its rungs
    rungs: np.ndarray  # int32[settings], how many of them each setting took

    def __call__(self, row: int, fold: int, seed: int) -> Any:
        """Returns what the trial returns for one lane."""
        if not self.rungs[row]:
            raise ValueError(f"setting must have been run; the search was interrupted before setting {row}")
        static = group_of(self.settings, row).static
        arguments = self.settings.numbers(row), FoldAndSeed(np.int32(fold), np.int32(seed)), self.shared
        if self.halving is None:
            call = jax.jit(lambda numbers, pair, shared: self.trial.call({**static, **numbers}, pair, shared))
            return call(*arguments)
        numbers, pair, shared = arguments
        run, done = None, 0
        for rung, (epochs, _) in enumerate(self.halving[: self.rungs[row]]):
            lane = RungLane(self.trial, static, rung, epochs - done, None)
            run, done = jax.jit(lane.run)(numbers, pair, run, shared), epochs
        return run
