"""Folders of named arrays and of facts, written in one stroke, and read with every byte checked.

In the folder is one .npz file, in which each array has its checksum. (Orbax, with which earlier versions wrote, keeps
none: a flipped byte came back as another number.)
"""

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lectopt._leaves import LeafPath, fill_in_order, plain
from lectopt._types import Array
from lectopt.files import DamagedError, read_arrays, reason, workshop, write_arrays

_FORMAT, _OLDER = "lectopt run 3", "lectopt run 2"
_FILE = "arrays.npz"


class Archive(NamedTuple):
    """What is kept."""

    trees: dict[str, dict[LeafPath, Array]]
    facts: dict[str, Any]  # fit for JSON
    ordered: bool = False  # of an earlier version that kept no names: paths are places, from ("000000",) on


def write(path: Path, archive: Archive) -> None:
    """Makes the folder `path`, whole or not at all.

    Raises:
        OSError: if that cannot be done.
    """
    members: dict[str, np.ndarray] = {}
    listed: dict[str, list] = {}
    for name, tree in archive.trees.items():
        arrays = [plain(array) for array in tree.values()]
        members |= {_member(name, i, step): array for i, (step, array) in enumerate(zip(tree, arrays, strict=True))}
        listed[name] = [[step, str(array.dtype)] for step, array in zip(tree, arrays, strict=True)]
    about = {"format": _FORMAT, "facts": archive.facts, "arrays": listed}
    with workshop(path.parent) as folder:
        part = folder / "part"
        part.mkdir()
        write_arrays(part / _FILE, {"about": np.array(json.dumps(about)), **members})
        part.rename(path)


def read(path: Path) -> Archive:
    """What `write` wrote there.

    Raises:
        DamagedError: if it is something else, or was damaged; the message names the array.
    """
    if (path / "about").exists():
        return _of_older(path)
    arrays = read_arrays(path / _FILE)
    try:
        about = json.loads(str(arrays["about"]))
        if about["format"] != _FORMAT:
            raise DamagedError(f"{path} has the format {about['format']!r}, not {_FORMAT!r}")
        trees = {
            # NumPy reads dtypes that it does not know, such as bfloat16, as bytes.
            name: {tuple(step): arrays[_member(name, i, step)].view(dtype) for i, (step, dtype) in enumerate(notes)}
            for name, notes in about["arrays"].items()
        }
        return Archive(trees, about["facts"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedError(f"{path} was not written by lectopt: {reason(error)}") from error


def is_archive(path: Path) -> bool:
    """Whether `write` made the folder, now or in an earlier version."""
    return (path / _FILE).exists() or (path / "about").exists()


def read_in_order(path: Path, template: Any) -> Any:
    """A tree that an earlier version kept without names, in the structure of `template`.

    Raises:
        DamagedError: if it cannot be read, or is another tree.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415, slow to import

    try:
        with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as checkpointer:
            saved = checkpointer.restore(path)
        return fill_in_order("what directory holds", _sorted(saved), template)
    except Exception as error:  # Orbax and TensorStore raise whatever the damage leads to
        raise DamagedError(f"{path} is damaged, or was not written by lectopt: {reason(error)}") from error


def _member(name: str, place: int, path: LeafPath) -> str:
    """The name of an array within the file: unlike all others, and readable as far as a file allows."""
    readable = "/".join(path).encode("unicode_escape").decode()[:200]
    return f"{name}/{place:06}/{readable}"


def _of_older(path: Path) -> Archive:
    """The format before: without checksums, sometimes without names, of the optimizer's state nothing but arrays."""
    import orbax.checkpoint as ocp  # noqa: PLC0415, slow to import

    try:
        items = ocp.args.Composite(arrays=ocp.args.StandardRestore(), about=ocp.args.JsonRestore())
        with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as checkpointer:
            restored = checkpointer.restore(path, items)
        about, arrays = restored["about"], restored["arrays"]
        if about["format"] != _OLDER:
            raise DamagedError(f"its format is {about['format']!r}, not {_OLDER!r}")
        trees = {name: _named(about, name, _sorted(arrays[name])) for name in _TREES}
        trees["metrics"] = {(name,): value for name, value in arrays["metrics"].items()}
        trees["diverged_at"] = {(): arrays["diverged_at"]}
        return Archive(trees, {"inputs": about["inputs"], "optimizer": None}, ordered="params" not in about)
    except Exception as error:  # as above
        raise DamagedError(f"{path} is damaged, or was not written by lectopt: {reason(error)}") from error


_TREES = ("params", "lookahead_params", "model_state", "opt_state", "history")


def _sorted(arrays: dict[str, Array]) -> list[Array]:
    return [arrays[place] for place in sorted(arrays)]


def _named(about: dict[str, Any], tree: str, arrays: list[Array]) -> dict[LeafPath, Array]:
    """One tree by its paths, as far as that format kept them; by places otherwise."""
    places: list[LeafPath] = [(f"{i:06}",) for i in range(len(arrays))]
    if tree != "history" and (tree == "opt_state" or "params" not in about):
        return dict(zip(places, arrays, strict=True))
    if tree == "model_state":
        inputs = [("inputs", name) for name in ("count", "mean", "var")]
        steps = [("variables", *path) for path in about["variables"]] + inputs * (len(arrays) > len(about["variables"]))
    else:
        steps = about["history" if tree == "history" else "params"]
    return dict(zip(map(tuple, steps), arrays, strict=True))
