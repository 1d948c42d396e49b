"""Initialisers: the distributions that the docstrings state, the axes, and the biases' means."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from scipy import special, stats

import lectopt as lo

KEY = jax.random.key(7)
UNIFORM = {
    "fan_in_uniform": (lo.initializers.fan_in_uniform, lambda m, n: 1 / math.sqrt(m)),
    "glorot_uniform": (lo.initializers.glorot_uniform, lambda m, n: math.sqrt(6 / (m + n))),
}
# shape, arguments, fan-in, fan-out
KERNELS = [
    ((200, 300), {}, 200, 300),
    ((3, 5, 16, 64), {}, 3 * 5 * 16, 3 * 5 * 64),
    ((64, 16, 3, 5), {"in_axis": 1, "out_axis": 0}, 240, 960),
    ((40, 4, 90), {"out_axis": (1, 2), "in_axis": 0}, 40, 360),  # fused gates
    ((4, 50, 90), {"batch_axis": 0}, 50, 90),
]


@pytest.mark.parametrize("name", UNIFORM)
@pytest.mark.parametrize(("shape", "axes", "fan_in", "fan_out"), KERNELS)
def test_uniform_weights_have_the_stated_distribution(name, shape, axes, fan_in, fan_out):
    make, bound_of = UNIFORM[name]
    weights = np.asarray(make(**axes)(KEY, shape, jnp.float32), np.float64).ravel()
    bound = bound_of(fan_in, fan_out)
    assert np.abs(weights).max() <= bound * (1 + 1e-6)
    assert np.abs(weights).max() >= bound * 0.999
    assert stats.kstest(weights, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert abs(weights.mean()) < 5 * bound / math.sqrt(3 * weights.size)
    np.testing.assert_allclose(weights.var(), bound**2 / 3, rtol=5 / math.sqrt(weights.size))


@pytest.mark.parametrize(("shape", "axes", "fan_in", "fan_out"), KERNELS)
@pytest.mark.parametrize("k", [1, 7, 40])
def test_sparse_gives_each_unit_exactly_k_weights(shape, axes, fan_in, fan_out, k):
    weights = np.asarray(lo.initializers.sparse(k, 0.5, **axes)(KEY, shape, jnp.float32))
    assert weights.shape == shape
    numbers_units = {int(a) % len(shape) for role in ("out_axis", "batch_axis") for a in _axes(axes, role)}
    others = tuple(a for a in range(len(shape)) if a not in numbers_units)
    assert math.prod(shape[a] for a in others) == fan_in
    assert ((weights != 0).sum(others) == k).all()
    values = weights[weights != 0]
    assert stats.kstest(values, stats.norm(0, 0.5).cdf).pvalue > 1e-3


def _axes(arguments, role):
    default = {"out_axis": -1, "batch_axis": ()}[role]
    return np.atleast_1d(np.array(arguments.get(role, default), int))


def test_sparse_places_are_uniform_independent_and_of_the_key():
    init = lo.initializers.sparse(3)
    weights = np.asarray(init(KEY, (12, 20000), jnp.float32)) != 0
    assert stats.chisquare(weights.sum(1)).pvalue > 1e-3  # every input is as likely
    together = (weights[0] & weights[1]).mean()  # without replacement: k (k - 1) / m (m - 1)
    assert together == pytest.approx(3 * 2 / (12 * 11), rel=0.1)
    assert len({column.tobytes() for column in weights.T}) == 220  # all choices of 3 of 12: units differ
    np.testing.assert_array_equal(init(KEY, (9, 4)), init(KEY, (9, 4)))
    assert not np.array_equal(init(KEY, (9, 4)), init(jax.random.key(8), (9, 4)))


def test_sparse_of_the_whole_fan_in_is_dense():
    assert (lo.initializers.sparse(6)(KEY, (6, 50)) != 0).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sparse_counts_hold_in_half_precision(dtype):
    weights = lo.initializers.sparse(15)(KEY, (100, 6000), dtype)
    assert weights.dtype == dtype
    assert ((weights != 0).sum(0) == 15).all()
    values = np.asarray(weights, np.float64)[np.asarray(weights != 0)]
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)


def test_sparse_counts_hold_where_draws_round_to_zero():
    weights = lo.initializers.sparse(5, stddev=1e-7)(KEY, (20, 1000), jnp.float16)
    assert ((weights != 0).sum(0) == 5).all()


def test_sparse_runs_under_jit_and_vmap_with_a_traced_deviation():
    keys = jax.random.split(KEY, 5)

    def draw(key, stddev):
        return lo.initializers.sparse(4, stddev)(key, (3, 3, 8, 10))

    deviations = jnp.arange(1.0, 6.0)
    batch = jax.jit(jax.vmap(draw))(keys, deviations)
    for one, key, stddev in zip(batch, keys, deviations, strict=True):
        np.testing.assert_allclose(one, draw(key, stddev), rtol=1e-6)


@pytest.mark.parametrize("k", [0, -1])
def test_sparse_refuses_counts_below_one(k):
    with pytest.raises(ValueError, match="nonzeros must be at least 1"):
        lo.initializers.sparse(k)


def test_sparse_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"at most the fan-in, 18 for shape \(3, 3, 2, 8\); got 19"):
        lo.initializers.sparse(19)(KEY, (3, 3, 2, 8))
    with pytest.raises(TypeError, match="nonzeros"):
        lo.initializers.sparse(2.5)
    with pytest.raises(ValueError, match="stddev"):
        lo.initializers.sparse(2, stddev=0.0)
    with pytest.raises(ValueError, match="an axis of inputs and one of units"):
        lo.initializers.sparse(1)(KEY, (4,))
    with pytest.raises(ValueError, match="two roles"):
        lo.initializers.sparse(1, in_axis=0, out_axis=-2)(KEY, (4, 4))


@pytest.mark.parametrize(
    "init", [lo.initializers.fan_in_uniform(), lo.initializers.glorot_uniform(), lo.initializers.sparse(3)]
)
def test_kernels_fit_flax_and_break_the_symmetry(init):
    def distinct_units(kernel):
        return len({np.asarray(unit).tobytes() for unit in kernel.reshape(-1, kernel.shape[-1]).T})

    assert distinct_units(nnx.Linear(16, 32, kernel_init=init, rngs=nnx.Rngs(0)).kernel[...]) == 32
    assert distinct_units(nnx.Conv(3, 32, (3, 3), kernel_init=init, rngs=nnx.Rngs(0)).kernel[...]) == 32
    params = linen.Dense(32, kernel_init=init).init(KEY, jnp.ones((1, 16)))
    assert distinct_units(params["params"]["kernel"]) == 32
    assert nnx.Linear(16, 4, kernel_init=init, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)).kernel.dtype == jnp.bfloat16


def test_relu_bias():
    assert (lo.initializers.relu_bias()(KEY, (5,), jnp.float32) == np.float32(0.01)).all()
    assert (jax.jit(lambda v: lo.initializers.relu_bias(v)(KEY, (2,)))(0.5) == 0.5).all()
    for bad in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="value"):
            lo.initializers.relu_bias(bad)
    with pytest.raises(TypeError, match="value"):
        lo.initializers.relu_bias("0.1")


# --- output biases ---------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(3, 2, (50, 4)).astype(np.float32)
SHARES = RNG.uniform(size=(50, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 50)
WEIGHTS = RNG.integers(0, 3, 50).astype(np.float32)


def mean(t, w):
    return np.average(t.astype(np.float64), axis=0, weights=w)


ORACLES = {
    "identity": (NUMBERS, mean),
    "sigmoid": (SHARES, lambda t, w: special.logit(mean(t, w))),
    "softmax": (LABELS, lambda t, w: np.log(mean(np.eye(4)[t], w))),
    "softmax shares": (SHARES, lambda t, w: np.log(mean(t, w) / mean(t, w).sum())),
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_output_bias_gives_the_target_means(name, weights):
    targets, oracle = ORACLES[name]
    activation = name.split()[0]
    expected = oracle(targets, np.ones(50) if weights is None else weights)

    def learn(targets, weights):
        return lo.initializers.output_bias(targets, activation, weights)(KEY, (4,), jnp.float32)

    np.testing.assert_allclose(learn(targets, weights), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(learn)(targets, weights), expected, rtol=1e-5, atol=1e-6)
    if weights is not None:  # weighing an example is repeating it
        repeated = np.repeat(targets, weights.astype(int), axis=0)
        np.testing.assert_allclose(learn(repeated, None), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ORACLES)
def test_output_bias_per_fold_under_vmap(name):
    targets, oracle = ORACLES[name]
    folds = np.stack([np.arange(50) % 5 != fold for fold in range(5)])

    def learn(weights):
        return lo.initializers.output_bias(targets, name.split()[0], weights)(KEY, (4,))

    learned = jax.jit(jax.vmap(learn))(folds)
    expected = np.stack([oracle(targets[fold], np.ones(fold.sum())) for fold in folds])
    np.testing.assert_allclose(learned, expected, rtol=1e-5, atol=1e-6)


def test_examples_of_weight_zero_have_no_influence():
    weights = np.arange(50) < 40
    for name in ("identity", "sigmoid", "softmax shares"):
        targets, oracle = ORACLES[name]
        spoiled = np.where(weights[:, None], targets, np.nan)
        bias = lo.initializers.output_bias(spoiled, name.split()[0], weights)(KEY, (4,))
        np.testing.assert_allclose(bias, oracle(targets[:40], np.ones(40)), rtol=1e-5, atol=1e-6)


def test_what_never_occurs_counts_as_half_an_example():
    bias = lo.initializers.output_bias(jnp.array([0, 0, 0, 2]), "softmax")(KEY, (4,))
    np.testing.assert_allclose(jax.nn.softmax(bias), np.array([3, 0.5, 1, 0.5]) / 5, rtol=1e-6)
    weights = jnp.full(4, 0.01)  # the unit of weight does not matter
    same = lo.initializers.output_bias(jnp.array([0, 0, 0, 2]), "softmax", weights)(KEY, (4,))
    np.testing.assert_allclose(same, bias, rtol=1e-5)
    never_and_always = jnp.array([[0.0, 1.0]] * 10)
    bias = lo.initializers.output_bias(never_and_always, "sigmoid")(KEY, (2,))
    np.testing.assert_allclose(bias, [math.log(0.5 / 10), math.log(10 / 0.5)], rtol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "softmax"])
def test_output_bias_without_any_example_is_zero_or_uniform(activation):
    bias = lo.initializers.output_bias(ORACLES[activation][0], activation, np.zeros(50))(KEY, (4,))
    expected = {"identity": 0, "sigmoid": 0, "softmax": -math.log(4)}[activation]
    np.testing.assert_allclose(bias, expected, atol=1e-6)


def test_initial_loss_is_the_entropy_of_the_labels():
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    bias_init = lo.initializers.output_bias(labels, "softmax")
    layer = nnx.Linear(8, 3, kernel_init=jax.nn.initializers.zeros, bias_init=bias_init, rngs=nnx.Rngs(0))
    logits = layer(jnp.asarray(RNG.normal(size=(100, 8)), jnp.float32))
    loss = -np.asarray(jax.nn.log_softmax(logits))[np.arange(100), labels].mean()
    assert loss == pytest.approx(stats.entropy([0.7, 0.2, 0.1]), rel=1e-6)


def test_output_bias_shapes():
    one = lo.initializers.output_bias(NUMBERS[:, 0], "identity")(KEY, (1,), jnp.bfloat16)
    assert one.shape == (1,)
    assert one.dtype == jnp.bfloat16
    sequences = lo.initializers.output_bias(LABELS.reshape(5, 10), "softmax", np.arange(5.0))(KEY, (4,))
    weights = np.repeat(np.arange(5.0), 10)
    np.testing.assert_allclose(sequences, ORACLES["softmax"][1](LABELS, weights), rtol=1e-5)
    assert linen.Dense(4, bias_init=lo.initializers.output_bias(LABELS, "softmax")).init(KEY, jnp.ones((1, 2)))


def test_output_bias_refuses_what_is_wrong():
    with pytest.raises(ValueError, match="activation must be one of"):
        lo.initializers.output_bias(NUMBERS, "tanh")
    with pytest.raises(ValueError, match="labels below 3, the size of the bias; got 3"):
        lo.initializers.output_bias(LABELS, "softmax")(KEY, (3,))
    with pytest.raises(ValueError, match="softmax"):
        lo.initializers.output_bias(np.array([0, -1]), "softmax")
    with pytest.raises(ValueError, match="sigmoid"):
        lo.initializers.output_bias(np.array([0.5, 1.5]), "sigmoid")
    with pytest.raises(ValueError, match="finite"):
        lo.initializers.output_bias(np.array([0.5, np.nan]), "identity")
    with pytest.raises(ValueError, match="have 4 outputs"):
        lo.initializers.output_bias(NUMBERS, "identity")(KEY, (3,))
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="weights must be at least 0"):
            lo.initializers.output_bias(LABELS, "softmax", np.where(np.arange(50) == 3, bad, 1.0))
    with pytest.raises(ValueError, match="weights must be one per example"):
        lo.initializers.output_bias(NUMBERS, "identity", np.ones(49))


def test_a_traced_label_out_of_range_is_left_out():
    learn = jax.jit(lambda labels: lo.initializers.output_bias(labels, "softmax")(KEY, (2,)))
    np.testing.assert_allclose(learn(jnp.array([0, 1, 1, -1, -1, 2])), np.log([1 / 3, 2 / 3]), rtol=1e-6)


MAKERS = {
    "fan_in_uniform": lo.initializers.fan_in_uniform,
    "glorot_uniform": lo.initializers.glorot_uniform,
    "sparse": lambda **axes: lo.initializers.sparse(1, **axes),
}


@pytest.mark.parametrize("name", MAKERS)
def test_axes_are_refused_by_name(name):
    for axes in ("0", 1.0, None, (0, "1"), True):
        with pytest.raises(TypeError, match="in_axis must be an axis or several, whole numbers; got "):
            MAKERS[name](in_axis=axes)
    with pytest.raises(ValueError, match=r"out_axis must be among the 2 axes of shape \(4, 3\); got 2"):
        MAKERS[name](out_axis=2)(KEY, (4, 3))
    with pytest.raises(ValueError, match="an axis has two roles"):
        MAKERS[name](in_axis=0, out_axis=(0, 1))(KEY, (4, 3))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_initialisers_under_strict_promotion(name, dtype):
    plain = MAKERS[name]()(KEY, (4, 3), dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        np.testing.assert_array_equal(MAKERS[name]()(KEY, (4, 3), dtype), plain)


CALLED_WRONGLY = {
    "one number as shape": ((KEY, 3), TypeError, r"shape must be a tuple of whole numbers; got 3 \(int\)"),
    "text": ((KEY, "ab"), TypeError, "shape must be a tuple of whole numbers; got 'ab'"),
    "fraction": ((KEY, (3, 2.0)), TypeError, r"shape must be a tuple of whole numbers; got \(3, 2.0\)"),
    "below 0": ((KEY, (3, -1)), ValueError, r"shape must be .* at least 0; got \(3, -1\)"),
    "no dtype": ((KEY, (3, 3), 3), TypeError, "dtype must be a dtype of floating-point numbers.* got 3"),
    "whole numbers": ((KEY, (3, 3), jnp.int32), TypeError, "dtype must be a dtype of floating-point numbers"),
    "no key": ((None, (3, 3)), TypeError, r"key must be an int or one jax\.random\.key; got None"),
}
BIASES = {
    "relu_bias": lo.initializers.relu_bias,
    "output_bias": lambda: lo.initializers.output_bias(jnp.ones((2, 3)), "identity"),
}


@pytest.mark.parametrize("name", [*MAKERS, *BIASES])
@pytest.mark.parametrize(("arguments", "error", "message"), CALLED_WRONGLY.values(), ids=CALLED_WRONGLY)
def test_initialisers_called_wrongly(name, arguments, error, message):
    if name in BIASES and arguments[0] is None:
        assert BIASES[name]()(*arguments).shape == (3, 3)  # a bias draws nothing
        return
    with pytest.raises(error, match=message):
        (MAKERS | BIASES)[name]()(*arguments)


def test_a_key_may_be_an_int():
    init = lo.initializers.sparse(2)
    np.testing.assert_array_equal(init(3, (4, 5)), init(jax.random.key(3), (4, 5)))
