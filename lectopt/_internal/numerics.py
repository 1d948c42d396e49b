"""Arithmetic that the transformations share: hyperparameters, leaves, moments, norms.

A hyperparameter is one float32 number (float64 under x64), and all that is derived from it is derived from that
number. State and arithmetic are float32 or wider, whatever the gradients are.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
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
    if not hasattr(values, "astype") or jax.dtypes.issubdtype(values.dtype, jax.dtypes.extended):
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
    rule: Callable[..., tuple[Any, ...]],
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

    def at_leaf(numbers: dict[str, jax.Array], g: Any, p: Any, *old: Array) -> tuple[Any, ...]:
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


def _widest(*arrays: Array | None) -> Any:
    """Returns the dtype that holds the numbers of all arrays that are not None."""
    with jax.numpy_dtype_promotion("standard"):  # it is meant, however strict the user is with their own
        return functools.reduce(jnp.promote_types, [jnp.result_type(x) for x in arrays if x is not None])


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
