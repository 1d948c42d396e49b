"""Children as masks: equal to the small networks, whatever is chosen and however they are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from architecture_cases import SHAPES, SPACES, cut_out, examples, masked, random_vector
from flax import nnx

import lectopt as lo

OPTIMIZERS = {  # beside momentum and adam, of other tests: look-ahead, second moments, the norm of the whole gradient
    "nesterov": lambda: lo.nesterov(0.05, 0.9),
    "rmsprop_nesterov": lambda: lo.rmsprop_nesterov(0.005, 0.9, 0.8),
    "clipped, penalized adam": lambda: optax.chain(lo.clip_by_norm(0.5), lo.add_l2(0.01), lo.adam(0.01)),
}


def trainings(kind, seed, optimizer):
    """The run of a masked child and of the small network from the same weights, in float64."""
    space, shape = SPACES[kind], SHAPES[kind]
    vector = random_vector(space, seed)
    architecture = space.decode(vector)
    data = examples(shape)
    train, valid = tuple(a[:30] for a in data), tuple(a[30:] for a in data)
    options = {"batch_size": 8, "epochs": 2, "key": seed}
    task = lo.classification(masked(space, vector, shape, param_dtype=jnp.float64), standardize=True)
    params, _ = jax.jit(task.init)(jax.random.fold_in(jax.random.key(seed), 2), (jnp.asarray(train[0][:8]),))
    own = lo.classification(architecture.network(shape, 3, jnp.float64), standardize=True)
    start = cut_out(space, architecture, shape, params)
    child = jax.jit(lambda: lo.train(task, optimizer, train, **options))()
    small = jax.jit(lambda: lo.train(own, optimizer, train, start=start, **options))()
    return child, small, cut_out(space, architecture, shape, child.params), valid


def close(a, b):
    leaves, others = jax.tree.leaves(nnx.as_pure(a)), jax.tree.leaves(nnx.as_pure(b))
    for one, other in zip(leaves, others, strict=True):
        assert one.dtype == other.dtype == jnp.float64
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def compare(kind, seed, optimizer):
    with jax.enable_x64(True):
        child, small, params, valid = trainings(kind, seed, optimizer)
        close(params, small.params)
        for big, own in zip(child.params["layers"].values(), params["layers"].values(), strict=False):
            # What the child does not have is exactly 0 still: a bias before BatchNorm, units, taps and inputs.
            for name in {"kernel", "bias"} & set(big):
                used = own["linear"].get(name, jnp.zeros(0))
                assert jnp.sum(big[name] != 0) == jnp.sum(used != 0)
        np.testing.assert_allclose(child.history.steps["loss"], small.history.steps["loss"], rtol=1e-6)
        losses = [float(jax.jit(mean_loss)(run, valid)) for run in (child, small)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def mean_loss(run, examples):
    scores, _ = run.task.scores(run.params, run.model_state, examples, jax.random.key(0), False)
    return scores.losses.mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPACES)
def test_child_is_small_network(kind):
    compare(kind, 0, lo.adam(0.01))


def test_a_child_has_the_losses_and_gradients_of_the_small_network(full_precision):
    """Of two layers with a norm each, narrower than the widest, the second of which does not see the input."""
    norms, shape = ["batch", "layer"], SHAPES["dense"]
    space = lo.ArchitectureSpace(depth=[1, 2], width=[2, 3], activation=["relu", "tanh"], norm=norms, skip=True)
    vector = random_vector(space, 12)
    architecture, (x, y) = space.decode(vector), examples(shape, 8)
    child = lo.classification(masked(space, vector, shape))
    small = lo.classification(architecture.network(shape, 3))

    def losses(params, task, state):
        return task.scores(params, state, (x.astype(np.float32), y), jax.random.key(0), True)[0].losses.sum()

    @jax.jit
    def both():
        params, state = child.init(jax.random.key(1), (x,))
        own, (_, own_state) = cut_out(space, architecture, shape, params), small.init(jax.random.key(1), (x,))
        value, gradient = jax.value_and_grad(losses)(params, child, state)
        cut = cut_out(space, architecture, shape, gradient)
        return gradient, (value, cut), jax.value_and_grad(losses)(own, small, own_state)

    gradient, one, other = both()
    assert jax.tree.structure(one) == jax.tree.structure(nnx.as_pure(other))
    for a, b in zip(*map(jax.tree.leaves, (one, nnx.as_pure(other))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for whole, cut in zip(gradient["layers"].values(), one[1]["layers"].values(), strict=False):
        for name in ("kernel", "bias"):  # before BatchNorm there is no bias
            assert np.count_nonzero(whole[name]) == np.count_nonzero(cut["linear"].get(name, 0))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", SPACES)
def test_any_child_is_small_network(kind, seed):
    compare(kind, seed, lo.momentum(0.05, 0.9))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seed", "optimizer"),
    [
        ("dense", 10, "nesterov"),
        pytest.param("dense", 10, "rmsprop_nesterov", marks=pytest.mark.exhaustive),
        ("dense", 10, "clipped, penalized adam"),
        ("conv1d", 7, "rmsprop_nesterov"),
    ],
)
def test_child_is_small_network_whatever_the_optimizer(kind, seed, optimizer):
    """Four dense layers with both norms and a skip; three convolutions, two with BatchNorm and one with a skip."""
    compare(kind, seed, OPTIMIZERS[optimizer]())


@pytest.mark.parametrize("kind", ["dense", "conv1d", pytest.param("conv2d_skip", marks=pytest.mark.slow)])
def test_initial_weights_are_drawn_for_the_childs_own_fans(kind):
    """As Flax's default, `lecun_normal`: mean 0, variance 1/m for m inputs, cut off at 2 sd; 0 elsewhere."""
    space, shape = SPACES[kind], SHAPES[kind]
    vector = random_vector(space, 5)
    architecture = space.decode(vector)
    task = lo.classification(masked(space, vector, shape))
    draw = jax.jit(jax.vmap(lambda key: task.init(key, (jnp.ones((2, *shape)),))[0]))
    many = draw(jax.vmap(jax.random.key)(jnp.arange(3000)))
    widths = [shape[-1], *(layer.width for layer in architecture.layers)]
    for number, layer in enumerate(architecture.layers, 1):
        weights = np.asarray(many["layers"][number - 1]["kernel"])
        inputs = (layer.kernel_size or 1) ** (len(shape) - 1) * sum(widths[j] for j in layer.sources(number))
        used = (weights != 0).any(axis=0)
        assert used.sum() == inputs * layer.width
        assert weights[:, used].var() * inputs == pytest.approx(1, rel=0.03)
        assert abs(weights[:, used].mean()) * np.sqrt(inputs) < 0.02
        assert np.abs(weights).max() * np.sqrt(inputs) <= 2 / 0.8796 + 1e-3
    assert (np.asarray(many["kernel"]) != 0).any(axis=0).sum() == widths[-1] * 3
