"""The norm of a tree, as accelerators compute it: the same numbers as on CPUs, at every scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lectopt._internal.tree_norm import _norm_in_one_pass, tree_norm

pytestmark = pytest.mark.filterwarnings("error")

SHAPES = ((4, 3), (), (1,), (0, 2), (7,))
TREE = [np.random.default_rng(0).uniform(0.1, 1, shape) for shape in SHAPES]


def norms(leaves):
    """On an accelerator and on a CPU."""
    return jax.jit(_norm_in_one_pass)(*leaves), jax.jit(tree_norm)(leaves)


@pytest.mark.parametrize("scale", [0, 2e-37, 1e-30, 1e-23, 2.0**-49, 1, 1e15, 2.0**61, 1e25, 5e37])
def test_at_every_scale(scale):
    leaves = [np.float32(scale * x) for x in TREE]
    desired = np.sqrt(sum(np.sum(x.astype(float) ** 2) for x in leaves))
    for actual in norms(leaves):
        np.testing.assert_allclose(actual, desired, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38])
def test_of_numbers_that_are_not_finite(bad):
    leaves = [np.float32([1, bad, 1e-30]), np.float32([bad])]
    np.testing.assert_array_equal(*norms(leaves))


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_of_many_at_once(scale):
    lanes = [np.float32(scale * np.stack([x, 1e-3 * x, 0 * x])) for x in TREE]
    actual = jax.jit(jax.vmap(_norm_in_one_pass))(*lanes)
    np.testing.assert_allclose(actual, [tree_norm([x[i] for x in lanes]) for i in range(3)], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "complex64", "complex128"])
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_of_other_numbers(dtype, scale, x64):
    scale = scale**8 if dtype in ("float64", "complex128") else scale
    leaves = [(scale * (x + 1j * x if "complex" in dtype else x)).astype(dtype) for x in TREE]
    desired = scale * np.sqrt(sum(np.sum(np.abs(x / scale) ** 2) for x in leaves))
    for actual in norms(leaves):
        np.testing.assert_allclose(actual, desired, rtol=1e-6 if actual.dtype == np.float32 else 1e-13)


def test_of_constants_of_the_program():
    """XLA knows such numbers, and may rearrange what is done with them."""
    for scale in (0.0, 1e-30, 1.0, 1e30):
        leaves = [np.full((3,), scale, np.float32), np.float32(scale)]
        actual = jax.jit(lambda leaves=leaves: _norm_in_one_pass(*map(jnp.asarray, leaves)))()
        np.testing.assert_allclose(actual, 2 * scale, rtol=1e-6)


@pytest.mark.parametrize("scale", [0, 1e-30, 1, 1e30])
def test_its_derivative(scale):
    leaves = [np.float32(scale * x) for x in TREE]
    gradient = jax.grad(lambda leaves: _norm_in_one_pass(*leaves))
    norm = max(float(tree_norm(leaves)), 1e-45)
    for actual, x in zip(jax.jit(gradient)(leaves), leaves, strict=True):
        np.testing.assert_allclose(actual, x / norm, rtol=1e-6)


def test_what_it_lowers_to():
    """One reduction a leaf and no branch to take on an accelerator; a branch, and no such reduction, on a CPU."""
    program = jax.jit(tree_norm)
    leaves = [
        jax.ShapeDtypeStruct(shape, np.dtype(dtype)) for shape, dtype in [((4, 3), "float32"), ((5,), "bfloat16")]
    ]
    for platform, branches in (("cuda", 0), ("rocm", 0), ("tpu", 0), ("cpu", 1)):
        text = export.export(program, platforms=[platform])(leaves).mlir_module()
        chosen = text.count("stablehlo.case") - len(("platform", "its path"))  # both by a constant: XLA removes them
        assert (platform, chosen) == (platform, branches)
        assert text.count("reducer(") == (0 if branches else len(leaves))


def test_what_a_cpu_runs(cpu_alone):
    text = jax.jit(tree_norm).lower([jax.ShapeDtypeStruct((4, 3), np.float32)]).compile().as_text()
    assert text.count(" conditional(") == 1
