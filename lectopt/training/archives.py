"""Folders of named arrays and of facts, written atomically by Orbax, and read with every byte checked.

Orbax keeps no checksums: a flipped byte would come back as another number. So the folder holds a digest of each file.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import jax
import numpy as np

from lectopt._internal.files import DamagedError, reason, staging_directory
from lectopt._internal.trees import LeafPath, to_numpy, unflatten_in_order
from lectopt._internal.types import Array

_FORMAT, _OLDER = "lectopt run 3", "lectopt run 2"
_DIGESTS = "digests.json"


class Archive(NamedTuple):
    """What is stored: arrays in named trees, and facts that JSON can hold."""

    trees: dict[str, dict[LeafPath, Array]]
    facts: dict[str, Any]  # fit for JSON
    ordered: bool = False  # of an earlier version that kept no names: paths are places, from ("000000",) on


def write(path: Path, archive: Archive) -> None:
    """Writes the folder `path`, completely or not at all.

    Raises:
        OSError: if that cannot be done.
    """
    if os.sep == "/" and "\\" in str(path):
        raise OSError(errno.EINVAL, "TensorStore takes a backslash for a slash")
    arrays = {name: list(map(to_numpy, tree.values())) for name, tree in archive.trees.items()}
    listed = {
        name: [[step, str(a.dtype), a.shape] for step, a in zip(tree, arrays[name], strict=True)]
        for name, tree in archive.trees.items()
    }
    # Orbax keeps no empty arrays; their shapes say all of them.
    packed = {name: {_place(i): a for i, a in enumerate(leaves) if a.size} for name, leaves in arrays.items()}
    ocp, about = _orbax(), {"format": _FORMAT, "facts": archive.facts, "arrays": listed}
    items = ocp.args.Composite(arrays=ocp.args.PyTreeSave(packed), about=ocp.args.JsonSave(about))
    with staging_directory(path.parent) as folder, _checkpointer(path) as checkpointer:
        try:
            checkpointer.save(folder / "part", items)
        except Exception as error:  # TensorStore raises ValueError where the disk is full
            raise _os_error(error) from error
        (folder / "part" / _DIGESTS).write_text(json.dumps(_digests(folder / "part")))
        (folder / "part").rename(path)


def read(path: Path) -> Archive:
    """Reads what `write` wrote.

    Raises:
        DamagedError: if it is something else, or was damaged; the message names the file.
    """
    ocp, sealed = _orbax(), (path / _DIGESTS).exists()
    if sealed:
        _check_bytes(path)  # before Orbax sees them, whose threads print what they meet
    try:
        check_names(path / "arrays")
        with _checkpointer(path) as checkpointer:
            # As NumPy arrays: the devices that it was saved on may not be here.
            items = ocp.args.Composite(arrays=ocp.args.PyTreeRestore(), about=ocp.args.JsonRestore())
            restored = checkpointer.restore(path, items)
        about, arrays = restored["about"], restored["arrays"]
        if about["format"] == _OLDER:
            return _of_older(about, arrays)
        if about["format"] != _FORMAT:
            raise DamagedError(f"{path} has the format {about['format']!r}, not {_FORMAT!r}")
        if not sealed:
            raise DamagedError(f"{path} is damaged: the file {_DIGESTS} is missing")
        trees = {name: _unpacked(notes, arrays.get(name, {})) for name, notes in about["arrays"].items()}
        return Archive(trees, about["facts"])
    except DamagedError:
        raise
    except Exception as error:  # Orbax and TensorStore raise whatever the damage leads to
        raise DamagedError(f"{path} is damaged, or was not written by lectopt: {reason(error)}") from error


def check_names(folder: Path) -> None:
    """Raises DamagedError if Orbax's metadata name an array that would be read from outside of their folder."""
    if not (folder / "_METADATA").exists():
        return
    saved = json.loads((folder / "_METADATA").read_text())["tree_metadata"].values()
    names = [PurePath(str(step["key"])) for array in saved for step in array["key_metadata"]]
    if outside := [name for name in names if name.anchor or ".." in name.parts]:
        raise DamagedError(f"{folder.parent} is damaged: it names {outside[0]}, which is outside of it")


def is_archive(path: Path) -> bool:
    """Tells whether `write` made the folder, now or in an earlier version."""
    return (path / "about").exists()


def read_in_order(path: Path, template: Any) -> Any:
    """Reads a tree that an earlier version kept without names, into the structure of `template`.

    Raises:
        DamagedError: if it cannot be read, or is another tree.
    """
    ocp = _orbax()
    try:
        with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as checkpointer:
            saved = checkpointer.restore(path)
        return unflatten_in_order("what directory holds", _sorted(saved), template)
    except Exception as error:  # as above
        raise DamagedError(f"{path} is damaged, or was not written by lectopt: {reason(error)}") from error


def _orbax() -> Any:
    import orbax.checkpoint as ocp  # noqa: PLC0415, slow to import

    return ocp


def _checkpointer(path: Path) -> contextlib.AbstractContextManager[Any]:
    """Makes a checkpointer for this process alone: which one writes, and who waits for it, is up to the caller."""
    ocp, me = _orbax(), jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"{me}")
    # OCDBT, Orbax's default, searches for its own files by a pattern that holds the path, in which "[" is no letter.
    arrays = ocp.PyTreeCheckpointHandler(use_ocdbt="[" not in str(path), multiprocessing_options=alone)
    about = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    handler = ocp.CompositeCheckpointHandler(composite_options=options, arrays=arrays, about=about)
    return contextlib.closing(ocp.Checkpointer(handler, multiprocessing_options=alone))


def _os_error(error: Exception) -> OSError:
    """Finds the system's error in the text of TensorStore."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(errno.EIO, reason(error))


def _place(i: int) -> str:
    return f"{i:06}"


def _unpacked(notes: list[list[Any]], packed: dict[str, Any]) -> dict[LeafPath, Any]:
    """Returns the arrays of one tree by their paths."""
    return {
        tuple(step): np.asarray(np.zeros(shape) if 0 in shape else packed[_place(i)], dtype)
        for i, (step, dtype, shape) in enumerate(notes)
    }


def _digests(path: Path) -> dict[str, str]:
    """Returns {path within the folder: digest} of all files but that of the digests."""
    files = {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}
    files.pop(_DIGESTS, None)
    digests = {}
    for name, place in files.items():
        with place.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _check_bytes(path: Path) -> None:
    """Raises DamagedError unless all files are as they were written."""
    try:
        written, found = dict(json.loads((path / _DIGESTS).read_text())), _digests(path)
    except (OSError, TypeError, ValueError):
        raise DamagedError(f"{path} is damaged: the file {_DIGESTS} is not what was written") from None
    if bad := sorted(name for name in written if found.get(name) != written[name]):
        raise DamagedError(f"{path} is damaged: the file {bad[0]} is not what was written")


# The format before: without digests, sometimes without names, and of the optimizer's state nothing but arrays. --------
def _of_older(about: dict[str, Any], arrays: dict[str, Any]) -> Archive:
    names = ("params", "lookahead_params", "model_state", "opt_state", "history")
    trees = {name: _named(about, name, _sorted(arrays[name])) for name in names}
    trees["metrics"] = {(name,): value for name, value in arrays["metrics"].items()}
    trees["diverged_at"] = {(): arrays["diverged_at"]}
    return Archive(trees, {"inputs": about["inputs"], "optimizer": None}, ordered="params" not in about)


def _sorted(arrays: dict[str, Array]) -> list[Array]:
    return [arrays[place] for place in sorted(arrays)]


def _named(about: dict[str, Any], tree: str, arrays: list[Array]) -> dict[LeafPath, Array]:
    """Returns one tree by its paths, as far as that format kept them; by places otherwise."""
    if tree != "history" and (tree == "opt_state" or "params" not in about):
        return {(_place(i),): array for i, array in enumerate(arrays)}
    if tree == "model_state":
        inputs = [("inputs", name) for name in ("count", "mean", "var")]
        steps = [("variables", *path) for path in about["variables"]] + inputs * (len(arrays) > len(about["variables"]))
    else:
        steps = about["history" if tree == "history" else "params"]
    return dict(zip(map(tuple, steps), arrays, strict=True))
