"""Training on a mesh of devices: batches split over its first axis, parameters where their annotations say."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lectopt._internal.trees import paths

Specs: TypeAlias = Mapping[tuple[str, ...], PartitionSpec]
"""How parameters are annotated to lie on a mesh, by path."""


def as_mesh(mesh: Any) -> Mesh | None:
    """The mesh with automatic axes, over which the compiler adds the communication; None stays None.

    Raises:
        TypeError: if it is neither.
    """
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh, such as jax.make_mesh returns; got {type(mesh).__name__}")
    return Mesh(mesh.devices, mesh.axis_names)


def check_mesh(mesh: Mesh, batch_size: int, specs: Specs) -> None:
    """Raises ValueError unless batches can be split evenly and all annotated axes are there."""
    if batch_size % (parts := num_shards(mesh)):
        raise ValueError(f"batch_size must be a multiple of the {parts} parts that mesh splits it in; got {batch_size}")
    for path, spec in specs.items():
        for axis in jax.tree.leaves(tuple(spec)):
            if axis not in mesh.axis_names:
                raise ValueError(
                    f"mesh must have the axes that parameters are annotated with; {'/'.join(path)} names {axis!r}, "
                    f"mesh has {', '.join(mesh.axis_names)}"
                )


def as_context(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """The mesh as JAX's own for what runs inside, whatever one the caller has set (`jax.set_mesh`).

    Not with several processes: one looks at its copies alone, and under a mesh of all it would wait for the others.
    """
    return contextlib.nullcontext() if mesh is None or spans_processes(mesh) else jax.set_mesh(mesh)


def num_shards(mesh: Mesh | None) -> int:
    """The number of parts that a batch is split in."""
    return 1 if mesh is None else mesh.shape[mesh.axis_names[0]]


def shard_rows(mesh: Mesh | None, rows: Any) -> Any:
    """Arrays [rows, ...] with their rows split over the first axis of the mesh; within `jit`."""
    if mesh is None:
        return rows
    return jax.lax.with_sharding_constraint(rows, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))


def split_rows(mesh: Mesh, tree: Any, axis: int) -> Any:
    """The arrays, put on the devices with their rows, of this axis, split over the first axis of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*[None] * axis, mesh.axis_names[0])))


def replicate(mesh: Mesh | None, tree: Any) -> Any:
    """The arrays, replicated on all devices; those on the mesh already stay as they are."""
    if mesh is None:
        return tree
    replicated = NamedSharding(mesh, PartitionSpec())

    def on_mesh(leaf: Any) -> bool:
        return isinstance(leaf, jax.Array) and getattr(leaf.sharding, "mesh", None) == mesh

    return jax.tree.map(lambda leaf: leaf if on_mesh(leaf) else _put(leaf, replicated), tree)


def put_like(mesh: Mesh | None, like: Any, tree: Any) -> Any:
    """The arrays of `tree` with the shardings of those in `like`."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda array, leaf: _put(leaf, array.sharding), like, tree)


def shard_like_params(mesh: Mesh, specs: Specs, params: Any, tree: Any) -> Any:
    """The tree, sharded: an array with the path and shape of an annotated parameter like that one; within `jit`.

    So moments and velocities are sharded like their parameters. All else is replicated.
    """
    shapes = dict(zip(paths(params), map(np.shape, jax.tree.leaves(params)), strict=True))

    def spec(path: tuple[str, ...], leaf: Any) -> PartitionSpec:
        owner = next((path[i:] for i in range(len(path)) if path[i:] in specs), None)
        return specs[owner] if owner is not None and shapes[owner] == np.shape(leaf) else PartitionSpec()

    leaves, treedef = jax.tree.flatten(tree)
    shardings = [NamedSharding(mesh, spec(path, leaf)) for path, leaf in zip(paths(tree), leaves, strict=True)]
    return jax.lax.with_sharding_constraint(tree, jax.tree.unflatten(treedef, shardings))


def broadcast_from_first(mesh: Mesh | None, number: int) -> int:
    """The number of the first process, where several train together: clocks differ, what they run must not."""
    if not spans_processes(mesh):
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def is_first_process(mesh: Mesh | None) -> bool:
    """Whether this process is the one that shows and logs."""
    return not spans_processes(mesh) or jax.process_index() == 0


def call_in_first_process(function: Callable[[], None], *, several: bool) -> None:
    """Calls `function` in the first of several processes, while the others wait, or in the one there is.

    Raises:
        What `function` raises; OSError in the other processes.
    """
    error = None
    if not several or jax.process_index() == 0:
        try:
            function()
        except Exception as raised:
            error = raised
    failed = several and bool(multihost_utils.broadcast_one_to_all(np.int32(error is not None)))
    if error is not None:
        raise error
    if failed:
        raise OSError("the first process failed; see its error")


def local_copy(mesh: Mesh | None, tree: Any) -> Any:
    """The copy in this process of replicated arrays, so that it can use them alone."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree) if spans_processes(mesh) else tree


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether several processes train on it together."""
    return mesh is not None and mesh.is_multi_process


def _put(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):  # cannot be put on several processes' devices
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    return jax.device_put(leaf, sharding)
