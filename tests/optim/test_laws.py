"""Every optimizer x every law of the design. Each law is one test, each optimizer one row of CASES."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from flax import nnx
from jax.tree_util import DictKey, GetAttrKey
from jax.tree_util import tree_leaves_with_path as leaves_with_path
from noisy_quadratic import (
    CURVATURE,
    NOISE,
    SIZE,
    START,
    STEPS,
    TREE,
    TURN,
    assert_close,
    flat_of,
    python_loop,
    run,
    tree_of,
)
from strict_modes import strict

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")


class Case(NamedTuple):
    """An optimizer, the loop that it has to equal, and hyperparameters for both."""

    make: Callable[..., optax.GradientTransformation]
    reference: Callable[..., oracle.Steps]
    numbers: dict[str, float]


def clipped_sgd(learning_rate, max_norm):
    return optax.chain(lo.clip_by_norm(max_norm), lo.sgd(learning_rate))


def penalized_nesterov(learning_rate, momentum, coefficient):
    return optax.chain(lo.add_l2(coefficient), lo.nesterov(learning_rate, momentum))


def clipped_adam_links(learning_rate, b1, b2, eps, max_norm):
    return optax.chain(
        lo.watch_norms("gradient"),
        lo.clip_by_norm(max_norm),
        lo.scale_by_adam(b1, b2, eps),
        lo.scale_by_learning_rate(learning_rate),
        lo.watch_norms("update", "weight"),
    )


def averaged_nesterov(learning_rate, momentum, fraction, max_value, decay):
    decaying = lo.decay_weights(lo.nesterov(learning_rate, momentum), fraction)
    return optax.chain(lo.clip_by_value(max_value), lo.average_params(decaying, decay))


def clipped_sgd_loop(gradient, w, steps, learning_rate, max_norm):
    return oracle.sgd(oracle.clipped(gradient, max_norm), w, steps, learning_rate)


def penalized_nesterov_loop(gradient, w, steps, learning_rate, momentum, coefficient):
    return oracle.nesterov(oracle.penalized(gradient, coefficient), w, steps, learning_rate, momentum)


def clipped_adam_loop(gradient, w, steps, learning_rate, b1, b2, eps, max_norm):
    return oracle.adam(oracle.clipped(gradient, max_norm), w, steps, learning_rate, b1, b2, eps)


def averaged_nesterov_loop(gradient, w, steps, learning_rate, momentum, fraction, max_value, decay):
    gradient = oracle.clipped_by_value(gradient, max_value)
    return oracle.averaged(oracle.nesterov(gradient, w, steps, learning_rate, momentum, fraction), decay)


RATE = {"learning_rate": 0.05}
MOMENTUM = RATE | {"momentum": 0.9}
ADAM = {"learning_rate": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8}
CASES = {
    "sgd": Case(lo.sgd, oracle.sgd, RATE),
    "momentum": Case(lo.momentum, oracle.momentum, MOMENTUM),
    "nesterov": Case(lo.nesterov, oracle.nesterov, MOMENTUM),
    "adagrad": Case(lo.adagrad, oracle.adagrad, RATE | {"eps": 1e-7}),
    "rmsprop": Case(lo.rmsprop, oracle.rmsprop, {"learning_rate": 0.01, "decay": 0.9, "eps": 1e-6}),
    "rmsprop_nesterov": Case(
        lo.rmsprop_nesterov,
        oracle.rmsprop_nesterov,
        {"learning_rate": 0.003, "decay": 0.95, "momentum": 0.8, "eps": 1e-6},
    ),
    "adam": Case(lo.adam, oracle.adam, ADAM),
    "clipped_sgd": Case(clipped_sgd, clipped_sgd_loop, RATE | {"max_norm": 1.2}),
    "penalized_nesterov": Case(penalized_nesterov, penalized_nesterov_loop, MOMENTUM | {"coefficient": 0.05}),
    "clipped_adam_links": Case(clipped_adam_links, clipped_adam_loop, ADAM | {"max_norm": 1.2}),
    "averaged_nesterov": Case(
        averaged_nesterov, averaged_nesterov_loop, MOMENTUM | {"fraction": 0.01, "max_value": 0.55, "decay": 0.95}
    ),
    "adamw": Case(lo.adamw, oracle.adam, ADAM | {"eps_root": 1e-6, "weight_decay": 0.5}),
}
LOOK_AHEAD = ("nesterov", "rmsprop_nesterov", "penalized_nesterov")
EVALUATED_ELSEWHERE = (*LOOK_AHEAD, "averaged_nesterov")
NEED_PARAMETERS = {"penalized_nesterov", "clipped_adam_links", "averaged_nesterov", "adamw"}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
ALL_LINKS = ("adagrad", "rmsprop", "rmsprop_nesterov", "clipped_adam_links", "averaged_nesterov")
"""Optimizers that have between them whatever divides, looks ahead, clips, records or averages."""


def made_of_all_links(case: str) -> Any:
    """Slow, but for those of ALL_LINKS: they show at once what concerns links, and not the optimizers' own numbers."""
    return () if case in ALL_LINKS else pytest.mark.slow


every_case_the_links_first = pytest.mark.parametrize(
    "case", [pytest.param(CASES[name], id=name, marks=made_of_all_links(name)) for name in CASES]
)


def every_case_with(name: str, kinds: dict[str, Any]) -> pytest.MarkDecorator:
    """Each optimizer with one of the kinds, in turn; those of ALL_LINKS with each kind."""
    pairs = [(c, k) for i, c in enumerate(CASES) for j, k in enumerate(kinds) if c in ALL_LINKS or j == i % len(kinds)]
    values = [
        pytest.param(CASES[case], kinds[kind], id=f"{case}-{kind}", marks=made_of_all_links(case))
        for case, kind in pairs
    ]
    return pytest.mark.parametrize(("case", name), values)


def expected(case: Case, steps: int = STEPS, dtype: Any = float, **numbers: oracle.Number) -> np.ndarray:
    """The same from the oracle; `numbers` are functions of the step."""
    turn = TURN.astype(complex) if np.issubdtype(dtype, np.complexfloating) else 1
    noise = NOISE.astype(float) * turn
    start = START.astype(dtype)
    return np.array(list(case.reference(lambda k, w: CURVATURE.astype(float) * w + noise[k], start, steps, **numbers)))


def constant(numbers: dict[str, float], dtype: Any = np.float32) -> dict[str, oracle.Number]:
    """Rounded hyperparameters for the oracle."""
    rounded = {name: float(dtype(x)) for name, x in numbers.items()}
    return {name: (lambda k, x=x: x) for name, x in rounded.items()}


def scheduled(numbers: dict[str, Any], horizon: Any = 300) -> dict[str, Any]:
    """One of our schedules for each hyperparameter."""

    def schedule(name, x):
        if name == "learning_rate":
            return lo.linear_decay(x, horizon)
        if name in ("momentum", "b1", "b2", "decay"):
            return lo.momentum_ramp(x / 2, x, horizon)
        return lo.robbins_monro(x, 0.75, horizon)

    return {name: schedule(name, x) for name, x in numbers.items()}


def scheduled_oracle(numbers: dict[str, float], horizon: float = 300, dtype: Any = np.float32):
    """The oracle's twins of `scheduled`."""

    def schedule(name, x):
        if name == "learning_rate":
            return oracle.line(x, 0.01 * x, horizon)
        if name in ("momentum", "b1", "b2", "decay"):
            return oracle.line(x / 2, x, horizon)
        return oracle.power_law(x, 0.75, horizon)

    return {name: schedule(name, float(dtype(x))) for name, x in numbers.items()}


# Law 1: exact ---------------------------------------------------------------------------------------------------------
@every_case
def test_float64_equals_the_oracle(case, x64):
    desired = expected(case, **constant(case.numbers, np.float64))
    assert_close(run(case.make(**case.numbers), jnp.float64), desired, 1e-12)


@every_case_the_links_first
def test_float64_with_schedules_equals_the_oracle(case, x64):
    desired = expected(case, **scheduled_oracle(case.numbers, dtype=np.float64))
    assert_close(run(case.make(**scheduled(case.numbers)), jnp.float64), desired, 1e-12)


@every_case
def test_float32_equals_the_oracle(case, strict):
    assert_close(run(case.make(**case.numbers)), expected(case, **constant(case.numbers)), 2e-6)


@every_case
def test_float32_with_schedules_equals_the_oracle(case, strict):
    assert_close(run(case.make(**scheduled(case.numbers))), expected(case, **scheduled_oracle(case.numbers)), 2e-6)


@every_case_the_links_first
def test_float32_parameters_under_x64_equal_the_oracle(case, x64, strict):
    """What is derived from a hyperparameter is derived from its float32 here too."""
    numbers = case.numbers | ({"b2": 0.99999} if "b2" in case.numbers else {})
    assert_close(run(case.make(**numbers), jnp.float32, 100), expected(case, 100, **constant(numbers)), 2e-6)


@every_case_the_links_first
def test_uncompiled_steps_equal_the_oracle(case, strict):
    actual = run(case.make(**case.numbers), steps=5, loop=python_loop)
    assert_close(actual, expected(case, 5, **constant(case.numbers)), 2e-6)


@every_case_the_links_first
def test_complex_parameters_equal_the_oracle(case):
    desired = expected(case, 100, complex, **constant(case.numbers))
    assert_close(run(case.make(**case.numbers), jnp.complex64, 100), desired, 2e-6)


INSIDE = {  # gradients of {"head": [3], "used": [2]}, from one that is an argument
    "all 0": lambda passed: {"head": jnp.zeros(3), "used": jnp.zeros(2)},
    "one 0, the other tiny": lambda passed: {"head": jnp.zeros(3), "used": jnp.full(2, 1e-25)},
    "one 0, the other passed and tiny": lambda passed: {"head": jnp.zeros(3), "used": 1e-25 * passed},
    "one 0, the other passed and large": lambda passed: {"head": jnp.zeros(3), "used": 1e15 * passed},
    "literals": lambda passed: {"head": jnp.array([0.0, 1e-3, -2.0]), "used": jnp.full(2, 0.5)},
    "stopped": lambda passed: {
        "head": jax.grad(lambda w: jnp.sum(jax.lax.stop_gradient(w)))(jnp.ones(3)),
        "used": passed,
    },
}


@pytest.mark.slow
@every_case_with("gradient", INSIDE)
def test_gradients_that_are_constants_inside_the_program(case, gradient):
    """What XLA knows to be 0 or tiny it computes with at compile time, and must not make NaN of it."""
    optimizer, passed = case.make(**case.numbers), jnp.array([1.0, -0.5])
    start = {"head": jnp.full(3, 0.1), "used": jnp.full(2, -0.2)}

    def steps(params, passed):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradient(passed), state, params)
            params = optax.apply_updates(params, updates)
        return flat_of(lo.eval_params(state, params)), state

    exact = np.asarray(flat_of(gradient(passed)), float)
    *_, (w, _) = case.reference(lambda k, w: exact, np.asarray(flat_of(start), float), 2, **constant(case.numbers))
    for actual, state in (jax.jit(steps)(start, passed), jax.jit(lambda: steps(start, passed))()):
        assert_close(actual, w, 2e-6)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


# Law 2: a hyperparameter is one number --------------------------------------------------------------------------------
def traced(make, numbers):
    return jax.jit(lambda numbers: run(make(**numbers), steps=200))(numbers)


KINDS = {
    "array": lambda make, numbers: run(make(**{k: np.asarray(x) for k, x in numbers.items()}), steps=200),
    "schedule": lambda make, numbers: run(make(**{k: lambda _, x=x: x for k, x in numbers.items()}), steps=200),
    "traced": traced,
    "injected": lambda make, numbers: run(optax.inject_hyperparams(make)(**numbers), steps=200),
}


@every_case_the_links_first
def test_all_kinds_of_number_give_the_same_update(case, strict):
    numbers = case.numbers | ({"b2": 0.99999} if "b2" in case.numbers else {})
    desired = run(case.make(**numbers), steps=200)
    for kind in KINDS.values():
        assert_close(kind(case.make, numbers), desired, 1e-6)


@every_case_the_links_first
def test_injection_with_bfloat16_parameters(case):
    """Given hyperparam_dtype, injected hyperparameters stay float32."""
    params = tree_of(jnp.asarray(START, jnp.bfloat16))
    injected = optax.inject_hyperparams(case.make, hyperparam_dtype=jnp.float32)(**case.numbers)
    actual, desired = (o.update(params, o.init(params), params)[0] for o in (injected, case.make(**case.numbers)))
    chex.assert_trees_all_equal(actual, desired)


# Law 3: every hyperparameter is traceable and vmappable ---------------------------------------------------------------
LANES = np.array([1.0, 0.9, 0.5])
HORIZONS = np.array([20.0, 50.0, 200.0])


@every_case
def test_vmap_over_every_hyperparameter(case, strict):
    numbers = {name: jnp.asarray(LANES * x, jnp.float32) for name, x in case.numbers.items()}
    lanes = jax.jit(jax.vmap(lambda numbers: run(case.make(**numbers), steps=100)))(numbers)
    for lane, factor in zip(lanes, LANES, strict=True):
        lane_numbers = {name: factor * x for name, x in case.numbers.items()}
        assert_close(lane, expected(case, 100, **constant(lane_numbers)), 2e-6)


@every_case_the_links_first
def test_vmap_over_schedules_and_their_horizons(case, strict):
    horizons = jnp.asarray(HORIZONS, jnp.float32)
    lanes = jax.jit(jax.vmap(lambda horizon: run(case.make(**scheduled(case.numbers, horizon)), steps=100)))(horizons)
    for lane, horizon in zip(lanes, HORIZONS, strict=True):
        assert_close(lane, expected(case, 100, **scheduled_oracle(case.numbers, horizon)), 2e-6)


WITHOUT_EPS = {
    "adam": CASES["adam"],
    "adagrad": CASES["adagrad"],
    "rmsprop": CASES["rmsprop"],
    "rmsprop_nesterov": CASES["rmsprop_nesterov"],
}


@pytest.mark.parametrize("derivative", [jax.grad, pytest.param(jax.jacfwd, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("case", "fixed"),
    [pytest.param(case, {}, marks=made_of_all_links(name)) for name, case in CASES.items()]
    + [(case, {"eps": 0.0}) for case in WITHOUT_EPS.values()],
    ids=[*CASES, *(f"{name}, eps 0" for name in WITHOUT_EPS)],
)
def test_hypergradients_where_a_gradient_is_always_0(case, fixed, derivative, x64):
    """Finite, and those of finite differences: an empty pixel's weights do not spoil the other weights' derivatives."""
    start, used = jnp.array([0.5, -1.0, 2.0, 0.3]), jnp.array([1.0, 0.0, 0.3, 0.0])

    def final(numbers):
        optimizer = case.make(**numbers | fixed)

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(used * params, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=4)
        return jnp.sum(jnp.arange(1.0, 5.0) * lo.eval_params(state, params) ** 2)

    larger = {"eps": 1e-3, "eps_root": 1e-3}  # or finite differences would be rounding
    numbers = {name: jnp.float64(larger.get(name, x)) for name, x in case.numbers.items() if name not in fixed}
    actual = jax.jit(derivative(final))(numbers)
    final = jax.jit(final)
    for name, x in numbers.items():
        h = 1e-5 * x
        desired = (final(numbers | {name: x + h}) - final(numbers | {name: x - h})) / (2 * h)
        np.testing.assert_allclose(actual[name], desired, rtol=1e-5, atol=1e-9)


# Law 4: precision and the shape of the state --------------------------------------------------------------------------
def avals(tree):
    return [(jnp.shape(x), x.dtype, jax.typeof(x).weak_type) for x in jax.tree.leaves(tree)], jax.tree.structure(tree)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@every_case_the_links_first
def test_half_precision_keeps_float32_state(case, dtype):
    optimizer = case.make(**case.numbers)
    params = tree_of(jnp.asarray(START, dtype))
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    assert {x.dtype for x in jax.tree.leaves(state)} <= {np.dtype(t) for t in ("float32", "int32", "bool")}
    assert {x.dtype for x in jax.tree.leaves(lo.eval_params(state, params))} == {jnp.dtype(dtype)}
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    exact = optimizer.update(exact, optimizer.init(exact), exact)[0]
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), updates)  # once for each link
    chex.assert_trees_all_close(rounded, exact, rtol=3 * float(jnp.finfo(dtype).eps))


DTYPES = {  # of the parameters, of the gradients, and the wider of the two
    "bfloat16 gradients": ("float32", "bfloat16", "float32"),
    "float32 gradients": ("bfloat16", "float32", "float32"),
    "float16 gradients": ("bfloat16", "float16", "float32"),
    "float64 parameters": ("float64", "float32", "float64"),
    "float64 gradients": ("float32", "float64", "float64"),
    "int32 gradients": ("float32", "int32", "float32"),
}


@every_case_with("dtypes", DTYPES)
def test_gradients_of_another_dtype_than_the_parameters(case, dtypes, x64, strict):
    """Updates come in the wider of the two, computed in it, and the state keeps its own."""
    held, given, wider = dtypes
    optimizer = case.make(**case.numbers)
    params = tree_of(jnp.asarray(START, held))
    state = optimizer.init(params)
    gradients = tree_of(jnp.asarray(3 * START, given))
    updates, new_state = jax.eval_shape(optimizer.update, gradients, state, params)
    assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(wider)}
    assert avals(new_state) == avals(state)
    if held == wider:
        update, cast = jax.jit(optimizer.update), jax.tree.map(lambda g: g.astype(wider), gradients)
        chex.assert_trees_all_equal(update(gradients, state, params)[0], update(cast, state, params)[0])


@pytest.mark.parametrize("name", sorted(CASES.keys() - NEED_PARAMETERS))
def test_without_parameters_updates_have_the_gradients_dtype(name, x64):
    optimizer = CASES[name].make(**CASES[name].numbers)
    state = optimizer.init(tree_of(jnp.asarray(START)))
    for dtype in ("bfloat16", "float32", "float64"):
        updates, _ = optimizer.update(tree_of(jnp.asarray(START, dtype)), state)
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


@every_case
def test_master_weights_with_bfloat16_gradients(case):
    """float32 parameters, 600 steps: w is the oracle's, fed the rounded gradients, and not its roundings' sum."""
    steps, optimizer = 600, case.make(**case.numbers)
    gradients = jnp.asarray(np.random.default_rng(1).normal(size=(steps, SIZE)), jnp.bfloat16)

    def step(carry, g):
        params, state = carry
        updates, state = optimizer.update(tree_of(g), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), flat_of(lo.eval_params(state, params))

    start = tree_of(jnp.asarray(START))
    actual = jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1]
    exact = np.asarray(gradients, float)
    loop = case.reference(lambda k, w: exact[k], START.astype(float), steps, **constant(case.numbers))
    assert_close(actual, np.array([w for w, _ in loop]), 5e-6)


@pytest.mark.slow
@every_case_the_links_first
def test_state_never_changes_its_shape(case):
    """Whatever the numbers are, weakly typed ones too, compiled or not."""
    params = jax.tree.map(lambda x: jnp.full(np.shape(x), 0.5), TREE)

    def states(numbers):
        optimizer = case.make(**numbers)
        first = optimizer.init(params)
        second = optimizer.update(params, first, params)[1]
        return first, second, jax.jit(optimizer.update)(params, second, params)[1]

    kinds = (dict, scheduled, lambda n: {k: jnp.asarray(x) for k, x in n.items()})
    everything = [s for kind in kinds for s in states(kind(case.numbers))] + [*jax.jit(states)(case.numbers)]
    for state in everything[1:]:
        assert avals(state) == avals(everything[0])
    assert not any(weak for _, _, weak in avals(everything[0])[0])


@every_case
def test_changed_numbers_compile_nothing(case):
    params = tree_of(jnp.asarray(START))

    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(numbers, schedule, params, state):
        optimizer = case.make(**numbers | {"learning_rate": schedule})
        return optimizer.update(params, state, params)

    state = case.make(**case.numbers).init(params)
    for factor in LANES:
        numbers = {name: factor * x for name, x in case.numbers.items()}
        schedule = lo.linear_decay(numbers["learning_rate"], 100 * factor)
        params, state = step(numbers, schedule, params, state)


# Law 5: composable ----------------------------------------------------------------------------------------------------
def everywhere(value):
    return lambda params: jax.tree.map(lambda _: value, params)


WRAPPERS = {
    "masked": lambda make, numbers: optax.masked(make(**numbers), everywhere(True)),
    "all of them": lambda make, numbers: optax.apply_if_finite(
        optax.MultiSteps(
            optax.partition({"all": optax.chain(optax.inject_hyperparams(make)(**numbers))}, everywhere("all")), 1
        ).gradient_transformation(),
        3,
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@every_case_the_links_first
def test_wrapped_optimizers_equal_the_oracle(case, wrapper):
    """w too: `eval_params` looks through the wrapper."""
    actual = run(WRAPPERS[wrapper](case.make, case.numbers), steps=50)
    assert_close(actual, expected(case, 50, **constant(case.numbers)), 2e-6)


@every_case_the_links_first
def test_accumulated_gradients(case):
    """With each minibatch seen twice, every second step is one of the oracle's, and w rests in between."""
    paired = optax.MultiSteps(case.make(**case.numbers), 2).gradient_transformation()
    actual = run(paired, steps=40, noise=np.repeat(NOISE, 2, axis=0))
    desired = expected(case, 20, **constant(case.numbers))
    assert_close(actual[1::2], desired, 2e-6)
    assert_close(actual[2::2], desired[:-1], 2e-6)


@every_case_the_links_first
def test_skipped_steps(case):
    """`apply_if_finite` leaves out the steps whose gradient is not finite, and nothing else changes."""
    guarded = optax.apply_if_finite(case.make(**case.numbers), 3)
    actual = run(guarded, steps=40, noise=np.insert(NOISE, np.arange(0, STEPS, 3), np.nan, axis=0))
    steps = [k for k in range(40) if k % 4]
    assert_close(actual[np.array(steps)], expected(case, len(steps), **constant(case.numbers)), 2e-6)


@every_case_the_links_first
def test_parts_with_optimizers_of_their_own(case):
    """One part looks ahead and another does not; a third is masked out. Each is as if alone."""
    optimizer = optax.partition(
        {"ours": case.make(**case.numbers), "sgd": lo.sgd(0.1), "frozen": optax.set_to_zero()},
        {"kernel": {"a": "ours", "b": "sgd"}, "bias": "frozen"},
    )
    whole = {"kernel": {"a": jnp.asarray(START), "b": jnp.ones(2)}, "bias": {"c": jnp.ones(3)}}
    alone, state = case.make(**case.numbers), optimizer.init(whole)
    part = whole["kernel"]["a"]
    part_state = alone.init(part)
    for _ in range(3):
        updates, state = optimizer.update(whole, state, whole)
        whole = optax.apply_updates(whole, updates)
        updates, part_state = alone.update(part, part_state, part)
        part = optax.apply_updates(part, updates)
    w = lo.eval_params(state, whole)
    chex.assert_trees_all_close(w["kernel"]["a"], lo.eval_params(part_state, part), rtol=1e-6)
    chex.assert_trees_all_close(w["kernel"]["b"], whole["kernel"]["b"], jnp.full(2, 0.9**3), rtol=1e-6)
    chex.assert_trees_all_equal(w["bias"], {"c": jnp.ones(3)})


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Flax may warn of its own future
@pytest.mark.parametrize(
    ("case", "wrapper"),
    [pytest.param(case, None, marks=made_of_all_links(name)) for name, case in CASES.items()]
    + [pytest.param(CASES[name], "all of them", marks=made_of_all_links(name)) for name in LOOK_AHEAD],
    ids=[*CASES, *(f"{name} in all wrappers" for name in LOOK_AHEAD)],
)
def test_nnx_optimizer(case, wrapper):
    """The same steps as on a plain tree, in a module, compiled; and w in a state like the module's."""
    make = case.make if wrapper is None else lambda **numbers: WRAPPERS[wrapper](case.make, numbers)
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(1)))
    graph, start = nnx.split(model)
    optimizer = nnx.Optimizer(model, make(**case.numbers), wrt=nnx.Param)

    def loss(model):
        return jnp.mean((model(jnp.array([[1.0, 2.0], [-1.0, 0.5]])) - 1) ** 2)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    alone = case.make(**case.numbers)
    params = nnx.to_pure_dict(start)
    state = alone.init(params)
    for _ in range(4):
        step(model, optimizer)
        gradients = jax.grad(lambda p: loss(nnx.merge(graph, p)))(params)
        updates, state = alone.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    held = nnx.state(model, nnx.Param)
    w = lo.eval_params(optimizer.opt_state, held)
    assert jax.tree.structure(w) == jax.tree.structure(held)
    chex.assert_trees_all_close(nnx.to_pure_dict(w), lo.eval_params(state, params), rtol=1e-5)


@every_case_the_links_first
def test_nnx_state_as_a_plain_tree(case):
    params = nnx.state(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    optimizer = case.make(**case.numbers)
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    held = optax.apply_updates(params, updates)
    chex.assert_trees_all_equal_structs(params, updates, held, lo.eval_params(state, held))


@every_case_the_links_first
def test_missing_gradients(case):
    """A leaf without a gradient gets no update; its state rests, and the others do not notice."""
    optimizer = case.make(**case.numbers)
    params = {"a": jnp.full(3, 0.2), "b": jnp.full(2, 0.1)}
    without = {"a": params["a"], "b": None}
    state = optimizer.update(params, optimizer.init(params), params)[1]
    updates, new_state = optimizer.update(without, state, params)
    desired, _ = optimizer.update({"a": params["a"], "b": jnp.zeros(2)}, state, params)
    chex.assert_trees_all_close(updates, desired | {"b": None})
    assert avals(new_state) == avals(state)
    records = GetAttrKey("norms")  # of what passed, which is nothing
    resting = [
        [x for path, x in leaves_with_path(s) if path[-1] == DictKey("b") and records not in path]
        for s in (state, new_state)
    ]
    chex.assert_trees_all_equal(*resting)


@pytest.mark.parametrize("empty", [{}, (), {"a": None}, {"a": jnp.zeros((0, 3))}], ids=str)
@every_case_the_links_first
def test_empty_trees(case, empty):
    optimizer = case.make(**case.numbers)
    updates, state = jax.jit(optimizer.update)(empty, optimizer.init(empty), empty)
    chex.assert_trees_all_equal(updates, empty)
    chex.assert_trees_all_equal(lo.eval_params(state, empty), empty)


@every_case
def test_extra_arguments_are_accepted(case):
    optimizer = case.make(**case.numbers)
    params = tree_of(jnp.asarray(START))
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    updates, _ = optimizer.update(params, optimizer.init(params), params, value=1.0, anything=None)
    chex.assert_trees_all_equal(updates, optimizer.update(params, optimizer.init(params), params)[0])


@pytest.mark.parametrize("inject", [False, True])
@every_case_the_links_first
def test_donation(case, inject):
    """State and parameters may be given away; the user's own arrays stay."""
    numbers = {name: jnp.float32(x) for name, x in case.numbers.items()}
    optimizer = optax.inject_hyperparams(case.make)(**case.numbers) if inject else case.make(**numbers)

    def step(carry, noise):
        params, state = carry
        gradients = tree_of(jnp.asarray(CURVATURE) * flat_of(params) + noise)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.stack([flat_of(lo.eval_params(state, params)), flat_of(params)])

    params = tree_of(jnp.asarray(START))
    carry = (params, optimizer.init(params))
    outs = python_loop(jax.jit(step, donate_argnums=0), carry, jnp.asarray(NOISE[:5]))[1]
    assert_close(outs, expected(case, 5, **constant(case.numbers)), 2e-6)
    assert not any(x.is_deleted() for x in numbers.values())


@contextlib.contextmanager
def checks():
    """All that JAX can be told to find, but for leaks."""
    with strict(), jax.debug_infs(True):
        yield


MODES = {
    "compiled": (checks, jax.jit),
    "not compiled": (checks, lambda f: f),
    "disable_jit": (jax.disable_jit, jax.jit),
    "leaks": (jax.checking_leaks, jax.jit),
}


@pytest.mark.slow
@every_case_with("mode", MODES)
def test_modes_of_jax_that_find_mistakes(case, mode):
    """With all numbers scheduled, where some gradients are 0 and then all are."""
    within, transform = mode
    params = {"a": jnp.array([[0.5, 0.0], [1.0, 2.0]]), "b": jnp.zeros(2), "c": jnp.float32(1.0)}

    def steps(params, gradients):
        optimizer = case.make(**scheduled(case.numbers))
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return lo.eval_params(state, params)

    with within():
        w = transform(steps)(params, [params, jax.tree.map(jnp.zeros_like, params)])
    assert np.all(np.isfinite(flat_of(w)))


@every_case
def test_eval_shape(case):
    optimizer = case.make(**case.numbers)
    params = tree_of(jnp.asarray(START))
    assert avals(jax.eval_shape(optimizer.init, params)) == avals(optimizer.init(params))


@pytest.mark.slow
def test_sharded_parameters(several_devices):
    """On four devices: the same numbers, and updates and state stay where the parameters are."""
    sharding = jax.NamedSharding(jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,)), jax.P("x"))
    params = {"a": jnp.asarray(START)}
    sharded = jax.device_put(params, sharding)
    for case in CASES.values():
        optimizer = case.make(**case.numbers)
        step = jax.jit(lambda p, s, update=optimizer.update: update(p, s, p))
        updates, state = step(sharded, optimizer.init(sharded))
        chex.assert_trees_all_close(updates, step(params, optimizer.init(params))[0], rtol=1e-6)
        leaves = jax.tree.leaves((updates, state, lo.eval_params(state, sharded)))
        assert all(x.sharding.is_equivalent_to(sharding, 1) for x in leaves if x.shape == START.shape)


# eval_params ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in CASES if name not in EVALUATED_ELSEWHERE])
def test_without_look_ahead_the_held_parameters_are_w(name):
    steps = run(CASES[name].make(**CASES[name].numbers), steps=20)
    np.testing.assert_array_equal(steps[:, 0], steps[:, 1])


@pytest.mark.parametrize("name", LOOK_AHEAD)
def test_w_stays_right_when_momentum_is_changed_from_outside(name):
    """Where the gradient was taken stays known: the new alpha counts from the next look-ahead on."""
    case = CASES[name]
    injected = optax.inject_hyperparams(case.make)(**case.numbers)
    params = tree_of(jnp.asarray(START))
    state = injected.init(params)
    w, velocity, before = flat_of(params), np.zeros(SIZE, np.float32), 0.0
    for alpha in (0.9, 0.2, 0.7, 0.0):
        state.hyperparams["momentum"] = jnp.float32(alpha)
        updates, state = injected.update(tree_of(jnp.asarray(CURVATURE)), state, params)
        params = optax.apply_updates(params, updates)
        step = flat_of(updates) - flat_of(_look_ahead(state).lookahead)
        velocity, before = before * velocity + step, alpha
        w = w + velocity
        np.testing.assert_allclose(flat_of(_look_ahead(state).lookahead), alpha * velocity, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(flat_of(lo.eval_params(state, params)), w, rtol=2e-6)


def _look_ahead(state):
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, lo.optim.TraceNesterovState))
    return next(x for x in leaves if isinstance(x, lo.optim.TraceNesterovState))


def test_two_look_aheads_are_refused():
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    with pytest.raises(ValueError, match="two Nesterov look-aheads"):
        lo.eval_params(optax.chain(lo.nesterov(0.1), lo.nesterov(0.1)).init(params), params)
    apart = optax.chain(
        optax.masked(lo.nesterov(0.1), {"a": True, "b": False}), optax.masked(lo.nesterov(0.1), {"a": False, "b": True})
    )
    chex.assert_trees_all_equal(lo.eval_params(apart.init(params), params), params)


@pytest.mark.parametrize(
    "other", [{"b": jnp.ones(2)}, {"a": {"c": jnp.ones(2)}, "b": jnp.ones(2)}, [jnp.ones(2)]], ids=str
)
def test_parameters_of_another_structure_are_refused(other):
    state = lo.nesterov(0.1).init({"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="structures differ"):
        lo.eval_params(state, other)


@pytest.mark.parametrize("shape", [(3, 2), (1,)])
def test_parameters_of_another_shape_are_refused(shape):
    """A state with a batch axis too: `eval_params` is to be vmapped there."""
    state = jax.vmap(lambda rate: lo.nesterov(rate).init(jnp.ones(2)))(jnp.ones(2))
    for params in (jnp.ones(shape), jnp.ones(2)):
        with pytest.raises(ValueError, match="vmap"):
            lo.eval_params(state, params)
    assert jax.vmap(lo.eval_params)(state, jnp.ones((2, 2))).shape == (2, 2)
