"""Paths that users give, files that are replaced in one stroke, and what damage to them does."""

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lectopt._internal import files
from lectopt._internal.files import DamagedError, checked_path, clear_leftovers, read_arrays, replace_file, save_arrays

ARRAYS = {"a": np.arange(300, dtype=np.float32), "b/c d": np.eye(3), "": np.array("text"), "none": np.zeros((0, 2))}


def test_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_path("path", "~/x") == checked_path("path", Path("~/x")) == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    assert checked_path("path", "x/~") == tmp_path / "x" / "~"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (3, TypeError, r"place must be a path, a string or a pathlib\.Path; got 3 \(int\)"),
        (None, TypeError, "got None"),
        (b"x", TypeError, r"got b'x' \(bytes\)"),
        ("", ValueError, "place must be a path, not empty"),
        ("a\0b", ValueError, "without null characters"),
        ("~nobody-at-all/x", ValueError, "a home directory that is known; got '~nobody-at-all/x'"),
        ("ü" * 128, ValueError, "place must have names of at most 255 bytes; got one of 256"),
    ],
)
def test_what_is_no_path(path, error, message):
    with pytest.raises(error, match=message):
        checked_path("place", path)


@pytest.mark.parametrize("name", ["a[1]", "a*?", "two words", "50%25", "ünï", "a#b", "a\nb", "a\\b", "{b}", "b" * 255])
def test_any_name_will_do(tmp_path, name):
    save_arrays(tmp_path / name, ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_equal(read_arrays(tmp_path / name), ARRAYS)


def assert_equal(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_a_flipped_byte_is_noticed(tmp_path):
    """Anywhere in the file; where it changes no array (a date, say), all are as they were."""
    save_arrays(tmp_path / "file", ARRAYS)
    whole, draw, noticed = (tmp_path / "file").read_bytes(), random.Random(0), 0
    for place in range(0, len(whole), 3):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << draw.randrange(8)
        (tmp_path / "file").write_bytes(spoilt)
        try:
            found = read_arrays(tmp_path / "file")
        except DamagedError:
            noticed += 1
        else:
            assert_equal(found, ARRAYS)
    assert noticed > len(whole) / 6


def test_the_damaged_array_is_named(tmp_path):
    files.write_arrays(tmp_path / "file", ARRAYS)
    spoilt = bytearray((tmp_path / "file").read_bytes())
    spoilt[spoilt.index(ARRAYS["b/c d"].tobytes()) + 5] ^= 1
    (tmp_path / "file").write_bytes(spoilt)
    with pytest.raises(DamagedError, match="file is damaged: the array b/c d is not what was written"):
        read_arrays(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"PK", b"text", b"\x80\x04K\x01.", None, ...])
def test_what_is_no_file_of_arrays(tmp_path, content):
    path = tmp_path / "file"
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"file (is no file|is damaged, or was not written by lectopt)") as caught:
        read_arrays(path)
    assert "pickle" not in str(caught.value)  # NumPy's advice, which would run what is in the file


def test_a_file_that_was_cut(tmp_path):
    save_arrays(tmp_path / "file", ARRAYS)
    whole = (tmp_path / "file").read_bytes()
    for length in range(0, len(whole), 50):
        (tmp_path / "file").write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read_arrays(tmp_path / "file")


def write_new(file):
    file.write(b"new")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nothing yet")
    replace_file(tmp_path / "link", write_new)
    replace_file(tmp_path / "dangling", write_new)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == (tmp_path / "nothing yet").read_bytes() == b"new"


def test_only_regular_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", ".", "circle", "no/folder"):
        with pytest.raises(ValueError, match=r"path must be a file that can be written; .* is not: "):
            save_arrays(tmp_path / name, ARRAYS)
    with pytest.raises(ValueError, match="/dev/null is not: it is no regular file"):
        save_arrays(Path("/dev/null"), ARRAYS)
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


def test_its_mode_stays(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "file").chmod(0o640)
    replace_file(tmp_path / "file", write_new)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_loses_nothing(tmp_path):
    def fill(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("files", sys.argv[2])  # without all of lectopt, which takes seconds
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

def write(file):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)

files.replace_file(Path(sys.argv[1]) / "file", write)
"""


def test_stumps_of_killed_processes_alone_are_cleared_away(tmp_path):
    mine = {"lectopt.part", "film.part", "lanes.npz"}
    for name in mine:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "lanes-0-1-0-2.npz.77.part").write_bytes(b"of an earlier version")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), files.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    clear_leftovers(tmp_path)
    assert (tmp_path / "lanes-0-1-0-2.npz.77.part").exists()  # it may be anybody's
    clear_leftovers(tmp_path, owned=True)
    (stump,) = {path.name for path in tmp_path.iterdir()} - mine
    assert (tmp_path / stump / "part").read_bytes() == b"half"
    process.communicate("\n")
    assert (tmp_path / stump).exists()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == mine
