"""Directories that belong to one training or search: called again with the same arguments it goes on there."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lectopt._leaves import plain


def fingerprint(program: str, arrays: Any) -> str:
    """A digest of a lowered program and of the arrays that go into it, equal between processes."""
    digest = hashlib.sha256(program.encode())
    for leaf in map(plain, jax.tree.leaves(arrays)):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def make_directory(name: str, path: Path) -> None:
    """Makes a directory, unless it is there.

    Raises:
        ValueError: if that is not possible, or nothing can be written in it; the message calls it `name`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"{name} must be a directory that can be written; {path} is not: {error.strerror}") from error


def claim(path: Path, fingerprint: str, what: str) -> None:
    """Writes the fingerprint into a new directory, in one stroke.

    Raises:
        ValueError: if there is anything in it but the same fingerprint; the message says `what` it is kept for.
    """
    make_directory("directory", path)
    note, part = path / "fingerprint", path / f"fingerprint.{os.getpid()}.part"
    if not note.exists() and all(file.suffix == ".part" for file in path.iterdir()):
        part.write_text(fingerprint)
        part.replace(note)
    if not note.exists() or note.read_text() != fingerprint:
        raise ValueError(
            f"directory must be new, or of the same {what}; {path} holds something else (other data, model, "
            "optimizer, numbers, epochs, key, or version of JAX)"
        )
