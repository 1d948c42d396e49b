"""What all tests share: JAX on the CPU unless the environment says otherwise, and stricter modes to ask for by name."""

import functools
import gc
import mmap
import os
import pathlib
import socket
import threading

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time goes into compiling what then runs for a moment: the same programs by XLA, but machine code without
# LLVM's optimizations, which the fixture `fully_compiled` turns on. (For all tests: JAX_DISABLE_MOST_OPTIMIZATIONS=0.)
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# What one process compiled, the others need not: workers, searches that are killed and begun again, notebooks.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache/d/jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import jaxlib
from flax import nnx
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from rounded_products import NAMES, round_products


def known_to_xla(flag: str) -> bool:
    """Whether this jaxlib has a flag of XLA; one that it does not know would end the process."""
    library = pathlib.Path(jaxlib.__file__).with_name("libjax_common.so")
    if not library.exists():
        return False
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(f"\0{flag}\0".encode()) >= 0  # alone: names of old flags are still in descriptions


# From the same programs, the older of XLA's two generators makes the machine code in half the time.
if known_to_xla("xla_cpu_use_fusion_emitters"):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_num_cpu_devices", 4)
jax.local_devices = lambda *_, **__: jax.devices()[:1]  # of four, tests use one unless they ask for more
# What an accelerator would make of the tests: 10 rounds the inputs of products as a GPU does, 7 as a TPU.
round_products()
if PRODUCT_BITS := os.environ.get("LECTOPT_TEST_PRODUCT_BITS"):
    jax.config.update("jax_default_matmul_precision", NAMES[int(PRODUCT_BITS)])


_make_context = mlir.make_ir_context
_context_of = functools.cache(lambda thread: _make_context())


def one_context_a_thread() -> ir.Context:
    """JAX loads its dialects for each program anew, which takes as long as to lower a small one. Only what is compiled
    while another is being lowered needs a context of its own."""
    return _make_context() if ir.Context.current else _context_of(threading.get_ident())


mlir.make_ir_context = one_context_a_thread


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The examples in docstrings run with the slow tests, as those of README and the notebooks do."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """What the imports left is there to stay: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def programs_end_where_they_are_too_many():
    """JAX keeps all that it ever compiled, each program in several mappings of memory, of which a process may have only
    so many (65530 on Linux) before it crashes; all tests in one process come near that."""
    yield
    _context_of.cache_clear()  # which keeps all constants of its programs
    mappings = pathlib.Path("/proc/self/maps")
    if not mappings.exists() or mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def fully_compiled(monkeypatch):
    """With LLVM's optimizations, also in processes that the test starts: for what runs longer than it compiles."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class Screen:
    """What IPython's display is told."""

    def __init__(self):
        self.shown, self.updates = [], []

    def __call__(self, figure, display_id):
        assert display_id is True
        self.shown.append(figure)
        return self

    def update(self, figure):
        self.updates.append(figure)


@pytest.fixture
def screen(monkeypatch):
    """A notebook, to all appearances: what is displayed in it."""
    display = pytest.importorskip("IPython.display")
    screen = Screen()
    monkeypatch.setattr(display, "display", screen)
    monkeypatch.setattr("lectopt._internal.live_picture.in_notebook", lambda: True)
    return screen


class Forgetful(dict):
    """A dictionary that stays empty."""

    def __setitem__(self, name, value):
        pass


@pytest.fixture
def chunks_of(monkeypatch):
    """To be called with a number: after the first step, `fit` runs so many at once, however long they take."""

    def fix(steps):
        monkeypatch.setattr("lectopt.training.chunks.next_size", lambda *_, **__: steps)
        monkeypatch.setattr("lectopt.training.chunks._sizes", Forgetful())

    return fix


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


@pytest.fixture(params=NAMES, ids="{} bits".format)
def product_bits(request):
    """Products are formed of so many bits: what is a rounding is not to be found wrong."""
    with jax.default_matmul_precision(NAMES[request.param]):
        yield request.param


@pytest.fixture
def full_precision():
    """Products of float32 numbers as they are: accelerators round them first, unless they are asked not to."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def several_devices():
    """Four devices, which there are on the CPU; accelerators may be fewer."""
    if jax.device_count() < 4:
        pytest.skip("takes four devices: JAX_PLATFORMS=cpu has them")


@pytest.fixture
def cpu_alone():
    """What is said of CPUs, where JAX computes on no others."""
    if jax.default_backend() != "cpu":
        pytest.skip("is about CPUs: JAX_PLATFORMS=cpu")


@pytest.fixture
def four_devices(several_devices, monkeypatch):
    """A search runs on all four devices."""
    monkeypatch.setattr(jax, "local_devices", jax.devices)


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
