"""Keeping runs, and trainings that are under way, on disk: arrays and JSON, never pickle."""

import contextlib
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lectopt._internal import meshes, shapes
from lectopt._internal.files import DamagedError, checked_path, clear_stumps, locked, refused
from lectopt._internal.run_directories import claim, keeping
from lectopt._internal.trees import Bare, LeafPath, fill, fill_in_order, named, outline
from lectopt._internal.types import Array
from lectopt.norms import Moments
from lectopt.tasks.task import Task
from lectopt.training import archives
from lectopt.training.archives import Archive
from lectopt.training.carry import Carry, Learner
from lectopt.training.history import History
from lectopt.training.run import Run

_KEPT = 2  # copies of a training: should the last one be damaged, there is the one before


def write(run: Run, path: str | Path) -> None:
    """Writes `run` to the new directory `path`; see `Run.save`."""
    path = checked_path("path", path)

    def write() -> None:
        if path.exists():
            raise ValueError(f"path must be a new directory; there is something at {path} already")
        if not run.inputs:
            raise ValueError("only runs on inputs that are arrays, or tuples, lists and dicts of arrays, can be saved")
        with refused("path", path, "directory"):
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_stumps(path.parent)
            archives.write(path, _archive(run))

    meshes.first(write, several=jax.process_count() > 1)


def read(path: str | Path, task: Task) -> Run:
    """Reads a run that `write` wrote, or a training as far as it came; see `lectopt.load`."""
    path = checked_path("path", path)
    if not isinstance(task, Task):
        raise TypeError(f"task must be a lectopt.Task; got {type(task).__name__}")
    if not path.exists():
        raise FileNotFoundError(f"path must be a directory that Run.save wrote; there is nothing at {path}")
    return _run(_read(path, "path"), task)


def is_ours(path: Path) -> bool:
    """Whether `Run.save` wrote the directory, or `fit(directory=)`."""
    return archives.is_archive(path) or any(map(archives.is_archive, _copies(path)))


def read_arrays(path: Path) -> tuple[dict[LeafPath, Array], Moments | None]:
    """The parameters and variables, by path, of a run that `write` wrote, and how it standardises its inputs.

    Raises:
        ValueError: if it is not a run, or is kept without the names of its arrays.
    """
    archive = _read(path, "source")
    if archive.ordered:
        raise ValueError(
            f"source must be a run that was saved with the names of its arrays; {path} was saved before they were "
            "kept: give lectopt.load(path, task)"
        )
    state = archive.trees["model_state"]
    variables = {name[1:]: array for name, array in state.items() if name[0] == "variables"}
    inputs = {name[1]: array for name, array in state.items() if name[0] == "inputs"}
    return archive.trees["params"] | variables, Moments(**inputs) if inputs else None


def read_tree(path: Path) -> Any:
    """What `StandardCheckpointer` or `CheckpointManager` of Orbax wrote; of a manager, the last step.

    Raises:
        ValueError: if it is nothing of the kind.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415, slow to import
    from etils import epath  # noqa: PLC0415

    # A manager keeps a folder for each step, with the default item in it.
    step = next(iter(_copies(path)), path)
    item = step / "default" if (step / "default").exists() else step
    try:
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            saved = handler.metadata(epath.Path(item)).tree
            # As NumPy arrays: the devices that it was saved on may not be here.
            host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
            return handler.restore(epath.Path(item), args=ocp.args.PyTreeRestore(restore_args=host))
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"source must be an Orbax checkpoint; {path} is not. Where several things were saved together, give the "
            "folder of one"
        ) from error


class Store:
    """A directory that keeps a training that is under way, for the call that made it and for no other.

    Raises:
        ValueError: if it holds something else, or another process trains in it.
    """

    def __init__(self, directory: str | Path, fingerprint: str, mesh: Mesh | None = None):
        self._path, self._mesh = checked_path("directory", directory), mesh
        self._lock = contextlib.ExitStack()
        meshes.first(lambda: self._claim(fingerprint), several=meshes.are_several(mesh))

    def _claim(self, fingerprint: str) -> None:
        claim(self._path, fingerprint, "training")
        with contextlib.suppress(OSError):  # where the file system knows no locks
            try:
                self._lock.enter_context(locked(self._path / "fingerprint"))
            except BlockingIOError as error:
                raise ValueError(
                    f"directory must be of no process that still trains; one trains in {self._path}"
                ) from error

    def restore(self, carry: Carry) -> Carry:
        """The last copy that is whole, in the structure of `carry`; `carry` itself if nothing was kept.

        Raises:
            ValueError: if all copies are damaged.
        """
        damaged: list[tuple[Path, str]] = []
        for copy in _copies(self._path):
            try:
                found = _carry(copy, carry)
            except ValueError as error:
                damaged.append((copy, str(error)))
                continue
            for path, problem in damaged:
                warnings.warn(
                    f"{problem}. The copy before is used: training goes on from step {copy.name}", stacklevel=2
                )
                if meshes.leads(self._mesh):
                    shutil.rmtree(path, ignore_errors=True)
            return found
        if damaged:
            raise ValueError(f"directory must hold a whole copy; {damaged[0][1]}. Delete {self._path} to begin anew")
        return carry

    def save(self, carry: Carry, run: Run) -> None:
        """Writes the carry and what it is as a run, atomically; the last copies before are kept.

        Raises:
            OSError: if the disk is full, say; the message names what is kept.
        """
        meshes.first(lambda: self._save(carry, run), several=meshes.are_several(self._mesh))

    def _save(self, carry: Carry, run: Run) -> None:
        place = self._path / str(int(carry.step))
        if place.exists():
            return
        archive = _archive(run)
        archive.trees["carry"] = named(_beside(carry))
        with keeping(self._path):
            archives.write(place, archive)
        for old in _copies(self._path)[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Leaves the directory to others."""
        self._lock.close()


def _copies(path: Path) -> list[Path]:
    """The copies of a training, or the steps of an Orbax manager, the last one first."""
    steps = [step for step in path.iterdir() if step.name.isdecimal()] if path.is_dir() else []
    return sorted(steps, key=lambda step: int(step.name), reverse=True)


def _read(path: Path, name: str) -> Archive:
    """The run at path, or the last whole copy of a training."""
    problems = []
    for place in [path] if archives.is_archive(path) or not _copies(path) else _copies(path):
        try:
            archive = archives.read(place)
        except DamagedError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{problems[0]}. The copy before is read: {place}", stacklevel=4)
        return archive
    raise ValueError(f"{name} must be a directory that Run.save wrote; {path} is not: {problems[0]}")


def _archive(run: Run) -> Archive:
    """A run for the disk."""
    trees = {name: named(getattr(run, name)) for name in ("params", "model_state", "opt_state", "lookahead_params")}
    trees |= {"metrics": named(run.metrics), "history": run.history.to_arrays(), "diverged_at": named(run.diverged_at)}
    lines = outline(run.opt_state)
    return Archive(trees, {"inputs": run.inputs, "optimizer": list(lines) if lines else None})


def _run(archive: Archive, task: Task) -> Run:
    """A run from the disk."""
    trees = archive.trees
    lanes = trees["diverged_at"][()].shape  # of a run that came out of `vmap`
    params, state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(lanes + leaf.shape, leaf.dtype),
        jax.eval_shape(task.init, jax.random.key(0), (shapes.blank(archive.facts["inputs"]),)),
    )
    lines = archive.facts["optimizer"]
    return Run(
        params=_filled("params of this task's model", trees["params"], params, archive.ordered),
        model_state=_filled("model_state of this task's model", trees["model_state"], state, archive.ordered),
        opt_state=Bare(list(map(jnp.asarray, trees["opt_state"].values())), tuple(lines) if lines else None),
        lookahead_params=_filled("params of this task's model", trees["lookahead_params"], params, archive.ordered),
        metrics={name: _scalar(value) for (name,), value in trees["metrics"].items()},
        history=History.from_arrays(trees["history"]),
        diverged_at=_scalar(trees["diverged_at"][()]),
        task=task,
        inputs=archive.facts["inputs"],
    )


def _filled(name: str, arrays: dict[LeafPath, Array], template: Any, ordered: bool) -> Any:
    if ordered:
        return fill_in_order(name, list(arrays.values()), template)
    filled = fill(name, arrays, template)
    for path, leaf in named(filled).items():
        if leaf.dtype != arrays[path].dtype and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"{name} must have {'/'.join(path)} of {arrays[path].dtype}, as it was saved; got {leaf.dtype}"
            )
    return filled


def _beside(carry: Carry) -> Carry:
    """The carry without the part of it that is the run."""
    return carry._replace(learner=None) if carry.best is None else carry._replace(best=None)  # type: ignore[arg-type]


def _carry(copy: Path, template: Carry) -> Carry:
    """A copy in the structure of this carry."""
    if (copy / "default").exists():  # of an earlier version
        return archives.read_in_order(copy / "default", template)
    trees, name = archives.read(copy).trees, f"the carry in {copy}"
    part = "learner" if template.best is None else "best"
    params, state, opt_state = getattr(template, part)
    learner = Learner(
        fill(name, trees["lookahead_params"], params),
        fill(name, trees["model_state"], state),
        fill(name, trees["opt_state"], opt_state),
    )
    return fill(name, trees["carry"], _beside(template))._replace(**{part: learner})


def _scalar(value: Any) -> Any:
    return value if value.ndim else value.item()
