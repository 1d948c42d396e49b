"""Models as pure functions over arrays: one adapter for each kind of model.

An adapter offers `init(key, x) -> (params, state)` and `call(function, params, state, key, training) -> (result,
state)`, which hands `function` something to call as a model; `forward(model, x, training)` calls it for outputs, and
tells it whether it trains.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.sharding import PartitionSpec

from lectopt._internal import checks
from lectopt._internal.meshes import Specs
from lectopt._internal.trees import paths
from lectopt._internal.types import ArrayTree
from lectopt.tasks import call_flags, nnx_modes
from lectopt.tasks.nnx_parts import check_arrays, check_factory, reseed, split

Params: TypeAlias = ArrayTree
State: TypeAlias = ArrayTree


class Adapter(Protocol):
    """What training needs of a model."""

    has_weights: bool  # `init` returns existing weights, whatever the key
    has_layers: bool  # it is a module, the calls of whose layers can be intercepted

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        """Draws new parameters and makes the variables that are not trained."""

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        """Returns what `function(model)` returns, and the state after it."""

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        """Computes the outputs for inputs x."""

    def check_call(self) -> None:
        """Raises TypeError if the model needs more than its inputs and flags of training to be called."""

    def present(self, params: Params, state: State) -> Any:
        """Returns the trained model in the form in which users get it."""

    def path(self, place: Any) -> tuple[str, ...]:
        """Returns the path to a parameter in `params`: of a function module -> variable (NNX), or a path itself."""

    def specs(self) -> Specs:
        """Returns the partitioning of annotated parameters over a mesh, by path; NNX only."""


def adapt(model: Any, inputs: int = 1) -> Adapter:
    """Returns the adapter for `model`, which is called with so many inputs: x is a tuple of them if there are several.

    Raises:
        TypeError: if it is none of the kinds of model that `lectopt.Task` lists.
    """
    if isinstance(model, linen.Module):
        return LinenAdapter(model, inputs)
    if isinstance(model, nnx.Module):
        return NNXAdapter(lambda rngs: model, inputs, given=nnx.clone(model))
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return FunctionAdapter(*model)
    if isinstance(model, type) and issubclass(model, linen.Module):
        raise TypeError(f"model must be a Linen module, not its class: give {model.__name__}(...)")
    if callable(model):
        return NNXAdapter(model, inputs)
    raise TypeError(
        "model must be a function rngs -> nnx.Module, an nnx.Module, a Linen module, or a pair of functions "
        f"(init, apply); got {type(model).__name__}"
    )


class NNXAdapter:
    """A function rngs -> nnx.Module, or an existing module (`given`), from whose weights it starts."""

    has_layers = True

    def __init__(self, factory: Callable[[nnx.Rngs], nnx.Module], inputs: int, given: nnx.Module | None = None):
        self.has_weights = given is not None
        self._factory: Callable[..., nnx.Module] = factory
        self._by_name = check_factory(factory)
        self._inputs = inputs
        self._given = given
        if given is not None:
            nnx_modes.warn_if_frozen(given)

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
        module = nnx.merge(graphdef, params, reseed(rngs, key), state, copy=True)
        result = function(module)
        return result, nnx.as_pure(split(module)[3])

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        # None is for the layers' own mode, which is frozen in some.
        leave = lambda name: self._has_frozen  # noqa: E731
        args, kwargs = call_flags.call_arguments(type(model), training, leave, self._inputs)
        return model(*_arguments(x, self._inputs), *args, **kwargs)

    def check_call(self) -> None:
        call_flags.call_arguments(type(self._module), training=True, inputs=self._inputs)

    def present(self, params: Params, state: State) -> nnx.Module:
        graphdef, rngs = self._structure["handed out"]
        return nnx.merge(graphdef, params, reseed(rngs, jax.random.key(0)), state, copy=True)

    def _make(self, key: Any) -> nnx.Module:
        with nnx.use_eager_sharding(False):  # annotated variables need no mesh until they are put on one
            module = self._factory(rngs=nnx.Rngs(key)) if self._by_name else self._factory(nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise checks.ArgumentError(
                f"model must return an nnx.Module; it returned {checks.type_description(module)}"
            )
        check_arrays(module)
        return module

    def path(self, place: Any) -> tuple[str, ...]:
        if not callable(place):
            return _path(place)
        module = self._module
        try:
            variable = place(module)
        except Exception as error:
            raise ValueError(f"output_bias must be a function module -> variable; it raises {error!r}") from error
        for path, node in nnx.iter_graph(module):
            if node is variable and isinstance(node, nnx.Variable):
                return tuple(map(str, path))
        raise ValueError(
            "output_bias must return a variable of the module, such as module.bias; it returned a "
            f"{type(variable).__name__}"
        )

    def specs(self) -> Specs:
        params = nnx.state(self._module, nnx.Param)
        tree = nnx.as_pure(nnx.get_partition_spec(params))
        found = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
        return {path: spec for path, spec in zip(paths(nnx.as_pure(params)), found, strict=True) if any(spec)}

    @functools.cached_property
    def _module(self) -> nnx.Module:
        """Returns the given module, or what the factory would make."""
        return nnx.eval_shape(lambda: self._make(0)) if self._given is None else self._given

    @functools.cached_property
    def _has_frozen(self) -> bool:
        return any(nnx_modes.frozen(self._module))

    @functools.cached_property
    def _structure(self) -> dict[Any, tuple[Any, Any]]:
        """Returns the graph definitions and random streams, by whether it trains, and as users get it."""

        def structure(evaluates: int) -> tuple[Any, Any]:
            graphdef, _, rngs, _ = split(nnx_modes.switch(nnx.clone(self._module), evaluates))
            return graphdef, nnx.as_pure(jax.eval_shape(lambda: rngs))

        return {True: structure(False), False: structure(True), "handed out": structure(nnx_modes.HANDED_OUT)}


class LinenAdapter:
    """A Linen module that is called with its inputs, and with flags of `call_flags.FLAGS`, such as (x, train=bool)."""

    has_weights = False
    has_layers = True

    def __init__(self, module: linen.Module, inputs: int):
        self._module = module
        self._inputs = inputs

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        state = dict(self._module.init(key, x, method=lambda module, x: self.forward(module, x, False)))
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
        args, kwargs = self._mode(training)
        return model(*_arguments(x, self._inputs), *args, **kwargs)

    def check_call(self) -> None:
        self._mode(training=True)

    def present(self, params: Params, state: State) -> tuple[Params, State]:
        return params, state

    def path(self, place: Any) -> tuple[str, ...]:
        return _path(place)

    def specs(self) -> Specs:
        return {}

    def _mode(self, training: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # Linen refuses a flag in the call that the constructor has set.
        has = lambda name: getattr(self._module, name, None) is not None  # noqa: E731
        return call_flags.call_arguments(type(self._module), training, has, self._inputs)


class FunctionAdapter:
    """Two functions: init(key, x) -> (params, state); apply(params, state, x, key, training) -> (outputs, state)."""

    has_weights = False
    has_layers = False

    def __init__(self, init: Callable[..., Any], apply: Callable[..., Any]):
        self._init = init
        self._apply = apply

    def init(self, key: jax.Array, x: Any) -> tuple[Params, State]:
        params, state = checks.check_pair("init", "(params, state)", self._init(key, x))
        return _strong(params), _strong(state)

    def call(
        self, function: Callable[[Any], Any], params: Params, state: State, key: jax.Array, training: bool
    ) -> tuple[Any, State]:
        latest = [state]

        def model(x: Any) -> Any:
            result = self._apply(params, latest[0], x, key, training)
            outputs, latest[0] = checks.check_pair("apply", "(outputs, state)", result)
            return outputs

        return function(model), latest[0]

    def forward(self, model: Any, x: Any, training: bool) -> Any:
        del training
        return model(x)

    def check_call(self) -> None:
        pass

    def present(self, params: Params, state: State) -> tuple[Params, State]:
        return params, state

    def path(self, place: Any) -> tuple[str, ...]:
        return _path(place)

    def specs(self) -> Specs:
        return {}


def _arguments(x: Any, inputs: int) -> tuple[Any, ...]:
    """Returns what stands first in the call of a module with so many inputs."""
    return (x,) if inputs == 1 else tuple(x)


def _path(place: Any) -> tuple[str, ...]:
    if callable(place):
        raise TypeError("output_bias must be a path such as 'Dense_1/bias' for this model, not a function")
    return tuple(place.split("/")) if isinstance(place, str) else tuple(map(str, place))


def _strong(tree: ArrayTree) -> ArrayTree:
    """Converts NumPy arrays and numbers, whose dtype would give way to any other, to arrays of JAX."""

    def strong(path: Any, leaf: Any) -> jax.Array:
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
            name = jax.tree_util.keystr(path)
            raise checks.ArgumentError(
                f"init must return arrays of numbers; at {name} it returned {checks.type_description(leaf)}"
            )
        return jnp.asarray(leaf, jnp.result_type(leaf))

    return jax.tree_util.tree_map_with_path(strong, tree)
