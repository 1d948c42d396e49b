"""Optimizers that a training could not be right with, told by their states."""

from typing import Any

import optax

from lectopt.optim.averaging import AverageParamsState


def check_opt_state(state: Any) -> None:
    """Checks the state of an optimizer before it trains.

    Raises:
        TypeError: if the optimizer asks for two of each parameter.
        ValueError: if what is averaged is not what is trained.
    """
    if isinstance(state, optax.LookaheadState):
        raise TypeError(
            "optimizer must update the parameters that it is given; optax.lookahead asks for two of each, fast and "
            "slow. Keep the slow ones in a state of your own, which lectopt.register_eval_params makes known"
        )
    if type(state) is tuple and any(map(_averages, state[:-1])):
        raise ValueError(
            "optimizer must have nothing after average_params in a chain, since that changes the updates whose outcome "
            "is averaged: lectopt.average_params(optax.chain(...)) goes around all of it"
        )
    is_known = type(state) is tuple or type(state).__module__.split(".")[0] in ("optax", "lectopt")
    if isinstance(state, tuple) and is_known:
        for part in state:
            check_opt_state(part)


def _averages(state: Any) -> bool:
    """Tells whether a link of a chain averages, or is a chain of some that do."""
    return isinstance(state, AverageParamsState) or (type(state) is tuple and any(map(_averages, state)))
