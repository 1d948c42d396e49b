"""Where JAX has accelerators alone, what needs the CPU says so, before anything compiles."""

import jax
import numpy as np
import pytest
from flax import nnx

import lectopt as lo
from lectopt.training import compiled_loop

X, Y = np.ones((8, 2), np.float32), np.zeros(8, np.int32)


@pytest.fixture
def no_cpu(monkeypatch):
    """As with JAX_PLATFORMS=cuda; what computes here does not know of it."""
    devices = jax.devices

    def accelerators(backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu. Available backends are ['cuda']")
        return devices(backend)

    monkeypatch.setattr(jax, "devices", accelerators)


def fit(net, **options):
    return lo.fit(lo.classification(net), lo.sgd(0.1), (X, Y), batch_size=4, epochs=1, key=0, **options)


class Talking(nnx.Linear):
    """Prints from within the compiled program, in a branch."""

    def __call__(self, x):
        jax.lax.cond(x.sum() > 1e9, lambda: jax.debug.print("large"), lambda: None)
        return super().__call__(x)


def linear(rngs):
    return nnx.Linear(2, 2, rngs=rngs)


def fetch(key, batch):
    return jax.pure_callback(lambda x: x, batch[0], batch[0]), batch[1]


def test_callbacks_are_refused_by_name(no_cpu, monkeypatch):
    monkeypatch.setattr(compiled_loop, "start", None)  # not to be called
    must = "JAX_PLATFORMS must name a CPU too, such as 'cuda,cpu', for what "
    with pytest.raises(RuntimeError, match=must + r"the model, the loss or a metric calls on the host \(debug_print\)"):
        fit(lambda rngs: Talking(2, 2, rngs=rngs))
    with pytest.raises(RuntimeError, match=must + r"augment calls on the host \(pure_callback\)"):
        fit(linear, augment=fetch)


def test_what_calls_nothing_needs_no_cpu(no_cpu):
    fit(linear, augment=lambda key, batch: batch)


def test_callbacks_pass_where_there_is_a_cpu():
    fit(linear, augment=fetch)


def test_use_all_cores_finds_none(no_cpu, monkeypatch):
    monkeypatch.setattr("lectopt.engine.devices.cores", lambda: 3)
    with pytest.warns(UserWarning, match=r"it has 0 CPU device\(s\) for 3 cores"):
        assert lo.use_all_cores() == 0
