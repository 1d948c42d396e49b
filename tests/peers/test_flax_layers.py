"""Flax's tests of its normalizations and of dropout, for ours."""

import functools
import types

import numpy as np
import pytest
from flax import nnx
from peers import flax_source
from peers.borrowed import borrow, changed

import lectopt as lo

if not flax_source.TESTS.exists():
    pytest.skip("python -m tests.peers downloads Flax's tests", allow_module_level=True)


def ours(layer):
    """Makes one of our layers from Flax's arguments: their variances are not fast, and they promote dtypes as Linen."""

    @functools.wraps(layer, updated=())
    def make(*args, use_fast_variance=None, promote_dtype=None, **kwargs):
        return layer(*args, **kwargs)

    return make


def assert_equal_but_for_rounding(actual, desired):
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.dtype == desired.dtype
    digits = 3e-3 if actual.dtype == np.float16 else 2e-6
    np.testing.assert_allclose(actual, desired, rtol=digits, atol=digits)


TESTING = types.SimpleNamespace(
    assert_array_equal=assert_equal_but_for_rounding, assert_allclose=np.testing.assert_allclose
)
NAMES = {
    "nnx": changed(nnx, BatchNorm=ours(lo.BatchNorm), LayerNorm=ours(lo.LayerNorm), Dropout=lo.Dropout),
    "np": changed(np, testing=TESTING),
}
OTHER = "there is no such layer"
APART = {f"test_nnx_linen_{kind}norm_equivalence": OTHER for kind in ("rms", "group", "weight", "instance")}
APART |= {
    f"test_nnx_linen_batchnorm_equivalence{case}": "a unit of which the mask leaves nothing is NaN there, and has mean "
    "and variance 0 here"
    for case in range(1, 16, 2)
}
globals().update(
    borrow(flax_source.TESTS / "normalization_test.py", NAMES, ["TestLinenConsistency"], APART),
    **borrow(flax_source.TESTS / "stochastic_test.py", NAMES, ["TestStochastic"]),
)
