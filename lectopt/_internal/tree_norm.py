"""The norm of a tree, right at every scale: by a branch on a CPU, in one pass on accelerators."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal.numerics import as_scalar, real_dtype, safe_sqrt, squared_magnitude, working_dtype
from lectopt._internal.types import ArrayTree


def tree_norm(tree: ArrayTree, dtype: Any = np.float32) -> jax.Array:
    """sqrt(sum |x|^2) over all leaves, in `dtype` or wider; right also where the squares overflow or underflow.

    Its derivative at zero is zero.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return as_scalar(0.0)
    real = np.result_type(dtype, *map(real_dtype, leaves))  # one precision for all, so that one range holds for all
    wide = [jnp.asarray(x, np.promote_types(working_dtype(x), real)) for x in leaves]
    return jax.lax.platform_dependent(*wide, cpu=_norm_by_branches, default=_norm_in_one_pass)


def split_tree_norm(tree: ArrayTree, axis_names: tuple[str, ...], dtype: Any = np.float32) -> jax.Array:
    """The norm over all leaves, of which those that vary over mapped axes hold only their part on each device."""
    if not axis_names:
        return tree_norm(tree, dtype)
    try:
        index = jax.lax.axis_index(axis_names)
    except NameError as error:
        raise ValueError(
            "axis_name must be mapped where gradients are clipped, by jax.shard_map or jax.vmap; got "
            f"{', '.join(map(repr, axis_names))}"
        ) from error
    known = bool(_varies_over(index, axis_names))
    groups: dict[tuple[str, ...], list[Any]] = {}
    for leaf in jax.tree.leaves(tree):
        groups.setdefault(_varies_over(leaf, axis_names) if known else axis_names, []).append(leaf)
    return tree_norm([_over_axes(tree_norm(leaves, dtype), axes) for axes, leaves in groups.items()], dtype)


def _varies_over(x: Any, axis_names: tuple[str, ...]) -> tuple[str, ...]:
    """The axes over which `jax.shard_map` knows that it varies; where it keeps no account, none."""
    kind = jax.typeof(x)
    varying = kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying  # JAX renamed it
    return tuple(name for name in axis_names if name in varying)


def _over_axes(norm: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The root of the sum of squares over the devices; scaled, since the squares may leave the range."""
    if not axes:
        return norm
    largest = jax.lax.pmax(jax.lax.stop_gradient(norm), axes)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit * safe_sqrt(jax.lax.psum(jnp.square(norm / unit), axes))


def _sum_of_squares(leaves: list[jax.Array]) -> jax.Array:
    return sum((jnp.sum(squared_magnitude(x)) for x in leaves[1:]), start=jnp.sum(squared_magnitude(leaves[0])))


def _norm_by_branches(*leaves: jax.Array) -> jax.Array:
    """The norm by a plain sum of squares, and a second one where that left the range."""
    total = _sum_of_squares(list(leaves))
    return jax.lax.cond(_in_range(total), lambda: jnp.sqrt(total), lambda: _scaled_norm(list(leaves), total))


@jax.custom_jvp
def _norm_in_one_pass(*leaves: jax.Array) -> jax.Array:
    """The norm by three sums at once, of which the right one is taken: GPUs compute both sides of a branch.

    For CPUs, this costs five times as much as a plain sum.
    """
    total, low, high = functools.reduce(_add, map(_sums_of_squares, leaves))
    power = _power(total.dtype)
    scaled = jnp.where(total < 1, jnp.sqrt(high) / power, jnp.sqrt(low) * power)
    return jnp.where(_in_range(total), jnp.sqrt(total), scaled)


@_norm_in_one_pass.defjvp
def _(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    norm = _norm_in_one_pass(*primals)
    divisor = jnp.where(norm == 0, 1, norm)
    changes = [jnp.sum((x.conj() / divisor * t).real) for x, t in zip(primals, tangents, strict=True)]
    return norm, functools.reduce(jnp.add, changes)


@jax.jit  # traced once for all leaves of a shape
def _sums_of_squares(x: jax.Array) -> tuple[jax.Array, ...]:
    """sum |c x|^2 for three c, powers of two (so nothing is rounded): 1, one for large and one for small numbers."""
    power = _power(x.real.dtype)
    # Not of a bare product: XLA may turn (c x)^2 into c^2 x^2, which is inf * 0 where x is 0.
    scaled = [jnp.where(x == 0, 0, c * x) for c in (1 / power, power)]
    squares = [squared_magnitude(y) for y in (x, *scaled)]
    return tuple(jax.lax.reduce(squares, [jnp.zeros((), s.dtype) for s in squares], _add, tuple(range(x.ndim))))


def _add(sums: Sequence[jax.Array], more: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(a + b for a, b in zip(sums, more, strict=True))


def _in_range(total: jax.Array) -> jax.Array:
    """Whether a sum of squares is right, with room below for leaves whose own sums are small; not if NaN or inf."""
    info = jnp.finfo(total.dtype)
    return (total > 1e8 * info.tiny) & (total < info.max)


def _power(dtype: Any) -> float:
    """The power of two by which numbers are scaled, so that their squares come back into range."""
    return 2.0 ** int(0.7 * jnp.finfo(dtype).maxexp)


def _scaled_norm(leaves: list[jax.Array], total: jax.Array) -> jax.Array:
    """||c x|| / c, with c a power of two (so nothing is rounded) that brings the squares back into range."""
    power = _power(total.dtype)
    c = jnp.where(total < 1, power, 1 / power).astype(total.dtype)
    # Behind a barrier: XLA may turn (c x)^2 into c^2 x^2, which is inf * 0 where it knows that x is 0.
    scaled = _sum_of_squares(jax.lax.optimization_barrier([x * c for x in leaves]))
    return jnp.where(scaled > 0, jnp.sqrt(jnp.where(scaled > 0, scaled, 1)) / c, scaled)
