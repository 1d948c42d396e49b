"""Which devices a program runs on that factorizes matrices: not on all, unless threads are left."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lectopt.engine import devices
from lectopt.engine.tracing import TracedProgram


class Device(NamedTuple):
    """Stands for one of JAX's."""

    platform: str


@pytest.fixture
def machine(monkeypatch):
    """To be called with the numbers of cores and of CPU devices, and NPROC."""

    def of(cores, count, threads=None):
        monkeypatch.setattr(devices, "cores", lambda: cores)
        monkeypatch.setattr(devices, "cpu_devices", lambda: [Device("cpu")] * count)
        monkeypatch.delenv("NPROC", raising=False)
        if threads is not None:
            monkeypatch.setenv("NPROC", str(threads))
        return [Device("cpu")] * count

    return of


@pytest.mark.parametrize(
    ("cores", "count", "threads", "used"),
    [
        (2, 2, None, 1),
        (8, 8, None, 4),
        (9, 9, None, 3),
        (2, 4, None, 2),
        (8, 4, None, 4),
        (2, 2, 3, 2),
        (1, 1, None, 1),
    ],
)
def test_a_part_that_divides_them_unless_threads_are_left(machine, cores, count, threads, used):
    assert len(devices.devices_that_factorize(machine(cores, count, threads))) == used


def test_accelerators_and_a_part_of_the_devices_have_threads_enough(machine):
    some = machine(2, 4)[:3]
    assert devices.devices_that_factorize(some) == some
    machine(2, 2)
    gpus = [Device("gpu")] * 2
    assert devices.devices_that_factorize(gpus) == gpus


def program(function):
    return TracedProgram(function, np.eye(3, dtype=np.float32), name="f")


@pytest.mark.parametrize("factorize", [jnp.linalg.qr, jnp.linalg.svd, jnp.linalg.cholesky, jnp.linalg.eigh])
def test_a_factorization_is_found_however_deep(factorize):
    def step(x, _):
        return jax.lax.cond(x[0, 0] > 0, lambda x: jax.tree.leaves(factorize(x))[0] + x, lambda x: x, x), None

    assert program(jax.jit(lambda x: jax.lax.scan(step, x, None, 2)[0])).factorizes()
    assert not program(jax.jit(lambda x: jax.lax.scan(lambda x, _: (x @ x, None), x, None, 2)[0])).factorizes()
