"""One look at one minibatch: the numbers against NumPy, the findings against networks that are known to be sick."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from rounded_products import whatever_is_asked_for
from watched_networks import LinenNet, Mixed, Rematerialized, Stacked

import lectopt as lo
from lectopt.monitoring.inspection_findings import inspection_findings
from lectopt.monitoring.layer_reports import LayerReport

X, Y = lo.datasets.digits()
BATCH = (X[:256], Y[:256])
WEIGHTS = lo.initializers


def network(activation, init, norm=None, depth=20):
    def net(rngs):
        layers, width = [], 64
        for _ in range(depth - 1):
            layers += [nnx.Linear(width, 64, kernel_init=init, rngs=rngs)]
            layers += [norm(64, rngs=rngs)] if norm else []
            layers += [activation]
            width = 64
        return nnx.Sequential(*layers, nnx.Linear(width, 10, kernel_init=init, rngs=rngs))

    return net


def deep(*args, **options):
    return lo.classification(network(*args, **options), standardize=True)


def names(look):
    return {finding.name for finding in look.findings}


SICK = {
    "N(0, 1)": (jax.nn.initializers.normal(1.0), None),
    "zeros": (jax.nn.initializers.zeros, None),
    "fan-in uniform": (WEIGHTS.fan_in_uniform(), None),
    "Glorot": (WEIGHTS.glorot_uniform(), None),
    "sparse": (WEIGHTS.sparse(15), None),
    "Glorot, BatchNorm": (WEIGHTS.glorot_uniform(), lo.BatchNorm),
    "Glorot, LayerNorm": (WEIGHTS.glorot_uniform(), lo.LayerNorm),
}
EXPECTED = {
    ("tanh", "N(0, 1)"): {"exploding gradients", "saturated units", "wrong initial loss"},
    ("tanh", "zeros"): {"symmetric units", "vanishing outputs", "vanishing gradients", "dead units"},
    ("tanh", "fan-in uniform"): {"vanishing outputs", "vanishing gradients"},
    ("tanh", "Glorot"): set(),
    ("tanh", "sparse"): {"saturated units", "wrong initial loss"},
    ("tanh", "Glorot, BatchNorm"): set(),
    ("tanh", "Glorot, LayerNorm"): set(),
    ("relu", "N(0, 1)"): {"exploding outputs", "exploding gradients", "wrong initial loss"},
    ("relu", "zeros"): {"symmetric units", "vanishing outputs", "vanishing gradients", "dead units"},
    ("relu", "fan-in uniform"): {"vanishing outputs", "vanishing gradients"},
    ("relu", "Glorot"): {"vanishing gradients"},
    ("relu", "sparse"): {"exploding outputs", "exploding gradients", "wrong initial loss"},
    ("relu", "Glorot, BatchNorm"): set(),
    ("relu", "Glorot, LayerNorm"): {"examples look alike"},
}


TWICE = [("tanh", "fan-in uniform"), ("tanh", "sparse"), ("tanh", "Glorot, LayerNorm"), ("relu", "zeros")]
TWICE += [("relu", "fan-in uniform"), ("relu", "sparse"), ("relu", "Glorot, BatchNorm")]
"""All that is found there is found in others too."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "start"), [pytest.param(*at, marks=[pytest.mark.slow] * (at in TWICE)) for at in EXPECTED], ids=str
)
def test_it_names_what_is_wrong_with_twenty_layers(activation, start, eager):
    task = deep(getattr(nnx, activation), *SICK[start])
    assert names(lo.inspect(task, BATCH, key=0)) == EXPECTED[activation, start]


@pytest.mark.slow
def test_it_looks_at_exact_products():
    """Whatever precision they are trained with."""
    w = np.linspace(-1, 1, 640, dtype=np.float32).reshape(64, 10)
    task = lo.classification(lambda rngs: nnx.Linear(64, 10, kernel_init=lambda *_: w, rngs=rngs))
    with jax.default_matmul_precision("bfloat16"):
        (layer,) = lo.inspect(task, BATCH).layers
    assert layer.output_std == pytest.approx(np.std(X[:256].astype(float) @ w), rel=1e-6)


@pytest.mark.slow
def test_growth_is_known_no_better_than_what_it_makes_of_rounding(eager):
    """Where a device has no exact products: of 24, 11 and 8 bits."""
    (layer,) = lo.inspect(deep(nnx.tanh, WEIGHTS.glorot_uniform(), depth=1), BATCH).layers

    def explodes(growth):
        layers = [layer._replace(gradient_std=layer.gradient_std * growth), layer]
        return [bool(inspection_findings(layers, 1.0, 1.0, False, rounding)) for rounding in (0.0, 2**-11, 2**-8)]

    assert explodes(990) == [False, False, False]
    assert explodes(1400) == [True, False, False]
    assert explodes(1600) == [True, True, False]
    assert explodes(6000) == [True, True, True]


@pytest.mark.slow
@pytest.mark.parametrize("start", ["sparse", "N(0, 1)", "Glorot"])
def test_it_names_the_same_where_there_are_no_exact_products(start, product_bits):
    with whatever_is_asked_for(product_bits):
        assert names(lo.inspect(deep(nnx.tanh, *SICK[start]), BATCH, key=0)) == EXPECTED["tanh", start]


@pytest.mark.slow
@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("activation", [pytest.param("tanh", marks=pytest.mark.exhaustive), "relu"])
def test_training_bears_it_out(activation):
    """Ten epochs at one rate: what was found healthy learns, what was found sick does not (or falls far behind)."""
    rest, test = lo.holdout((X, Y), 0.2, key=0, stratify=True)
    accuracy = {}
    act = getattr(nnx, activation)
    task_of = functools.cache(lambda norm: deep(act, jax.nn.initializers.zeros, norm))  # to compile once for all starts
    for start, (init, norm) in SICK.items():
        weights = nnx.as_pure(nnx.state(network(act, init, norm)(nnx.Rngs(0)), nnx.Param))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *a, **k: None)  # of divergence, which is what some of them do
            options = {"batch_size": 32, "epochs": 10, "key": 0, "start": weights, "progress": False}
            run = lo.fit(task_of(norm), lo.momentum(0.01), rest, **options)
        accuracy[start] = run.evaluate(test)["accuracy"]
    healthy = [a for start, a in accuracy.items() if not EXPECTED[activation, start]]
    sick = [a for start, a in accuracy.items() if EXPECTED[activation, start]]
    assert min(healthy) > 0.85
    assert max(sick) < min(healthy)


@pytest.mark.parametrize("graph", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_layers_of_an_nnx_module_that_does_not_know_of_it(graph):
    with nnx.set_graph_mode(graph):
        module = Mixed(nnx.Rngs(0))
        before = nnx.to_pure_dict(nnx.state(module, nnx.Param))
        look = lo.inspect(lo.classification(module), BATCH)
        assert [layer.name for layer in look.layers] == [
            "recurrent", "shared", "shared (2)", "norm", "dropout", "out"
        ]  # fmt: skip
        assert [layer.activation for layer in look.layers][1:3] == ["tanh", "tanh"]
        assert type(module.shared) is nnx.Linear
        jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(module, nnx.Param)))


@pytest.mark.slow
def test_numbers_of_a_linen_module(full_precision):
    x, y = BATCH
    run = lo.fit(lo.classification(linen.Dense(10)), lo.sgd(0.01), BATCH, batch_size=64, steps=1, key=0)
    w, b = (np.asarray(run.params[name], float) for name in ("kernel", "bias"))
    z = x @ w + b
    p = np.exp(z - z.max(1, keepdims=True))
    d = (p / p.sum(1, keepdims=True) - np.eye(10)[y]) / len(x)
    (layer,) = lo.inspect(run, BATCH).layers
    found = (layer.output_std, layer.gradient_std, layer.weight_std, layer.weight_gradient_std)
    np.testing.assert_allclose(found, [z.std(), d.std(), w.std(), (x.T @ d).std()], rtol=2e-4)


@pytest.mark.slow
def test_layers_of_a_linen_module(eager):
    look = lo.inspect(lo.classification(LinenNet()), BATCH)
    assert [(layer.name, layer.kind) for layer in look.layers] == [
        ("first", "Dense"), ("Dropout_0", "Dropout"), ("last", "Dense")
    ]  # fmt: skip
    assert look.layers[0].activation == "tanh"


def test_numbers_against_numpy(full_precision):
    """A network of two layers by hand: outputs, back-propagated gradients, gradients of the weights."""

    def net(rngs):
        return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.sigmoid, nnx.Linear(32, 10, rngs=rngs))

    x, y = BATCH
    run = lo.fit(lo.classification(net), lo.sgd(1e-3), BATCH, batch_size=64, steps=1, key=0)
    first, last = (
        (np.asarray(run.params["layers"][i]["kernel"], float), np.asarray(run.params["layers"][i]["bias"], float))
        for i in (0, 2)
    )
    z1 = x @ first[0] + first[1]
    a = 1 / (1 + np.exp(-z1))
    z2 = a @ last[0] + last[1]
    p = np.exp(z2 - z2.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    d2 = (p - np.eye(10)[y]) / len(x)
    d1 = d2 @ last[0].T * a * (1 - a)

    look = lo.inspect(run, BATCH)
    one, two = look.layers
    expected = {
        "output_mean": (z1.mean(), z2.mean()),
        "output_std": (z1.std(), z2.std()),
        "gradient_mean": (d1.mean(), d2.mean()),
        "gradient_std": (d1.std(), d2.std()),
        "weight_std": (first[0].std(), last[0].std()),
        "weight_gradient_mean": ((x.T @ d1).mean(), (a.T @ d2).mean()),
        "weight_gradient_std": ((x.T @ d1).std(), (a.T @ d2).std()),
    }
    for name, values in expected.items():
        np.testing.assert_allclose([getattr(one, name), getattr(two, name)], values, rtol=2e-4, atol=1e-8)
    assert one.activation == "sigmoid"
    np.testing.assert_allclose(one.saturated, np.mean(np.minimum(a, 1 - a) < 0.005), atol=0.002)
    np.testing.assert_allclose(look.loss, -np.log(p[np.arange(len(y)), y]).mean(), rtol=1e-5)
    counts, edges = np.histogram(z1, len(one.histogram[0]))
    np.testing.assert_allclose(one.histogram[1], edges, rtol=1e-4, atol=1e-6)
    assert np.abs(one.histogram[0] - counts).sum() <= 4  # rounding at an edge
    shares = np.bincount(y) / len(y)
    np.testing.assert_allclose(look.baseline_loss, -(shares * np.log(shares)).sum(), rtol=1e-6)


@pytest.mark.slow
def test_dead_units_are_counted_after_the_activation(eager):
    def net(rngs):
        first = nnx.Linear(64, 8, rngs=rngs)
        first.bias[...] = jnp.array([-1e4] * 6 + [1.0] * 2)
        return nnx.Sequential(first, nnx.relu, nnx.Linear(8, 10, rngs=rngs))

    look = lo.inspect(lo.classification(net), BATCH)
    assert look.layers[0].dead == 6 / 8
    assert "dead units" in names(look)


@pytest.mark.parametrize(("mean", "std", "remedy"), [(0.0, 0.0, "at random"), (-5.0, 1.0, "positive biases")])
def test_units_that_are_dead_because_all_weights_are_0_need_other_weights(mean, std, remedy):
    values = dict.fromkeys(LayerReport._fields, 0.0) | {"name": "first", "dead": 1.0, "weight_std": np.nan}
    layer = LayerReport(**values | {"output_mean": mean, "output_std": std})
    (finding,) = inspection_findings([layer], 1.0, 1.0, trained=False)
    assert remedy in finding.remedy


class Convolutions(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.second = nnx.Conv(4, 8, (3, 3), strides=2, rngs=rngs)
        self.second.bias[...] = jnp.array([-1e4] * 6 + [1.0] * 2)
        self.out = nnx.Linear(8 * 16, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.tanh(self.first(x.reshape(-1, 8, 8, 1)))))
        return self.out(x.reshape(len(x), -1))


@pytest.mark.slow
def test_units_of_a_convolution_are_its_channels_flattened_afterwards_or_not(eager):
    first, second, _ = lo.inspect(lo.classification(Convolutions), BATCH).layers
    assert [first.activation, second.activation] == ["tanh", "relu"]
    assert second.dead == 6 / 8


@pytest.mark.parametrize(("model", "weights"), [(Stacked, "stack/kernel"), (Rematerialized(), "first/kernel")])
def test_what_was_not_seen_is_named(model, weights):
    look = lo.inspect(lo.classification(model), BATCH)
    assert look.unseen == [weights]
    assert f"Not seen, inside of a scan, vmap, remat or jit or of no layer: {weights}." in str(look)
    assert weights in look._repr_html_()


@pytest.mark.slow
def test_one_example_is_neither_like_others_nor_far_from_chance(eager):
    look = lo.inspect(deep(nnx.tanh, WEIGHTS.glorot_uniform(), depth=2), (X[:1], Y[:1]))
    assert not names(look) & {"examples look alike", "wrong initial loss"}
    assert "would have 0)" in str(look)


@pytest.mark.slow
def test_a_run_has_no_initial_loss(eager):
    def net(rngs):
        return nnx.Linear(64, 10, kernel_init=jax.nn.initializers.normal(1.0), rngs=rngs)

    task = lo.classification(net)
    run = lo.fit(task, lo.sgd(0.0), BATCH, batch_size=256, steps=1, key=0)
    assert names(lo.inspect(task, BATCH)) == {"wrong initial loss"}
    assert names(lo.inspect(run, BATCH)) == {"loss above baseline"}


@pytest.mark.slow
def test_symmetric_units_are_those_that_learn_alike_too(eager):
    def net(last):
        def build(rngs):
            first = nnx.Linear(64, 8, rngs=rngs)
            first.kernel[...] = first.kernel[...].at[:, 1].set(first.kernel[...][:, 0])
            return nnx.Sequential(first, nnx.tanh, nnx.Linear(8, 10, kernel_init=last, rngs=rngs))

        return lo.classification(build)

    # Equal incoming weights, but other outgoing ones: the gradients tell the two apart.
    assert not any(layer.symmetric for layer in lo.inspect(net(WEIGHTS.glorot_uniform()), BATCH).layers)
    look = lo.inspect(net(jax.nn.initializers.zeros), BATCH)
    assert [layer.symmetric for layer in look.layers][-1] == 0, "a zero last kernel gets different gradients"


def test_table_picture_and_html(eager):
    look = lo.inspect(deep(nnx.tanh, jax.nn.initializers.normal(1.0), depth=3), BATCH)
    lines = str(look).splitlines()
    assert lines[0].split()[:3] == ["layer", "kind", "outputs"]
    assert len([line for line in lines if "Linear" in line]) == 3
    assert any("saturated units" in line and "glorot_uniform" in line for line in lines)
    assert "<table>" in look._repr_html_()
    figure = look.plot()
    assert len(figure.axes) == 4
    assert "saturated units" in figure.get_suptitle()


@pytest.mark.slow
def test_rescale_gives_every_layer_unit_deviation(eager):
    task = deep(nnx.relu, jax.nn.initializers.normal(1.0), depth=6)
    start = lo.rescale(task, BATCH, key=0)
    run = lo.fit(task, lo.sgd(0.0), BATCH, batch_size=256, steps=1, key=0, start=start)
    look = lo.inspect(run, BATCH)
    np.testing.assert_allclose([layer.output_std for layer in look.layers], 1, rtol=1e-3)
    assert not names(look) & {"exploding outputs", "vanishing outputs"}


@pytest.mark.parametrize("model", [Convolutions, LinenNet()], ids=["convolutions", "Linen"])
@pytest.mark.slow
def test_rescale_of_other_models(model, eager):
    task = lo.classification(model)
    weights = [layer for layer in _at(task, lo.rescale(task, BATCH)).layers if not np.isnan(layer.weight_std)]
    assert len(weights) > 1
    np.testing.assert_allclose([layer.output_std for layer in weights], 1, rtol=1e-2)


@pytest.mark.slow
def test_rescale_of_halves_whose_variance_is_too_large_for_them(eager):
    def net(rngs):
        return nnx.Linear(64, 10, dtype=jnp.float16, kernel_init=jax.nn.initializers.normal(5.0), rngs=rngs)

    task = lo.classification(net)
    assert lo.inspect(task, BATCH).layers[0].output_std > 256
    assert _at(task, lo.rescale(task, BATCH)).layers[0].output_std == pytest.approx(1, rel=1e-2)


def _at(task, params):
    return lo.inspect(lo.fit(task, lo.sgd(0.0), BATCH, batch_size=256, steps=1, key=0, start=params), BATCH)


def test_rescale_leaves_outputs_that_differ_by_rounding_alone(eager):
    """The mean of a hundred times 0.1 is not quite 0.1."""

    def net(rngs):
        constants = {"kernel_init": nnx.initializers.zeros, "bias_init": nnx.initializers.constant(0.1)}
        return nnx.Sequential(nnx.Linear(64, 7, **constants, rngs=rngs), nnx.Linear(7, 10, rngs=rngs))

    start = lo.rescale(lo.classification(net), BATCH)
    np.testing.assert_array_equal(start["layers"][0]["bias"], np.float32(0.1))


def test_rescale_leaves_what_has_no_kernel(eager):
    task = deep(nnx.relu, WEIGHTS.glorot_uniform(), norm=lo.LayerNorm, depth=3)
    start = lo.rescale(task, BATCH)
    np.testing.assert_array_equal(start["layers"][1]["scale"], np.ones(64))


@pytest.mark.parametrize("call", [lo.inspect, lo.rescale])
def test_bad_input(call):
    task = deep(nnx.relu, WEIGHTS.glorot_uniform(), depth=2)
    with pytest.raises(TypeError, match=r"task must be a lectopt\.Task"):
        call(None, BATCH)
    with pytest.raises(ValueError, match="finite"):
        call(task, (np.full((4, 64), np.nan, np.float32), Y[:4]))
    with pytest.raises(ValueError, match="does not fit the inputs"):
        call(task, (X[:4, :5], Y[:4]))
    functions = (lambda key, x: (jnp.zeros((64, 10)), ()), lambda w, state, x, key, training: (x @ w, state))
    with pytest.raises(TypeError, match=r"task must have an NNX or Linen model.* got a pair of functions"):
        call(lo.classification(functions), BATCH)


def test_a_run_of_several_trainings_is_refused(eager):
    task = deep(nnx.relu, WEIGHTS.glorot_uniform(), depth=2)
    run = lo.fit(task, lo.sgd(0.1), BATCH, batch_size=256, steps=1, key=0)
    runs = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), run)
    with pytest.raises(ValueError, match=r"holds .* trainings"):
        lo.inspect(runs, BATCH)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("init", "expected"), [pytest.param("fan_in_uniform", 0.5, marks=pytest.mark.slow), ("glorot_uniform", 0.8)]
)
def test_glorot_and_bengios_jacobians(init, expected):
    """Mean singular value of each layer's Jacobian in a tanh network at its start, in the linear range: about 0.5 with
    the standard heuristic and 0.8 with theirs. (A square matrix of independent entries of variance 1/n has
    8 / (3 pi) = 0.85.)"""
    h = 0.1 * jax.random.normal(jax.random.key(1), (200,))
    for i in range(5):
        weights = getattr(WEIGHTS, init)()(jax.random.key(i), (200, 200), jnp.float32)
        jacobian = jax.jacobian(lambda h, weights=weights: jnp.tanh(h @ weights))(h)
        assert np.linalg.svd(np.asarray(jacobian, float), compute_uv=False).mean() == pytest.approx(expected, abs=0.06)
        h = jnp.tanh(h @ weights)
