"""What an optimizer's state says about its last step, for the records of a training."""

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
