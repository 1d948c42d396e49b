"""Optimizer steps against Optax's, called and in a loop, and what share of the copy's bandwidth they reach."""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.benchmarks import steps, timing
from tests.benchmarks.device.rows import Row, alternate, at_least, at_most
from tests.benchmarks.device.scale import Scale, Shapes, copies

ADAM_BYTES = 28
"""A parameter: its gradient, two moments and itself are read, all but the gradient written."""
COPY_BYTES = 8
CALLED = {"clip + adam": 0.75}
IN_A_LOOP = {"clip + adam": 0.85, "adam": 1.0}


def gradients_of(shapes: Shapes) -> list[jax.Array]:
    """Some, made in NumPy: nothing to compile."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(0.01 * rng.normal(size=shape), jnp.float32) for shape in shapes]


def in_a_loop(optimizer: optax.GradientTransformation, gradients: list[jax.Array], count: int) -> Callable[[], None]:
    """So many steps inside of one program."""

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def loop(params, state, gradients):
        def step(i, carry):
            fresh = jax.lax.optimization_barrier((gradients, i))[0]  # nothing of them is computed ahead of the loop
            updates, state = optimizer.update(fresh, carry[1], carry[0])
            return optax.apply_updates(carry[0], updates), state

        return jax.lax.fori_loop(0, count, step, (params, state))

    params = jax.tree.map(jnp.zeros_like, gradients)
    carried = [params, jax.jit(optimizer.init)(params)]

    def call() -> None:
        carried[:] = jax.block_until_ready(loop(*carried, gradients))

    return call


def pair(make: Callable[..., Any], name: str, shapes: Shapes, scale: Scale) -> dict[str, Callable[[], Any]]:
    """lectopt's steps and Optax's."""
    gradients = gradients_of(shapes)
    optimizers = zip(("lectopt", "optax"), steps.CASES[name][:2], strict=True)
    return {peer: make(optimizer, gradients, scale.in_flight) for peer, optimizer in optimizers}


def called(name: str, scale: Scale) -> Iterator[Row]:
    """One optimizer's steps, called one by one."""
    times = alternate(pair(steps.jax_step, name, scale.tree, scale), scale.pairs)
    ratio = timing.ratio(times["lectopt"], times["optax"])
    yield at_most(f"{name}, called / Optax", ratio, CALLED.get(name, 1.0), _each(times, scale))


def looped(name: str, scale: Scale) -> Iterator[Row]:
    """One optimizer's steps inside of a program; of Adam's, the share of the bandwidth too."""
    calls = pair(in_a_loop, name, scale.tree, scale) | {"copy": copies(scale.parameters, scale.in_flight)}
    times = alternate(calls, scale.pairs)
    ratio = timing.ratio(times["lectopt"], times["optax"])
    yield at_most(f"{name}, in a loop / Optax", ratio, IN_A_LOOP[name], _each(times, scale))
    if name == "adam":
        copy = times.pop("copy")
        share = {peer: _share(copy, column) for peer, column in (times | torch_times(scale)).items()}
        others = ", ".join(f"{peer} {value:.2f}" for peer, value in share.items() if peer != "lectopt")
        yield at_least("adam in a loop, share of the copy's bandwidth", share["lectopt"], 0.85, others)


def many_leaves(scale: Scale) -> Iterator[Row]:
    """Adam on many small leaves, called, and compiled."""
    calls = pair(steps.jax_step, "adam", scale.many, scale)
    compiling = [timing.seconds(call) for call in calls.values()]
    times, ratio = alternate(calls, scale.pairs), compiling[0] / compiling[1]
    what = f"adam, {len(scale.many)} leaves of 3500"
    yield at_most(f"{what}, called / Optax", timing.ratio(times["lectopt"], times["optax"]), 0.8, _each(times, scale))
    yield at_most(f"{what}, first call / Optax", timing.Ratio(ratio, ratio, ratio), 0.8, f"{compiling[0]:.1f} s")


def torch_times(scale: Scale) -> dict[str, np.ndarray]:
    """Of PyTorch's fused Adam on the same device, where it is installed and knows the device."""
    on_gpu = jax.default_backend() == "gpu"
    if not importlib.util.find_spec("torch"):
        return {}
    if on_gpu and not importlib.import_module("torch").cuda.is_available():
        return {}
    step = steps.torch_step(scale.tree, scale.in_flight, "cuda" if on_gpu else "cpu")
    return alternate({"PyTorch fused": step}, scale.pairs)


def _share(copy: np.ndarray, times: np.ndarray) -> float:
    """Of the copy's bytes a second, from times of copying all parameters and of as many steps."""
    return float(ADAM_BYTES / COPY_BYTES * np.median(copy) / np.median(times))


def _each(times: dict[str, np.ndarray], scale: Scale) -> str:
    return ", ".join(f"{peer} {1e3 * np.median(t) / scale.in_flight:.2f} ms" for peer, t in times.items())
