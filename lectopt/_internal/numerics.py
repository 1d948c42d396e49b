"""Arithmetic that the transformations share: hyperparameters, leaves, moments, norms.

A hyperparameter is one float32 number (float64 under x64), and all that is derived from it is derived from that
number. State and arithmetic are float32 or wider, whatever the gradients are.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.types import Array, ArrayTree, Numeric

Schedule: TypeAlias = Callable[[Numeric], Numeric]
Hyperparameter: TypeAlias = Numeric | Schedule
"""A number, an array of shape (), a traced value, or a function of the step count that returns one of these."""


def as_scalar(value: Numeric) -> jax.Array:
    """The canonical form of a hyperparameter: a float32 scalar (float64 under x64).

    It is a copy, so that a state which holds it can be donated without taking the user's array along.
    """
    return jnp.array(value, jnp.result_type(float))


def as_constant(value: Numeric) -> Numeric:
    """The same number, to be kept until a trace: a NumPy scalar unless JAX holds it already.

    An array of JAX's would start its backend, and `jax.distributed.initialize` has to be called before that.
    """
    if isinstance(value, jax.Array):
        return as_scalar(value)
    return np.array(value, jax.dtypes.canonicalize_dtype(float))


def at_step(value: Hyperparameter, count: Numeric) -> jax.Array:
    """The hyperparameter's number at step `count` = 0, 1, 2, ..."""
    return as_scalar(value(count) if callable(value) else value)


def at_last_step(value: Hyperparameter, done: jax.Array) -> jax.Array:
    """The hyperparameter's number at the last of `done` = 1, 2, ... steps.

    It reads the new count: if the old one were read by many kernels, XLA would copy it before it is overwritten.
    """
    return as_scalar(value(done - 1) if callable(value) else value)


def first_step() -> jax.Array:
    """The step count at the start."""
    return jnp.zeros((), jnp.int32)


def record_number(value: Hyperparameter, number: jax.Array, old: jax.Array, done: jax.Array) -> jax.Array:
    """What a state records of a hyperparameter after `done` steps; a constant is not written again and again."""
    if isinstance(old, jax.core.Tracer) and not callable(value) and not isinstance(value, jax.core.Tracer):
        return old
    # Always the number, by a kernel that writes where `old` is: an argument that is an output too would be copied.
    return jnp.where(done < 0, old, number.astype(old.dtype))


@jax.custom_jvp
def record(new: jax.Array, old: jax.Array) -> jax.Array:
    """`new`, which is computed and is to be stored where `old` was, although nothing else reads that.

    `jit` drops an argument that is not read, and pairs donated buffers with outputs by shape, in order: the outputs
    that follow would get each other's buffers, held apart by copies.
    """
    del old
    return new


@record.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return record(*primals), tangents[0]


def working_dtype(x: Array) -> Any:
    """The dtype to compute in and to keep state in: at least float32, complex where `x` is."""
    dtype = jnp.result_type(x)
    narrow = not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32
    return np.dtype(np.float32) if narrow else dtype


def widen(values: Array) -> Array:
    """The values in float32 or wider."""
    if not hasattr(values, "astype"):
        raise checks.ArgumentError(f"losses and outputs must be arrays here; got {checks.type_description(values)}")
    return values.astype(working_dtype(values))


def real_dtype(x: Array) -> Any:
    """The dtype of |x| in the working precision."""
    return jnp.finfo(working_dtype(x)).dtype


def zeros_like(params: ArrayTree) -> ArrayTree:
    """Zeros in the working dtype, for what is averaged over gradients."""
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=working_dtype(p)), params)


def real_zeros_like(params: ArrayTree) -> ArrayTree:
    """Zeros in the real working dtype, for what is averaged over squared magnitudes."""
    return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=real_dtype(p)), params)


def squared_magnitude(x: Array) -> Array:
    """|x|^2, without a root, real also where x is complex."""
    return x.real * x.real + x.imag * x.imag if jnp.iscomplexobj(x) else x * x


@jax.custom_jvp
def one_minus_power(b: jax.Array, t: jax.Array) -> jax.Array:
    """1 - b^t without cancellation, to the last digits of the number that b is; t = 1, 2, ... is a constant."""
    return -jnp.expm1(t * jnp.log1p(-(1 - b)))


@one_minus_power.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    b, t = primals
    return one_minus_power(b, t), -t * b ** (t - 1) * tangents[0]  # by the logarithm it would be 0 * inf at b = 0


@jax.custom_jvp
def safe_sqrt(x: Array) -> Array:
    """sqrt(x), with the derivative 0 at 0, where the gradient of a weight that is not used has always been 0."""
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = safe_sqrt(*primals)
    return root, tangents[0] * jnp.where(root == 0, 0, 0.5 / jnp.where(root == 0, 1, root))


def safe_divide(g: Array, denominator: Array) -> Array:
    """g / denominator, and 0 where the denominator is 0 (not where it is NaN: that has to be seen)."""
    return g / jnp.where(denominator == 0, jnp.inf, denominator)


def map_leaves(
    rule: Callable[..., tuple],
    gradients: ArrayTree,
    *states: ArrayTree,
    params: ArrayTree | None = None,
    **numbers: jax.Array,
) -> tuple[ArrayTree, ...]:
    """Applies `rule(g, *states, **numbers) -> (update, *new states)` to each leaf; returns one tree for each result.

    The rule computes in the working dtype, to which the numbers are rounded first, so that it derives all from the
    same; its update comes back in the wider of g's and its parameter's dtype (g's where there are no `params`), and
    states in their own. Where a gradient is None, so is the update, and the states stay as they are.
    """
    treedef: Any  # jaxlib's own type, unknown to mypy
    leaves, treedef = jax.tree.flatten(gradients, is_leaf=lambda g: g is None)
    columns = [treedef.flatten_up_to(tree) for tree in (gradients if params is None else params, *states)]

    def at_leaf(numbers: dict[str, jax.Array], g: Any, p: Any, *old: Array) -> tuple:
        wide = jnp.asarray(g, working_dtype(_widest(g, p, *old)))
        wide_old = (jnp.asarray(o, wide.dtype if jnp.iscomplexobj(o) else real_dtype(wide)) for o in old)
        update, *new = rule(wide, *wide_old, **{name: x.astype(real_dtype(wide)) for name, x in numbers.items()})
        return update.astype(_widest(g, p)), *(n.astype(o.dtype) for n, o in zip(new, old, strict=True))

    # While JAX traces, leaves of one shape are traced once if there are many; otherwise nothing is to be compiled here.
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((leaves, columns, numbers)))
    shapes = {jnp.shape(g) for g in leaves if g is not None}
    apply = jax.jit(at_leaf) if traced and len(leaves) > 4 * len(shapes) else at_leaf
    arrays = zip(leaves, *columns, strict=True)
    rows = [(None, *old) if g is None else apply(numbers, g, p, *old) for g, p, *old in arrays]
    results = zip(*rows, strict=True) if rows else [()] * (1 + len(states))
    return tuple(jax.tree.unflatten(treedef, result) for result in results)


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


def _widest(*arrays: Array | None) -> Any:
    """Returns the dtype that holds the numbers of all arrays that are not None."""
    with jax.numpy_dtype_promotion("standard"):  # it is meant, however strict the user is with their own
        return functools.reduce(jnp.promote_types, [jnp.result_type(x) for x in arrays if x is not None])


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


@contextlib.contextmanager
def standard_promotion() -> Iterator[None]:
    """Around, or decorating, what mixes ranks and dtypes as it means to, however strict the user is with their own."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@contextlib.contextmanager
def jit_without_nan_checks() -> Iterator[None]:
    """Around what is compiled, with NaN for what is not known yet, even where a user has JAX look for faults."""
    with jax.disable_jit(False), jax.debug_nans(False):
        yield
