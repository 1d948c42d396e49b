"""Bad input: each a clear error, before anything compiles, alone and inside `jit`."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from flax import nnx

import lectopt as lo
from lectopt.training import fitting, training
from lectopt.training.arguments import TrainingArguments
from lectopt.training.optimizer_states import check_opt_state

pytestmark = pytest.mark.filterwarnings("error")

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
LABELS = np.arange(12) % 4
TARGETS = X[:, :1]


def linear(width):
    return lambda rngs: nnx.Linear(3, width, rngs=rngs)


CLASSES, NUMBERS = lo.classification(linear(4)), lo.regression(linear(1))
GOOD = {"task": CLASSES, "optimizer": lo.sgd(0.1), "train": (X, LABELS), "batch_size": 5, "epochs": 1, "key": 0}


def spoilt(row, value):
    x = X.copy()
    x[row, 1] = value
    return x


def numbers(optimizer, **hyperparameters):
    return lambda: {"optimizer": optimizer, "hyperparameters": hyperparameters}


def anything(x):
    return lo.sgd(0.1)


# what is asked for instead of GOOD, the error, and what it says
BAD = {
    "negative rate": (numbers(lo.sgd, learning_rate=-0.1), ValueError,
        r"learning_rate must be in \[0, inf\); got -0.1"),
    "NaN rate": (numbers(lo.sgd, learning_rate=np.nan), ValueError, r"learning_rate must be in \[0, inf\); got nan"),
    "text": (numbers(lo.sgd, learning_rate="high"), TypeError, r"learning_rate must be a number .*'high'"),
    "decay of 1": (numbers(lo.rmsprop, learning_rate=0.1, decay=1.0), ValueError, r"decay must be in .*; got 1"),
    "b2 of 1": (numbers(lo.adam, b2=1.0), ValueError, r"b2 must be in \[0, 1\); got 1"),
    "max_norm 0": (lambda: {"optimizer": optax.chain(lo.clip_by_norm(0.0))}, ValueError,
        r"max_norm must be in .* got 0"),
    "power": (lambda: {"optimizer": lo.sgd(lo.robbins_monro(1.0, 0.5))}, ValueError,
        r"power must be in \(0.5, 1\]; got"),
    "horizon 0": (lambda: {"optimizer": lo.sgd(lo.linear_decay(1.0, 0))}, ValueError, r"transition_steps must .*got 0"),
    "wrong name": (numbers(lo.momentum, learning_rate=1, alpha=1), ValueError,
                   r"hyperparameters must be among learning_rate, momentum; got alpha"),
    "missing name": (numbers(lo.momentum, momentum=0.5), ValueError, r"hyperparameters must hold learning_rate"),
    "a list": (lambda: {"optimizer": lo.sgd, "hyperparameters": [0.1]}, TypeError,
        r"hyperparameters must be a dictionary of arguments for the optimizer; got list"),
    "whole names": (lambda: {"optimizer": lo.sgd, "hyperparameters": {1: 0.1}}, ValueError,
        r"hyperparameters must be among learning_rate; got 1"),
    "None": (numbers(lo.sgd, learning_rate=None), TypeError, r"learning_rate must be a number .*got None"),
    "an axis": (numbers(lo.sgd, learning_rate=np.ones(3)), ValueError, r"learning_rate must be one number .* \(3,\)"),
    "beyond float32": (numbers(anything, x=2**24 + 1), ValueError,
        r"hyperparameters\['x'\] must be numbers that float32 can hold; got 16777217"),
    "beyond any float": (numbers(anything, x=10**400), ValueError, r"float32 can hold; got one of 401 digits"),
    "too large": (numbers(anything, x=1e39), ValueError, r"float32 can hold; got 1e\+39"),
    "NaN within": (numbers(anything, x={"a": [np.nan]}), ValueError, r"float32 can hold; got nan"),
    "complex": (numbers(anything, x=1j), TypeError, r"hyperparameters\['x'\] must be real numbers; got 1j"),
    "array of text": (numbers(anything, x=np.array(["a"])), TypeError, r"must be real numbers; got array\(\['a'\]"),
    "a date": (numbers(anything, x=np.datetime64("2020-01-01")), TypeError, r"must be real numbers; got .*2020"),
    "a key": (numbers(anything, x=jax.random.key(0)), TypeError, r"must be real numbers; got .*key<fry>"),
    "a list of text": (numbers(anything, x=["a"]), TypeError, r"hyperparameters\['x'\] must be numbers or hashable"),
    "numbers for what is made": (lambda: {"hyperparameters": {"learning_rate": 1}}, ValueError, r"go with a function"),
    "no optimizer": (lambda: {"optimizer": "adam"}, TypeError, r"optimizer must be an Optax .*got str"),
    "makes no optimizer": (numbers(lambda a: a, a=1), TypeError, r"optimizer must return .* it returned int"),
    "two of each parameter": (lambda: {"optimizer": optax.lookahead(lo.sgd(0.1), 2, 0.5)}, TypeError,
        r"optimizer must update the parameters that it is given; optax.lookahead asks for two"),
    "a list of batches": (lambda: {"train": [(X, LABELS)] * 3, "batch_size": None}, TypeError,
        r"train must be a tuple .* got a list of 3 tuples. .* trains on lectopt.stream\(batches\)"),
    "no task": (lambda: {"task": linear(4)}, TypeError, r"task must be a lectopt.Task; got function"),
    "lengths": (lambda: {"train": (X, LABELS[:7])}, ValueError,
        r"train must be arrays of equal length; got .*\[12, 7\]"),
    "valid lengths": (lambda: {"valid": (X, LABELS[:7])}, ValueError, r"valid must be arrays of equal length"),
    "one array": (lambda: {"train": X}, TypeError, r"train must be a tuple of arrays.*got ndarray"),
    "inputs alone": (lambda: {"train": (X,)}, ValueError, r"train must be two arrays, .* for a loss; got 1"),
    "empty": (lambda: {"train": (X[:0], LABELS[:0])}, ValueError, r"train must hold at least 1 example; got none"),
    "empty valid": (lambda: {"valid": (X[:0], LABELS[:0])}, ValueError,
        r"valid must hold at least 1 example; got none"),
    "label 4": (lambda: {"train": (X, LABELS + 1)}, ValueError, r"labels must be in \[0, 4\).* got 4"),
    "label -1": (lambda: {"valid": (X, LABELS - 1)}, ValueError, r"labels must be in \[0, 4\).* got -1"),
    "float labels": (lambda: {"train": (X, LABELS * 1.0)}, ValueError,
        r"labels must be whole numbers in \[0, 4\).*float"),
    "one-hot labels": (lambda: {"train": (X, np.eye(4, dtype=int)[LABELS])}, ValueError,
        r"one row of logits per label"),
    "NaN": (lambda: {"train": (spoilt(3, np.nan), LABELS)}, ValueError, r"train must be finite; 1 of 12 .* row 3"),
    "infinite": (lambda: {"valid": (spoilt(11, np.inf), LABELS)}, ValueError,
        r"valid must be finite; 1 of 12 .* row 11"),
    "NaN target": (lambda: {"task": NUMBERS, "train": (X, spoilt(0, np.nan)[:, 1:2])}, ValueError,
        r"train must be finite"),
    "flat targets": (lambda: {"task": NUMBERS, "train": (X, TARGETS[:, 0])}, ValueError,
                     r"targets must have the shape of .*\(n, 1\); got \(n, \); reshape the targets: y\[:, None\]"),
    "wide targets": (lambda: {"task": NUMBERS, "train": (X, X)}, ValueError, r"targets must .*\(n, 1\); got \(n, 3\)"),
    "narrow inputs": (lambda: {"train": (X[:, :2], LABELS)}, ValueError,
        r"does not fit the inputs of train, .*\(5, 2\)"),
    "narrow valid": (lambda: {"valid": (X[:, :2], LABELS)}, ValueError, r"does not fit the inputs of valid"),
    "batch of 0": (lambda: {"batch_size": 0}, ValueError, r"batch_size must be at least 1; got 0"),
    "batch of 2.5": (lambda: {"batch_size": 2.5}, TypeError,
        r"batch_size must be a whole number of at least 1; got 2.5"),
    "no epochs": (lambda: {"epochs": 0}, ValueError, r"epochs must be at least 1; got 0"),
    "no steps": (lambda: {"epochs": None, "steps": 0}, ValueError, r"steps must be at least 1; got 0"),
    "both": (lambda: {"steps": 3}, ValueError, r"exactly one of epochs and steps .* got epochs=1, steps=3"),
    "neither": (lambda: {"epochs": None}, ValueError,
        r"exactly one of epochs and steps .* got epochs=None, steps=None"),
    "patience": (lambda: {"patience": 2}, ValueError, r"patience counts validations: give it together with valid"),
    "patience 0": (lambda: {"patience": 0, "valid": (X, LABELS)}, ValueError, r"patience must be at least 1; got 0"),
    "no key": (lambda: {"key": None}, TypeError, r"key must be an int or one jax.random.key; got None"),
    "no function": (lambda: {"augment": 3}, TypeError, r"augment must be a function .* got int"),
    "weights' length": (lambda: {"weights": np.ones(5)}, ValueError, r"weights must have shape \(12,\).* got \(5,\)"),
    "negative weight": (lambda: {"weights": X[:, 0]}, ValueError, r"weights must be finite, at least 0"),
    "NaN weight": (lambda: {"weights": spoilt(2, np.nan)[:, 1] ** 2}, ValueError,
        r"weights must be finite, at least 0"),
    "no weight": (lambda: {"weights": np.zeros(12)}, ValueError, r"weights must be .* not all 0"),
    "balance": (lambda: {"weights": "balance"}, ValueError, r'weights must be "balanced", .* got .balance. \(str\)'),
    "weights of strings": (lambda: {"weights": ["a"] * 12}, TypeError, r'weights must be "balanced", .* dtype <U1'),
    "ragged weights": (lambda: {"weights": [[1.0], [1.0, 2.0]]}, TypeError, r'weights must be .* got \[\[1.0\]'),
    "no weights": (lambda: {"weights": {}.keys()}, TypeError, r"weights must be .* got dtype object"),
    "complex weights": (lambda: {"weights": np.ones(12) * 1j}, TypeError, r'weights must be .* got dtype complex128'),
    "balanced numbers": (lambda: {"task": NUMBERS, "train": (X, TARGETS), "weights": "balanced"}, ValueError,
                         r"weights by class need labels"),
    "negative class": (lambda: {"weights": {1: -1.0}}, ValueError, r"weights\[1\] must be in \[0, inf\); got -1"),
    "classes of numbers": (lambda: {"task": NUMBERS, "train": (X, TARGETS), "weights": {0: 1.0}}, ValueError,
                           r"weights by class need labels"),
    "start's shapes": (lambda: {"start": {"kernel": X, "bias": X}}, ValueError,
        r"start for this task must be arrays of"),
    "start's task": (lambda: {"start": lo.fit(**GOOD | {"task": NUMBERS, "train": (X, TARGETS)})}, ValueError,
                     r"start for this task must be arrays of shapes"),
    "start's optimizer": (lambda: {"start": lo.fit(**GOOD), "optimizer": lo.adam(0.1)}, ValueError,
                          r"start must be a run of this optimizer"),
}  # fmt: skip


@pytest.mark.parametrize("call", ["fit", "train", "jitted train"])
@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input(change, error, message, call):
    run = {"fit": lo.fit, "train": lo.train, "jitted train": lambda **a: jax.jit(lambda: lo.train(**a).params)()}[call]
    with pytest.raises(error, match=message):
        run(**GOOD | change())


@pytest.mark.parametrize("name", [name for name in BAD if not name.startswith("start's")])
def test_bad_input_compiles_nothing(name):
    change, error, _ = BAD[name]
    log = compilations()
    with pytest.raises(error):  # what the first call compiles are single operations of JAX, on their first use
        lo.fit(**GOOD | change())
    before = len(log)
    with pytest.raises(error):
        lo.fit(**GOOD | change())
    assert len(log) == before


def test_what_is_averaged_is_what_is_trained():
    """Nothing stands after `average_params` where it would change the same updates."""
    averaged, scale = lo.average_params(lo.sgd(0.1)), optax.scale(0.5)
    for good in (averaged, optax.chain(scale, averaged), lo.average_params(optax.chain(lo.sgd(0.1), scale))):
        check_opt_state(good.init(X))
    parts = optax.masked(averaged, {"a": True, "b": False}), optax.masked(lo.sgd(0.1), {"a": False, "b": True})
    check_opt_state(optax.chain(*parts).init({"a": X, "b": X}))
    for bad in (optax.chain(averaged, scale), optax.chain(optax.chain(scale, averaged), scale)):
        for around in (bad, optax.apply_if_finite(bad, 3), lo.average_params(bad)):
            with pytest.raises(ValueError, match="optimizer must have nothing after average_params in a chain"):
                check_opt_state(around.init(X))


def test_a_batch_size_larger_than_the_data_warns_and_works():
    with pytest.warns(
        UserWarning, match="batch_size 50 is larger than the 12 training examples: each epoch is one batch"
    ):
        run = lo.fit(**GOOD | {"batch_size": 50, "epochs": 2})
    assert run.history.steps["loss"].shape == (2,)


def test_examples_to_evaluate_are_checked():
    run = lo.fit(**GOOD)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\)"):
        run.evaluate((X, LABELS + 1))
    with pytest.raises(ValueError, match="examples must be finite"):
        run.evaluate((spoilt(0, np.nan), LABELS))
    with pytest.raises(TypeError, match="examples must be a tuple"):
        run.evaluate(X)


def test_what_is_traced_passes():
    """A number to check is there only when the program runs; then it is used as it is."""
    rate = jax.jit(lambda rate: lo.train(**GOOD | {"optimizer": lo.sgd(rate)}).metrics["train_loss"])
    assert np.isfinite(rate(jnp.float32(0.1)))


def test_numbers_that_float32_holds_pass():
    for x in (2**24, -(2**30), np.float64(0.1), np.inf, {"a": [1, 2.5]}, np.ones((2, 3)), np.bool_(True), "text", None):
        change = {"optimizer": anything, "hyperparameters": {"x": x}, "epochs": None, "steps": 1}
        jax.eval_shape(lambda change=change: lo.train(**GOOD | change))


def test_train_and_fit_take_the_same_arguments():
    """In names, order, kinds, types and defaults; a number of epochs that is traced is for `train` alone."""
    shared = list(inspect.signature(TrainingArguments).parameters.values())
    assert list(inspect.signature(lo.train).parameters.values()) == shared
    shared = [p for p in shared if p.name != "max_epochs"]
    both, own = np.split(np.array(list(inspect.signature(lo.fit).parameters.values())), [len(shared)])
    assert both.tolist() == shared
    assert [p.name for p in own] == ["progress", "on_epoch", "on_steps", "directory", "keep", "log_dir", "mesh"]


@pytest.mark.parametrize("module", [training, fitting])
def test_each_argument_is_handed_on_under_its_own_name(module, monkeypatch):
    given = {name: object() for name in inspect.signature(TrainingArguments).parameters}
    if module is fitting:
        del given["max_epochs"]
    handed_on = []

    def prepare(arguments, *mesh):
        handed_on.append(arguments)
        raise StopIteration

    monkeypatch.setattr(module, "prepare", prepare)
    with pytest.raises(StopIteration):
        {training: lo.train, fitting: lo.fit}[module](**given)
    assert vars(handed_on[0]) == {"max_epochs": None} | given
