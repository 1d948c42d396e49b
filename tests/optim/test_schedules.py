"""Schedules: their formulas, their sums, and that they are pure functions of traced numbers."""

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
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
    "cosine_decay": (lo.cosine_decay, oracle.half_cosine, (0.5, 40.0, 0.1)),
    "cosine_decay by default": (lo.cosine_decay, oracle.half_cosine, (0.5, 40.0)),
    "exponential_decay": (lo.exponential_decay, oracle.exponential, (0.5, 10.0, 0.7)),
    "exponential_decay, bounded": (lo.exponential_decay, oracle.exponential, (0.5, 10.0, 0.7, 0.05)),
    "exponential_decay that rises": (lo.exponential_decay, oracle.exponential, (0.1, 10.0, 1.5, 0.7)),
    "constant": (lo.constant, lambda a: lambda k: a, (0.5,)),
    "warmup": (
        lambda a, tau, n, b: lo.warmup(lo.cosine_decay(a, tau), n, b),
        lambda a, tau, n, b: oracle.joined([oracle.line(b, a, n), oracle.half_cosine(a, tau)], [n]),
        (0.5, 40.0, 10.0, 0.1),
    ),
    "warmup of a number": (lo.warmup, lambda a, n: oracle.line(0.0, a, n), (0.5, 10.0)),
    "join": (
        lambda a, n, m: lo.join([a, lo.exponential_decay(a, n, 0.5), lo.robbins_monro(a)], [n, m]),
        lambda a, n, m: oracle.joined([lambda k: a, oracle.exponential(a, n, 0.5), oracle.power_law(a, 1, 1)], [n, m]),
        (0.5, 10.0, 30.0),
    ),
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
    np.testing.assert_allclose(jax.vmap(make(*arguments))(COUNTS), desired, rtol=1e-14, atol=1e-16)


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


SAME_AS_OPTAX = {
    "cosine_decay": (lo.cosine_decay(0.5, 40, 0.1), optax.cosine_decay_schedule(0.5, 40, 0.1)),
    "exponential_decay": (lo.exponential_decay(0.5, 10, 0.7), optax.exponential_decay(0.5, 10, 0.7)),
    "exponential_decay, bounded": (
        lo.exponential_decay(0.5, 10, 0.7, end_value=0.05),
        optax.exponential_decay(0.5, 10, 0.7, end_value=0.05),
    ),
    "constant": (lo.constant(0.5), optax.constant_schedule(0.5)),
    "momentum_ramp": (lo.momentum_ramp(0.5, 0.9, 40), optax.linear_schedule(0.5, 0.9, 40)),
    "linear_decay": (lo.linear_decay(0.5, 40, 0.1), optax.linear_schedule(0.5, 0.1, 40)),
    "warmup": (
        lo.warmup(lo.cosine_decay(0.5, 40, 0.1), 10, 0.2),
        optax.warmup_cosine_decay_schedule(0.2, 0.5, 10, 50, 0.05),
    ),
    "join": (
        lo.join([0.3, optax.linear_schedule(0.2, 0.1, 10), lo.constant(0.5)], [10, 20]),
        optax.join_schedules([lambda k: 0.3, optax.linear_schedule(0.2, 0.1, 10), lambda k: 0.5], [10, 20]),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), SAME_AS_OPTAX.values(), ids=SAME_AS_OPTAX)
def test_same_as_optax(ours, theirs):
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(jax.jit(jax.vmap(ours))(COUNTS), jax.vmap(theirs)(COUNTS), rtol=2e-6, atol=1e-7)


def test_a_schedule_that_is_joined_gets_whole_steps():
    """So any function will do, such as one that looks its numbers up, unless a boundary is no whole number."""
    table = jnp.array([3.0, 1.0, 2.0])
    rate = lo.join([0.5, lambda k: table[k]], [np.int64(10)])
    assert [float(rate(k)) for k in (9, 10, 11, 12)] == [0.5, 3, 1, 2]
    lanes = jax.vmap(lambda b: lo.join([0.5, lambda k: 1.0 * table[k]], [b])(jnp.int32(11)))(jnp.arange(10, 13))
    np.testing.assert_array_equal(lanes, [1, 3, 0.5])
    assert lo.join([0.5, lo.linear_decay(1.0, 10, 0.0)], [2.5])(3) == 0.95
    assert lo.join([lo.constant(0.25)], [])(7) == 0.25


@pytest.mark.parametrize("steps", [2**31, np.int64(2**40)])
def test_more_steps_than_are_ever_counted(steps):
    assert 0 < lo.warmup(0.5, steps)(2**20) < 0.001
    assert lo.join([0.5, 0.25], [steps])(2**30) == 0.5


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: lo.cosine_decay(0.1, 0), ValueError, r"decay_steps must be in \[1, inf\)"),
        (lambda: lo.cosine_decay(0.1, 10, 1.5), ValueError, r"alpha must be in \[0, 1\]"),
        (lambda: lo.exponential_decay(-0.1, 10, 0.5), ValueError, "init_value must be in"),
        (lambda: lo.exponential_decay(0.1, 0.5, 0.5), ValueError, "transition_steps must be in"),
        (lambda: lo.exponential_decay(0.1, 10, 0.0), ValueError, r"decay_rate must be in \(0, inf\)"),
        (lambda: lo.exponential_decay(0.1, 10, 0.5, np.nan), ValueError, "end_value must be in"),
        (lambda: lo.constant(np.inf), ValueError, "value must be in"),
        (lambda: lo.constant("0.1"), TypeError, "value must be a number"),
        (lambda: lo.warmup(0.1, 0), ValueError, r"steps must be in \[1, inf\)"),
        (lambda: lo.warmup(0.1, 10, -1.0), ValueError, "init_value must be in"),
        (lambda: lo.warmup("cosine", 10), TypeError, "schedule must be a function of the step, or a number; got 'cos"),
        (lambda: lo.warmup(None, 3), TypeError, "schedule must be a function of the step, or a number; got None"),
        (lambda: lo.join([], []), ValueError, "schedules must be one more than boundaries; got 0 schedules, 0"),
        (lambda: lo.join([0.1, 0.2], []), ValueError, "one more than boundaries; got 2 schedules, 0 boundaries"),
        (lambda: lo.join([0.1, -0.2], [5]), ValueError, r"schedules\[1\] must be in"),
        (lambda: lo.join([0.1, 0.2], [-5]), ValueError, r"boundaries\[0\] must be in"),
        (lambda: lo.join([0.1, 0.2, 0.3], [5, 4]), ValueError, "boundaries must be in order; got 5 before 4"),
        (lambda: lo.join(0.1, 0.2), TypeError, "schedules must be a list"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


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
schedules += lo.warmup(lo.cosine_decay(0.1, 10), 5, 1.0), lo.join([0.1, lo.exponential_decay(0.1, 10, 0.5)], [5])
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
assert [float(schedule(0)) for schedule in schedules] == [float(np.float32(x)) for x in (0.1, 0.1, 0.5, 1.0, 1.0, 0.1)]
"""


@pytest.mark.slow
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
