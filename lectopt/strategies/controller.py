"""The recurrent controller: an LSTM that chooses option after option, each from what it chose before."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lectopt._internal.types import Array
from lectopt.strategies.choices import Decisions


class ControllerOutputs(NamedTuple):
    """A vector of choices, and how likely the controller found each option."""

    vector: Array  # int32[decisions]
    log_probabilities: Array  # float32[decisions, most options], of each option after the choices before it


class ControllerNetwork(nnx.Module):
    r"""Stacked LSTM layers, an input and a softmax for each decision.

    .. math:: h_t = \operatorname{LSTM}(E_t[a_{t-1}], h_{t-1}), \qquad P(a_t \mid a_{<t}) = \operatorname{softmax}(W_t
        h_t + b_t)

    Of a decision with an anchor u, whether to connect to what was decided at u:

    .. math:: P(a_t = 1 \mid a_{<t}) = \operatorname{sigmoid}(v^\top \tanh(W_{prev} h_u + W_{curr} h_t))

    Source: Zoph and Le (2016), sections 3.1 and 3.3.
    """

    def __init__(self, decisions: Decisions, units: int, layers: int, init_scale: float, rngs: nnx.Rngs):
        def uniform(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -init_scale, init_scale)

        def parameter(*shape: int) -> nnx.Param[Any]:
            return nnx.Param(uniform(rngs.params(), shape))

        count, most = len(decisions.options), decisions.most
        inits: dict[str, Any] = {"kernel_init": uniform, "recurrent_kernel_init": uniform, "bias_init": uniform}
        self.cells = nnx.List([nnx.OptimizedLSTMCell(units, units, **inits, rngs=rngs) for _ in range(layers)])
        self.start = parameter(units)
        self.embeddings = parameter(count, most, units)  # of the choice at each decision, for the next one
        self.kernels, self.biases = parameter(count, units, most), parameter(count, most)
        if decisions.anchors is not None:
            self.previous, self.current = parameter(units, units), parameter(units, units)
            self.connection = parameter(units)
        self.units = units
        self.decisions = decisions

    def unroll(self, choose: Any) -> ControllerOutputs:
        """Unrolls the layers over the decisions; `choose(t, log_probabilities)` -> int32[] makes each choice."""
        steps = jnp.arange(len(self.decisions.options))
        zeros = jnp.zeros(self.units)
        cells = [(zeros, zeros) for _ in self.cells]
        remembered = jnp.zeros((len(steps), self.units))

        def step(carry: Any, t: Array) -> tuple[Any, ControllerOutputs]:
            x, cells, remembered = carry
            after = []
            for cell, before in zip(self.cells, cells, strict=True):
                state, x = cell(before, x)
                after.append(state)
            remembered = remembered.at[t].set(x)
            log_probabilities = self._log_probabilities(t, x, remembered)
            choice = choose(t, log_probabilities)
            return (self.embeddings[...][t, choice], after, remembered), ControllerOutputs(choice, log_probabilities)

        return jax.lax.scan(step, (self.start[...], cells, remembered), steps)[1]

    def _log_probabilities(self, t: Array, hidden: Array, remembered: Array) -> Array:
        logits = hidden @ self.kernels[...][t] + self.biases[...][t]
        if self.decisions.anchors is not None:
            anchor = jnp.array(self.decisions.anchors)[t]
            mixed = jnp.tanh(remembered[anchor] @ self.previous[...] + hidden @ self.current[...])
            connect = jnp.zeros_like(logits).at[1].set(mixed @ self.connection[...])
            logits = jnp.where(anchor >= 0, connect, logits)
        return jax.nn.log_softmax(jnp.where(self.decisions.possible[t], logits, _IMPOSSIBLE))


_IMPOSSIBLE = np.float32(-1e9)
"""A logit whose probability is exactly 0, and whose gradient is too."""
