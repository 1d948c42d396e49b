"""What a pre-training gives back."""

import dataclasses
from collections import OrderedDict
from typing import Any

import jax

from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.tasks.task import Task
from lectopt.training.history import History
from lectopt.training.starting import Start


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network that was trained without labels: what `lo.pretrain_layers` and `lo.pretrain_encoder` return.

    It is a pytree: `jit(vmap(pretrain))` returns one whose arrays have a leading axis.

    Attributes:
        params: the parameters of the network.
        model_state: its other state: `model_state.variables` such as batch statistics, and `model_state.inputs`, by
            which inputs are standardized.
        histories: the `History` of each stage, under the path of its layer or, for an encoder, "network". The loss is
            the squared error of the reconstruction, averaged over examples and numbers.
        task: the `Task` whose network it is.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def encoder(rngs):
        ...     return nnx.Linear(4, 2, rngs=rngs)
        >>> (x, _), adam = lo.datasets.iris(), lo.adam(1e-3)
        >>> pretrained = lo.pretrain_encoder(encoder, x, adam, batch_size=30, epochs=1, key=0)  # doctest: +SKIP
        >>> pretrained.model(x).shape  # doctest: +SKIP
        (150, 2)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (further
    techniques); Vincent, Larochelle, Lajoie, Bengio and Manzagol (2010), "Stacked denoising autoencoders: learning
    useful representations in a deep network with a local denoising criterion", Journal of Machine Learning Research 11.
    """

    params: Params
    model_state: ModelState
    histories: OrderedDict[str, History]
    task: Task = dataclasses.field(metadata={"static": True})

    @property
    def start(self) -> Start:
        """What `lo.fit` and `lo.train` take as `start=pretrained.start`: the parameters and the other state of the
        network.
        """
        return Start(self.params, self.model_state.variables, self.model_state.inputs)

    @property
    def model(self) -> Any:
        """The trained network in evaluation mode: an `nnx.Module`, or (params, variables) for a Linen module."""
        return self.task.present(self.params, self.model_state)

    def __repr__(self) -> str:
        return f"Pretrained({', '.join(self.histories)})"
