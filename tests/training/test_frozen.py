"""Which layers of an NNX module are frozen, and which train: as the user left them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lectopt as lo
from lectopt.tasks.example_checks import check_fit

pytestmark = [pytest.mark.filterwarnings("error")]

X = np.random.default_rng(0).normal(3, 2, (8, 4)).astype(np.float32)
Y = np.arange(8) % 3


class Net(nnx.Module):
    """Two norms and two dropouts, of which some are frozen."""

    def __init__(self, rngs, norm=nnx.BatchNorm, frozen=()):
        self.first = norm(4, use_running_average="first" in frozen, rngs=rngs)
        self.second = norm(4, use_running_average="second" in frozen, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic="drop" in frozen, rngs=rngs)
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.linear(self.drop(self.second(self.first(x))))


def moves(model):
    """What training changes or draws: the names of norms whose statistics moved, and "drop" where two keys differ."""
    task = lo.classification(model)
    params, state = task.init(jax.random.key(0), (X, Y))
    outputs, after = task.outputs(params, state, X, jax.random.key(1), True)
    again, _ = task.outputs(params, state, X, jax.random.key(2), True)
    before, after = (s.variables for s in (state, after))
    moved = {name for name in before if not np.array_equal(before[name]["mean"], after[name]["mean"])}
    evaluated = [task.outputs(params, state, X, jax.random.key(k), False) for k in (1, 2)]
    np.testing.assert_array_equal(evaluated[0][0], evaluated[1][0])  # whatever is frozen, evaluation is evaluation
    jax.tree.map(np.testing.assert_array_equal, evaluated[0][1].variables, before)
    return moved | ({"drop"} if not np.array_equal(outputs, again) else set())


ALL = {"first", "second", "drop"}


@pytest.mark.parametrize("norm", [nnx.BatchNorm, lo.BatchNorm])
@pytest.mark.parametrize("frozen", [(), ("first", "drop"), ("first", "second", "drop")])
def test_what_the_constructor_freezes_stays_frozen(norm, frozen):
    assert moves(lambda rngs: Net(rngs, norm, frozen)) == ALL - {*frozen}


def test_what_eval_freezes_stays_frozen(graph_mode):
    def factory(rngs):
        net = Net(rngs)
        net.first.eval()
        return net

    assert moves(factory) == {"second", "drop"}
    assert moves(factory(nnx.Rngs(0))) == {"second", "drop"}
    net = Net(nnx.Rngs(0))
    net.drop.deterministic = None  # left to lectopt
    net.second.eval()
    assert moves(net) == {"first", "drop"}
    assert (net.first.use_running_average, net.second.use_running_average) == (False, True)  # left as it was


def test_a_module_in_evaluation_mode_as_a_whole_stays_so_and_is_said():
    net = Net(nnx.Rngs(0))
    net.eval()
    for module in (net, nnx.Sequential(nnx.BatchNorm(4, use_running_average=True, rngs=nnx.Rngs(0)))):
        with pytest.warns(UserWarning, match=r"evaluation mode .* stays so in training.*call its train\(\) before"):
            lo.classification(module)
    with pytest.warns(UserWarning, match="evaluation mode"):
        assert moves(net) == set()
    assert moves(lambda rngs: net) == set()  # a function says that it is meant
    net.train()
    assert moves(net) == ALL
    lo.classification(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))  # nothing to be switched, nothing said


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [(), ("first",), ("first", "second", "drop")])
def test_a_model_that_was_handed_out_trains_again_as_before(frozen):
    run = lo.fit(
        lo.classification(lambda rngs: Net(rngs, frozen=frozen)), lo.sgd(0.1), (X, Y), batch_size=8, steps=1, key=0
    )
    for _, layer in nnx.iter_modules(run.model):
        assert getattr(layer, "deterministic", True)
        assert getattr(layer, "use_running_average", True)
    np.testing.assert_allclose(run.model(X), run.predict(X), rtol=1e-5)
    if len(frozen) == 3:
        with pytest.warns(UserWarning, match="evaluation mode"):
            assert moves(run.model) == set()
        return
    assert moves(run.model) == ALL - {*frozen}
    assert moves(nnx.clone(run.model)) == ALL - {*frozen}
    assert moves(nnx.merge(*nnx.split(run.model))) == ALL - {*frozen}
    part = Net(nnx.Rngs(1))
    part.second = run.model.second  # taken out of it, into another
    assert moves(part) == ALL


def test_a_model_that_was_handed_out_can_be_frozen():
    run = lo.fit(lo.classification(Net), lo.sgd(0.1), (X, Y), batch_size=8, steps=1, key=0)
    model = run.model
    model.train()
    model.first.eval()
    assert moves(model) == {"second", "drop"}
    model = run.model
    model.first.eval()  # True now, by the user
    assert moves(model) == {"second", "drop"}


@pytest.mark.slow
def test_it_trains_on_after_standardising():
    task = lo.classification(Net, standardize=True)
    run = lo.fit(task, lo.sgd(0.1), (X, Y), batch_size=8, steps=1, key=0)
    again = lo.fit(lo.classification(run.model), lo.sgd(0.1), (X, Y), batch_size=8, epochs=1, key=0)
    mean = lambda r, *path: jax.tree.reduce(lambda a, b: b, r.model_state.variables)  # noqa: E731
    assert not np.array_equal(mean(run), mean(again))


def test_attention_drops_in_training_alone():
    class Attention(nnx.Module):
        def __init__(self, rngs, **options):
            self.attend = nnx.MultiHeadAttention(2, 4, dropout_rate=0.5, decode=False, rngs=rngs, **options)

        def __call__(self, x):
            return self.attend(x[:, None].repeat(3, 1)).mean(1)

    assert moves(Attention) == {"drop"}
    assert moves(lambda rngs: Attention(rngs, deterministic=False)) == {"drop"}
    assert moves(lambda rngs: Attention(rngs, deterministic=True)) == set()


def test_a_flag_of_none_is_left_to_frozen_layers():
    class Passing(Net):
        def __call__(self, x, deterministic=None):
            return self.linear(self.drop(self.second(self.first(x)), deterministic=deterministic))

    assert moves(Passing) == ALL
    assert moves(lambda rngs: Passing(rngs, frozen=("drop",))) == {"first", "second"}


def test_a_linen_norm_that_is_frozen_keeps_its_statistics():
    class Frozen(linen.Module):
        fixed: bool = True

        @linen.compact
        def __call__(self, x, train):
            h = linen.BatchNorm(use_running_average=self.fixed, name="first")(x)
            h = linen.BatchNorm(use_running_average=not train, name="second")(h)
            return linen.Dense(3)(h)

    task = lo.classification(Frozen())
    run = lo.fit(task, lo.sgd(0.1), (X, Y), batch_size=8, steps=3, key=0)
    statistics = run.model_state.variables["batch_stats"]
    np.testing.assert_array_equal(statistics["first"]["mean"], np.zeros(4))
    np.testing.assert_array_equal(statistics["first"]["var"], np.ones(4))
    assert np.abs(statistics["second"]["mean"]).min() > 1e-3
    with pytest.raises(ValueError, match=r"first.*batch_stats"):  # statistics of the batch in evaluation too
        check_fit(lo.classification(Frozen(False)), (X, Y), Y, "train")
    alone = lo.Task(linen.BatchNorm(use_running_average=True), lambda o, t: o.mean(1))
    run = lo.fit(alone, lo.sgd(0.1), (X, Y), batch_size=8, steps=1, key=0)
    np.testing.assert_array_equal(run.model_state.variables["batch_stats"]["mean"], jnp.zeros(4))
