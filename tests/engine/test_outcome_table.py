"""A table of outcomes, filled rectangle by rectangle."""

import jax
import numpy as np
import pytest

from lectopt.engine.claimed_directory import ClaimedDirectory
from lectopt.engine.lane_records import LaneRecords
from lectopt.engine.lanes import Outcome
from lectopt.engine.outcome_table import OutcomeTable, local_lanes
from lectopt.engine.tiling import Rectangle

LIKE = Outcome(
    {"loss": jax.ShapeDtypeStruct((), np.float32)},
    jax.ShapeDtypeStruct((), np.int32),
    [jax.ShapeDtypeStruct((2,), np.float32)],
)


def outcome(rows, pairs):
    """Numbers that say which lanes these are."""
    loss = np.add.outer(10.0 * np.asarray(rows), pairs).astype(np.float32)
    return Outcome({"loss": loss}, loss.astype(np.int32), [np.stack([loss, -loss], axis=-1)])


def fill(table, shape):
    """Fills the table; returns the rows and pairs of each rectangle."""
    ran = []
    while not table.done.all():
        lanes = table.next(shape)
        ran.append([places.tolist() for places in lanes])
        table.write(*lanes, outcome(*lanes))
    return ran


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (5, 2), (9, 9)])
def test_every_lane_is_asked_for_once_and_put_where_it_belongs(shape):
    table = OutcomeTable(LIKE, 5, 3, None)
    assert table.restore() == 0
    ran = fill(table, Rectangle(*shape))
    assert sum(len(rows) * len(pairs) for rows, pairs in ran) == 15
    for one, other in zip(jax.tree.leaves(table.outcome), jax.tree.leaves(outcome(range(5), range(3))), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert table.gather() is table.outcome
    assert table.complete_rows.tolist() == list(range(5))


def test_rows_are_complete_when_all_of_their_pairs_are_known():
    table = OutcomeTable(LIKE, 4, 3, None)
    assert table.write(np.array([0, 1]), np.array([0, 1]), outcome([0, 1], [0, 1])) == 4
    assert table.complete_rows.tolist() == []
    assert [places.tolist() for places in table.next(Rectangle(2, 2))] == [[0, 1], [2]]
    assert table.write(np.array([1]), np.arange(3), outcome([1], range(3))) == 1  # two were known
    assert table.complete_rows.tolist() == [1]
    # Of rows that lack the same pairs alone, so that what is known does not run again.
    assert [places.tolist() for places in table.next(Rectangle(2, 2))] == [[0], [2]]
    assert table.write(np.array([0]), np.array([2]), outcome([0], [2])) == 1
    assert [places.tolist() for places in table.next(Rectangle(2, 2))] == [[2, 3], [0, 1]]


def test_what_is_recorded_is_restored(tmp_path):
    def table():
        return OutcomeTable(LIKE, 5, 3, LaneRecords(ClaimedDirectory(tmp_path, "it")))

    first = table()
    assert first.restore() == 0
    for _ in range(2):
        lanes = first.next(Rectangle(2, 3))
        first.write(*lanes, outcome(*lanes))
    second = table()
    assert second.restore() == 12
    assert fill(second, Rectangle(9, 9)) == [[[4], [0, 1, 2]]]
    np.testing.assert_array_equal(second.outcome.kept[0], outcome(range(5), range(3)).kept[0])
    assert sorted(path.name for path in tmp_path.glob("lanes-*")) == [
        "lanes-0-1-0-2.npz", "lanes-2-3-0-2.npz", "lanes-4-4-0-2.npz",
    ]  # fmt: skip


@pytest.mark.parametrize(("rows", "pairs", "complete"), [(5, 3, [[0, 3], [1, 4], [2]]), (2, 7, [[], [], []])])
def test_each_lane_is_of_one_process(monkeypatch, rows, pairs, complete):
    """By rows, or by pairs where there are fewer rows than processes."""
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares, found = [], []
    for index in range(3):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        shares.append(local_lanes(rows, pairs))
        table = OutcomeTable(LIKE, rows, pairs, None)
        assert sum(len(rows) * len(pairs) for rows, pairs in fill(table, Rectangle(9, 9))) >= shares[-1].sum()
        found.append(table.complete_rows.tolist())
    assert (np.sum(shares, axis=0) == 1).all()
    assert found == complete
