"""Bad arguments: each raises before anything compiles, and names the argument, the value and what is allowed."""

import inspect
import math
import re
from fractions import Fraction
from types import FunctionType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import lectopt as lo
from lectopt._internal import checks

pytestmark = pytest.mark.filterwarnings("error")

NON_NEGATIVE, POSITIVE, FRACTION, POWER, STEPS = "[0, inf)", "(0, inf)", "[0, 1)", "(0.5, 1]", "[1, inf)"
NUMBERS = [  # function, good arguments, {argument: what is allowed}
    (lo.sgd, {"learning_rate": 0.1}, {"learning_rate": NON_NEGATIVE}),
    (lo.scale_by_learning_rate, {"learning_rate": 0.1}, {"learning_rate": NON_NEGATIVE}),
    (lo.momentum, {"learning_rate": 0.1}, {"learning_rate": NON_NEGATIVE, "momentum": FRACTION}),
    (lo.nesterov, {"learning_rate": 0.1}, {"learning_rate": NON_NEGATIVE, "momentum": FRACTION}),
    (lo.trace_momentum, {"momentum": 0.1}, {"momentum": FRACTION}),
    (lo.trace_nesterov, {"momentum": 0.1}, {"momentum": FRACTION}),
    (lo.adagrad, {"learning_rate": 0.1}, {"learning_rate": NON_NEGATIVE, "eps": NON_NEGATIVE}),
    (lo.scale_by_adagrad, {}, {"eps": NON_NEGATIVE}),
    (
        lo.rmsprop,
        {"learning_rate": 0.1},
        {"learning_rate": NON_NEGATIVE, "decay": FRACTION, "eps": NON_NEGATIVE},
    ),
    (lo.scale_by_rmsprop, {}, {"decay": FRACTION, "eps": NON_NEGATIVE}),
    (
        lo.rmsprop_nesterov,
        {"learning_rate": 0.1},
        {"learning_rate": NON_NEGATIVE, "decay": FRACTION, "momentum": FRACTION, "eps": NON_NEGATIVE},
    ),
    (lo.adam, {}, {"learning_rate": NON_NEGATIVE, "b1": FRACTION, "b2": FRACTION, "eps": NON_NEGATIVE}),
    (lo.scale_by_adam, {}, {"b1": FRACTION, "b2": FRACTION, "eps": NON_NEGATIVE}),
    (lo.clip_by_norm, {"max_norm": 1.0}, {"max_norm": POSITIVE}),
    (lo.add_l2, {"coefficient": 0.1}, {"coefficient": NON_NEGATIVE}),
    (
        lo.linear_decay,
        {"init_value": 0.1, "transition_steps": 10},
        {"init_value": NON_NEGATIVE, "transition_steps": STEPS, "end_value": NON_NEGATIVE},
    ),
    (
        lo.momentum_ramp,
        {"init_value": 0.1, "end_value": 0.9, "transition_steps": 10},
        {"init_value": FRACTION, "end_value": FRACTION, "transition_steps": STEPS},
    ),
    (
        lo.robbins_monro,
        {"init_value": 0.1},
        {"init_value": NON_NEGATIVE, "power": POWER, "transition_steps": STEPS},
    ),
]
ARGUMENTS = [(make, good, name, allowed) for make, good, names in NUMBERS for name, allowed in names.items()]
every_argument = pytest.mark.parametrize(
    ("make", "good", "name", "allowed"), ARGUMENTS, ids=[f"{make.__name__}-{name}" for make, _, name, _ in ARGUMENTS]
)
INSIDE = {  # the edges that are allowed, and those that are not
    NON_NEGATIVE: ([0, 1e30], [-1e-30, -1]),
    POSITIVE: ([1e-30, 1e30], [0, -1, 1e-60]),  # 1e-60 is 0 in float32
    FRACTION: ([0, 0.999999], [1, -1e-9, 1 - 1e-9]),  # 1 - 1e-9 is 1 in float32
    POWER: ([0.500001, 1], [0.5, 1.00001, 0]),
    STEPS: ([1, 1.5, 1e9], [0, 0.5, -3]),
}


@every_argument
def test_what_is_in_range_passes(make, good, name, allowed):
    for value in INSIDE[allowed][0]:
        for number in (value, np.float64(value), np.asarray(value), jnp.asarray(value, jnp.float32)):
            make(**good | {name: number})
        jax.eval_shape(lambda number: make(**good | {name: number}) and number, jnp.float32(value))


@every_argument
def test_what_is_out_of_range_is_refused(make, good, name, allowed):
    for value in [*INSIDE[allowed][1], np.nan, np.inf, -np.inf, 1e39]:
        with np.errstate(over="ignore"):
            numbers = value, np.asarray(value), jnp.asarray(value, jnp.float32)
        for number in numbers:
            with pytest.raises(ValueError, match=rf"^{name} must be in {re.escape(allowed)}; got -?[0-9in]"):
                make(**good | {name: number})


@every_argument
def test_what_is_no_number_is_refused(make, good, name, allowed):
    for value in ("0.1", b"1", [0.1], {}, True, np.True_, 1j, Fraction(1, 2), jnp.array(True), jnp.array(0.5j)):
        with pytest.raises(TypeError, match=rf"^{name} must be a number in {re.escape(allowed)}; got .*\("):
            make(**good | {name: value})
    with pytest.raises(ValueError, match=rf"^{name} must be one number in {re.escape(allowed)}; .* shape \(2,\)"):
        make(**good | {name: jnp.array([0.6, 0.7])})


@every_argument
def test_only_hyperparameters_may_be_schedules(make, good, name, allowed):
    schedule = good | {name: lambda k: 0.5}
    if make in (lo.linear_decay, lo.momentum_ramp, lo.robbins_monro):
        with pytest.raises(TypeError, match=f"^{name} must be a number"):
            make(**schedule)
    else:
        make(**schedule)


def test_float64_decides_under_x64(x64):
    lo.adam(b2=1 - 1e-9, learning_rate=1e39)
    with pytest.raises(ValueError, match=re.escape("b2 must be in [0, 1); got 1")):
        lo.adam(b2=1 - 1e-17)


def test_a_rounded_number_is_explained():
    with pytest.raises(ValueError, match=r"got 0\.999999999, which float32 rounds to 1"):
        lo.momentum(0.1, momentum=1 - 1e-9)


def test_the_policy_is_one_of_two_words():
    with pytest.raises(ValueError, match="nonfinite must be one of 'propagate', 'zero'; got 'skip'"):
        lo.clip_by_norm(1.0, nonfinite="skip")


@pytest.mark.parametrize(
    ("examples", "batch_size", "error", "message"),
    [
        (0, 32, ValueError, "examples must be at least 1; got 0"),
        (-1, 32, ValueError, "examples must be at least 1; got -1"),
        (np.zeros((0, 3)), 32, ValueError, "examples must be at least 1; got 0"),
        ((), 32, ValueError, "examples must be at least 1; got 0"),
        ({}, 32, ValueError, "examples must be at least 1; got 0"),
        (10.0, 32, TypeError, "examples must be a whole number of at least 1; got 10.0 (float)"),
        (10, 0, ValueError, "batch_size must be at least 1; got 0"),
        (10, 2.0, TypeError, "batch_size must be a whole number of at least 1; got 2.0 (float)"),
        (10, True, TypeError, "batch_size must be a whole number of at least 1; got True (bool)"),
        (10, "x" * 99, TypeError, "batch_size must be a whole number of at least 1; got '" + "x" * 56 + "... (str)"),
    ],
)
def test_steps_per_epoch_of_nonsense(examples, batch_size, error, message):
    with pytest.raises(error, match=re.escape(message)):
        lo.steps_per_epoch(examples, batch_size)


@given(st.floats(-2, 2), st.floats(-2, 2), st.booleans(), st.booleans(), st.floats(-3, 3, width=32))
def test_intervals(low, high, low_open, high_open, x):
    interval = checks.Interval(low, high, low_open, high_open)
    assert (x in interval) == (
        low < x < high
        or (x == low < high and not low_open)
        or (x == high > low and not high_open)
        or (x == low == high and not low_open and not high_open)
    )
    assert all(x not in interval for x in (math.nan, "0", None))


def net(rngs):
    return nnx.Linear(2, 3, rngs=rngs)


def public():
    """(name, callable) of every public function, class and method of a class."""
    for space in (lo, lo.space, lo.search, lo.initializers, lo.datasets):
        for name, value in vars(space).items():
            if callable(value) and not name.startswith("_"):
                yield name, value
            if isinstance(value, type):
                methods = {n: m for n, m in vars(value).items() if n == "__call__" or not n.startswith("_")}
                yield from ((f"{name}.{n}", m) for n, m in methods.items() if isinstance(m, FunctionType))
    optuna = pytest.importorskip("lectopt.search.optuna")
    yield "optimize", optuna.optimize


def flags(function):
    """The parameters that are True or False, by their annotation or default."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.annotation in (bool, bool | None) or isinstance(p.default, bool)]


EXAMPLES = (np.zeros((30, 2), np.float32), np.arange(30) % 3)
NETWORK = {"task": lo.Task(net, objective=lambda *_: None), "optimizer": lo.sgd(0.1), "batch_size": 10, "epochs": 1}
SEARCH = {
    "trial": lambda *_: {"loss": 0.0},
    "settings": {"learning_rate": [0.1]},
    "folds": lo.k_fold(EXAMPLES, 2, key=0),
    "minimize": "loss",
}
TRAINING = NETWORK | {"task": lo.classification(net), "train": EXAMPLES}
CHOICES = {"choices": [2, 2], "score": lambda vectors: vectors.sum(axis=1), "rounds": 1, "children": 1}
MODEL = {"model": net, "loss": lambda outputs, targets: targets}
BATCH_NORM = {"self": lo.BatchNorm(2, rngs=nnx.Rngs(0)), "x": EXAMPLES[0]}
LAYER = {"num_features": 2, "rngs": nnx.Rngs(0)}
SPACE = lo.ArchitectureSpace(depth=1, width=[2, 4])
GOOD = {  # arguments beside which a flag is the only thing that is wrong
    "fit": TRAINING,
    "train": TRAINING,
    "minibatches": {"examples": EXAMPLES, "batch_size": 4},
    "suggest_learning_rate": TRAINING | {"optimizer": lo.sgd},
    "check": {"task": TRAINING["task"], "examples": EXAMPLES},
    "BatchNorm": LAYER,
    "BatchNorm.__call__": BATCH_NORM,
    "BatchNorm.set_view": BATCH_NORM,
    "LayerNorm": LAYER,
    "Dropout.__call__": {"self": lo.Dropout(0.5, rngs=nnx.Rngs(0)), "inputs": EXAMPLES[0]},
    "pretrain_encoder": NETWORK | {"encoder": net, "inputs": EXAMPLES[0]},
    "pretrain_layers": NETWORK | {"inputs": EXAMPLES[0]},
    "search_architecture": TRAINING
    | {"task": lo.regression, "space": SPACE, "examples": EXAMPLES, "rounds": 1, "children": 1, "folds": 2},
    "ArchitectureSpace": {"depth": 1, "width": [2, 4]},
    "evolve": CHOICES,
    "random_choices": CHOICES,
    "reinforce": CHOICES,
    "Controller": {},
    "sweep": SEARCH,
    "replicate": {"function": lambda key: {"loss": 0.0}, "seeds": 1, "key": 0},
    "cross_validate": SEARCH,
    "population": SEARCH | {"settings": {"learning_rate": [0.1, 0.2]}, "rounds": 1, "epochs_per_round": 1},
    "learning_curve": SEARCH | {"setting": {}},
    "validation_curve": SEARCH | {"setting": {}, "name": "learning_rate", "values": [0.1]},
    "select": SEARCH | {"examples": EXAMPLES},
    "nested_cross_validate": SEARCH | {"examples": EXAMPLES, "outer": 2, "inner": 2},
    "optimize": SEARCH | {"space": {"x": lo.space.uniform(0, 1)}, "metric": "loss", "n_trials": 1},
    "integers": {"low": 1, "high": 2},
    "choice": {"values": [1, 2]},
    "holdout": {"examples": EXAMPLES, "fraction": 0.5},
    "stratified_k_fold": {"examples": EXAMPLES, "folds": 2},
    "classification": MODEL,
    "regression": MODEL,
    "Task": MODEL,
    "register_eval_params": {"state_type": optax.TraceState, "rule": lambda state, params: params, "like": "trace"},
}
OURS = "Results", "Integers", "Choice", "Task.scores", "Task.outputs"  # called by the package alone
FLAGS = [(name, function, flag) for name, function in public() if name not in OURS for flag in flags(function)]


@pytest.mark.parametrize(("name", "function", "flag"), FLAGS, ids=[f"{name}-{flag}" for name, _, flag in FLAGS])
def test_a_flag_is_true_or_false(name, function, flag):
    """Each flag of each public function: a new one belongs into the table above."""
    known = inspect.signature(function).parameters
    good = {key: value for key, value in ({"key": 0} | GOOD[name]).items() if key in known}
    if name == "optimize":
        good["study"] = pytest.importorskip("optuna").create_study()
    if name == "Controller":  # a NamedTuple, which is checked where it is used
        function = lambda **made: lo.search.reinforce(**CHOICES, key=0, controller=lo.search.Controller(**made))  # noqa: E731
    for value in ("no", 1, np.array(True)):
        with pytest.raises(TypeError, match=rf"^{flag} must be True or False; got .*\({type(value).__name__}\)"):
            function(**good | {flag: value})


def test_flags_of_numpy_are_flags():
    assert checks.check_flag("a", np.True_) is True
    assert checks.check_flag("a", False) is False


def test_flags_are_found():
    assert len(FLAGS) > 30


def test_what_is_no_list_no_optimizer_too_many_or_not_known_yet():
    listed = [checks.is_iterable(value) for value in ([1], np.ones(2), {}, range(2), "ab", b"ab", np.array(1), 3)]
    assert listed == [True] * 4 + [False] * 4
    assert not checks.is_iterable(jax.random.key(0))
    with pytest.raises(TypeError, match=r"^optimizer must be an Optax optimizer; got int"):
        lo.accept_dicts(3)
    with pytest.raises(ValueError, match=r"^seeds must be at most 2147483647; got 2147483648"):
        checks.check_count("seeds", 2**31)
    with pytest.raises(TypeError, match=r"^fraction must not be traced here: split outside of jit and vmap"):
        jax.eval_shape(lambda share: checks.check_known("fraction", share), jnp.float32(0.5))


@pytest.mark.parametrize("made", [{1: 2}, jnp.zeros(2), np.ones(1)])
def test_what_is_no_dtype(made):
    with pytest.raises(TypeError, match=r"^dtype must be a dtype of floating-point numbers"):
        checks.check_dtypes(dtype=made)
