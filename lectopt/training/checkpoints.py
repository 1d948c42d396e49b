"""Archives in a user's directories: runs, and trainings in progress; arrays and JSON, never pickle."""

import contextlib
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lectopt._internal import meshes
from lectopt._internal.files import DamagedError, as_value_error, checked_path, clear_leftovers, locked
from lectopt._internal.run_directories import claim, explained_write_errors
from lectopt._internal.trees import leaves_by_path, unflatten_like
from lectopt.training import archives
from lectopt.training.archives import Archive
from lectopt.training.carry import Carry, Learner
from lectopt.training.keeping import Keep

_BEST = "best"
"""The folder, in that of a training, of its best runs."""
_TWO_COPIES = Keep()


def write(path: Path, archive: Archive) -> None:
    """Writes an archive to the new directory `path`.

    Raises:
        ValueError: if there is something at `path`, or it cannot be written there.
    """

    def write() -> None:
        if path.exists():
            raise ValueError(f"path must be a new directory; there is something at {path} already")
        with as_value_error("path", path, "directory"):
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(path.parent)
            archives.write(path, archive)

    meshes.call_in_first_process(write, several=jax.process_count() > 1)


def read(name: str, path: Path) -> Archive:
    """Reads what `write` wrote, or the last whole copy of a training that `Store` keeps.

    Raises:
        ValueError: if it is something else, or was damaged; the message calls the path `name`.
    """
    problems = []
    for place in [path] if archives.is_archive(path) or not _copies(path) else _copies(path):
        try:
            archive = archives.read(place)
        except DamagedError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"{problems[0]}. The copy before is read: {place}", stacklevel=3)
        return archive
    raise ValueError(f"{name} must be a directory that Run.save wrote; {path} is not: {problems[0]}")


def is_ours(path: Path) -> bool:
    """Tells whether `Run.save` wrote the directory, or `fit(directory=)`."""
    return archives.is_archive(path) or any(map(archives.is_archive, _copies(path)))


def read_tree(path: Path) -> Any:
    """Reads what `StandardCheckpointer` or `CheckpointManager` of Orbax wrote; of a manager, the last step.

    Raises:
        ValueError: if it is nothing of the kind.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415, slow to import
    from etils import epath  # noqa: PLC0415

    # A manager keeps a folder for each step, with the default item in it.
    step = next(iter(_copies(path)), path)
    item = step / "default" if (step / "default").exists() else step
    try:
        archives.check_names(item)
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
    """A directory that keeps a training in progress, for the call that made it and for no other.

    Attributes:
        facts: what was kept beside the copy that was restored, fit for JSON; {} if none was.

    Raises:
        ValueError: if it holds something else, or another process trains in it.
    """

    def __init__(self, directory: str | Path, fingerprint: str, mesh: Mesh | None = None, keep: Keep = _TWO_COPIES):
        self._path, self._mesh, self.keep = checked_path("directory", directory), mesh, keep
        self._lock, self.facts = contextlib.ExitStack(), dict[str, Any]()
        meshes.call_in_first_process(lambda: self._claim(fingerprint), several=meshes.spans_processes(mesh))

    def _claim(self, fingerprint: str) -> None:
        claim(self._path, fingerprint, "training")
        if (self._path / _BEST).is_dir():
            clear_leftovers(self._path / _BEST, owned=True)
        with contextlib.suppress(OSError):  # where the file system knows no locks
            try:
                self._lock.enter_context(locked(self._path / "fingerprint"))
            except BlockingIOError as error:
                raise ValueError(
                    f"directory must be of no process that still trains; one trains in {self._path}"
                ) from error

    def restore(self, carry: Carry, shaped: Callable[[Carry, dict[str, Any]], Carry] = lambda carry, _: carry) -> Carry:
        """Restores the last intact copy, and `facts`; `carry` itself if nothing was kept.

        Its structure is that of `carry`, as `shaped` by the facts.

        Raises:
            ValueError: if all copies are damaged.
        """
        damaged: list[tuple[Path, str]] = []
        for copy in _copies(self._path):
            try:
                found, self.facts = _carry(copy, carry, shaped)
            except ValueError as error:
                damaged.append((copy, str(error)))
                continue
            for path, problem in damaged:
                warnings.warn(
                    f"{problem}. The copy before is used: training goes on from step {copy.name}", stacklevel=2
                )
                if meshes.is_first_process(self._mesh):
                    shutil.rmtree(path, ignore_errors=True)
            return found
        if damaged:
            raise ValueError(f"directory must hold a whole copy; {damaged[0][1]}. Delete {self._path} to begin anew")
        return carry

    def save(self, carry: Carry, run: Archive) -> None:
        """Writes the carry beside the run that it is so far, atomically; the last copies before are kept.

        Raises:
            OSError: if the disk is full, say; the message names what is kept.
        """
        meshes.call_in_first_process(lambda: self._save(carry, run), several=meshes.spans_processes(self._mesh))

    def _save(self, carry: Carry, run: Archive) -> None:
        place = self._path / str(int(carry.step))
        if place.exists():
            return
        with explained_write_errors(self._path):
            archives.write(place, run._replace(trees=run.trees | {"carry": leaves_by_path(_without_run(carry))}))
        for old in _copies(self._path)[self.keep.last :]:
            shutil.rmtree(old, ignore_errors=True)

    def save_best(self, step: int, losses: dict[int, float], run: Archive) -> None:
        """Writes the run after this step if it is among the best, and removes those that are no more.

        `losses` are those of all validations so far, by step, the less the better.
        """
        meshes.call_in_first_process(
            lambda: self._save_best(step, losses, run), several=meshes.spans_processes(self._mesh)
        )

    def _save_best(self, step: int, losses: dict[int, float], run: Archive) -> None:
        kept = {int(copy.name): copy for copy in _copies(self._path / _BEST)}
        finite = [s for s in {*kept, step} if math.isfinite(losses.get(s, math.inf))]
        best = sorted(finite, key=lambda s: (losses[s], s))[: self.keep.best]
        if step in best and step not in kept:
            with explained_write_errors(self._path):
                (self._path / _BEST).mkdir(exist_ok=True)
                archives.write(self._path / _BEST / str(step), run)
        for old in [copy for s, copy in kept.items() if s not in best]:
            shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Releases the directory."""
        self._lock.close()


def _copies(path: Path) -> list[Path]:
    """Returns the copies of a training, or the steps of an Orbax manager, the last one first."""
    steps = [step for step in path.iterdir() if step.name.isdecimal()] if path.is_dir() else []
    return sorted(steps, key=lambda step: int(step.name), reverse=True)


def _without_run(carry: Carry) -> Carry:
    """Returns the carry without the part of it that is the run."""
    return carry._replace(learner=None) if carry.best is None else carry._replace(best=None)  # type: ignore[arg-type]


def _carry(
    copy: Path, template: Carry, shaped: Callable[[Carry, dict[str, Any]], Carry]
) -> tuple[Carry, dict[str, Any]]:
    """Restores a copy in the structure of this carry, as shaped by the facts beside it, which are returned too."""
    if (copy / "default").exists():  # of an earlier version
        return archives.read_in_order(copy / "default", template), {}
    archive, name = archives.read(copy), f"the carry in {copy}"
    trees, template = archive.trees, shaped(template, archive.facts)
    part = "learner" if template.best is None else "best"
    params, state, opt_state = getattr(template, part)
    learner = Learner(
        unflatten_like(name, trees["lookahead_params"], params),
        unflatten_like(name, trees["model_state"], state),
        unflatten_like(name, trees["opt_state"], opt_state),
    )
    carry = unflatten_like(name, trees["carry"], _without_run(template))
    return carry._replace(**{part: learner}), archive.facts
