"""A directory of one search, and its files."""

import numpy as np
import pytest

from lectopt._internal.files import DamagedError
from lectopt.engine.claimed_directory import ClaimedDirectory

LEAVES = [np.arange(3), np.ones((2, 2), np.float32)]


@pytest.fixture
def directory(tmp_path):
    return ClaimedDirectory(tmp_path / "kept", "one search")


def test_what_is_written_is_read(directory):
    directory.write("a.npz", LEAVES, about=np.array("text"), rows=np.arange(2))
    leaves, labels = directory.read("a.npz")
    for leaf, other in zip(leaves, LEAVES, strict=True):
        np.testing.assert_array_equal(leaf, other)
        assert leaf.dtype == other.dtype
    assert (str(labels["about"]), labels["rows"].tolist()) == ("text", [0, 1])
    with np.load(directory.path / "a.npz") as file:  # as other versions read it
        assert sorted(file.files) == ["about", "leaf0000", "leaf0001", "rows"]


def test_more_than_ten_leaves_stay_in_order(directory):
    directory.write("a.npz", np.arange(12))
    assert directory.read("a.npz").leaves == list(range(12))


def test_the_file_before_is_kept_where_that_is_asked_for(directory):
    def both():
        return [int(directory.read(name).leaves[0]) for name in ("last.npz", "before.npz")]

    for number in range(3):
        directory.write("last.npz", [np.array(number)], previous="before.npz")
    assert both() == [2, 1]
    directory.write("last.npz", [np.array(9)])
    assert both() == [9, 1]


def test_it_belongs_to_one_search(directory):
    directory.write("a.npz", LEAVES)
    assert len(ClaimedDirectory(directory.path, "one search").read("a.npz").leaves) == 2
    with pytest.raises(
        ValueError, match=r"directory must be new, or of the same search; .* JAX or lectopt\), which is left as it is"
    ):
        ClaimedDirectory(directory.path, "another")


@pytest.mark.parametrize("names", [["leaf0001"], ["leaf0000", "leaf0002"], ["leaf"]])
def test_a_file_with_a_gap_is_damaged(directory, names):
    np.savez(directory.path / "a.npz", **{name: np.ones(1) for name in names})
    with pytest.raises(DamagedError, match=r"a\.npz is no file of a search"):
        directory.read("a.npz")


def test_a_full_disk_names_what_is_kept_once(directory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    directory.write("a.npz", LEAVES)
    with monkeypatch.context() as patched:
        patched.setattr("lectopt._internal.files.os.fsync", full)
        with pytest.raises(OSError, match=r"cannot be written any more \(No space left .*is there still") as caught:
            directory.write("b.npz", LEAVES)
    assert str(caught.value).count("any more") == 1
    assert [path.name for path in directory.path.glob("*.npz")] == ["a.npz"]
