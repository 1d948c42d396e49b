"""What an optimizer's state says about its last step, for the records of a training."""

from typing import Any

import jax
import optax

from lectopt._internal.types import Array
from lectopt.optim.clipping import ClipByNormState
from lectopt.optim.learning_rate import ScaleByLearningRateState


def step_records(opt_state: optax.OptState) -> dict[str, Array]:
    """Returns the learning rate, and whether the gradient was clipped: each if exactly one link in the chain has it."""
    kinds = (ScaleByLearningRateState, ClipByNormState)
    states = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, kinds))
    rates = [state.step_size for state in states if isinstance(state, ScaleByLearningRateState)]
    clips = [state for state in states if isinstance(state, ClipByNormState)]
    known = {"learning_rate": rates[0]} if len(rates) == 1 else {}
    return known | ({"clipped": clips[0].clipped, "clip_threshold": clips[0].threshold} if len(clips) == 1 else {})


def renew_constants(opt_state: optax.OptState, first: optax.OptState) -> optax.OptState:
    """Returns a state that was left by an optimizer with other constants, for the one whose first state is given.

    Constants are recorded by `init` alone.
    """

    def renew(old: Any, first: Any) -> Any:
        if isinstance(old, ScaleByLearningRateState):
            return old._replace(step_size=first.step_size)
        if isinstance(old, ClipByNormState):
            return old._replace(threshold=first.threshold)
        return old

    kinds = (ScaleByLearningRateState, ClipByNormState)
    return jax.tree.map(renew, opt_state, first, is_leaf=lambda x: isinstance(x, kinds))
