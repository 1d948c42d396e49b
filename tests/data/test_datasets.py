"""The data sets that installed packages carry."""

import importlib.util
import subprocess
import sys
import textwrap

import numpy as np
from sklearn.datasets import load_digits

import lectopt as lo


def assert_the_digits(found):
    x, y = found
    right = load_digits()
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, right.data)
    np.testing.assert_array_equal(y, right.target)


def test_the_digits_are_those_of_scikit_learn():
    assert_the_digits(lo.datasets.digits())


def test_the_digits_where_scikit_learn_keeps_them_otherwise(monkeypatch, tmp_path):
    package = importlib.util.find_spec("sklearn")
    package.origin = str(tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    assert_the_digits(lo.datasets.digits())


def test_the_digits_come_without_importing_scikit_learn():
    code = """
        import importlib.util, sys
        spec = importlib.util.spec_from_file_location("datasets", sys.argv[1])
        datasets = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(datasets)
        assert datasets.digits()[0].shape == (1797, 64)
        assert "sklearn" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), lo.datasets.__file__], check=True, timeout=120)
