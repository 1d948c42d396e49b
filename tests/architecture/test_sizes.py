"""Children sorted by size: each in shapes that have room for it, with the same score as in the largest."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architecture_cases import SHAPES, SPACES, examples, random_vector
from flax import nnx

import lectopt as lo
from lectopt.architecture.children import Children
from lectopt.architecture.masked import MaskedNetwork
from lectopt.architecture.sizes import Size, size_of, sizes_worth_compiling, smallest

SPACE = lo.ArchitectureSpace(depth=[1, 2, 3], width=[4, 8, 16], skip=True)
SIZES = (Size(1, 8), Size(3, 4), Size(2, 16), Size(3, 16))


class Told(Children):
    """Whose scores are told by their vectors; NaN where there is no room for them."""

    def model(self, vector, size=None):
        return vector, size

    def score(self, model, key):
        vector, size = model
        depth, width = size_of(self.space, vector)
        fits = size is None or (depth <= size.depth) & (width <= size.width)
        return jnp.where(fits, jnp.dot(vector, 3.0 ** jnp.arange(len(vector))), jnp.nan)


def told(at_once, devices=1):
    return Told(SPACE, (5,), 2, None, None, None, jax.devices()[:devices], at_once, SIZES)


@pytest.mark.parametrize(("count", "at_once"), [(11, 3), (12, 4), (5, 1)])
def test_each_child_gets_its_own_score_and_enough_room(count, at_once):
    vectors = np.array([random_vector(SPACE, seed) for seed in range(count)])
    found = jax.jit(told(at_once).__call__)(vectors, jax.random.key(0))
    np.testing.assert_array_equal(found, vectors @ 3.0 ** np.arange(vectors.shape[1]))


def test_also_on_several_devices(several_devices):
    vectors = np.array([random_vector(SPACE, seed) for seed in range(17)])
    found = jax.jit(told(2, 3).__call__)(vectors, jax.random.key(0))
    np.testing.assert_array_equal(found, vectors @ 3.0 ** np.arange(vectors.shape[1]))


def test_small_children_are_trained_in_small_shapes():
    """Of 8 children, 2 at a time: half of one layer, half of three; the small ones never see the large shapes."""

    class Room(Told):
        def score(self, model, key):
            return jnp.float32(model[1].depth * model[1].width) + 0 * key

    small = SPACE.encode(lo.search.Architecture((lo.search.Layer(4),), (1,)))
    large = SPACE.encode(lo.search.Architecture((lo.search.Layer(16),) * 3, (1, 1, 1)))
    vectors = np.stack([small, large] * 4)
    children = Room(SPACE, (5,), 2, None, None, None, jax.devices()[:1], 2, SIZES)
    np.testing.assert_array_equal(jax.jit(children.__call__)(vectors, jnp.float32(0)), [8, 48] * 4)


def test_the_size_of_a_vector_is_that_of_its_architecture():
    for seed in range(8):
        vector = random_vector(SPACE, seed)
        layers = SPACE.decode(vector).layers
        depth, width = size_of(SPACE, vector)
        assert (depth, width) == (len(layers), max(layer.width for layer in layers))
        chosen = SIZES[int(smallest(SIZES, depth, width))]
        assert chosen == next(size for size in SIZES if size.depth >= depth and size.width >= width)


def test_more_sizes_where_more_is_trained():
    few, some, many = (sizes_worth_compiling(SPACE, (64,), 10, seen) for seen in (10**5, 10**8, 10**12))
    assert few == (Size(3, 16),)
    assert 1 < len(some) <= len(many) == 4
    for sizes in (some, many):
        costs = [SPACE.masked(*size).multiplications((64,), 10) for size in sizes]
        assert costs == sorted(costs)
        assert sizes[-1] == Size(3, 16)
    one = lo.ArchitectureSpace(depth=2, width=8, activation=["relu", "tanh"])
    assert sizes_worth_compiling(one, (64,), 10, 10**12) == (Size(2, 8),)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "depth"), [("dense", 2), ("dense", 4), pytest.param("conv1d", 2, marks=pytest.mark.slow)]
)
def test_a_network_cut_to_its_size_is_the_same_network(kind, depth):
    """The same initial weights, to the compiler's last bit; the same outputs but for the order of sums."""
    space, shape = SPACES[kind], SHAPES[kind]
    vectors = (random_vector(space, seed) for seed in itertools.count())
    sized = ((vector, Size(*map(int, size_of(space, vector)))) for vector in vectors)
    vector, size = next((v, s) for v, s in sized if s.depth == depth and 1 < s.width < max(space.width))
    x = examples(shape, 6)[0].astype(np.float32)

    @jax.jit
    def both():
        nets = [MaskedNetwork(space, vector, shape, 3, size=one, rngs=nnx.Rngs(0)) for one in (None, size)]
        return [(net(x), [layer.kernel[...] for layer in net.layers], net.kernel[...]) for net in nets]

    (whole, kernels, last), (cut, own, own_last) = both()
    np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-6)
    assert len(own) == size.depth
    assert own_last.shape[0] == own[0].shape[-1] == size.width
    np.testing.assert_allclose(own_last, last[: size.width], rtol=1e-6)
    for small, large in zip(own, kernels, strict=False):
        assert np.count_nonzero(small) == np.count_nonzero(large)
        np.testing.assert_allclose(small[np.nonzero(small)], large[np.nonzero(large)], rtol=1e-6)


@pytest.mark.slow
def test_sorted_children_score_as_they_do_in_the_largest_shapes():
    data = lo.holdout(lo.datasets.digits(), 0.7, key=0)[0]
    options = {"optimizer": lo.adam(0.01), "batch_size": 32, "epochs": 3, "folds": 0.2, "last": 5, "key": 0}
    plain = Children.of(SPACE, data, chunk=2, **options)
    vectors = np.array([random_vector(SPACE, seed) for seed in range(9)])
    scores = [
        np.asarray(jax.jit(one.__call__)(vectors, jax.random.key(0)))
        for one in (plain, dataclasses.replace(plain, sizes=SIZES))
    ]
    assert len(set(scores[0].tolist())) > 3
    np.testing.assert_allclose(*scores, atol=0.012)


def test_the_plan_says_how_many_sizes_are_compiled():
    assert told(2).plan(9).startswith("9 children a round on 1 device(s), sorted into 4 size(s)")
    assert told(2).plan(9).endswith("each compiled once: 1 x 8, 3 x 4, 2 x 16, 3 x 16")
    assert told(9).plan(9).endswith("1 size(s) of layers x width, each compiled once: 3 x 16")
