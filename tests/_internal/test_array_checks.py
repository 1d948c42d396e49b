"""What passed for an array that cannot change is not asked again."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lectopt._internal import array_checks


class Fact:
    """Something else that a check depends on."""


@pytest.fixture
def check():
    calls = []

    def once(arrays, *facts):
        before = len(calls)
        array_checks.check_once(lambda: calls.append(0), arrays, *facts)
        return len(calls) > before

    return once


def test_the_same_arrays_are_asked_once_for_each_fact(check):
    a, b, fact = jnp.ones(3), jnp.ones(3), Fact()
    assert check([a], "finite")
    assert not check([a], "finite")
    assert check([b], "finite")  # equal, but another array
    assert check([a], "moments")
    assert check([a], fact)
    assert not check([a], fact)
    assert check([a, b], fact)
    assert check([b, a], fact)


def test_what_can_change_is_asked_each_time(check):
    a = np.ones(3)
    assert check([a], "finite")
    assert check([a], "finite")
    assert check([jnp.ones(3), a], "finite")
    jax.jit(lambda x: [check([x], "traced") for _ in range(2)] and x)(1.0)


def test_what_fails_is_asked_again():
    a, count = jnp.ones(3), []

    def refuse():
        count.append(0)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            array_checks.check_once(refuse, [a], "refused")
    assert len(count) == 2


def test_nothing_is_kept_alive(check):
    before = len(array_checks._passed)
    a, b, fact = jnp.ones(3), jnp.ones(3), Fact()
    check([a, b], fact)
    check([b], "finite")
    assert len(array_checks._passed) == before + 2
    del a
    gc.collect()
    assert len(array_checks._passed) == before + 1
    del b, fact
    gc.collect()
    assert len(array_checks._passed) == before
