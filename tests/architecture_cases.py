"""What the tests of architecture search share: spaces, data, and a child's parameters cut out of the masked network."""

import itertools

import jax.numpy as jnp
import numpy as np

import lectopt as lo
from lectopt.architecture.masked import MaskedNetwork

SPACES = {
    "dense": lo.ArchitectureSpace(
        depth=[1, 2, 4],
        width=[1, 3, 6],
        activation=["relu", "tanh", "sigmoid"],
        norm=["none", "batch", "layer"],
        skip=True,
    ),
    "conv1d": lo.ArchitectureSpace(
        depth=[1, 2, 3],
        width=[3, 5],
        kernel_size=[1, 3, 5],
        activation=["elu", "gelu"],
        norm=["batch", "none", "layer"],
        skip=True,
        strides=[2, 1, 2],
    ),
    "conv2d": lo.ArchitectureSpace(
        depth=[1, 2, 3],
        width=[3, 5],
        kernel_size=[1, 3],
        activation=["silu", "tanh"],
        norm=["layer", "batch"],
        strides=[2, 2, 1],
    ),
    "conv2d_skip": lo.ArchitectureSpace(
        depth=[2, 3], width=[3, 5], kernel_size=[3, 5], norm=["none", "layer"], skip=True
    ),
}
SHAPES = {"dense": (7,), "conv1d": (11, 2), "conv2d": (6, 5, 1), "conv2d_skip": (4, 5, 2)}


def examples(shape, count=44, classes=3):
    """Random inputs and labels that go with them."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, *shape))
    y = np.argmax(x.reshape(count, -1) @ random.normal(size=(int(np.prod(shape)), classes)), axis=1)
    return x, y.astype(np.int32)


def random_vector(space, seed):
    """Any vector of choices, canonical or not."""
    return np.random.default_rng(seed).integers(0, space.choices).astype(np.int32)


def masked(space, vector, shape, outputs=3, param_dtype=jnp.float32):
    """The factory of a child as masks."""
    return lambda rngs: MaskedNetwork(space, vector, shape, outputs, param_dtype=param_dtype, rngs=rngs)


def cut_out(space, architecture, shape, params):
    """The parameters of the small network, from those of the masked one: written from the outside, by index."""
    widest, channels, dimensions = max(space.width), shape[-1], len(shape) - 1
    small = {
        "layers": {},
        "output": {"kernel": params["kernel"][: architecture.layers[-1].width], "bias": params["bias"]},
    }
    for number, layer in enumerate(architecture.layers, 1):
        big = params["layers"][number - 1]
        rows, before = [], 0
        for source in range(number) if space.skip else [number - 1]:
            size, width = (channels, channels) if source == 0 else (widest, architecture.layers[source - 1].width)
            if source == number - 1 or source in layer.skips:
                rows += range(before, before + width)
            before += size
        kernel = big["kernel"][:, np.array(rows)][:, :, : layer.width]
        if layer.kernel_size is not None:
            largest = max(space.kernel_size)
            near = [t for t in range(largest) if abs(t - largest // 2) <= layer.kernel_size // 2]
            places = [
                int(np.ravel_multi_index(tap, [largest] * dimensions))
                for tap in itertools.product(near, repeat=dimensions)
            ]
            kernel = kernel[np.array(places)].reshape(*[layer.kernel_size] * dimensions, len(rows), layer.width)
        else:
            kernel = kernel[0]
        small["layers"][number - 1] = {"linear": {"kernel": kernel}}
        if layer.norm != "batch":
            small["layers"][number - 1]["linear"]["bias"] = big["bias"][: layer.width]
        if layer.norm != "none":
            small["layers"][number - 1]["norm"] = {
                name: big[f"{layer.norm}_norm"][name][: layer.width] for name in ("scale", "bias")
            }
    return small
