"""How modules are told whether they train: by a flag of their call, whatever its name, its default and its kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.tasks.example_checks import check_fit
from lectopt.tasks.probe import Probe, watched

pytestmark = pytest.mark.filterwarnings("error")

X = np.linspace(1, 2, 32, dtype=np.float32).reshape(8, 4)
Y = np.arange(8) % 3


def told(task):
    """What the model was told in training and in evaluation: it puts out 1 where it trains, else 0, of either kind."""
    params, state = task.init(jax.random.key(0), (X, Y))
    return tuple(float(task.outputs(params, state, X, jax.random.key(1), mode)[0].mean()) for mode in (True, False))


# One model for each signature: it tells what it is told ---------------------------------------------------------------
def trains(module, x, flag):
    """The weights times nothing, and the flag."""
    return 0 * module(x) + jnp.float32(flag)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)


class Train(Net):
    def __call__(self, x, train=True):
        return trains(self.linear, x, train)


class Training(Net):
    def __call__(self, x, *, training=False):
        return trains(self.linear, x, training)


class IsTraining(Net):
    def __call__(self, x, is_training):
        return trains(self.linear, x, is_training)


class Deterministic(Net):
    def __call__(self, x, deterministic=False):
        return trains(self.linear, x, not deterministic)


class RunningAverage(Net):
    def __call__(self, x, use_running_average=True):
        return trains(self.linear, x, not use_running_average)


class Inference(Net):
    def __call__(self, x, mask=None, *rest, inference: bool, scale=1.0):
        return trains(self.linear, x, not inference)


class Both(Net):
    def __call__(self, x, mask=None, train=False, *, deterministic=True):
        return trains(self.linear, x, (train + (not deterministic)) / 2)


class OfNone(Net):
    def __call__(self, x, deterministic=None):
        return trains(self.linear, x, not deterministic)


class Subclass(Train):
    pass


class Remat(Net):
    @functools.partial(nnx.remat, static_argnums=(2,))
    def __call__(self, x, train=True):
        return trains(self.linear, x, 1 if train else 0)


class LinenTraining(linen.Module):
    @linen.compact
    def __call__(self, x, *, is_training: bool = True):
        return trains(linen.Dense(3), x, is_training)


class LinenTrain(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = True):
        return trains(linen.Dense(3), x, 1 if train else 0)


class LinenSetup(linen.Module):
    def setup(self):
        self.dense = linen.Dense(3)

    def __call__(self, x, deterministic: bool):
        return trains(self.dense, x, not deterministic)


lifted = {"variable_axes": {"params": None}, "split_rngs": {"params": False}, "in_axes": (0, None)}
MODELS = {
    **{c.__name__: c for c in (Train, Training, IsTraining, Deterministic, RunningAverage, Inference, Both, OfNone)},
    **{c.__name__: c for c in (Subclass, Remat)},
    "given": Train(nnx.Rngs(0)),
    "partial": functools.partial(Train),
    "linen": LinenTraining(),
    "linen train": LinenTrain(),
    "linen setup": LinenSetup(),
    "linen remat": linen.remat(LinenTrain, static_argnums=(2,))(),
    "linen vmap": linen.vmap(LinenTrain, **lifted)(),
    "functions": (
        lambda key, x: (jnp.zeros(()), ()),
        lambda p, s, x, key, training: (p + jnp.full((8, 3), float(training)), s),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_flag_is_passed(name):
    task = lo.classification(MODELS[name])
    check_fit(task, (X, Y), Y, "train")
    assert told(task) == (1, 0)
    if name != "functions":  # layers that are looked into are told as well
        probe = Probe()
        assert told(watched(task, probe)) == (1, 0)
        assert probe.outputs or "remat" in name or "vmap" in name  # whose trace is another


def test_training_and_evaluation_go_by_the_flag():
    """Dropout and batch statistics, in fit, its validation, predict and evaluate."""

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(4, momentum=0.5, use_scale=False, use_bias=False, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.linear = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x, train=True):
            h = self.norm(x, use_running_average=not train)
            return self.linear(self.dropout(h, deterministic=not train))

    run = lo.fit(lo.classification(Block), lo.sgd(0.0), (X, Y), valid=(X, Y), batch_size=8, epochs=3, key=0)
    assert len(set(run.history.steps["loss"].tolist())) == 3  # it drops
    mean, var = (run.model_state.variables["norm"][name] for name in ("mean", "var"))
    np.testing.assert_allclose(mean, X.mean(0) * (1 - 0.5**3), rtol=1e-5)
    w = run.params["linear"]
    wanted = (X - mean) / np.sqrt(var + 1e-5) @ w["kernel"] + w["bias"]
    np.testing.assert_allclose(run.predict(X), wanted, rtol=1e-4)
    losses = jax.nn.logsumexp(wanted, axis=1) - wanted[np.arange(8), Y]
    np.testing.assert_allclose(run.evaluate((X, Y))["loss"], losses.mean(), rtol=1e-4)
    np.testing.assert_allclose(run.metrics["valid_loss"], losses.mean(), rtol=1e-4)


def test_an_objective_passes_the_flag_on():
    def objective(model, batch, key, training):
        return model(batch[0], train=training).mean(1), {}

    task = lo.Task(Train, objective=objective)
    run = lo.fit(task, lo.sgd(0.1), (X,), valid=(X,), batch_size=8, steps=1, key=0)
    assert (run.metrics["train_loss"], run.metrics["valid_loss"]) == (1, 0)
    deaf = lo.Task(Train, objective=lambda model, batch, key: (model(batch[0]).mean(1), {}))
    with pytest.raises(TypeError, match=r"the model \(Train\) is called without its flag 'train'"):
        lo.fit(deaf, lo.sgd(0.1), (X,), batch_size=8, steps=1, key=0)


# What cannot be told --------------------------------------------------------------------------------------------------
class Outer(nnx.Module):
    def __init__(self, inner, rngs):
        self.inner = inner(rngs)

    def __call__(self, x):
        return self.inner(x)


class LinenOuter(linen.Module):
    @linen.compact
    def __call__(self, x):
        return LinenTrain(name="inner")(x)


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (lambda rngs: nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), Train(rngs)), r"layers/1 \(Train\) .* 'train'"),
        (lambda rngs: nnx.Sequential(nnx.Sequential(Training(rngs))), r"layers/0/layers/0 \(Training\) .* 'training'"),
        (lambda rngs: Outer(Deterministic, rngs), r"inner \(Deterministic\) is called without its flag 'determ"),
        (linen.Sequential([linen.Dense(4), LinenTrain()]), r"layers_1 \(LinenTrain\) .*'train'"),
        (LinenOuter(), r"inner \(LinenTrain\) .* 'train'.*pass it on where inner is called"),
    ],
)
def test_a_flag_that_is_not_passed_on_is_refused(model, where):
    with pytest.raises(TypeError, match=where):
        check_fit(lo.classification(model), (X, Y), Y, "train")


def test_a_flag_that_is_given_or_none_within_is_the_models_own_affair():
    class Fixed(nnx.Module):
        def __init__(self, rngs):
            self.body, self.dropout = Train(rngs), nnx.Dropout(0.0, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.body(x, train=False))

    task = lo.classification(Fixed)
    check_fit(task, (X, Y), Y, "train")
    assert told(task) == (0, 0)


def signature(text):
    """A module whose call has these parameters after self."""
    space = {}
    exec(f"def __call__(self, {text}):\n return self.linear({text.split(',')[0].strip('*') or 'x'})", space)
    return type("Odd", (Net,), space)


@pytest.mark.parametrize("flag", ["model_parallel", "return_train_features", "trainable", "determinant"])
def test_flags_of_other_things_keep_their_defaults(flag):
    lo.classification(signature(f"x, {flag}=False")).adapter.check_call()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x, mask", "Odd.__call__ also needs 'mask'"),
        ("x, train, key", "also needs 'key'"),
        ("x, *, rngs", "also needs 'rngs'"),
        ("x, use_dropout=True", "by a name that lectopt passes, one of train, training, .* takes 'use_dropout'"),
        ("x, is_testing: bool = False", "takes 'is_testing'"),
        ("x, mode='train'", "takes 'mode'"),
        ("x, train_mode: bool = None", "takes 'train_mode'"),
        ("", "must be called with one argument, its inputs x; Odd.__call__ takes none"),
    ],
)
def test_a_call_that_needs_more_is_refused(text, message):
    class LinenOdd(linen.Module):
        __call__ = signature(text).__call__

    for model in (signature(text), signature(text)(nnx.Rngs(0)), LinenOdd()):
        with pytest.raises(TypeError, match=message.replace("Odd.", "(Linen)?Odd.")):
            check_fit(lo.classification(model), (X, Y), Y, "train")


@pytest.mark.parametrize("text", ["x, mask=None", "x, *, decode=False, dropout_rate=0.1", "*x", "x, *a, **k"])
def test_what_has_a_default_and_is_no_flag_stays_there(text):
    sequential = lambda rngs: nnx.Sequential(nnx.Linear(4, 3, rngs=rngs))  # noqa: E731, whose call has (*args, **kwargs)
    model = sequential if text == "*x" else signature(text)
    check_fit(lo.classification(model), (X, Y), Y, "train")


def test_a_module_without_a_call():
    task = lo.classification(Net)
    with pytest.raises(TypeError, match="must have a __call__ that takes its inputs x; Net has none"):
        check_fit(task, (X, Y), Y, "train")
    check_fit(lo.Task(Net, objective=lambda net, batch, key: (net.linear(batch[0]).mean(1), {})), (X,), None, "train")
