"""What a pre-training gives back."""

import dataclasses
from collections import OrderedDict
from typing import Any

import jax

from lectopt.tasks.models import Params
from lectopt.tasks.task import ModelState, Task
from lectopt.training.history import History
from lectopt.training.origin import Origin


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network that was trained without labels. A pytree: `jit(vmap(pretrain))` returns one with a leading axis."""

    params: Params
    """The network's parameters."""
    model_state: ModelState
    """Its `variables` are the network's others, such as batch statistics; its `inputs` how they are standardised."""
    histories: OrderedDict[str, History]
    """The training of each stage: by the name of the layer, or "network". The loss is the mean squared error of what
    was rebuilt, per number."""
    task: Task = dataclasses.field(metadata={"static": True})
    """The task whose network it is."""

    @property
    def start(self) -> Origin:
        """Give it to `fit` or `train`: `start=pretrained.start`."""
        return Origin(self.params, self.model_state.variables, self.model_state.inputs)

    @property
    def model(self) -> Any:
        """The nnx.Module in evaluation mode; (params, variables) for Linen modules."""
        return self.task.present(self.params, self.model_state)

    def __repr__(self) -> str:
        return f"Pretrained({', '.join(self.histories)})"
