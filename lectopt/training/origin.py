"""What a training starts from, beside its examples and its key."""

from typing import NamedTuple

import optax

from lectopt.norms.moments import Moments
from lectopt.tasks.models import Params, State


class Origin(NamedTuple):
    """Where to start from; None is drawn, learned from the training examples, or made, afresh."""

    params: Params | None = None
    variables: State | None = None
    inputs: Moments | None = None
    opt_state: optax.OptState | None = None  # `Bare` after `load`

    @property
    def known(self) -> bool:
        """Whether the training starts from parameters that were given."""
        return self.params is not None
