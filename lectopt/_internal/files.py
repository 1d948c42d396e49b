"""Paths that users give, and files of arrays: written in one stroke, and read with every byte checked."""

import contextlib
import errno
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

try:
    import fcntl
except ImportError:  # on Windows, where nobody can delete what another process has open
    fcntl = None  # type: ignore[assignment]

_MAX_NAME = 255  # bytes in a name, on all the usual file systems
_LEFTOVERS = ("lectopt-*.part",)
_OLDER_LEFTOVERS = ("fingerprint*.part", "lanes-*.part", "status.npz.*.part", "*.orbax-checkpoint-tmp*")


def checked_path(name: str, path: Any) -> Path:
    """The absolute path, with the home directory for `~`.

    Raises:
        TypeError: unless it is a string or a `pathlib.Path`; the message calls it `name`.
        ValueError: if no file can be called so.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, a string or a pathlib.Path; got {text!r} ({type(path).__name__})")
    if not text.strip() or "\0" in text:
        raise ValueError(f"{name} must be a path, not empty and without null characters; got {text!r}")
    try:
        full = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{name} must begin with ~ only for a home directory that is known; got {text!r}") from error
    for part in full.parts:
        if (size := len(os.fsencode(part))) > _MAX_NAME:
            raise ValueError(
                f"{name} must have names of at most {_MAX_NAME} bytes; got one of {size}, {part[:40]!r}..."
            )
    return full


@contextlib.contextmanager
def staging_directory(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for what is being written, which is moved out when it is whole; removed at the end.

    What a killed process left of one is removed by `clear_leftovers`: this process holds a lock on it while it lives.
    """
    with contextlib.ExitStack() as stack:
        folder = _locked_folder(parent, stack)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def is_leftover(path: Path, *, owned: bool = False) -> bool:
    """Whether it is something that lectopt was writing; in a folder of its own (`owned`), also in earlier versions.

    (Elsewhere what earlier versions left cannot be told from what others are writing, with Orbax for one.)
    """
    return any(path.match(pattern) for pattern in _LEFTOVERS + _OLDER_LEFTOVERS * owned)


def clear_leftovers(parent: Path, *, owned: bool = False) -> None:
    """Removes what processes that do not live any more were writing in this folder; see `is_leftover`."""
    for leftover in [path for path in parent.iterdir() if is_leftover(path, owned=owned)]:
        with contextlib.suppress(OSError), locked(leftover):
            remove(leftover)


def remove(path: Path) -> None:
    """Removes a file or a folder, whichever it is by now."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def replace_file(path: Path, write: Any) -> None:
    """Calls `write(file)` and puts that file in the place of what was at `path`, in one stroke.

    A symbolic link stays one: what it leads to is replaced.

    Raises:
        OSError: if that cannot be done; what was there is there still.
    """
    path = path.resolve()
    if path.exists():
        if not path.is_file():
            raise OSError(errno.EINVAL, "it is no regular file")
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "it is write-protected")
    with staging_directory(path.parent) as folder:
        part = folder / "part"
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, part)
        part.replace(path)


def write_arrays(path: Path, arrays: Mapping[str, Any], *, compress: bool = False) -> None:
    """One .npz file of these arrays; see `replace_file`."""
    save = np.savez_compressed if compress else np.savez

    def write(file: IO[bytes]) -> None:
        save(file, **arrays)  # type: ignore[arg-type]  # NumPy would add a suffix to a bare name

    replace_file(path, write)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """The same for a path that a user gave.

    Raises:
        ValueError: if it cannot be written there.
    """
    with as_value_error("path", path, "file"):
        clear_leftovers(path.resolve().parent)
        write_arrays(path, arrays, compress=True)


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file.

    Raises:
        DamagedError: if it is none, or its bytes are not those that were written.
    """
    if not path.is_file():
        raise DamagedError(f"{path} is no file")
    try:
        with zipfile.ZipFile(path) as file:
            _check_members(file, path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DamagedError:
        raise
    except _READ_ERRORS as error:
        raise DamagedError(f"{path} is damaged, or was not written by lectopt ({reason(error)})") from error


@contextlib.contextmanager
def as_value_error(name: str, path: Path, kind: str) -> Iterator[None]:
    """Around what writes at a path that a user gave: what the system refuses becomes a ValueError that says so."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise ValueError(f"{name} must be a {kind} that can be written; {path} is not: {reason(error)}") from error


class DamagedError(ValueError):
    """A file does not hold what was written into it."""


def reason(error: BaseException) -> str:
    """What the system says of a failure, in a few words."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0][:200].rstrip(".") or type(error).__name__


_READ_ERRORS = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, RuntimeError,
    SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a file that is no .npz, or a damaged one, may raise."""


def _check_members(file: zipfile.ZipFile, path: Path) -> None:
    """Raises DamagedError unless all members are there, with the checksums that were written.

    NumPy stops where a damaged header says that an array ends, before it has seen the checksum.
    """
    with path.open("rb") as raw:
        raw.seek(-12, os.SEEK_END)
        count = int.from_bytes(raw.read(2), "little")  # a damaged list of members may skip some
    if count != len(set(file.namelist())):
        raise DamagedError(f"{path} is damaged: its list of {count} arrays is not whole")
    if (bad := file.testzip()) is not None:
        raise DamagedError(f"{path} is damaged: the array {bad.removesuffix('.npy')} is not what was written")


def _locked_folder(parent: Path, stack: contextlib.ExitStack) -> Path:
    while True:
        folder = Path(tempfile.mkdtemp(prefix="lectopt-", suffix=".part", dir=parent))
        try:
            stack.enter_context(locked(folder))
        except (BlockingIOError, FileNotFoundError):  # another process cleared it away before it was locked
            continue
        except OSError:  # no locks on this file system: nobody clears anything
            return folder
        if folder.exists():
            return folder


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a lock on a file or folder.

    Raises:
        BlockingIOError: if another holds it, unless it is to `wait`. OSError: if the file system knows no locks.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
