"""Whether donated buffers get the outputs that belong there: numbers with donation are those without, to the bit.

On one GPU they were not: parameters and state donated, one parameter a scalar, and a state that holds a scalar which a
step writes and never reads. `jit` drops that input, and donated inputs and outputs are then paired by shape in order.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lectopt as lo
from tests.benchmarks.device.rows import Row

STEPS = 20


def checks() -> Iterator[Row]:
    """A row for each optimizer, and one for a program of JAX alone."""
    programs = {
        f"inject_hyperparams({make.__name__})": _with_optimizer(optax.inject_hyperparams(make)(learning_rate=0.1))
        for make in (lo.momentum, lo.nesterov, lo.rmsprop_nesterov)
    }
    for name, (step, start) in (programs | {"the same by hand, without lectopt": _by_hand()}).items():
        error = _difference(step, start)
        passed = "PASS" if error == 0 else "FAIL"
        yield Row(f"donation, {name}", f"{error:.1g}", f"= 0 {passed}", "largest difference to no donation")


def _params() -> dict[str, Any]:
    return {"kernel": np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64), "scale": np.float32(1)}


def _with_optimizer(optimizer: optax.GradientTransformation) -> tuple[Callable[..., Any], Any]:
    def step(carry):
        params, state = carry
        updates, state = optimizer.update(jax.tree.map(jnp.sin, params), state, params)
        return optax.apply_updates(params, updates), state

    return step, (_params(), jax.device_get(optimizer.init(jax.tree.map(jnp.asarray, _params()))))


def _by_hand() -> tuple[Callable[..., Any], Any]:
    def step(carry):
        rate, _, velocity, params = carry  # the record is not read
        velocity = jax.tree.map(lambda v, p: 0.9 * v - rate * jnp.sin(p), velocity, params)
        return rate, 1 * rate, velocity, jax.tree.map(jnp.add, params, velocity)

    return step, (np.float32(0.1), np.float32(0), jax.tree.map(np.zeros_like, _params()), _params())


def _difference(step: Callable[..., Any], start: Any) -> float:
    """The largest after some steps, from one way to the other."""
    ends = []
    for donated in ((), (0,)):
        call, carry = jax.jit(step, donate_argnums=donated), jax.tree.map(jnp.array, start)
        for _ in range(STEPS):
            carry = call(carry)
        ends.append(jax.device_get(carry))
    return max(float(np.max(np.abs(a - b))) for a, b in zip(*map(jax.tree.leaves, ends), strict=True))
