"""`check`: what is well on real data, and what is found where something was broken on purpose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lectopt as lo

pytestmark = pytest.mark.filterwarnings("error")

ZEROS = nnx.initializers.zeros
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
    seen = lo.check(task, DIGITS)
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


def test_targets_in_another_order():
    """The true order is worth no more than nine others; everything else is well."""
    (finding,) = lo.check(iris_task(), permuted(IRIS), progress=False)
    assert finding.name == "targets do not go with inputs"
    assert finding.evidence.startswith("trained on 105 examples, the loss of 45 others is ")
    assert finding.evidence.count(" to ") == 1


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


def test_targets_that_are_all_alike():
    x, _ = IRIS
    seen = lo.check(lo.regression(Few), (x, np.tile(np.float32([1.5, -0.5]), (150, 1))), progress=False)
    assert names(seen) == ["targets all alike"]


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
