"""What all tests share: JAX on the CPU unless the environment says otherwise, and stricter modes to ask for by name."""

import gc
import os
import socket
import subprocess
import sys

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling what then runs for a moment: the same programs by XLA, but machine code without
# LLVM's optimizations, which the fixture `fully_compiled` turns on. (For all tests: JAX_DISABLE_MOST_OPTIMIZATIONS=0.)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
from flax import nnx


def pytest_collection_finish():
    """What the imports left is there to stay: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def programs_end_with_their_module():
    """JAX keeps all that it ever compiled, each program in several mappings of memory, of which a process may have only
    so many (65530 on Linux) before it crashes; all tests in one process come near that."""
    yield
    jax.clear_caches()


@pytest.fixture
def fully_compiled(monkeypatch):
    """With LLVM's optimizations, also in processes that the test starts: for what runs longer than it compiles."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


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
def port():
    """A number that is free for processes on this machine to meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
