"""Schedules: their formulas, their sums, and that they are pure functions of traced numbers."""

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lectopt as lo

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("strict")]

SCHEDULES = {  # ours, the oracle's, arguments of both
    "linear_decay": (lo.linear_decay, lambda a, tau, b: oracle.line(a, b, tau), (0.5, 40.0, 0.02)),
    "linear_decay by default": (lo.linear_decay, lambda a, tau: oracle.line(a, 0.01 * a, tau), (0.5, 40.0)),
    "linear_decay that rises": (lo.linear_decay, lambda a, tau, b: oracle.line(a, b, tau), (0.1, 7.0, 0.3)),
    "momentum_ramp": (lo.momentum_ramp, oracle.line, (0.5, 0.99, 40.0)),
    "robbins_monro": (lo.robbins_monro, oracle.power_law, (0.5, 0.75, 40.0)),
    "robbins_monro by default": (lo.robbins_monro, lambda a: oracle.power_law(a, 1, 1), (0.5,)),
}
every_schedule = pytest.mark.parametrize(("make", "reference", "arguments"), SCHEDULES.values(), ids=SCHEDULES)
COUNTS = jnp.arange(100)


@every_schedule
def test_formula(make, reference, arguments):
    """From Python numbers and counts, from arrays, and vmapped over the step and over every argument at once."""
    desired = [reference(*arguments)(k) for k in range(100)]
    single = [make(*arguments)(k) for k in range(100)]
    assert all(x.dtype == jnp.float32 and x.shape == () and not x.weak_type for x in single)
    np.testing.assert_allclose(single, desired, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(make(*arguments)))(COUNTS), desired, rtol=1e-6)
    lanes = [jnp.float32([x, x * 0.9]) for x in arguments]
    batched = jax.jit(jax.vmap(lambda *numbers: jax.vmap(make(*numbers))(COUNTS)))(*lanes)
    for lane, values in enumerate(batched):
        exact = reference(*(float(x[lane]) for x in lanes))
        np.testing.assert_allclose(values, [exact(k) for k in range(100)], rtol=1e-6)


@every_schedule
def test_float64(make, reference, arguments, x64):
    desired = [reference(*arguments)(k) for k in range(100)]
    np.testing.assert_allclose(jax.vmap(make(*arguments))(COUNTS), desired, rtol=1e-14)


@every_schedule
def test_other_numbers_compile_nothing(make, reference, arguments):
    """A schedule is a pytree: it goes through `jit` as an argument, and comes out again."""
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def at_ten(schedule):
        return schedule(10), schedule

    for factor in (1.0, 0.9, 0.7):
        numbers = [factor * x for x in arguments]
        value, schedule = at_ten(make(*numbers))
        np.testing.assert_allclose([value, schedule(10)], reference(*numbers)(10), rtol=1e-6)


def test_the_tail_is_constant():
    decay = lo.linear_decay(0.5, 40)
    assert decay(40) == decay(41) == decay(10**9) == np.float32(0.5) * np.float32(0.01)
    assert lo.linear_decay(0.5, 40, 0.0)(40) == 0
    assert lo.momentum_ramp(0.5, 0.9, 40)(10**9) == np.float32(0.9)


@pytest.mark.parametrize("power", [0.51, 0.75, 1.0])
def test_robbins_monro_sums(power):
    """Doubling the steps adds to the sum at least what it added before; to the sum of squares ever less."""
    rates = np.float64(jax.vmap(lo.robbins_monro(1.0, power))(jnp.arange(2**20)))
    blocks = [slice(2**i, 2 ** (i + 1)) for i in range(10, 20)]
    sums = np.array([rates[block].sum() for block in blocks])
    squares = np.array([(rates[block] ** 2).sum() for block in blocks])
    assert np.all(sums > 0.69)
    np.testing.assert_allclose(squares[1:] / squares[:-1], 2 ** (1 - 2 * power), rtol=1e-3)
    assert np.all(squares[1:] < squares[:-1] * 0.99)


def test_linear_decay_misses_the_convergence_condition():
    """Its constant tail: the squares of as many steps more add as much again."""
    rates = np.float64(jax.vmap(lo.linear_decay(1.0, 100))(jnp.arange(4000)))
    first, second = (rates[1000:2000] ** 2).sum(), (rates[2000:3000] ** 2).sum()
    assert first == second > 0


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6), st.integers(0, 2 * 10**6))
def test_a_line_stays_between_its_ends(start, end, horizon, count):
    value = float(lo.linear_decay(start, horizon, end)(count))
    assert min(start, end) * (1 - 1e-6) - 1e-30 <= value <= max(start, end) * (1 + 1e-6)
    np.testing.assert_allclose(value, oracle.line(start, end, horizon)(count), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("examples", "batch_size", "steps"),
    [
        (1150, 32, 36),
        (64, 32, 2),
        (65, 32, 3),
        (1, 32, 1),
        (np.int64(33), np.int32(32), 2),
        (np.zeros((65, 3)), 32, 3),
        ((np.zeros((65, 3)), np.zeros(65)), 32, 3),
        ({"image": np.zeros((65, 3)), "label": np.zeros(65), "weight": np.zeros(65)}, 32, 3),
        (({"image": np.zeros((65, 3))}, np.zeros(65)), 32, 3),
    ],
    ids=repr,
)
def test_steps_per_epoch(examples, batch_size, steps):
    assert lo.steps_per_epoch(examples, batch_size) == steps


def test_steps_per_epoch_of_a_list():
    assert lo.steps_per_epoch([np.zeros((60, 4)), np.zeros(60)], 20) == 3


def test_steps_per_epoch_of_a_subset():
    """Its own examples count, not those that it is a view of."""
    rest, held = lo.holdout((np.zeros((100, 3)), np.zeros(100)), 0.2, key=0)
    assert (lo.steps_per_epoch(rest, 32), lo.steps_per_epoch(held, 32)) == (3, 1)


CONFIGURATION = """
import numpy as np, optax, lectopt as lo
from flax import linen, nnx
from jax._src import xla_bridge

rate = lo.linear_decay(0.1, np.float32(10))
schedules = rate, lo.linear_decay(0.1, 10, 0), lo.momentum_ramp(0.5, 0.9, 10), lo.robbins_monro(1.0, 0.75, 4)
for make in (lo.sgd, lo.momentum, lo.nesterov, lo.adagrad, lo.rmsprop, lo.rmsprop_nesterov, lo.adam):
    make(0.1), make(rate)
for make in (lo.clip_by_norm, lo.add_l2, lo.trace_momentum, lo.trace_nesterov, lo.scale_by_learning_rate,
             lo.scale_by_adam, lo.scale_by_rmsprop, lo.scale_by_adagrad):
    make(0.5)
lo.average_params(lo.decay_weights(lo.sgd(rate), 0.1), 0.9), lo.adamw(rate, 0.1), lo.clip_by_value(1.0)
lo.clip_layers_by_norm(1.0)
optax.chain(lo.watch_norms("gradient"), optax.masked(lo.adam(rate), {"a": True}))
lo.classification(lambda rngs: nnx.Linear(4, 3, rngs=rngs), standardize=True), lo.regression(linen.Dense(3))
lo.Task(linen.Dense(3), lambda outputs, targets: outputs, {})
space = {"rate": lo.space.log_uniform(1e-3, 1.0), "a": lo.space.uniform(0, 1), "n": lo.space.integers(1, 5),
         "c": lo.space.choice([1, 2]), "f": lo.space.choice([nnx.relu, nnx.tanh], static=True)}
lo.grid(space, 2), lo.Halving(27, 3), lo.watch(5), lo.ArchitectureSpace(depth=(1, 2), width=(8, 16))
lo.initializers.fan_in_uniform(), lo.initializers.sparse(3), lo.initializers.relu_bias()
lo.steps_per_epoch(lo.datasets.iris(), 10)
assert not xla_bridge.backends_are_initialized()
lo.use_all_cores()
assert not xla_bridge.backends_are_initialized()
assert [float(schedule(0)) for schedule in schedules] == [float(np.float32(x)) for x in (0.1, 0.1, 0.5, 1.0)]
"""


def test_configuration_does_not_start_jax():
    """`jax.distributed.initialize` and `use_all_cores` have to come before, and configuration comes first in a file."""
    subprocess.run([sys.executable, "-c", CONFIGURATION], check=True)


def test_a_schedule_keeps_numbers_of_its_own():
    """Whatever becomes of the array that it was made from, it is a leaf of one canonical dtype."""
    numbers = np.array(0.5, np.float32)
    schedule = lo.linear_decay(numbers, 40)
    numbers[...] = 7.0
    assert schedule(0) == 0.5
    for made in (schedule, lo.linear_decay(jnp.float16(0.5), 40), lo.linear_decay(1, np.int64(40))):
        assert {jnp.asarray(x).dtype for x in jax.tree.leaves(made)} == {jnp.dtype("float32")}
        assert all(not jnp.asarray(x).weak_type for x in jax.tree.leaves(made))
