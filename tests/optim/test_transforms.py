"""What is special about each link; that all of them are exact is in test_laws.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from noisy_quadratic import CURVATURE, NOISE, START, run
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

import lectopt as lo
from lectopt._internal import numerics
from lectopt._internal.tree_norm import tree_norm

pytestmark = pytest.mark.filterwarnings("error")


def apply(link, gradients, params=None):
    """(updates, state) of the first step."""
    return link.update(gradients, link.init(gradients), params)


def test_norms_of_layers_are_no_parameters_to_optax():
    """`optax.tree.map_params` calls `init` with something that stands for all parameters."""
    optimizer = optax.chain(lo.watch_norms("gradient"), lo.clip_layers_by_norm(1.0), lo.trace_momentum(0.5))
    state = optimizer.init({"a": {"kernel": np.ones(2, np.float32)}, "b": np.float32(1)})
    shapes = optax.tree.map_params(optimizer, jnp.shape, state)
    assert shapes[2].velocity == {"a": {"kernel": (2,)}, "b": ()}
    chex.assert_trees_all_equal(shapes[:2], state[:2])
    watched, clipped, _ = optax.tree.map_params(optimizer, jnp.shape, state, transform_non_params=lambda _: None)
    assert watched.norms == {"gradient_norm": None}
    assert clipped.norms is None


# clip_by_norm ---------------------------------------------------------------------------------------------------------
LENGTH = 5000  # of all, the rest zeros, so that what differs in numbers alone compiles once


def padded(numbers):
    return np.pad(numbers, (0, LENGTH - len(numbers)))


EXTREME = {
    "float16, squares overflow": padded(np.full(4, 300, np.float16)),
    "float16, squares underflow": padded(np.full(4, 1e-4, np.float16)),
    "float32, squares overflow": padded(np.full(4, 1e20, np.float32)),
    "float32, sum of squares overflows": np.full(LENGTH, 1e18, np.float32),
    "float32, squares underflow": padded(np.full(1000, 1e-23, np.float32)),
    "one large among small": padded(np.array([1e-30, 1e25, -1e-3], np.float32)),
    "negative is largest": padded(np.array([1e-30, -1e-25], np.float32)),
    "complex, squares overflow": padded(np.array([3e20 + 4e20j, 0], np.complex64)),
    "complex, only imaginary": padded(np.array([1e-25j, 0], np.complex64)),
    "complex, ordinary": padded(np.array([3 + 4j, 0], np.complex64)),
    "ordinary": padded(np.array([3, -4, 12], np.float32)),
}


def clip(gradient, max_norm, nonfinite="propagate"):
    return apply(lo.clip_by_norm(max_norm, nonfinite), gradient)


TRANSFORMS = {
    "eager": clip,
    "jit": jax.jit(clip, static_argnums=2),
    "vmap": lambda g, *numbers: jax.tree.map(
        lambda x: x[1], jax.vmap(lambda g: clip(g, *numbers))(jnp.stack([jnp.zeros_like(g), g]))
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("gradient", EXTREME.values(), ids=EXTREME)
def test_clip_is_right_at_any_magnitude(gradient, transform):
    wide = gradient.astype(np.complex128 if np.iscomplexobj(gradient) else np.float64)
    norm = np.sqrt(np.sum(np.abs(wide) ** 2))
    for threshold, clipped in ((norm / 8, True), (norm * 2, False)):
        updates, state = transform(jnp.asarray(gradient), threshold)
        np.testing.assert_allclose(state.norm, norm, rtol=1e-6)
        assert state.clipped == clipped
        assert updates.dtype == gradient.dtype
        rtol = 1e-6 if gradient.dtype != np.float16 else 2e-3
        np.testing.assert_allclose(
            np.asarray(updates, wide.dtype), wide / 8 if clipped else wide, rtol=rtol, atol=1e-7 * norm
        )
        if not clipped:
            np.testing.assert_array_equal(updates, gradient)


def test_clip_looks_at_the_whole_tree_and_only_beyond_the_threshold():
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([[4.0]]), "c": None}
    updates, state = apply(lo.clip_by_norm(5.0), gradients)
    assert (updates["a"], updates["b"], updates["c"]) == (3, 4, None)
    assert not state.clipped
    updates, state = apply(lo.clip_by_norm(np.nextafter(np.float32(5), np.float32(0))), gradients)
    assert state.clipped
    updates, state = apply(lo.clip_by_norm(0.5), gradients)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0, 0], state.norm], [0.3, 0.4, 5], rtol=1e-6)


def test_parts_whose_gradient_is_0_inside_the_program():
    """A head that this batch does not use, and one that is frozen, each with a norm of its own: nothing moves."""
    optimizer = optax.partition(
        {
            "clipped": optax.chain(lo.watch_norms("gradient"), lo.clip_by_norm(1.0), lo.sgd(0.5)),
            "frozen": optax.chain(optax.set_to_zero(), lo.clip_by_norm(1.0)),
        },
        {"unused": "clipped", "stopped": "frozen", "used": "frozen"},
    )
    params = {"unused": jnp.full(3, 2.0), "stopped": jnp.ones(2), "used": jnp.ones(2)}

    @jax.jit
    def step(params, x):
        loss = lambda p: jnp.sum(p["used"] * x) + jnp.sum(jax.lax.stop_gradient(p["stopped"]))  # noqa: E731
        gradients = jax.grad(loss)(params)
        updates, state = optimizer.update(gradients, optimizer.init(params), params)
        return optax.apply_updates(params, updates), state

    new, state = step(params, jnp.ones(2))
    chex.assert_trees_all_equal(new, params)
    assert optax.tree.get(state, "gradient_norm") == {"unused": 0.0}


CONSTANTS = [0.0, 1e-37, 1e-30, 1e-23, 1.0, 1e20, 1e38]


@pytest.mark.parametrize("beside", [None, 0.0, 1e-23])
def test_the_norm_of_constants_inside_the_program(beside, fully_compiled):
    """XLA computes with what it knows: (c x)^2 may become c^2 x^2, of which either can leave the range."""

    def norms():
        trees = [(jnp.full(3, x), *([] if beside is None else [jnp.full((), beside)])) for x in CONSTANTS]
        return [tree_norm(tree) for tree in trees], [jax.grad(tree_norm)(tree) for tree in trees]

    values, gradients = jax.jit(norms)()
    for x, value, gradient in zip(CONSTANTS, values, gradients, strict=True):
        exact = np.hypot(np.sqrt(3) * x, beside or 0.0)
        np.testing.assert_allclose(value, exact, rtol=1e-6)
        np.testing.assert_allclose(gradient[0], np.full(3, x / exact if exact else 0.0), rtol=1e-5, atol=1e-6)


def test_clip_follows_a_schedule_of_thresholds():
    link = lo.clip_by_norm(lambda k: 1.0 + k)
    state = link.init(jnp.zeros(1))
    for step in range(3):
        updates, state = link.update(jnp.array([10.0]), state)
        np.testing.assert_allclose(updates, [1.0 + step], rtol=1e-6)
    np.testing.assert_array_equal(
        jax.vmap(lambda nu: apply(lo.clip_by_norm(nu), jnp.ones(1))[0][0])(LANES), [0.5, 1, 1]
    )


LANES = jnp.array([0.5, 1.0, 2.0])


def test_clip_under_x64(x64):
    for gradient in (1e-200, 1e-50, 1.0, 1e50, 1e200):
        gradients = {"wide": jnp.full(4, gradient), "narrow": jnp.zeros(3, jnp.float32)}
        updates, state = apply(lo.clip_by_norm(gradient), gradients)
        assert (state.norm.dtype, updates["wide"].dtype, updates["narrow"].dtype) == ("float64", "float64", "float32")
        np.testing.assert_allclose(state.norm, 2 * gradient, rtol=1e-14)
        np.testing.assert_allclose(updates["wide"], np.full(4, gradient / 2), rtol=1e-14)
        np.testing.assert_array_equal(updates["narrow"], np.zeros(3))


def test_clip_of_zero_and_its_derivative():
    link, zeros = lo.clip_by_norm(1.0), jnp.zeros(3)
    updates, state = apply(link, zeros)
    np.testing.assert_array_equal(updates, zeros)
    assert state.norm == 0
    assert not state.clipped
    np.testing.assert_array_equal(jax.jacobian(lambda g: apply(link, g)[0])(zeros), np.eye(3))


@pytest.mark.parametrize("derivative", [jax.grad, jax.jacfwd])
def test_derivative_of_the_norm(derivative):
    """g / ||g||, 0 at 0, of any magnitude, in a batch of both too (where all branches run)."""
    norm = lambda g: apply(lo.clip_by_norm(1.0), g)[1].norm  # noqa: E731
    batch = jnp.array([[0, 0], [3, 4], [3e25, -4e25], [3e-25, 4e-25]], jnp.float32)
    desired = [[0, 0], [0.6, 0.8], [0.6, -0.8], [0.6, 0.8]]
    single = jax.jit(derivative(norm))
    np.testing.assert_allclose(jnp.stack([single(g) for g in batch]), desired, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(derivative(norm)))(batch), desired, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(derivative(lambda b: jax.vmap(norm)(b).sum()))(batch), desired, rtol=1e-6)


def test_derivative_through_a_clipped_gradient():
    g = np.array([3.0, -4.0])
    desired = 2 / 5 * (np.eye(2) - np.outer(g, g) / 25)
    actual = jax.jacobian(lambda g: apply(lo.clip_by_norm(2.0), g)[0])(jnp.asarray(g, jnp.float32))
    np.testing.assert_allclose(actual, desired, atol=1e-6)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("policy", "desired"), [("propagate", np.nan), ("zero", 0.0)])
def test_nonfinite_gradients(policy, desired, bad, transform):
    link = lo.clip_by_norm(1.0, nonfinite=policy)
    updates, state = transform(jnp.array([1.0, bad, 0.0]), 1.0, policy)
    np.testing.assert_array_equal(updates, np.full(3, desired))
    np.testing.assert_array_equal(state.norm, np.abs(bad))
    assert state.clipped == np.isinf(bad)
    updates, state = link.update(jnp.array([0.1, 0.0, 0.0]), state)  # nothing of it stays
    np.testing.assert_array_equal(updates, np.float32([0.1, 0, 0]))
    assert state.count == 2


def test_each_layer_is_clipped_by_its_own_norm():
    """A kernel and its bias together; leaves at the top, and layers without a gradient, for themselves."""
    gradients = {
        "first": {"kernel": jnp.array([[3.0, 0.0]]), "bias": jnp.array([4.0])},
        "second": {"kernel": jnp.array([[0.1, 0.2]]), "bias": None},
        "scale": jnp.float32(-7.0),
        "none": {"kernel": None},
    }
    params = jax.tree.map(lambda g: 0.0 if g is None else g, gradients, is_leaf=lambda g: g is None)
    link = lo.clip_layers_by_norm(1.0)
    updates, state = jax.jit(link.update)(gradients, link.init(params))
    desired = {
        "first": {"kernel": jnp.array([[0.6, 0.0]]), "bias": jnp.array([0.8])},
        "second": gradients["second"],
        "scale": jnp.float32(-1.0),
        "none": gradients["none"],
    }
    chex.assert_trees_all_close(updates, desired, rtol=1e-6)
    np.testing.assert_allclose(
        [state.norms[name] for name in ("first", "second", "scale", "none")], [5, np.sqrt(0.05), 7, 0], rtol=1e-6
    )
    for policy, left in (("propagate", np.nan), ("zero", 0.0)):
        bad = {"a": jnp.array([1e-3, jnp.inf]), "b": jnp.array([2e30, 0.0])}
        updates, _ = apply(lo.clip_layers_by_norm(1.0, nonfinite=policy), bad)
        np.testing.assert_array_equal(updates["a"], [left, left])
        np.testing.assert_allclose(updates["b"], [1.0, 0.0], rtol=1e-6)


def test_clip_by_value_of_what_is_not_finite_and_of_complex_entries():
    updates, _ = apply(lo.clip_by_value(2.0), jnp.array([jnp.inf, -jnp.inf, jnp.nan, 2.0, -2.5, 0.0]))
    np.testing.assert_array_equal(updates, [2, -2, np.nan, 2, -2, 0])
    updates, _ = apply(lo.clip_by_value(2.0), jnp.array([3.0 + 4.0j, 1.0j, 0.0], jnp.complex64))
    np.testing.assert_allclose(updates, [1.2 + 1.6j, 1.0j, 0], rtol=1e-6)


@pytest.mark.parametrize("make", [lo.clip_layers_by_norm, lo.clip_by_value, lo.clip_by_norm])
def test_bad_thresholds(make):
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"max_(norm|value) must be in \(0, inf\)"):
            make(bad)


PARTS = {"split": np.array([3.0, 0.0, 1.0, 2.0], np.float32), "both": np.array([4.0, 1.0], np.float32)}
SCALES = [1.0, 1e30, 1e-30, 0.0]


@pytest.mark.parametrize("check_vma", [True, False], ids=["known", "unknown"])
def test_clip_of_split_parameters(check_vma, several_devices):
    """In `shard_map`, the norm is that of all parts; what is whole everywhere counts once where JAX knows of it."""
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    link = lo.clip_by_norm(1.0, axis_name=("x", "y"))
    gradients = {name: PARTS[name] for name in (("split", "both") if check_vma else ("split",))}
    specs = {"split": jax.P(("x", "y")), "both": jax.P("x")}
    specs = {name: specs[name] for name in gradients}

    @jax.jit
    def clip(gradients):
        state = link.init(gradients)
        whole = jax.tree.map(lambda x: jax.P(), state)
        options = {"mesh": mesh, "in_specs": (specs, whole), "out_specs": (specs, whole), "check_vma": check_vma}
        return jax.shard_map(link.update, **options)(gradients, state)

    for factor in SCALES:
        scaled = jax.tree.map(lambda g, factor=factor: np.float32(factor) * g, gradients)
        alone, together = apply(lo.clip_by_norm(1.0), scaled), clip(scaled)
        chex.assert_trees_all_close(together, alone, rtol=1e-6)


def test_clip_over_an_axis_of_vmap():
    gradients = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    link = lo.clip_by_norm(1.0, axis_name="parts")
    norm = lambda g: link.update(g, link.init(g))[1].norm  # noqa: E731
    updates, state = jax.jit(jax.vmap(lambda g: link.update(g, link.init(g)), axis_name="parts"))(gradients)
    np.testing.assert_allclose(updates, gradients / 5, rtol=1e-6)
    np.testing.assert_allclose(state.norm, [5, 5], rtol=1e-6)
    slope = jax.jit(jax.grad(lambda g: jax.vmap(norm, axis_name="parts")(g)[0]))
    np.testing.assert_allclose(slope(gradients), gradients / 5, rtol=1e-6)
    np.testing.assert_array_equal(slope(jnp.zeros((2, 2))), np.zeros((2, 2)))
    for bad in (0, ["x", 1]):
        with pytest.raises(TypeError, match="axis_name must be the name of an axis"):
            lo.clip_by_norm(1.0, axis_name=bad)
    with pytest.raises(ValueError, match=r"axis_name must be mapped .* 'parts'"):
        norm(gradients[0])


magnitudes = hnp.arrays(np.float32, 6, elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))


@settings(max_examples=200, deadline=None)
@given(magnitudes, st.floats(2.0**-20, 2.0**20, width=32))
def test_clipped_is_never_longer_and_keeps_its_direction(gradient, threshold):
    updates, state = _clip(gradient, threshold)
    wide = gradient.astype(float)
    norm = np.linalg.norm(wide)
    np.testing.assert_allclose(state.norm, norm, rtol=1e-6)
    tiny = 2.0**-126  # smaller numbers are flushed to zero
    np.testing.assert_allclose(updates, wide * min(1, threshold / norm) if norm else wide, rtol=2e-6, atol=2 * tiny)


_clip = jax.jit(lambda g, nu: apply(lo.clip_by_norm(nu), g))


# add_l2 ---------------------------------------------------------------------------------------------------------------
MASKS = {"tree": {"w": True, "b": False}, "function": lambda params: {name: name != "b" for name in params}}


@pytest.mark.parametrize("mask", [None, *MASKS])
def test_ridge_regression(mask, x64):
    """The closed form of the lecture's summed error, with lambda divided by N for our mean."""
    x, t = load_diabetes(return_X_y=True)
    n, penalty = len(x), 10.0
    x = x * np.sqrt(n)
    design = {"w": x, "b": np.ones((n, 1))}

    def loss(params):
        return jnp.mean((sum(design[name] @ params[name] for name in params) - t) ** 2)

    optimizer = optax.chain(lo.add_l2(penalty / n, mask=MASKS.get(mask)), lo.momentum(0.1))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = {"w": jnp.zeros(x.shape[1]), "b": jnp.zeros(1)}
    (fitted, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=3000)
    if mask is None:
        both = np.concatenate([x, design["b"]], axis=1)
        desired = np.linalg.solve(both.T @ both + penalty * np.eye(both.shape[1]), both.T @ t)
    else:  # scikit-learn leaves the intercept out as well
        ridge = Ridge(alpha=penalty).fit(x, t)
        desired = np.append(ridge.coef_, ridge.intercept_)
    np.testing.assert_allclose(np.append(fitted["w"], fitted["b"]), desired, rtol=1e-9)


@pytest.mark.parametrize("mask", [None, True, {"w": True}])
def test_l2_without_parameters(mask):
    link = lo.add_l2(0.1, mask=mask)
    with pytest.raises(ValueError, match="needs the parameters"):
        link.update({"w": jnp.ones(2)}, link.init({"w": jnp.ones(2)}))


def test_l2_is_a_function_of_the_step():
    link = lo.add_l2(lambda k: 1.0 * k)
    state, w = link.init(jnp.ones(1)), jnp.array([3.0])
    for step in range(3):
        updates, state = link.update(jnp.ones(1), state, w)
        np.testing.assert_allclose(updates, [1 + 2 * step * 3.0])


# Traces and the learning rate -----------------------------------------------------------------------------------------
def outside(rate, alpha, steps):
    """Not the lecture's momentum: here the rate of today multiplies steps of yesterday."""
    w, v = START.astype(float), 0.0
    for k in range(steps):
        v = alpha * v + CURVATURE * w + NOISE[k]
        w = w - rate(k) * v
        yield w


def test_momentum_before_the_rate_is_another_algorithm():
    """The same under a constant rate, 10 % off under a schedule."""
    decay = lo.linear_decay(0.05, 30)
    for rate, same in ((0.05, True), (decay, False)):
        wrong = run(optax.chain(lo.trace_momentum(0.9), lo.scale_by_learning_rate(rate)), steps=60)[:, 0]
        right = run(lo.momentum(rate, 0.9), steps=60)[:, 0]
        desired = list(outside(rate if callable(rate) else lambda k: 0.05, 0.9, 60))
        np.testing.assert_allclose(wrong, desired, atol=2e-5)
        difference = np.abs(wrong - right).max() / np.abs(right).max()
        assert difference < 1e-5 if same else difference > 0.05


def test_nesterov_before_the_rate_loses_w():
    """Under a constant rate the held parameters are right, but the velocity lacks the rate, so w is not."""
    right = run(lo.nesterov(0.05), steps=60)
    wrong = run(optax.chain(lo.trace_nesterov(0.9), lo.scale_by_learning_rate(0.05)), steps=60)
    np.testing.assert_allclose(wrong[:, 1], right[:, 1], atol=1e-5)
    assert np.abs(wrong[:, 0] - right[:, 0]).max() > 1


# What the states tell, and the edges of the formulas -----------------------------------------------------------------
ADAPTIVE = {
    "adagrad": lo.scale_by_adagrad,
    "rmsprop": lo.scale_by_rmsprop,
    "adam": lo.scale_by_adam,
}
adaptive = pytest.mark.parametrize("make", ADAPTIVE.values(), ids=ADAPTIVE)


@adaptive
def test_nothing_divided_by_nothing_is_nothing(make):
    updates, state = apply(make(eps=0.0), jnp.array([0.0, 2.0]))
    assert updates[0] == 0
    assert updates[1] > 0
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


@adaptive
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_gradient_is_not_hidden(make, bad):
    """An update of 0 would let a broken run look healthy."""
    link = make()
    updates, state = apply(link, jnp.array([bad, 1.0]))
    assert np.isnan(updates[0])
    assert np.isfinite(updates[1])
    assert not np.isfinite(link.update(jnp.array([bad, 1.0]), state)[0][0])


@adaptive
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_zero_gradients_in_half_precision(make, dtype):
    np.testing.assert_array_equal(apply(make(), jnp.zeros(3, dtype))[0].astype(float), np.zeros(3))


def test_the_smallest_decay_forgets_everything():
    gradients = jnp.array([3.0, -0.5])
    for link in (lo.scale_by_rmsprop(decay=0.0, eps=0.0), lo.scale_by_adam(b1=0.0, b2=0.0, eps=0.0)):
        _, state = apply(link, 1e4 * gradients)
        np.testing.assert_allclose(link.update(gradients, state)[0], [1, -1], rtol=1e-6)


def test_states_hold_what_their_fields_say():
    g = jnp.array([3.0, -4.0])
    for link, field, desired in (
        (lo.scale_by_adagrad(), "sum_of_squares", [18, 32]),
        (lo.scale_by_rmsprop(decay=0.5), "mean_of_squares", [6.75, 12]),
        (lo.scale_by_adam(b1=0.5), "mean", [2.25, -3]),
        (lo.scale_by_adam(b2=0.5), "mean_of_squares", [6.75, 12]),
        (lo.trace_momentum(0.5), "velocity", [4.5, -6]),
        (lo.trace_nesterov(0.5), "lookahead", [2.25, -3]),
        (lo.trace_nesterov(lambda k: 0.25 * k), "lookahead", [1.875, -2.5]),
        (lo.scale_by_learning_rate(lambda k: 0.25 + k), "step_size", 1.25),
    ):
        _, state = link.update(g, apply(link, g)[1])
        np.testing.assert_allclose(getattr(state, field), desired, rtol=1e-6)
        assert state.count == 2


def test_the_first_state_holds_the_first_numbers():
    assert lo.scale_by_learning_rate(lambda k: 0.25 + k).init(None).step_size == 0.25


def test_the_count_does_not_overflow():
    last = jnp.int32(2**31 - 1)
    for link in (lo.scale_by_adam(), lo.trace_nesterov(0.9), lo.sgd(0.1), lo.clip_by_norm(1.0), lo.add_l2(0.1)):
        state = link.init(jnp.ones(1))._replace(count=last)
        updates, state = link.update(jnp.ones(1), state, jnp.ones(1))
        assert state.count == last
        assert np.isfinite(updates[0])


def test_adam_does_not_stall_in_bfloat16():
    """bfloat16 moments would stop at 0.5 where 0.95 is right."""
    link, gradient = lo.scale_by_adam(), jnp.ones(1, jnp.bfloat16)
    final = jax.lax.fori_loop(0, 3000, lambda _, state: link.update(gradient, state)[1], link.init(gradient))
    np.testing.assert_allclose(final.mean_of_squares, 1 - 0.999**3000, rtol=1e-4)


def test_adagrad_loses_digits_only_after_many_steps(x64):
    """As its docstring says: 1 % after 10^6 equal gradients in float32, nothing in float64."""
    link, steps = lo.scale_by_adagrad(), 1_000_000

    def total(dtype):
        gradient = jnp.full(1, 0.1, dtype)
        step = lambda _, state: link.update(gradient, state)[1]  # noqa: E731
        return jax.lax.fori_loop(0, steps, step, link.init(gradient)).sum_of_squares

    assert 0.005 < np.abs(np.sqrt(total(jnp.float32) / (0.01 * steps)) - 1) < 0.02
    np.testing.assert_allclose(total(jnp.float64), 0.01 * steps, rtol=1e-9)


# Derivatives through an update ----------------------------------------------------------------------------------------
def test_the_derivative_of_one_minus_power(x64):
    """-t b^(t-1), also at b = 0."""
    for b in (0.0, 0.5, 0.999):
        for t in (1.0, 2.0, 10.0):
            for derivative in (jax.grad, jax.jacfwd):
                actual = derivative(numerics.one_minus_power)(jnp.float64(b), jnp.float64(t))
                np.testing.assert_allclose(actual, -t * b ** (t - 1), rtol=1e-14)


def test_the_root_is_the_root(x64):
    x = jnp.array([0.0, 1e-300, 0.25, 4.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(numerics.safe_sqrt(x), np.sqrt(x))
    np.testing.assert_array_equal(jax.vmap(jax.grad(numerics.safe_sqrt))(x[:4]), [0, *(0.5 / np.sqrt(x[1:4]))])


# numerics ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("b", [0.0, 1e-3, 0.5, 0.9, 0.999, 0.99999, 0.9999999])
def test_one_minus_power_keeps_its_digits(b):
    t = np.array([1, 2, 10, 1000, 10**6])
    rounded = np.longdouble(np.float32(b))
    with np.errstate(divide="ignore"):
        desired = -np.expm1(t * np.log1p(-(1 - rounded)))
    actual = jax.vmap(lambda t: numerics.one_minus_power(jnp.float32(b), t))(jnp.asarray(t, jnp.float32))
    np.testing.assert_allclose(actual, desired.astype(float), rtol=2.5e-7)


def test_watched_norms_are_of_what_passes_layer_by_layer():
    optimizer = optax.chain(lo.watch_norms("gradient"), lo.clip_by_norm(1.0), lo.watch_norms("clipped", "weight"))
    params = {
        "a": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.zeros(2)},
        "b": jnp.array(3.0),
        "c": {"d": jnp.ones(2)},
    }
    gradients = {
        "a": {"kernel": jnp.full((2, 2), 6.0), "bias": jnp.full(2, 8.0)},
        "b": jnp.array(-9.0),
        "c": {"d": None},
    }
    state = optimizer.init(params)
    assert not any(jax.tree.leaves(optax.tree.get(state, "gradient_norm")))
    updates, new = jax.jit(optimizer.update)(gradients, state, params)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    whole = np.sqrt(4 * 36 + 2 * 64 + 81)
    norms = {"a": np.sqrt(4 * 36 + 2 * 64), "b": 9.0, "c": 0.0}
    chex.assert_trees_all_close(optax.tree.get(new, "gradient_norm"), norms, rtol=1e-6)
    chex.assert_trees_all_close(
        optax.tree.get(new, "clipped_norm"), {n: x / whole for n, x in norms.items()}, rtol=1e-6
    )
    weights = {"a": 4.0, "b": 3.0, "c": np.sqrt(2)}
    chex.assert_trees_all_close(optax.tree.get(new, "weight_norm"), weights, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], -9 / whole, rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "error"), [((), ValueError), (("gradient", "gradient"), ValueError), ((1,), TypeError)], ids=str
)
def test_watched_names_are_different_words(names, error):
    with pytest.raises(error, match="names"):
        lo.watch_norms(*names)


class Parts(nnx.Module):
    """Layers in a list, a dictionary and by themselves."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.many = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)])
        self.named = nnx.Dict(a=nnx.Linear(2, 1, rngs=rngs))
        self.scale = nnx.Param(jnp.ones(2))


MODULES = {
    "sequential": lambda: nnx.Sequential(
        nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(3, 1, rngs=nnx.Rngs(1))
    ),
    "parts": Parts,
}
LAYERS = {"sequential": ["layers/0", "layers/2"], "parts": ["many/0", "many/1", "named/a", "scale"]}


@pytest.mark.filterwarnings("default")  # Flax may warn of its own future
@pytest.mark.parametrize("name", MODULES)
def test_watched_norms_in_an_nnx_optimizer(name, graph_mode, eager):
    """By layer, as from a plain tree: Flax hands its variables to `init`, and arrays to `update`."""
    model = MODULES[name]()
    optimizer = nnx.Optimizer(model, optax.chain(lo.watch_norms("gradient", "weight"), lo.sgd(0.1)), wrt=nnx.Param)
    gradients = jax.tree.map(lambda p: 3 * p + 1, nnx.state(model, nnx.Param))
    weights = jax.tree.map(lambda p: p + 0, nnx.state(model, nnx.Param))
    optimizer.update(model, gradients)
    for what, tree in (("gradient", gradients), ("weight", weights)):
        found = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"][0]["norms"][f"{what}_norm"]
        assert sorted(found) == LAYERS[name]
        for layer, norm in found.items():
            part = nnx.to_pure_dict(tree)
            for step in layer.split("/"):
                part = part[int(step) if step.isdigit() else step]
            desired = np.sqrt(sum(np.sum(np.square(x, dtype=float)) for x in jax.tree.leaves(part)))
            np.testing.assert_allclose(norm, desired, rtol=1e-6)


def test_watched_norms_of_other_layers_are_refused():
    link = lo.watch_norms("gradient")
    state = link.init({"a": jnp.ones(2), "b": jnp.ones(2)})
    with pytest.raises(ValueError, match="layers that init was given, a, b; got c as well"):
        link.update({"a": jnp.ones(2), "c": jnp.ones(2)}, state)


# Labels and masks as dictionaries ------------------------------------------------------------------------------------
BY_DICT = {
    "partition": lambda labels: optax.partition({True: lo.nesterov(0.1), False: lo.sgd(0.5)}, labels),
    "masked": lambda mask: optax.masked(lo.adam(0.1), mask),
    "add_l2": lambda mask: optax.chain(lo.add_l2(0.5, mask), lo.sgd(0.1)),
}


@pytest.mark.parametrize("make", BY_DICT.values(), ids=BY_DICT)
@pytest.mark.parametrize("leafwise", [False, True])
def test_dictionaries_for_nnx_parameters(make, leafwise, eager):
    """A plain tree, an `nnx.State`, and an `nnx.Optimizer`, under the labels of the plain tree: the same steps."""
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(3, 1, rngs=nnx.Rngs(1)))
    state = nnx.as_pure(nnx.state(model, nnx.Param))
    labels = {"layers": {0: True, 2: {"kernel": False, "bias": True} if leafwise else False}}
    plain, given = make(labels), lo.accept_dicts(make(labels))

    def two_steps(optimizer, params):
        opt_state = optimizer.init(params)
        for _ in range(2):
            updates, opt_state = optimizer.update(params, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, lo.eval_params(opt_state, params)

    desired = two_steps(plain, nnx.to_pure_dict(state))
    actual = two_steps(given, state)
    assert jax.tree.structure(actual[0]) == jax.tree.structure(state)
    chex.assert_trees_all_equal(tuple(map(nnx.to_pure_dict, actual)), desired)
    chex.assert_trees_all_equal(two_steps(given, nnx.to_pure_dict(state)), desired)
    optimizer = nnx.Optimizer(model, given, wrt=nnx.Param)
    for _ in range(2):
        optimizer.update(model, nnx.state(model, nnx.Param))
    chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(model, nnx.Param)), desired[0])
    chex.assert_trees_all_equal(nnx.to_pure_dict(lo.eval_params(optimizer, model)), desired[1])


def test_a_mask_of_neither_kind_is_refused():
    state = nnx.as_pure(nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match="kernel"):
        lo.accept_dicts(optax.masked(lo.sgd(0.1), {"weight": True, "bias": False})).init(state)


# Hyperparameters by Optax's own names --------------------------------------------------------------------------------
INJECTED = [
    (lo.sgd, {"learning_rate": 0.1}),
    (lo.nesterov, {"learning_rate": 0.1, "momentum": 0.5}),
    (lo.rmsprop_nesterov, {"learning_rate": 0.1, "decay": 0.5, "momentum": 0.5, "eps": 1e-3}),
    (lo.adagrad, {"learning_rate": 0.1, "eps": 1e-3}),
    (lo.adam, {"learning_rate": 0.1, "b1": 0.5, "b2": 0.9, "eps": 1e-3}),
    (lo.clip_by_norm, {"max_norm": 0.5}),
    (lo.add_l2, {"coefficient": 0.5}),
]


@pytest.mark.parametrize(("make", "numbers"), INJECTED, ids=[make.__name__ for make, _ in INJECTED])
def test_each_hyperparameter_is_found_and_set_by_its_name(make, numbers, eager):
    """What is injected is there once, for `optax.tree.get`, and what `optax.tree.set` puts there counts."""
    w = jnp.array([1.0, -3.0])
    optimizer = optax.inject_hyperparams(make)(**numbers)
    state = optimizer.init(w)
    for name, value in numbers.items():
        np.testing.assert_allclose(optax.tree.get(state, name), value, rtol=1e-6)
        changed = optax.tree.set(state, **{name: jnp.float32(value / 2)})
        actual = optimizer.update(w, changed, w)[0]
        halved = make(**numbers | {name: value / 2})
        if name != "momentum":  # which takes effect with the next look-ahead
            np.testing.assert_allclose(actual, halved.update(w, halved.init(w), w)[0], rtol=1e-6)
        with pytest.raises(KeyError):
            optax.tree.set(make(**numbers).init(w), **{name: 0.0})


def test_weights_can_only_be_measured_where_they_are_given():
    link = lo.watch_norms("weight")
    with pytest.raises(ValueError, match="params"):
        link.update(jnp.ones(2), link.init(jnp.ones(2)))
