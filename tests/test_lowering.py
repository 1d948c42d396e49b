"""Every program lowers for CPUs, GPUs and TPUs, wherever that is done: none calls what only one of them has."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt import initializers, optim

PLATFORMS = "cpu", "cuda", "tpu"
X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
KEY = jax.random.key(0)


def some(cases, *quick):
    """All cases, of which the quick ones run with the fast tests."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in cases]


def lower(function, *arguments):
    assert jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).platforms == PLATFORMS


OPTIMIZERS = {
    name: getattr(optim, name)
    for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop_nesterov", "adam", "adamw")
}
SCHEDULES = {
    "linear_decay": lo.linear_decay(0.1, 10),
    "robbins_monro": lo.robbins_monro(0.1),
    "momentum_ramp": lo.momentum_ramp(0.5, 0.9, 10),
    "cosine_decay": lo.cosine_decay(0.1, 10),
    "exponential_decay": lo.exponential_decay(0.1, 10, 0.5),
    "constant": lo.constant(0.1),
    "warmup": lo.warmup(0.1, 10),
    "join": lo.join([0.1, 0.01], [10]),
}
LINKS = {
    "scale_by_adagrad": optim.scale_by_adagrad(),
    "scale_by_adam": optim.scale_by_adam(),
    "scale_by_rmsprop": optim.scale_by_rmsprop(),
    "scale_by_learning_rate": optim.scale_by_learning_rate(0.1),
    "trace_momentum": optim.trace_momentum(0.9),
    "trace_nesterov": optim.trace_nesterov(0.9),
    "clip_by_norm": optim.clip_by_norm(1.0),
    "clip_layers_by_norm": optim.clip_layers_by_norm(1.0),
    "clip_by_value": optim.clip_by_value(1.0),
    "add_l2": optim.add_l2(0.1),
    "decay_weights": optim.decay_weights(optim.nesterov(0.1), 0.1),
    "watch_norms": optim.watch_norms("update", "weight"),
    "average_params": optim.average_params(optim.nesterov(0.1), 0.9),
}
TRANSFORMATIONS = LINKS | {name: make(0.1) for name, make in OPTIMIZERS.items()}
TRANSFORMATIONS |= {name: optim.sgd(schedule) for name, schedule in SCHEDULES.items()}
TRANSFORMATIONS |= {"momentum, scheduled": optim.nesterov(SCHEDULES["linear_decay"], SCHEDULES["momentum_ramp"])}
TRANSFORMATIONS |= {"clip_by_norm, zero": optim.clip_by_norm(1.0, nonfinite="zero")}


def test_none_is_left_out():
    public = {name for name, value in vars(optim).items() if isinstance(value, types.FunctionType)}
    assert public - set(TRANSFORMATIONS) == {"accept_dicts", "eval_params", "register_eval_params"}
    assert {*vars(lo.initializers)["__all__"]} == set(INITIALIZERS)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_step(name):
    transformation = TRANSFORMATIONS[name]
    params = {"w": X, "scalar": np.float32(1), "half": X.astype(jnp.bfloat16)}

    def step(gradients, state, params):
        updates, state = transformation.update(gradients, state, params)
        return updates, lo.eval_params(state, params)

    lower(step, params, transformation.init(params), params)


INITIALIZERS = {
    "fan_in_uniform": initializers.fan_in_uniform(),
    "glorot_uniform": initializers.glorot_uniform(),
    "sparse": initializers.sparse(2),
    "relu_bias": initializers.relu_bias(),
    "output_bias": lambda key, shape: initializers.output_bias(jnp.abs(X[:, 0]) < 1, "sigmoid")(key, (1,)),
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initial_weights(name):
    lower(lambda key: INITIALIZERS[name](key, (4, 3)), KEY)


NORMS = {
    "BatchNorm": lambda rngs: lo.BatchNorm(4, rngs=rngs),
    "BatchNorm, window": lambda rngs: lo.BatchNorm(4, window=3, rngs=rngs),
    "LayerNorm": lambda rngs: lo.LayerNorm(4, rngs=rngs),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "whole"])
@pytest.mark.parametrize("name", NORMS)
def test_a_norm(name, masked, training):
    def loss(x, mask):
        norm = NORMS[name](nnx.Rngs(0))
        norm.train() if training else norm.eval()
        return jnp.sum(norm(x, mask=mask if masked else None) ** 2), nnx.as_pure(nnx.state(norm))

    mask = np.ones((1, 4) if name == "LayerNorm" else (12, 1), bool)
    lower(jax.grad(loss, has_aux=True), X, mask)


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "whole"])
def test_standardized_inputs(masked):
    def standardized(x, mask):
        known = lo.Standardize(4).fit(x, mask if masked else None)
        return known.partial_fit(x, mask if masked else None)(x)

    lower(standardized, X, np.ones(12, bool)[:, None])


def mlp(outputs):
    return lambda rngs: nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), nnx.relu, nnx.Linear(3, outputs, rngs=rngs))


def bias(module):
    return module.layers[2].bias


LABELS = np.arange(12) % 3
TASKS = {
    "classification": (lo.classification(mlp(3), standardize=True, output_bias=bias), LABELS),
    "smoothed, some ignored": (lo.classification(mlp(3), label_smoothing=0.1, ignore_label=2), LABELS),
    "binary": (lo.classification(mlp(1), binary=True, output_bias=bias), LABELS % 2),
    "multilabel": (lo.classification(mlp(2), multilabel=True), np.stack([LABELS % 2, LABELS // 2], 1)),
    "regression": (lo.regression(mlp(4), standardize=True, output_bias=bias), X),
}


def training(task, examples, key, rate=0.1):
    options = {"batch_size": 5, "epochs": 2, "key": key, "patience": 1, "watch": 2}
    return lo.train(task, lo.momentum(rate), examples, valid=examples, **options)


@pytest.mark.parametrize("name", some(TASKS, "regression"))
def test_a_training(name):
    task, targets = TASKS[name]
    lower(lambda x, targets, key: jax.tree.leaves(training(task, (x, targets), key)), X, targets, KEY)


class Lowered(Exception):
    """The program that a search would compile has been lowered."""


@pytest.fixture
def lowered(monkeypatch):
    """Whoever lowers a program does it for all platforms; none is compiled."""
    real = jax.jit

    def jit(function=None, **options):
        if function is None:
            return lambda function: jit(function, **options)
        jitted = real(function, **options)

        def lower_for_all(*arguments):
            jax.export.export(jitted, platforms=PLATFORMS)(*arguments)
            raise Lowered

        return Jitted(jitted, lower_for_all)

    monkeypatch.setattr(jax, "jit", jit)


class Jitted:
    def __init__(self, jitted, lower):
        self._jitted, self.lower = jitted, lower

    def __call__(self, *arguments, **options):
        return self._jitted(*arguments, **options)

    def __getattr__(self, name):
        return getattr(self._jitted, name)


def search_trial(setting, train, valid, key):
    task, _ = TASKS["classification"]
    options = {"batch_size": 5, "epochs": 1, "key": key}
    return lo.train(task, lo.adam(setting["rate"]), train, valid=valid, **options)


SETTINGS = {"rate": np.float32([0.1, 0.2, 0.3, 0.4])}
VECTOR = {"rounds": 2, "children": 3, "key": 0, "progress": False}
OUT = {"minimize": "valid_loss", "key": 0, "progress": False}
SPACE = lo.ArchitectureSpace(depth=[1, 2], width=[2, 3], activation=["relu", "tanh"], norm=["none", "batch", "layer"])


def score(vectors):
    return jnp.sum(vectors, axis=1).astype(jnp.float32)


PROGRAMS = {
    "cross_validate": lambda: lo.cross_validate(search_trial, SETTINGS, lo.k_fold((X, LABELS), 3, key=0), **OUT),
    "random_choices": lambda: lo.search.random_choices([2, 3], score, **VECTOR),
    "evolve": lambda: lo.search.evolve([2, 3], score, **VECTOR),
    "reinforce": lambda: lo.search.reinforce([2, 3], score, **VECTOR),
    "search_architecture": lambda: lo.search_architecture(
        SPACE, (X, LABELS), rounds=2, children=2, key=0, progress=False
    ),
}


@pytest.mark.parametrize("name", some(PROGRAMS, "cross_validate", "random_choices"))
def test_a_search(name, lowered):
    with pytest.raises(Lowered):
        PROGRAMS[name]()


@pytest.mark.slow
def test_a_search_over_several_devices(lowered, four_devices):
    with pytest.raises(Lowered):
        PROGRAMS["cross_validate"]()
