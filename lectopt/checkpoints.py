"""Keeping runs, and trainings that are under way, on disk with Orbax: arrays and JSON, never pickle."""

import contextlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from lectopt import _shapes
from lectopt._leaves import fill, paths, plain
from lectopt._types import Array
from lectopt.claims import claim
from lectopt.history import History
from lectopt.norms import Moments
from lectopt.run import Run
from lectopt.task import Task

_FORMAT = "lectopt run 2"
_TREES = ("params", "model_state", "opt_state", "lookahead_params")


def write(run: Run, path: str | Path) -> None:
    """Writes `run` to the new directory `path`; see `Run.save`."""
    path = Path(path).absolute()
    if path.exists():
        raise ValueError(f"path must be a new directory; there is something at {path} already")
    if not run.inputs:
        raise ValueError("only runs on inputs that are arrays, or tuples, lists and dicts of arrays, can be saved")
    arrays: dict[str, Any] = {name: _pack(getattr(run, name)) for name in _TREES}
    records = run.history.to_arrays()
    arrays |= {"metrics": run.metrics, "history": _pack(list(records.values())), "diverged_at": run.diverged_at}
    arrays = jax.tree.map(np.asarray, arrays)
    about = {"format": _FORMAT, "inputs": run.inputs, "history": [list(path) for path in records]}
    about |= {"params": paths(run.params), "variables": paths(run.model_state.variables)}
    try:
        with _checkpointer() as checkpointer:
            items = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about))
            checkpointer.save(path, items)
    except OSError as error:
        raise ValueError(f"path must be a directory that can be written; got {path} ({error.strerror})") from error


def read(path: str | Path, task: Task) -> Run:
    """Reads a run that `write` wrote; see `lectopt.load`."""
    path = Path(path).absolute()
    if not path.exists():
        raise FileNotFoundError(f"path must be a directory that Run.save wrote; there is nothing at {path}")
    about, arrays = _read(path)
    lanes = arrays["diverged_at"].shape  # of a run that came out of `vmap`
    params, state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(lanes + leaf.shape, leaf.dtype),
        jax.eval_shape(task.init, jax.random.key(0), (_shapes.blank(about["inputs"]),)),
    )
    return Run(
        params=fill("params of this task's model", _unpack(arrays["params"]), params),
        model_state=fill("model_state of this task's model", _unpack(arrays["model_state"]), state),
        opt_state=list(map(jnp.asarray, _unpack(arrays["opt_state"]))),
        lookahead_params=fill("params of this task's model", _unpack(arrays["lookahead_params"]), params),
        metrics={name: _scalar(value) for name, value in arrays["metrics"].items()},
        history=History.from_arrays(dict(zip(map(tuple, about["history"]), _unpack(arrays["history"]), strict=True))),
        diverged_at=_scalar(arrays["diverged_at"]),
        task=task,
        inputs=about["inputs"],
    )


def is_run(path: Path) -> bool:
    """Whether `Run.save` wrote the directory."""
    return (path / "about").exists()


def read_arrays(path: Path) -> tuple[dict[tuple[str, ...], Array], Moments | None]:
    """The parameters and variables, by path, of a run that `write` wrote, and how it standardises its inputs.

    Raises:
        ValueError: if it is not a run, or is kept without the names of its arrays.
    """
    about, arrays = _read(path, "source")
    if "params" not in about:
        raise ValueError(
            f"source must be a run that was saved with the names of its arrays; {path} was saved before they were "
            "kept: give lectopt.load(path, task)"
        )
    params, state = _unpack(arrays["params"]), _unpack(arrays["model_state"])
    names = [tuple(name) for name in about["params"] + about["variables"]]
    variables, inputs = state[: len(about["variables"])], state[len(about["variables"]) :]
    return dict(zip(names, params + variables, strict=True)), Moments(*inputs) if inputs else None


def read_tree(path: Path) -> Any:
    """What `StandardCheckpointer` or `CheckpointManager` of Orbax wrote; of a manager, the last step.

    Raises:
        ValueError: if it is nothing of the kind.
    """
    # A manager keeps a folder for each step, with the default item in it.
    steps = sorted((step for step in path.iterdir() if step.name.isdecimal()), key=lambda step: int(step.name))
    step = steps[-1] if steps else path
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
    """A directory that keeps a training that is under way, for the call that made it and for no other."""

    def __init__(self, directory: str | Path, fingerprint: str):
        path = Path(directory).absolute()
        claim(path, fingerprint, "training")
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(path, options=options)

    def restore(self, carry: Any) -> Any:
        """What was saved last, in the structure of `carry`; `carry` itself if nothing was."""
        step = self._manager.latest_step()
        if step is None:
            return carry
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(_pack(carry)))
        return fill("what directory holds", _unpack(saved), carry)

    def save(self, step: int, carry: Any) -> None:
        """Writes `carry`, atomically, in the place of what was saved before."""
        self._manager.save(step, args=ocp.args.StandardSave(_pack(carry)))

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.close()


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())


def _read(path: Path, name: str = "path") -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with _checkpointer() as checkpointer:
            items = ocp.args.Composite(arrays=ocp.args.StandardRestore(), about=ocp.args.JsonRestore())
            restored = checkpointer.restore(path, items)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name} must be a directory that Run.save wrote; {path} is not") from error
    if restored["about"].get("format") != _FORMAT:
        raise ValueError(f"{name} must hold the format {_FORMAT!r}; {path} holds {restored['about'].get('format')!r}")
    return restored["about"], restored["arrays"]


def _pack(tree: Any) -> dict[str, np.ndarray]:
    """The leaves in order, under names that sort in that order."""
    return {f"{i:06}": plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _unpack(packed: dict[str, Array]) -> list[Array]:
    return [packed[name] for name in sorted(packed)]


def _scalar(value: np.ndarray) -> Any:
    return value if value.ndim else value.item()
