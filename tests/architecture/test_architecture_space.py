"""Spaces of architectures: what they count, their vectors, their networks, and what they refuse."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from architecture_cases import SHAPES, SPACES, random_vector
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import lectopt as lo
from lectopt.architecture.design import Architecture, Layer

SMALL = lo.ArchitectureSpace(depth=[1, 3], width=[2, 4], activation=["relu", "tanh", "elu"], skip=True)


def test_the_members_are_counted_once():
    """By hand: 2 widths x 3 activations a layer, and 1 + 2 skips in three layers."""
    assert SMALL.count == 6 + 6**3 * 2**3
    every = list(itertools.product(*map(range, SMALL.choices)))
    different = {SMALL.decode(np.array(vector)) for vector in every}
    members = SMALL.members()
    assert len(members) == SMALL.count
    decoded = {SMALL.decode(vector) for vector in members}
    assert len(decoded) == SMALL.count
    assert different == decoded


@pytest.mark.parametrize("kind", SPACES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_encode_undoes_decode(kind, seed):
    space = SPACES[kind]
    vector = random_vector(space, seed)
    architecture = space.decode(vector)
    code = space.encode(architecture)
    assert code.dtype == np.int32
    assert space.decode(code) == architecture
    assert np.array_equal(code, space.decisions.canonical(vector[None])[0])  # the same, with 0 for what means nothing


def test_a_vector_says_what_it_should():
    space = lo.ArchitectureSpace(depth=[1, 2], width=[8, 16], kernel_size=[3, 5], norm=["none", "layer"], skip=True)
    assert list(map(str, space.questions)) == [
        "depth", "layer 1: width", "layer 1: kernel_size", "layer 1: norm",
        "layer 2: width", "layer 2: kernel_size", "layer 2: norm", "layer 2 reads the input",
    ]  # fmt: skip
    architecture = space.decode([1, 0, 1, 0, 1, 0, 1, 1])
    assert architecture.layers == (Layer(8, 5, "relu", "none"), Layer(16, 3, "relu", "layer", (0,)))
    assert str(architecture) == "1: 8 filters of 5, relu\n2: 16 filters of 3, layer norm, relu, + input"
    assert np.array_equal(space.active(jnp.array([0, 0, 1, 0, 1, 0, 1, 1])), [1, 1, 1, 1, 0, 0, 0, 0])
    assert space.decisions.anchors == (-1, -1, -1, -1, -1, -1, -1, 0)
    deep = lo.ArchitectureSpace(depth=[1, 3], width=[8, 16], norm=["none", "layer"], skip=True)
    assert deep.questions[-1].source == 1
    assert deep.questions[deep.decisions.anchors[-1]] == [q for q in deep.questions if q.layer == 1][-1]


def test_what_has_one_option_is_not_asked():
    space = lo.ArchitectureSpace(depth=2, width=[4, 8], kernel_size=3, activation="tanh", norm="batch")
    assert space.choices == (2, 2)
    assert space.decode([0, 1]).layers == (Layer(4, 3, "tanh", "batch"), Layer(8, 3, "tanh", "batch"))
    assert repr(space) == (
        "ArchitectureSpace(depth=2, width=[4, 8], kernel_size=3, activation='tanh', norm='batch'): 4 architectures"
    )


def test_the_multiplications_of_a_network():
    """By hand; there are 19, 19 and 7 positions."""
    architecture = Architecture((Layer(8, 5), Layer(16, 3, skips=(0,)), Layer(4, 1)), (2, 1, 3))
    assert architecture.multiplications((37, 2), 3) == 19 * 5 * 2 * 8 + 19 * 3 * (8 + 2) * 16 + 7 * 16 * 4 + 4 * 3
    square = Architecture((Layer(8, 5), Layer(4, 3)), (2, 1))
    assert square.multiplications((8, 9, 2), 3) == 4 * 5 * 25 * 2 * 8 + 4 * 5 * 9 * 8 * 4 + 4 * 3


@pytest.mark.parametrize("kind", SPACES)
def test_the_plain_network_is_plain(kind):
    """No masks, only layers of Flax and lectopt; parameters of the sizes that were chosen."""
    space = SPACES[kind]
    architecture = space.decode(random_vector(space, 3))
    model = nnx.eval_shape(lambda: architecture.network(SHAPES[kind], 3)(nnx.Rngs(0)))
    kinds = {type(node) for _, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)}
    assert kinds & {nnx.Linear, nnx.Conv}
    assert nnx.eval_shape(lambda model: model(jnp.ones((2, *SHAPES[kind]))), model).shape == (2, 3)
    for hidden, layer in zip(model.layers, architecture.layers, strict=True):
        assert hidden.linear.kernel.shape[-1] == layer.width
        assert (hidden.linear.bias is None) == (layer.norm == "batch")


BAD = {
    "no depth": ({"depth": [], "width": [1, 2]}, ValueError, "depth must have at least one option"),
    "width 0": ({"depth": 1, "width": [4, 0]}, ValueError, "width must be at least 1; got 0"),
    "width a float": ({"depth": 1, "width": [4, 2.5]}, TypeError, "width must be a whole number"),
    "twice": ({"depth": 1, "width": [4, 4]}, ValueError, "width must have different options"),
    "even kernel": ({"depth": 1, "width": [4, 8], "kernel_size": [3, 4]}, ValueError, "kernel_size must be odd.*got 4"),
    "activation": (
        {"depth": 1, "width": [4, 8], "activation": "softmax"},
        ValueError,
        "activation must be one of 'relu'",
    ),
    "norm": ({"depth": 1, "width": [4, 8], "norm": ["none", None]}, ValueError, "norm must be one of 'none'"),
    "nested": ({"depth": 1, "width": [[4], [8]]}, TypeError, "width must be a whole number"),
    "skip": ({"depth": 1, "width": [4, 8], "skip": "no"}, TypeError, "skip must be True or False; got 'no'"),
    "one member": ({"depth": 2, "width": 8}, ValueError, "at least 2 architectures"),
    "strides": (
        {"depth": 2, "width": [4, 8], "kernel_size": 3, "strides": [2]},
        ValueError,
        "strides must be one number",
    ),
    "stride 0": (
        {"depth": 1, "width": [4, 8], "kernel_size": 3, "strides": 0},
        ValueError,
        "strides must be at least 1",
    ),
    "dense strides": ({"depth": 1, "width": [4, 8], "strides": 2}, ValueError, "strides must be 1 for dense layers"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_spaces(arguments, error, message):
    with pytest.raises(error, match=message):
        lo.ArchitectureSpace(**arguments)


def test_bad_vectors_and_architectures():
    for vector in ([0], [0.5] * len(SMALL.choices), [9] * len(SMALL.choices), [-1] * len(SMALL.choices)):
        with pytest.raises(ValueError, match="vector must be"):
            SMALL.decode(vector)
    for architecture in (Architecture((Layer(2),) * 2), Architecture((Layer(3),)), Architecture((Layer(2, 3),))):
        with pytest.raises(ValueError, match="architecture must be in the space"):
            SMALL.encode(architecture)
    with pytest.raises(TypeError, match="architecture must be an Architecture; got str"):
        SMALL.encode("x")


def test_many_architectures_are_counted_too():
    space = lo.ArchitectureSpace(depth=np.array([1, 150]), width=range(1, 9), skip=True)
    assert space.count == 8 + 8**150 * 2 ** (149 * 150 // 2)
    assert repr(space).endswith(": about 10^3499 architectures")
