"""Models as pure functions over arrays: one adapter for each kind of model that people bring.

An adapter offers `init(key, x) -> (params, state)` and `call(function, params, state, key, training) -> (result,
state)`, which hands `function` something to call as a model; `forward(model, x, training)` calls it for outputs.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.sharding import PartitionSpec

from lectopt._leaves import paths
from lectopt._types import ArrayTree
from lectopt.meshes import Specs

Params: TypeAlias = ArrayTree
State: TypeAlias = ArrayTree


class Adapter(Protocol):
    """What training needs of a model."""

    has_weights: bool  # `init` gives back weights that are there, whatever the key

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        """Fresh parameters, and the variables that are not trained."""

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        """What `function(model)` returns, and the state after it."""

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        """The outputs for inputs x."""

    def present(self, params: Params, state: State) -> Any:
        """What a user gets back as the trained model."""

    def path(self, place: Any) -> tuple[str, ...]:
        """The path to a parameter in `params`: of a function module -> variable (NNX), or a path as it is."""

    def specs(self) -> Specs:
        """How parameters are annotated to lie on a mesh, by path; NNX only."""


def adapt(model: Any) -> Adapter:
    """The adapter for `model`.

    Raises:
        TypeError: if it is none of the kinds of model that `lectopt.Task` lists.
    """
    if isinstance(model, linen.Module):
        return LinenAdapter(model)
    if isinstance(model, nnx.Module):
        return NNXAdapter(lambda rngs: model, given=nnx.clone(model))
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return FunctionAdapter(*model)
    if isinstance(model, type) and issubclass(model, linen.Module):
        raise TypeError(f"model must be a Linen module, not its class: give {model.__name__}(...)")
    if callable(model):
        return NNXAdapter(model)
    raise TypeError(
        "model must be a function rngs -> nnx.Module, an nnx.Module, a Linen module, or a pair of functions "
        f"(init, apply); got {type(model).__name__}"
    )


class NNXAdapter:
    """A function rngs -> nnx.Module, or a module that is there (`given`) and starts from its weights."""

    def __init__(self, factory: Callable[[nnx.Rngs], nnx.Module], given: nnx.Module | None = None):
        self.has_weights = given is not None
        self._factory: Callable[..., nnx.Module] = factory
        self._by_name = "rngs" in _parameters(factory)
        self._given = given

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        del x
        module = self._make(key) if self._given is None else self._given
        _, params, _, state = split(module)
        return nnx.as_pure(params), nnx.as_pure(state)

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        graphdef, rngs = self._structure[training]
        # A copy, or BatchNorm and Dropout could not write to variables of an outer trace under `jax.grad`.
        module = nnx.merge(graphdef, params, _reseed(rngs, key), state, copy=True)
        result = function(module)
        return result, nnx.as_pure(split(module)[3])

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        del training
        return model(x)

    def present(self, params: Params, state: State) -> nnx.Module:
        graphdef, rngs = self._structure[False]
        return nnx.merge(graphdef, params, _reseed(rngs, jax.random.key(0)), state, copy=True)

    def _make(self, key: Any) -> nnx.Module:
        with nnx.use_eager_sharding(False):  # annotated variables need no mesh until they are put on one
            module = self._factory(rngs=nnx.Rngs(key)) if self._by_name else self._factory(nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise TypeError(f"model must return an nnx.Module; it returned {type(module).__name__}")
        return module

    def path(self, place: Any) -> tuple[str, ...]:
        if not callable(place):
            return _path(place)
        module = self._module
        variable = place(module)
        for path, node in nnx.iter_graph(module):
            if node is variable:
                return tuple(map(str, path))
        raise ValueError(f"output_bias must return a variable of the module; it returned {type(variable).__name__}")

    def specs(self) -> Specs:
        params = nnx.state(self._module, nnx.Param)
        tree = nnx.as_pure(nnx.get_partition_spec(params))
        found = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
        return {path: spec for path, spec in zip(paths(nnx.as_pure(params)), found, strict=True) if any(spec)}

    @property
    def _module(self) -> nnx.Module:
        """The given module, or what the factory would make."""
        return nnx.eval_shape(lambda: self._make(0)) if self._given is None else self._given

    @functools.cached_property
    def _structure(self) -> dict[bool, tuple[Any, Any]]:
        """The graph definition and the random streams, by whether it is training."""
        module = nnx.clone(self._module)
        structure = {}
        for training in (True, False):
            module.train() if training else module.eval()
            graphdef, _, rngs, _ = split(module)
            structure[training] = graphdef, nnx.as_pure(jax.eval_shape(lambda rngs=rngs: rngs))
        return structure


_LINEN_FLAGS = {"train": True, "training": True, "deterministic": False}
"""What a module may call the flag of training, and the flag's value in training."""


class LinenAdapter:
    """A Linen module that is called with (x), or with (x, train=bool), or a flag of `_LINEN_FLAGS`."""

    has_weights = False

    def __init__(self, module: linen.Module):
        self._module = module
        names = inspect.signature(type(module).__call__).parameters
        self._flag = next((name for name in _LINEN_FLAGS if name in names), None)

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        state = dict(self._module.init(key, x, **self._mode(False)))
        return state.pop("params", {}), state

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        variables = {"params": params, **state}
        # Linen falls back to the stream "params" for any other, such as Dropout's.
        result, new = self._module.apply(
            variables, method=function, rngs={"params": key}, mutable=list(state) if training else []
        )
        return result, {**state, **new}

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        return model(x, **self._mode(training))

    def present(self, params: Params, state: State) -> tuple[Params, State]:
        return params, state

    def path(self, place: Any) -> tuple[str, ...]:
        return _path(place)

    def specs(self) -> Specs:
        return {}

    def _mode(self, training: bool) -> dict[str, Any]:
        return {} if self._flag is None else {self._flag: training == _LINEN_FLAGS[self._flag]}


class FunctionAdapter:
    """Two functions: init(key, x) -> (params, state); apply(params, state, x, key, training) -> (outputs, state)."""

    has_weights = False

    def __init__(self, init: Callable, apply: Callable):
        self._init = init
        self._apply = apply

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        return self._init(key, x)

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        latest = [state]

        def model(x: Any) -> Any:
            outputs, latest[0] = self._apply(params, latest[0], x, key, training)
            return outputs

        return function(model), latest[0]

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        del training
        return model(x)

    def present(self, params: Params, state: State) -> tuple[Params, State]:
        return params, state

    def path(self, place: Any) -> tuple[str, ...]:
        return _path(place)

    def specs(self) -> Specs:
        return {}


def _parameters(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return _parameters(function.func)
    if isinstance(function, type):
        # The metaclass of NNX hides the constructor's signature.
        function = next(vars(c)["__init__"] for c in function.__mro__ if "__init__" in vars(c))
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin has none
        return ()


def _path(place: Any) -> tuple[str, ...]:
    if callable(place):
        raise TypeError("output_bias must be a path such as 'Dense_1/bias' for this model, not a function")
    return tuple(place.split("/")) if isinstance(place, str) else tuple(map(str, place))


def split(module: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """Graph definition, parameters, random streams, other variables (what `sow` left is dropped)."""
    graphdef, *parts = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    params, rngs, _, state = parts
    return graphdef, params, rngs, state


def _reseed(rngs: Any, key: jax.Array) -> Any:
    """Random streams with the shapes of `rngs` that start from `key`."""
    leaves, treedef = jax.tree.flatten(rngs)

    def fresh(i: int, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jax.random.split(jax.random.fold_in(key, i), leaf.shape) if leaf.shape else jax.random.fold_in(key, i)

    return jax.tree.unflatten(treedef, [fresh(i, leaf) for i, leaf in enumerate(leaves)])
