"""Some of the tests of Optax and scikit-learn, for ours; `python -m tests.peers` runs them all."""

import importlib
import unittest

import pytest

pytestmark = pytest.mark.slow
LAWS = {"AliasTest": ("test_preserve_dtype",), "Float64Test": ("test_mixed_dtype",)}
SCALER = ("test_standard_scaler_1d", "test_standard_check_array_of_inverse_transform", "test_fit_transform")


@pytest.mark.parametrize("kind", LAWS)
def test_optaxs_laws(kind):
    cases = getattr(importlib.import_module("peers.test_optax_laws"), kind)
    names = [name for name in dir(cases) if name.startswith(LAWS[kind])]
    result = unittest.TestResult()
    unittest.TestSuite(map(cases, names)).run(result)
    assert result.testsRun == len(names) > 20
    assert not [*result.failures, *result.errors, *result.skipped]


@pytest.mark.parametrize("name", SCALER)
def test_scikit_learns_standard_scaler(name, x64):
    getattr(importlib.import_module("peers.test_scikit_scaler"), name)()
