"""How runs were kept in earlier versions, with Orbax: written here as it was then."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from lectopt._internal.trees import paths, to_numpy


def save(run, path, **changes):
    """As format 2; `changes` replaces parts of its JSON, None leaves one out."""
    trees = {name: packed(getattr(run, name)) for name in ("params", "model_state", "opt_state", "lookahead_params")}
    old_names = {("baseline_loss",): ("chance",)}
    records = {old_names.get(path, path): array for path, array in run.history.to_arrays().items()}
    trees |= {"metrics": run.metrics, "history": packed(list(records.values())), "diverged_at": run.diverged_at}
    about = {"format": "lectopt run 2", "inputs": run.inputs, "history": [list(path) for path in records]}
    about |= {"params": paths(run.params), "variables": paths(run.model_state.variables)} | changes
    about = {name: value for name, value in about.items() if value is not None}
    items = ocp.args.Composite(
        arrays=ocp.args.StandardSave(jax.tree.map(np.asarray, trees)), about=ocp.args.JsonSave(about)
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, items)


def keep(carry, directory, step):
    """A copy of a training."""
    with ocp.CheckpointManager(directory) as manager:
        manager.save(step, args=ocp.args.StandardSave(packed(carry)))


def packed(tree):
    return {f"{i:06}": to_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
