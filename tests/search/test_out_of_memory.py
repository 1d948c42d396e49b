"""A device that runs out of memory while lanes run: fewer at once, nothing lost; and where one lane is too many."""

import jax
import numpy as np
import pytest

import lectopt as lo
from lectopt.engine import program_cache, running

X = np.arange(48, dtype=np.float32)


@pytest.fixture
def small_device(monkeypatch):
    """A device on which so many settings fit at once: with more, the compiled program raises what XLA raises."""
    compiled, most, calls = program_cache.compiled, [0], []

    def small(lowered):
        program = compiled(lowered)

        def call(numbers, *others):
            calls.append(len(numbers["x"]))
            if calls[-1] > most[0]:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")
            return program.call(numbers, *others)

        return program._replace(call=call)

    def fits(settings):
        most[0] = settings
        return calls

    monkeypatch.setattr(program_cache, "compiled", small)
    return fits


def search(**options):
    def trial(setting, key):
        return {"loss": setting["x"] ** 2 + jax.random.uniform(key)}

    return lo.sweep(trial, {"x": X}, minimize="loss", key=0, progress=False, **options)


def test_half_as_many_are_tried_until_they_fit(small_device):
    whole = (small_device(100), search())[1]
    calls = small_device(3)
    calls.clear()
    with pytest.warns(UserWarning, match="ran out of memory with") as warned:
        found = search()
    np.testing.assert_array_equal(found.metrics["loss"], whole.metrics["loss"])
    assert [str(w.message).split(";")[0] for w in warned] == [
        f"a device ran out of memory with {count} trainings at once" for count in (12, 6)
    ]
    assert calls == [12, 6, *[3] * 16]


def test_what_was_done_before_is_not_lost_and_a_size_that_failed_is_not_tried_again(small_device, monkeypatch):
    monkeypatch.setattr("lectopt.engine.tiling.CLEARLY_FASTER", 0.0)  # any size that was timed is as good
    calls, run, ran = small_device(12), running.run_rectangle, []

    def shrinks(program, shape, group, rows, columns):
        outcome = run(program, shape, group, rows, columns)
        ran.extend(rows)
        small_device(6)  # something else takes the memory
        return outcome

    monkeypatch.setattr(running, "run_rectangle", shrinks)
    with pytest.warns(UserWarning, match="ran out of memory with 12 trainings at once; the search goes on with 6"):
        search()
    assert calls == [12, 12, *[6] * 6]
    assert ran == list(range(48))


def test_one_lane_that_does_not_fit_is_an_error_that_names_memory(small_device):
    small_device(0)
    with (
        pytest.warns(UserWarning, match="ran out of memory"),
        pytest.raises(ValueError, match=r"memory must be enough for 1 of the trainings at once.*RESOURCE_EXHAUSTED"),
    ):
        search()


def test_other_errors_of_a_device_come_out(small_device, monkeypatch):
    def fails(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device was lost")

    monkeypatch.setattr(running, "run_rectangle", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device was lost"):
        search()


def test_a_program_that_cannot_be_compiled_for_want_of_memory_counts_too(monkeypatch):
    compiled, shapes = program_cache.compiled, []

    def small(lowered):
        shapes.append(lowered.in_avals[0][0]["x"].shape[0])
        if shapes[-1] > 6:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: the program needs more than there is")
        return compiled(lowered)

    monkeypatch.setattr(program_cache, "compiled", small)
    with pytest.warns(UserWarning, match="goes on with 6"):
        assert search().best()["x"] == 0
    assert shapes == [12, 6]
