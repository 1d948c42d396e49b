"""What all tests share: JAX on the CPU unless the environment says otherwise, and stricter modes to ask for by name."""

import os
import subprocess
import sys

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from flax import nnx


@pytest.fixture
def strict():
    """No implicit dtype promotion: what mixes dtypes says so."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64():
    """float64 numbers."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def elsewhere(request):
    """Runs the test again in a process that has that many CPU devices: `if not elsewhere(4): <the test>`."""

    def run(devices: int) -> bool:
        if jax.device_count() >= devices:
            return False
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", request.node.nodeid]
        done = subprocess.run(
            command, env=environment, cwd=request.config.rootpath, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        return True

    return run


@pytest.fixture
def eager():
    """JAX step by step, without compiling: for what is to be right whether compiled or not, tested in a moment."""
    with jax.disable_jit():
        yield


@pytest.fixture(params=[True, False], ids=["graph", "tree"])
def graph_mode(request):
    """The test, in both of the ways in which NNX looks at a module."""
    with nnx.set_graph_mode(request.param):
        yield
