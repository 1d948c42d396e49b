"""`check`: what is well on real data, and what is found where something was broken on purpose."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.monitoring.memorization import memorization

pytestmark = pytest.mark.filterwarnings("error")

ZEROS, DRAWN = nnx.initializers.zeros, nnx.initializers.lecun_normal()
DIGITS, IRIS, DIABETES = lo.datasets.digits(), lo.datasets.iris(), lo.datasets.diabetes()


def linear(inputs, outputs, **options):
    return lambda rngs: nnx.Linear(inputs, outputs, rngs=rngs, **options)


def names(seen):
    return [finding.name for finding in seen]


@functools.cache
def iris_task():
    return lo.classification(linear(4, 3, kernel_init=ZEROS), standardize=True)


def permuted(examples, seed=0):
    x, y = examples
    return x, np.random.default_rng(seed).permutation(y)


@pytest.mark.slow
def test_digits_are_well(capfd):
    task = lo.classification(linear(64, 10, kernel_init=ZEROS), standardize=True)
    seen = lo.check(task, DIGITS, progress=False)
    assert names(seen) == []
    start, heart, alignment = seen.notes
    assert start == "Initial loss 2.3, constant outputs 2.3."
    assert heart.startswith("Learned by heart: the loss of 8 examples went from 2.3 to ")
    assert alignment.startswith("Targets go with inputs: trained on 700 examples, the loss of 300 others is ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_cancer_is_well():
    task = lo.classification(linear(30, 2), standardize=True)
    assert names(lo.check(task, lo.datasets.breast_cancer(), progress=False)) == []


@pytest.mark.slow
def test_diabetes_is_well_with_its_mean_as_bias():
    net = linear(10, 1, kernel_init=ZEROS)
    task = lo.regression(net, standardize=True, output_bias=lambda module: module.bias)
    x, y = DIABETES
    seen = lo.check(task, (x, (y - y.mean()) / y.std() + 3), progress=False)
    assert names(seen) == []
    assert "trained on 309 examples, the loss of 133 others" in seen.notes[2]


@pytest.mark.slow
def test_targets_in_another_order():
    """The true order is worth no more than nine others; everything else is well."""
    (finding,) = lo.check(iris_task(), permuted(IRIS), progress=False)
    assert finding.name == "targets do not go with inputs"
    assert finding.evidence.startswith("trained on 105 examples, the loss of 45 others is ")
    assert finding.evidence.count(" to ") == 1


@pytest.mark.slow
def test_unscaled_targets():
    seen = lo.check(lo.regression(linear(10, 1), standardize=True), DIABETES, progress=False)
    assert names(seen)[0] == "wrong initial loss"
    assert seen.findings[0].evidence.startswith("2.9e+04, where constant outputs would have 5.93e+03")


class Blind(nnx.Module):
    """Has the same outputs for all inputs."""

    def __init__(self, rngs):
        self.bias = nnx.Param(jnp.zeros(3))

    def __call__(self, x):
        return jnp.broadcast_to(self.bias[...], (len(x), 3))


@pytest.mark.slow
def test_a_model_that_is_blind():
    seen = lo.check(lo.classification(Blind), IRIS, progress=False)
    assert names(seen) == ["outputs ignore the inputs", "targets do not go with inputs"]


class Few(nnx.Module):
    """Learns constant targets from its bias alone."""

    def __init__(self, rngs):
        self.bias = nnx.Param(jnp.array([1.0, -1.0]))

    def __call__(self, x):
        return jnp.broadcast_to(self.bias[...], (len(x), 2))


@pytest.mark.parametrize("targets", [[1.5, -0.5], [0.1, -0.3]], ids=["exact mean", "rounded mean"])
def test_targets_that_are_all_alike(targets):
    examples = IRIS[0], np.tile(np.float32(targets), (150, 1))
    task = lo.regression(Few)
    assert names(lo.check(task, examples, progress=False)) == ["targets all alike"]
    run = lo.fit(task, lo.sgd(0.01), examples, batch_size=50, epochs=1, key=0, progress=False)
    assert run.history.baseline_loss == 0
    assert names(lo.diagnose(run)) == []
    assert "wrong initial loss" not in names(lo.inspect(task, examples).findings)


@pytest.mark.slow
def test_zero_weights_cannot_learn():
    def net(rngs):
        layer = functools.partial(nnx.Linear, kernel_init=ZEROS, rngs=rngs)
        return nnx.Sequential(layer(4, 16), nnx.relu, layer(16, 3))

    seen = lo.check(lo.classification(net, standardize=True), IRIS, progress=False)
    assert names(seen)[0] == "outputs ignore the inputs"
    assert "the loss of 8 examples went from 1.1 to " in seen.findings[0].evidence


def pair():
    def init(key, x):
        return {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}, {}

    def apply(params, state, x, key, training):
        return x @ params["w"] + params["b"], state

    return init, apply


@pytest.mark.parametrize(
    "model", [linen.Dense(3), pytest.param(pair(), marks=pytest.mark.slow)], ids=["linen", "functions"]
)
@pytest.mark.slow
def test_other_models(model):
    seen = lo.check(lo.classification(model, standardize=True), IRIS, progress=False)
    assert len(seen.notes) + len(seen) == 3
    assert "cannot learn by heart" not in names(seen)
    assert "targets do not go with inputs" not in names(seen)


@pytest.mark.slow
def test_an_objective():
    def reconstruct(module, batch, key):
        return jnp.sum((module(batch[0]) - batch[0]) ** 2, axis=-1), {}

    seen = lo.check(lo.Task(linear(4, 4), objective=reconstruct), (IRIS[0],), progress=False)
    assert names(seen) == []
    assert seen.notes[0].startswith("Initial loss ")
    assert seen.notes[0].endswith("the task does not know that of constant outputs.")
    assert seen.notes[2] == "An objective has no targets to compare with permuted ones."


@pytest.mark.slow
def test_several_labels_for_each_example():
    """Each of three places has its own label: which of the inputs of the place is the largest."""
    x = np.random.default_rng(0).normal(size=(120, 3, 4)).astype(np.float32)
    y = x.argmax(-1)
    task = lo.classification(linear(4, 4, kernel_init=ZEROS))
    assert names(lo.check(task, (x, y), progress=False)) == []


@pytest.mark.slow
def test_a_subset_and_keys():
    """What is outside of the subset is not looked at, twenty examples are enough, and one key has one result."""
    x, y = IRIS
    arrays = np.concatenate([x, np.full((9, 4), 1e9, np.float32)]), np.concatenate([y, np.zeros(9, y.dtype)])
    rows = jnp.concatenate([jnp.arange(0, 140, 7), jnp.array([150])])  # the last one fills up, as in folds
    part = lo.Subset(tuple(map(jnp.asarray, arrays)), rows, jnp.int32(20), 20)
    seen = [lo.check(iris_task(), part, key=key, progress=False) for key in (3, jax.random.key(3))]
    assert "trained on 14 examples, the loss of 6 others" in str(seen[0])
    assert str(seen[0]) == str(seen[1])
    assert str(seen[0]) == str(lo.check(iris_task(), (x[:140:7], y[:140:7]), key=3, progress=False))


# Losses with a floor, and such as have none. Eight flowers of iris; the same losses on models that cannot learn them.

EIGHT = np.arange(7, 150, 19)
FLOWERS = (IRIS[0] - IRIS[0].mean(0)) / IRIS[0].std(0)


def mlp(outputs, first=DRAWN, end=lambda z: z):
    def net(rngs):
        layers = nnx.Linear(4, 16, kernel_init=first, rngs=rngs), nnx.Linear(16, outputs, rngs=rngs)
        return nnx.Sequential(layers[0], nnx.relu, layers[1], end)

    return net


class Variational(nnx.Module):
    def __init__(self, rngs):
        self.encoder, self.decoder = nnx.Linear(4, 4, rngs=rngs), mlp(4)(rngs)
        self.decoder.layers[0] = nnx.Linear(2, 16, rngs=rngs)

    def __call__(self, x, key):
        mean, log_variance = jnp.split(self.encoder(x), 2, axis=-1)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return self.decoder(z), jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, -1) / 2


def evidence(module, batch, key):
    again, divergence = module(batch[0], key)
    return jnp.sum((again - batch[0]) ** 2, -1) / 2 + divergence, {}


def denoised(module, batch, key):
    noise = 0.3 * jax.random.normal(key, batch[0].shape)
    return jnp.sum((module(batch[0] + noise) - batch[0]) ** 2, -1), {}


def smoothed(share):
    return lambda z, t: optax.softmax_cross_entropy(z, optax.smooth_labels(jax.nn.one_hot(t, 3), share))


def confident(z, t):
    p = jax.nn.softmax(z)
    return optax.softmax_cross_entropy_with_integer_labels(z, t) + 0.3 * jnp.sum(p * jnp.log(p + 1e-9), -1)


def gaussian(z, t):
    return jnp.exp(-z[:, 1]) * (t[:, 0] - z[:, 0]) ** 2 / 2 + z[:, 1] / 2


LABELS, LENGTHS = IRIS[1], FLOWERS[:, 2:3]
SOFT = np.asarray(jax.nn.softmax(FLOWERS @ np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) / 2))
LOSSES = {
    # name: (outputs, loss, targets)
    "labels smoothed by 0.1": (3, smoothed(0.1), LABELS),
    "labels smoothed by 0.3": (3, smoothed(0.3), LABELS),
    "distillation": (3, optax.softmax_cross_entropy, SOFT),
    "a penalty on confidence": (3, confident, LABELS),
    "a quantile": (1, lambda z, t: jnp.sum(jnp.maximum(0.9 * (t - z), -0.1 * (t - z)), -1), LENGTHS),
    "a Gaussian, whose likelihood has no bound": (2, gaussian, LENGTHS),
    "Poisson counts": (1, lambda z, t: jnp.exp(z[:, 0]) - t[:, 0] * z[:, 0], np.round(3 + 2 * LENGTHS)),
}
QUICK = {"labels smoothed by 0.3"}
SOME = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in LOSSES]


def heart(task, *arrays):
    """The names of the findings, and the note or the evidence."""
    found, notes = memorization(task, jax.tree.map(lambda a: jnp.asarray(a)[EIGHT], arrays), jax.random.key(0))
    return names(found), notes[0] if notes else found[0].evidence


@pytest.mark.parametrize("name", SOME)
def test_a_loss_with_a_floor_is_learned_by_heart(name):
    outputs, loss, targets = LOSSES[name]
    found, note = heart(lo.Task(mlp(outputs), loss), FLOWERS, targets)
    assert found == []
    assert note.startswith("Learned by heart: the loss of 8 examples went from ")


@pytest.mark.slow
@pytest.mark.parametrize("objective", [evidence, denoised])
def test_an_objective_with_a_floor_is_not_found_wrong(objective):
    found, _ = heart(lo.Task(Variational if objective is evidence else mlp(4), objective=objective), FLOWERS)
    assert found == []


@pytest.mark.parametrize("name", SOME)
def test_a_model_without_weights_is_blind_whatever_the_loss(name):
    outputs, loss, targets = LOSSES[name]
    found, evidence = heart(lo.Task(mlp(outputs, first=ZEROS), loss), FLOWERS, targets)
    assert found == ["outputs ignore the inputs"]
    numbers = re.findall(r"to (\S+) in 300 steps; each of them alone reaches (\S+) on average, .* (\S+)$", evidence)
    last, alone, constant = map(float, numbers[0])
    assert alone < last
    assert last == pytest.approx(constant, rel=0.01)


@pytest.mark.slow
def test_an_objective_whose_model_is_blind():
    assert heart(lo.Task(mlp(4, first=ZEROS), objective=denoised), FLOWERS)[0] == ["outputs ignore the inputs"]


@pytest.mark.slow
@pytest.mark.parametrize("less", [0, 3])
def test_no_gradient_reaches_the_weights(less):
    """Also where the loss is negative."""

    def loss(z, t):
        return smoothed(0.3)(z, t) - less

    assert heart(lo.Task(mlp(3, end=jax.lax.stop_gradient), loss), FLOWERS, LABELS)[0] == ["cannot learn by heart"]


@pytest.mark.slow
def test_a_loss_of_the_wrong_axis_and_a_model_that_is_too_small():
    def wrong(z, t):
        return -jnp.take_along_axis(jax.nn.log_softmax(z, axis=0), t[:, None], 1)[:, 0]

    def small(rngs):
        return nnx.Sequential(nnx.Linear(4, 1, rngs=rngs), nnx.Linear(1, 3, rngs=rngs))

    assert heart(lo.Task(mlp(3), wrong), FLOWERS, LABELS)[0] == ["cannot learn by heart"]
    shuffled = np.random.default_rng(2).permutation(LABELS)
    assert heart(lo.Task(small, smoothed(0.1)), FLOWERS, shuffled)[0] == ["cannot learn by heart"]
    assert heart(lo.classification(small), FLOWERS, shuffled)[0] == ["cannot learn by heart"]


@pytest.mark.slow
def test_units_do_not_matter():
    """A Gaussian's loss is higher by a constant where targets have other units."""
    task = lo.Task(mlp(2), lambda z, t: gaussian(z, t) + 7)
    assert heart(task, FLOWERS, LENGTHS)[0] == []


class Heads(nnx.Module):
    """Dictionaries in and out."""

    def __init__(self, rngs):
        self.kind, self.length = nnx.Linear(4, 3, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return {"kind": self.kind(x["x"]), "length": self.length(x["x"])}


@pytest.mark.slow
def test_dictionaries_and_tuples():
    def loss(outputs, targets):
        kind, length = targets
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs["kind"], kind["label"])
        return losses + jnp.sum((outputs["length"] - length) ** 2, -1)

    x, targets = {"x": FLOWERS}, ({"label": LABELS}, LENGTHS)
    seen = lo.check(lo.Task(Heads, loss), (x, targets), progress=False)
    assert names(seen) == []
    assert seen.notes[2].startswith("Targets go with inputs: trained on 105 examples")
    order = np.random.default_rng(0).permutation(150)
    apart = jax.tree.map(lambda a: a[order], targets)
    assert "targets do not go with inputs" in names(lo.check(lo.Task(Heads, loss), (x, apart), progress=False))


@pytest.mark.slow
def test_complex_numbers():
    class Turned(nnx.Module):
        def __init__(self, rngs):
            self.weights = nnx.Param(jax.random.normal(rngs.params(), (4, 2), jnp.complex64) / 10)

        def __call__(self, x):
            return x @ self.weights[...]

    task = lo.Task(Turned, lambda z, t: jnp.sum(jnp.abs(z - t) ** 2, -1))
    targets = (FLOWERS[:, :2] + 1j * FLOWERS[:, 2:]).astype(np.complex64)
    assert names(lo.check(task, (FLOWERS, targets), progress=False)) == []


def test_an_initial_loss_that_is_not_finite():
    task = lo.Task(linear(4, 3), lambda z, t: jnp.where(t == 1, jnp.nan, jnp.sum(z, -1)))
    (finding,) = lo.check(task, IRIS, progress=False)
    assert finding.name == "initial loss not finite"
    assert "ids beyond an embedding" in finding.remedy


def test_bad_input():
    with pytest.raises(TypeError, match=r"task must be a lectopt.Task; got function"):
        lo.check(linear(4, 3), IRIS)
    x, y = IRIS
    with pytest.raises(ValueError, match="examples must be at least 20; got 19"):
        lo.check(iris_task(), (x[:19], y[:19]))
    with pytest.raises(ValueError, match="labels"):
        lo.check(iris_task(), (x, y + 1))
    with pytest.raises(ValueError, match="inputs of examples"):
        lo.check(iris_task(), (x[:, :3], y))
