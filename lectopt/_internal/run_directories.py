"""Directories that belong to one training or search: called again with the same arguments it goes on there."""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._internal.files import as_value_error, clear_leftovers, is_leftover, locked, reason, replace_file
from lectopt._internal.trees import to_numpy


def fingerprint(program: str, arrays: Any) -> str:
    """A digest of a lowered program and of the arrays that go into it, equal between processes."""
    digest = hashlib.sha256(program.encode())
    for leaf in map(to_numpy, jax.tree.leaves(arrays)):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def make_directory(name: str, path: Path) -> None:
    """Makes a directory, unless it is there.

    Raises:
        ValueError: if that is not possible, or nothing can be written in it; the message calls it `name`.
    """
    with as_value_error(name, path, "directory"):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix="lectopt-", suffix=".part", dir=path):
            pass


def claim(path: Path, fingerprint: str, what: str) -> None:
    """Writes the fingerprint into a new directory, in one stroke; clears away what killed processes left in it.

    Raises:
        ValueError: if there is anything in it but the same fingerprint; the message says `what` it is kept for.
    """
    make_directory("directory", path)
    file = path / "fingerprint"
    with _one_at_a_time(path):  # or each of two processes that begin at once would have a file of its own to lock
        if not file.exists() and all(is_leftover(entry, owned=True) for entry in path.iterdir()):
            with as_value_error("directory", path, "directory"):
                replace_file(file, lambda opened: opened.write(fingerprint.encode()))
    if not file.is_file() or file.read_bytes() != fingerprint.encode():
        raise ValueError(
            f"directory must be new, or of the same {what}; {path} holds something else (other data, model, "
            "optimizer, numbers, epochs, key, or version of JAX or lectopt), which is left as it is"
        )
    clear_leftovers(path, owned=True)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where the file system knows no locks
            stack.enter_context(locked(path, wait=True))
        yield


@contextlib.contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Around what writes into a claimed directory, perhaps after hours.

    Raises:
        OSError: if that is not possible (the disk is full, say); the message says what is kept.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"directory cannot be written any more ({reason(error)}). What was kept in {path} before is there still: "
            "make room, and call again with the same arguments",
        ) from error
