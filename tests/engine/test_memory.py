"""The largest program that fits into memory."""

from types import SimpleNamespace

import jax
import pytest

from lectopt._internal.out_of_memory import run_fitted
from lectopt.engine.memory import fitted


def halves(compiled):
    """Arguments of `fitted` for trainings of 100 bytes each, of which half as many are tried next."""

    def compile_(count):
        compiled.append(count)
        return SimpleNamespace(memory=100 * count)

    return {"compile_": compile_, "smaller": lambda count, _: count // 2 or None, "name": lambda count: f"{count} run"}


@pytest.mark.parametrize(("budget", "devices", "fits"), [(800, 1, 8), (799, 1, 4), (800, 2, 4), (99, 1, 0)])
def test_it_shrinks_until_it_fits(budget, devices, fits):
    compiled = []
    if not fits:
        with pytest.raises(ValueError, match="memory must be enough for 1 run, which take 100 bytes; got 99"):
            fitted(8, budget=budget, devices=devices, **halves(compiled))
    else:
        candidate, program = fitted(8, budget=budget, devices=devices, **halves(compiled))
        assert (candidate, program.memory) == (fits, 100 * fits)
    assert compiled == [count for count in (8, 4, 2, 1) if count >= fits]


def test_the_next_candidate_knows_what_the_last_one_took():
    seen = []

    def smaller(count, memory):
        seen.append((count, memory))
        return count - 1

    options = {"compile_": lambda count: SimpleNamespace(memory=10 * count), "name": str}
    assert fitted(4, smaller=smaller, budget=50, devices=2, **options)[0] == 2
    assert seen == [(4, 80), (3, 60)]


OUT = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")


def test_what_a_device_has_no_memory_for_is_run_smaller():
    tried = []

    def run(size):
        tried.append(size)
        if size > 3:
            raise OUT
        return -size

    assert run_fitted(16, run, lambda size, error: size // 2) == (2, -2)
    assert tried == [16, 8, 4, 2]


@pytest.mark.parametrize("error", [jax.errors.JaxRuntimeError("INTERNAL: lost"), ValueError("RESOURCE_EXHAUSTED")])
def test_other_errors_are_not_tried_again(error):
    def run(size):
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_fitted(16, run, lambda size, error: pytest.fail("tried again"))


def test_memory_that_is_too_little_for_the_least_is_an_error_of_whoever_says_so():
    def run(size):
        raise OUT

    def smaller(size, error):
        raise ValueError("memory must be more") from error

    with pytest.raises(ValueError, match="memory must be more") as caught:
        run_fitted(1, run, smaller)
    assert caught.value.__cause__ is OUT
