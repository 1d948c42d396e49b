"""The lanes of a rectangle as one program."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lectopt.engine import program_cache
from lectopt.engine.lane_program import LaneGroup, LaneProgram
from lectopt.engine.lanes import FoldAndSeed, Outcome, Shared
from lectopt.engine.running import run_rectangle
from lectopt.engine.tiling import Rectangle

EXPECTED = np.add.outer(np.arange(6), [0, 1000, 100, 1100])
"""Of settings 0 to 5 on two folds from two seeds."""


def trial():
    """Whom the programs belong to."""


@pytest.fixture(autouse=True)
def _forgets():
    yield
    program_cache._compiled.pop(trial, None)


def lane(numbers, pair, start, shared):
    del shared
    value = numbers["x"] + 100 * pair.fold + 1000 * pair.seed + (0 if start is None else start)
    return Outcome({"value": value}, jnp.int32(-1), None)


def shared():
    return Shared(None, jax.random.key(0))


def make(start=None, lane=lane, owner=trial, devices=1):
    start = None if start is None else jax.ShapeDtypeStruct((), np.float32)
    return LaneProgram(lane, {"x": np.float32(0)}, start, shared(), jax.devices()[:devices], owner)


def group_of(program, starts=None):
    pairs = FoldAndSeed(np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 0, 1], np.int32))
    return LaneGroup({"x": np.arange(6, dtype=np.float32)}, pairs, starts, program.place(shared()))


@pytest.mark.parametrize(
    ("shape", "rows", "pairs"), [((6, 4), range(6), range(4)), ((2, 4), [5], [0, 1]), ((4, 2), [1, 3, 4], [3])]
)
def test_a_rectangle_is_padded_and_each_lane_gets_what_is_its_own(shape, rows, pairs):
    program, rows, pairs = make(), np.array(rows), np.array(pairs)
    found = run_rectangle(program, Rectangle(*shape), group_of(program), rows, pairs)
    np.testing.assert_array_equal(found.metrics["value"], EXPECTED[np.ix_(rows, pairs)])


def test_lanes_go_on_from_their_starts():
    starts = np.arange(24, dtype=np.float32).reshape(6, 4) / 100
    program = make(starts)
    found = run_rectangle(program, Rectangle(2, 4), group_of(program, starts), np.array([2, 5]), np.arange(4))
    np.testing.assert_allclose(found.metrics["value"], (EXPECTED + starts)[[2, 5]])
    assert program.reads_start()
    assert make().reads_start()  # there is nothing to read
    assert not make(starts, lambda numbers, pair, start, shared: lane(numbers, pair, None, shared)).reads_start()


@pytest.mark.parametrize(("rows", "pairs"), [(6, 2), (2, 6)])
def test_either_side_is_split_over_the_devices(rows, pairs, several_devices):
    program, lanes = make(devices=3), (np.arange(rows), np.arange(pairs) % 4)
    found = run_rectangle(program, Rectangle(rows, pairs), group_of(program), *lanes)
    np.testing.assert_array_equal(found.metrics["value"], EXPECTED[np.ix_(*lanes)])


def test_each_shape_compiles_once_for_a_trial():
    program, again, shape = make(), make(), Rectangle(2, 4)
    first = program.compile(shape)
    assert program.compile(shape) is again.compile(shape) is first
    assert (program.compile_seconds, again.compile_seconds) == (first.seconds, 0)
    assert again.compile(Rectangle(4, 4)) is program.compile(Rectangle(4, 4)) is not first
    assert make(owner=lambda: None).compile(shape) is not first
    other = make(lane=lambda *arguments: lane(*arguments)._replace(diverged_at=jnp.int32(5)))
    assert other.text != program.text
    assert other.compile(shape) is not first


def test_programs_go_with_their_trial():
    def owner():
        """Nobody else knows of it."""

    gc.collect()  # of what other tests left
    before, program = len(program_cache._compiled), make(owner=owner)
    program.compile(Rectangle(2, 4))
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None
    assert len(program_cache._compiled) == before + 1
    del owner
    gc.collect()
    assert len(program_cache._compiled) == before


def test_a_trial_that_cannot_be_referred_to_compiles_for_itself():
    class Slots:
        __slots__ = ()

    before, shape = len(program_cache._compiled), Rectangle(2, 4)
    assert make(owner=Slots()).compile(shape) is not make(owner=Slots()).compile(shape)
    assert len(program_cache._compiled) == before


def test_some_lanes_of_a_group():
    part = group_of(make(), np.arange(24).reshape(6, 4)).take(np.array([4, 0]), np.array([3, 1]))
    assert part.numbers["x"].tolist() == [4, 0]
    assert (part.pairs.fold.tolist(), part.pairs.seed.tolist()) == ([1, 0], [1, 1])
    assert part.starts.tolist() == [[19, 17], [3, 1]]
