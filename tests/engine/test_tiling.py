"""How many lanes run at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lectopt.engine.tiling import ACCELERATOR_PACE, CPU_PACE, Tiling


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 5000), pairs=st.integers(1, 600), devices=st.integers(1, 8),
    chunk=st.one_of(st.none(), st.integers(1, 5000)), data=st.data(),
)  # fmt: skip
def test_rectangles_can_be_split_over_the_devices(rows, pairs, devices, chunk, data):
    tiling = Tiling(rows, pairs, devices, chunk)
    for _ in range(4):
        shape = tiling.shape
        assert shape.rows % devices == 0 or shape.pairs % devices == 0
        assert shape.rows < rows + devices
        assert shape.pairs < pairs + devices
        if chunk is not None:
            assert shape.rows < chunk + devices
        if data.draw(st.booleans()):
            lanes = data.draw(st.integers(0, shape.lanes))
            if (smaller := tiling.limit(lanes)) is not None:
                assert smaller == tiling.shape
                assert smaller.lanes < shape.lanes
            assert tiling.shape.lanes <= max(lanes, devices) or tiling.shape.lanes == shape.lanes
        else:
            tiling.report(data.draw(st.floats(0.01, 9)), data.draw(st.integers(0, rows)), 1.0)


def test_the_size_of_a_chunk_settles_where_a_lane_is_cheapest():
    tiling, left = Tiling(100_000, 5, 2, None), 100_000
    tried = []
    for _ in range(40):
        rows = tiling.shape.rows
        tried.append(rows)
        left -= rows
        tiling.report(rows * (1.0 + abs(np.log2(rows / 24))), left, 1.0)
    assert 12 <= tried[-1] <= 48
    assert len(set(tried[-20:])) == 1


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(("rows", "pairs"), [(64, 5), (8, 5), (20, 1), (1, 40)])
def test_a_search_is_cut_into_parts_that_can_be_shown_and_kept(rows, pairs, devices):
    shape = Tiling(rows, pairs, devices, None).shape
    if rows >= 4 * devices:
        assert -(-rows // shape.rows) >= 4
    assert shape.lanes >= min(devices, rows)


def test_rectangles_that_take_minutes_become_smaller_if_lanes_do_not_become_dearer():
    cheap, dear = (Tiling(1000, 5, 2, None) for _ in range(2))
    for _ in range(9):
        cheap.report(cheap.shape.rows * 1.0, 900, 1.0)
        dear.report(dear.shape.rows * (1.0 if dear.shape.rows >= 16 else 2.0), 900, 1.0)
    assert cheap.shape.rows == 4  # of a second each
    assert dear.shape.rows == 16
    short = Tiling(1000, 5, 2, None)
    short.report(0.1, 900, 1000.0)  # not worth another program
    assert short.shape.rows == 16


def test_a_rectangle_of_a_fixed_size_whatever_there_is():
    assert {Tiling(rows, 5, 2, 3, padded=True).shape for rows in (1, 2, 3, 7)} == {(2, 5)}


def test_an_accelerator_is_filled_before_a_cpu_would_be():
    """Where a lane costs the less, the more there are, as far as three thousand."""
    seconds, programs = {}, {}
    for pace in (CPU_PACE, ACCELERATOR_PACE):
        tiling, left, spent, sizes = Tiling(4096, 5, 1, None, pace=pace), 4096, 0.0, []
        while left > 0:
            shape = tiling.shape
            took = 0.04 * max(1.0, shape.lanes / 3000)
            left, spent = left - shape.rows, spent + took
            sizes.append(shape.rows)
            tiling.report(took, max(left, 0), compile_seconds=0.2)
        seconds[pace], programs[pace] = spent, len(set(sizes))
    assert seconds[ACCELERATOR_PACE] < 0.4 * seconds[CPU_PACE]
    assert programs[ACCELERATOR_PACE] <= 2
    assert Tiling(64, 5, 1, None, pace=ACCELERATOR_PACE).shape == (16, 5)  # four rectangles to be seen
