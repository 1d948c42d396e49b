"""No product goes past the rounding of `rounded_products`, and how far a device rounds is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lectopt._internal.product_rounding import product_rounding

X = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)


def scanned(x):
    return jax.lax.scan(lambda z, row: (z @ row.T @ row, None), x[0], x)[0]


LINEAR = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
# {name: (function, its products, how many its gradient has)}
PRODUCTS = {
    "Linear": (LINEAR, 1, 2),
    "Conv": (nnx.Conv(6, 2, (2,), rngs=nnx.Rngs(0)), 1, 2),
    "attention": (nnx.MultiHeadAttention(2, 6, decode=False, rngs=nnx.Rngs(0)), 6, 14),
    "vmap": (jax.vmap(LINEAR), 1, 2),
    "scan": (scanned, 2, 6),
    "jit": (jax.jit(LINEAR), 1, 2),
}


def count(function):
    """The products of a function, each of whose two factors has to be rounded."""
    text = jax.jit(function).lower(X).as_text()
    products = text.count("= stablehlo.dot_general") + text.count("= stablehlo.convolution")
    assert text.count("= stablehlo.reduce_precision") == 2 * products
    return products


@pytest.mark.parametrize("name", PRODUCTS)
def test_no_product_goes_past_the_rounding(name, product_bits):
    function, products, with_gradient = PRODUCTS[name]
    assert count(function) == products
    assert count(jax.value_and_grad(lambda x: jnp.sum(function(x) ** 2))) == with_gradient


def test_the_factors_are_rounded_unless_full_precision_is_asked_for(product_bits):
    a, b = X[0], X[1].T
    rounded = [
        np.ldexp(np.round(np.ldexp(m, product_bits + 1)), e - product_bits - 1) for m, e in map(np.frexp, (a, b))
    ]
    assert np.abs(rounded[0] @ rounded[1] - a @ b).max() > 2.0 ** -(product_bits + 3)
    np.testing.assert_allclose(jnp.dot(a, b), rounded[0] @ rounded[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jnp.dot(a, b, precision="highest"), a @ b, rtol=1e-6, atol=1e-6)


def test_the_rounding_of_a_product_is_measured(product_bits):
    assert product_rounding() == pytest.approx(2.0 ** -(product_bits + 1), rel=0.02)
    with jax.default_matmul_precision("highest"):
        assert product_rounding() == 0
