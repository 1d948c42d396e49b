"""The parameters to evaluate where a training holds others: each kind of state says how they follow from these."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.trees import UntypedTree, is_variable, join_paths, leaves_with_paths, value_of
from lectopt._internal.types import Array, ArrayTree

Rule = Callable[[Any, ArrayTree], ArrayTree]
Path = tuple[str, ...]


class _Registered(NamedTuple):
    rule: Rule
    like: str
    inner: tuple[str, ...]
    includes_inner: bool


_REGISTERED: dict[type, _Registered] = {}


def register_eval_params(
    state_type: type, rule: Rule, *, like: str, inner: Sequence[str] = (), includes_inner: bool = False
) -> None:
    """Tells `eval_params`, and so `fit`, `train` and the searches, which parameters to evaluate under your optimizer.

    Some optimizers train at one point and are to be evaluated at another. lectopt knows its own Nesterov momentum and
    `average_params`; of Optax, `optax.contrib.schedule_free` (evaluated at x) and `optax.contrib.sam` (at the outer
    parameters). (`optax.ema` averages updates: it says nothing of the parameters. `optax.lookahead` holds two of each;
    to train with it, keep the slow ones in a state of your own.)

    Args:
        state_type: the class of the optimizer's state, a NamedTuple; its instances are found in chains and behind
            wrappers.
        rule: a function (state, params) -> the parameters to evaluate, where params are those held while training. Both
            come as plain arrays; where a wrapper such as `optax.masked` hides parameters from the optimizer, both hold
            `optax.MaskedNode` instead.
        like: the name of the field of the state that has the structure of the parameters.
        inner: the names of the fields that hold states of other optimizers. Where those are empty, an `nnx.State` keeps
            nothing of them, and the state is recognized without them.
        includes_inner: True if the rule has taken account of what those other states say, which then is not asked;
            False refuses a second state that says what to evaluate for the same parameters.

    Raises:
        TypeError: if state_type is not a NamedTuple class, rule not a function, or includes_inner not a boolean.
        ValueError: if the state has no such fields.

    Example:
        >>> from typing import Any, NamedTuple
        >>> import jax, jax.numpy as jnp, lectopt as lo
        >>> class AverageState(NamedTuple):
        ...     mean: Any
        >>> lo.register_eval_params(AverageState, lambda state, params: state.mean, like="mean")
        >>> print(lo.eval_params((AverageState({"w": jnp.zeros(2)}),), {"w": jnp.ones(2)}))
        {'w': Array([0., 0.], dtype=float32)}
    """
    if not (isinstance(state_type, type) and issubclass(state_type, tuple) and hasattr(state_type, "_fields")):
        raise TypeError(f"state_type must be a NamedTuple class; got {state_type!r}")
    if not callable(rule):
        raise TypeError(f"rule must be a function (state, params) -> params; got {type(rule).__name__}")
    for argument, names in (("like", [like]), ("inner", inner)):
        if unknown := set(names) - set(state_type._fields):
            fields = ", ".join(state_type._fields)
            raise ValueError(f"{argument} must name fields of the state, {fields}; got {', '.join(map(repr, unknown))}")
    _REGISTERED[state_type] = _Registered(rule, like, tuple(inner), checks.check_flag("includes_inner", includes_inner))


def eval_params(opt_state: Any, params: Any) -> Any:
    r"""Returns the parameters w to evaluate and to keep, given those that are held while training.

    Where the optimizer looks ahead (`nesterov`, `rmsprop_nesterov`), :math:`w = \varphi - \alpha v` with the
    look-ahead point :math:`\varphi`; under `average_params` w is the average; `register_eval_params` adds other kinds
    of state; where there is none, w is `params`. The states are found inside `optax.chain`, `masked`, `partition`,
    `MultiSteps`, `inject_hyperparams` and `apply_if_finite`, in the state of an `nnx.Optimizer`, and in nested
    dictionaries that were restored without these classes.

    Args:
        opt_state: the optimizer's state; or an `nnx.Optimizer`.
        params: the parameters that belong to it, any pytree; for an `nnx.Optimizer`, its model; under `optax.lookahead`
            its `optax.LookaheadParams`, of which the slow ones are returned.

    Returns:
        A tree like `params`, with its dtypes; for a model, the `nnx.state` of what the optimizer trains.

    Raises:
        ValueError: if two states say what to evaluate for the same parameters, if one does not have their structure and
            shapes, or if opt_state is a bare list of arrays.
        TypeError: if the two arguments are swapped.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> params = {"w": jnp.ones(3)}
        >>> print(lo.eval_params(lo.adam().init(params), params)["w"])
        [1. 1. 1.]

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "(3) Nesterov Momentum", solved for w;
    `trace_nesterov` derives it.
    """
    opt_state, params = _unwrap_arguments(opt_state, params)
    if isinstance(params, optax.LookaheadParams):
        return params.slow
    treedef: Any  # jaxlib's own type, unknown to mypy
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_variable)
    names = [path for path, _ in leaves_with_paths(params)]
    covered: set[int] = set()
    for state in _registered_states(opt_state):
        kind = _REGISTERED[type(state)]
        if (tree := getattr(state, kind.like)) is None:
            continue
        aligned = _align_with_params(tree, names)
        indices = {i for i, x in enumerate(aligned) if not _is_masked(x)}
        if indices & covered:
            raise ValueError(
                "opt_state holds two states, such as two Nesterov look-aheads, that say what to evaluate for the same "
                f"parameters ({join_paths(names[i] for i in sorted(indices & covered))}); one is allowed"
            )
        covered |= indices
        masked = [_mask_like(value_of(leaf), x) for leaf, x in zip(leaves, aligned, strict=True)]
        aligned_state = state._replace(**{kind.like: jax.tree.unflatten(treedef, aligned)})
        new = treedef.flatten_up_to(kind.rule(aligned_state, jax.tree.unflatten(treedef, masked)))
        leaves = [_replace_leaf(x, new[i]) if i in indices else x for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, leaves)


def unbatched_scalar(name: str, value: Any) -> Array:
    """Returns a number of a state, one for all parameters; one with a batch axis is refused."""
    if jnp.shape(value) != ():
        raise ValueError(
            f"opt_state does not belong to params: {name} has shape {jnp.shape(value)}; where both have a batch axis, "
            "use jax.vmap(eval_params)"
        )
    return jnp.asarray(value)


def _unwrap_arguments(opt_state: Any, params: Any) -> tuple[Any, Any]:
    found = jax.tree.leaves(params, is_leaf=_is_state)
    if isinstance(params, nnx.Optimizer) or any(map(_is_state, found)):
        raise TypeError(
            "params must be parameters; got an optimizer's state. The order is eval_params(opt_state, params)"
        )
    if isinstance(opt_state, UntypedTree):
        raise ValueError("opt_state must be the optimizer's state; a loaded run has its arrays alone: take run.params")
    if isinstance(opt_state, list) and any(jax.tree_util.all_leaves([x]) for x in opt_state):
        raise ValueError(
            "opt_state must be the optimizer's state; got a bare list of arrays, which does not say what they are: put "
            "them into its structure by jax.tree.unflatten(jax.tree.structure(optimizer.init(params)), opt_state)"
        )
    if isinstance(opt_state, nnx.Optimizer):
        params = nnx.state(params, opt_state.wrt) if isinstance(params, nnx.Module) else params
        opt_state = opt_state.opt_state
    return opt_state, params


def _registered_states(tree: Any) -> Iterator[Any]:
    """Yields the states of a registered kind in the tree, as plain arrays; also those inside others that ask them."""
    for node in jax.tree.leaves(tree, is_leaf=lambda x: _registered_type(x) is not None):
        kind = _registered_type(node)
        if kind is None:
            continue
        plain: Any = jax.tree.map(value_of, node, is_leaf=is_variable)
        state: Any = plain if isinstance(plain, kind) else _rebuild_state(kind, plain)
        yield state
        if not _REGISTERED[kind].includes_inner:
            yield from _registered_states(tuple(state))


def _registered_type(x: Any) -> type | None:
    """Returns the registered type of x, or the one with its fields, as after `nnx.state`, `to_state_dict` and Orbax."""
    if type(x) in _REGISTERED:
        return type(x)
    if not isinstance(x, Mapping):
        return None
    found = set(map(str, x))
    return next(
        (t for t, kind in _REGISTERED.items() if found | set(kind.inner) == set(_fields(t)) and kind.like in found),
        None,
    )


def _fields(kind: Any) -> tuple[str, ...]:
    return kind._fields


def _rebuild_state(kind: type, fields: Mapping[Any, Any]) -> Any:
    """Rebuilds a state from its fields; Orbax leaves None where a mask was, Flax an empty dictionary."""
    like = _REGISTERED[kind].like
    state = kind(**dict.fromkeys(_fields(kind), ()) | {str(name): value for name, value in fields.items()})
    hidden = lambda x: x is None or (isinstance(x, Mapping) and not x)  # noqa: E731
    tree = jax.tree.map(lambda x: optax.MaskedNode() if hidden(x) else x, getattr(state, like), is_leaf=hidden)
    return state._replace(**{like: tree})


def _align_with_params(tree: ArrayTree, names: list[Path]) -> list[Any]:
    """Returns what `tree` holds for each parameter; MaskedNode where it hides one, or a whole subtree.

    By path, since the containers differ: a list is a dictionary in an `nnx.State`, and in much that is restored.
    """
    by_path = dict(leaves_with_paths(tree, is_leaf=_is_masked))
    masks = {path for path, x in by_path.items() if _is_masked(x)}
    hidden = {name for name in names if any(name[:n] in masks for n in range(len(name) + 1))}
    missing = [name for name in names if name not in by_path and name not in hidden]
    surplus = [path for path in by_path if path not in masks and path not in set(names)]
    if missing or surplus:
        raise ValueError(
            "opt_state does not belong to params: their structures differ. "
            + "".join(
                f"Only {where} has {join_paths(paths)}. " for where, paths in _unmatched(surplus, missing) if paths
            )
            + "Give the parameters that the optimizer was initialised with, or, for an nnx.Optimizer, "
            "eval_params(optimizer, model); restore a saved state into optimizer.init(params)"
        )
    return [optax.MaskedNode() if name in hidden else by_path[name] for name in names]


def _unmatched(surplus: list[Path], missing: list[Path]) -> tuple[tuple[str, list[Path]], ...]:
    return ("opt_state", surplus), ("params", missing)


def _mask_like(p: Any, x: Any) -> Any:
    """Returns the parameter, masked like what the state holds for it."""
    if _is_masked(x):
        return x
    if jnp.shape(x) != jnp.shape(p):
        raise ValueError(
            f"opt_state does not belong to params: it has an array of shape {jnp.shape(x)} for a parameter of shape "
            f"{jnp.shape(p)}; where both have a batch axis, use jax.vmap(eval_params)"
        )
    return p


def _replace_leaf(leaf: Any, new: Array) -> Any:
    new = jnp.asarray(new, jnp.result_type(value_of(leaf)))
    return leaf.replace(new) if is_variable(leaf) else new


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _is_state(x: Any) -> bool:
    """Tells whether it is a state of Optax or lectopt, or one that is registered."""
    ours = isinstance(x, tuple) and hasattr(x, "_fields") and type(x).__module__.split(".")[0] in ("optax", "lectopt")
    return _registered_type(x) is not None or (ours and not isinstance(x, (optax.MaskedNode, optax.LookaheadParams)))


def _sam_outer_params(state: optax.contrib.SAMState, params: ArrayTree) -> ArrayTree:
    """Returns the cached parameters while the held ones are adversarial."""
    synced = unbatched_scalar("steps_since_sync", state.steps_since_sync) == 0
    return jax.tree.map(lambda p, cached: jnp.where(synced, p, cached), params, state.cache)


def _schedule_free_average(state: optax.contrib.ScheduleFreeState, params: ArrayTree) -> ArrayTree:
    """Returns the average x."""
    return optax.contrib.schedule_free_eval_params(state._replace(b1=unbatched_scalar("b1", state.b1)), params)


register_eval_params(optax.contrib.SAMState, _sam_outer_params, like="cache", inner=("opt_state", "adv_state"))
register_eval_params(optax.contrib.ScheduleFreeState, _schedule_free_average, like="z", inner=("base_optimizer_state",))
