"""Keeping runs, and trainings that are under way, on disk with Orbax: arrays and JSON, never pickle."""

import hashlib
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from lectopt import _shapes
from lectopt.history import History
from lectopt.run import Run
from lectopt.task import Task

_FORMAT = "lectopt run 1"
_TREES = ("params", "model_state", "opt_state", "lookahead_params")


def write(run: Run, path: str | Path) -> None:
    """Writes `run` to the new directory `path`; see `Run.save`."""
    path = Path(path).absolute()
    if path.exists():
        raise ValueError(f"path must be a new directory; there is something at {path} already")
    arrays = {name: _pack(getattr(run, name)) for name in _TREES}
    arrays |= {"metrics": run.metrics, "steps": run.history.steps, "epochs": run.history.epochs}
    arrays = jax.tree.map(np.asarray, arrays | {"diverged_at": run.diverged_at})
    about = {"format": _FORMAT, "steps_per_epoch": run.history.steps_per_epoch, "inputs": run.inputs}
    with _checkpointer() as checkpointer:
        items = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about))
        checkpointer.save(path, items)


def read(path: str | Path, task: Task) -> Run:
    """Reads a run that `write` wrote; see `lectopt.load`."""
    path = Path(path).absolute()
    if not path.exists():
        raise FileNotFoundError(f"path must be a directory that Run.save wrote; there is nothing at {path}")
    about, arrays = _read(path)
    params, state = jax.eval_shape(task.init, jax.random.key(0), (_shapes.blank(about["inputs"]),))
    return Run(
        params=_unpack("params", arrays["params"], params),
        model_state=_unpack("model_state", arrays["model_state"], state),
        opt_state=[jnp.asarray(arrays["opt_state"][name]) for name in sorted(arrays["opt_state"])],
        lookahead_params=_unpack("params", arrays["lookahead_params"], params),
        metrics={name: _scalar(value) for name, value in arrays["metrics"].items()},
        history=History(arrays["steps"], arrays["epochs"], about["steps_per_epoch"]),
        diverged_at=_scalar(arrays["diverged_at"]),
        task=task,
        inputs=about["inputs"],
    )


class Store:
    """A directory that keeps a training that is under way, for the call that made it and for no other."""

    def __init__(self, directory: str | Path, fingerprint: str):
        path = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(path, options=options)
        note = path / "fingerprint"
        if not note.exists():
            note.write_text(fingerprint)
        elif note.read_text() != fingerprint:
            raise ValueError(
                f"directory must be new, or of the same training; {path} holds another one (other data, model, "
                "optimizer, numbers, key, or version of JAX)"
            )

    def restore(self, carry: Any) -> Any:
        """What was saved last, in the structure of `carry`; `carry` itself if nothing was."""
        step = self._manager.latest_step()
        if step is None:
            return carry
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(_pack(carry)))
        return _unpack("arrays", saved, carry)

    def save(self, step: int, carry: Any) -> None:
        """Writes `carry`, atomically, in the place of what was saved before."""
        self._manager.save(step, args=ocp.args.StandardSave(_pack(carry)))

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.close()


def fingerprint(program: str, arrays: Any) -> str:
    """A digest of a lowered program and of the arrays that go into it, equal between processes."""
    digest = hashlib.sha256(program.encode())
    for leaf in map(_plain, jax.tree.leaves(arrays)):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with _checkpointer() as checkpointer:
            items = ocp.args.Composite(arrays=ocp.args.StandardRestore(), about=ocp.args.JsonRestore())
            restored = checkpointer.restore(path, items)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"path must be a directory that Run.save wrote; {path} is not") from error
    if restored["about"].get("format") != _FORMAT:
        raise ValueError(f"path must hold the format {_FORMAT!r}; {path} holds {restored['about'].get('format')!r}")
    return restored["about"], restored["arrays"]


def _pack(tree: Any) -> dict[str, np.ndarray]:
    """The leaves in order, under names that sort in that order."""
    return {f"{i:06}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _unpack(name: str, packed: dict[str, chex.Array], template: Any) -> Any:
    leaves, treedef = jax.tree.flatten(template)
    found = [packed[i] for i in sorted(packed)]
    shapes, wanted = [x.shape for x in found], [_plain_shape(x) for x in leaves]
    # A run of several lanes, as `vmap` gives it, has axes in front.
    if len(shapes) != len(wanted) or any(s[len(s) - len(w) :] != w for s, w in zip(shapes, wanted, strict=True)):
        raise ValueError(f"the {name} that were saved must fit the task's model, of shapes {wanted}; got {shapes}")
    return jax.tree.unflatten(treedef, [_like(x, leaf) for x, leaf in zip(found, leaves, strict=True)])


def _plain(leaf: Any) -> np.ndarray:
    """A NumPy array; a random key as its data."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _plain_shape(leaf: Any) -> tuple[int, ...]:
    return jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else leaf.shape


def _like(saved: chex.Array, leaf: Any) -> chex.Array:
    return jax.random.wrap_key_data(jnp.asarray(saved)) if _is_key(leaf) else jnp.asarray(saved, leaf.dtype)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _scalar(value: np.ndarray) -> Any:
    return value if value.ndim else value.item()
