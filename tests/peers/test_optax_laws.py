"""Optax's tests of its optimizers, with ours in their tables."""

import types

import jax
import optax
from peers.borrowed import borrow, changed, source_of

import lectopt as lo

OURS = {
    "sgd": {"learning_rate": 1e-3},
    "momentum": {"learning_rate": 1e-3, "momentum": 0.9},
    "nesterov": {"learning_rate": 1e-3, "momentum": 0.9},
    "adagrad": {"learning_rate": 1.0},
    "rmsprop": {"learning_rate": 5e-3},
    "rmsprop_nesterov": {"learning_rate": 5e-4},
    "adam": {"learning_rate": 1e-1},
    "adamw": {"learning_rate": 1e-1, "weight_decay": 1e-4},
    "clipped": {"learning_rate": 1e-1, "max_norm": 10.0},
    "decayed": {"learning_rate": 1e-3, "fraction": 1e-6},
    "averaged": {"learning_rate": 1e-1, "decay": 0.5},
    "penalized": {"learning_rate": 1e-1, "coefficient": 1e-5},
}


def clipped(learning_rate, max_norm):
    links = lo.clip_by_norm(max_norm), lo.clip_layers_by_norm(max_norm), lo.clip_by_value(max_norm)
    return optax.chain(*links, lo.adam(learning_rate))


def decayed(learning_rate, fraction):
    return lo.decay_weights(lo.nesterov(learning_rate), fraction)


def averaged(learning_rate, decay):
    return lo.average_params(lo.adam(learning_rate), decay)


def penalized(learning_rate, coefficient):
    return optax.chain(lo.watch_norms("gradient"), lo.add_l2(coefficient), lo.adam(learning_rate))


CHAINS = {function.__name__: function for function in (clipped, decayed, averaged, penalized)}
MAKERS = {name: CHAINS.get(name) or getattr(lo, name) for name in OURS}


LINKS = {
    "scale_by_adagrad": {},
    "scale_by_rmsprop": {},
    "scale_by_adam": {},
    "trace_momentum": {"momentum": 0.5},
    "trace_nesterov": {"momentum": 0.5},
    "clip_by_norm": {"max_norm": 1.0},
    "clip_layers_by_norm": {"max_norm": 1.0},
    "clip_by_value": {"max_value": 1.0},
    "add_l2": {"coefficient": 0.1},
    "scale_by_learning_rate": {"learning_rate": 0.1},
}
ROWS = [{"opt_name": name, "opt_kwargs": kwargs} for name, kwargs in OURS.items()]
FROM_ONE = [row | {"opt_kwargs": row["opt_kwargs"] | {"learning_rate": 1.0}} for row in ROWS]

globals().update(
    borrow(
        source_of("optax._src.alias_test"),
        {"_OPTIMIZERS_UNDER_TEST": tuple(ROWS), "_get_opt": lambda self, name: MAKERS[name]},
        ["AliasTest"],
        {"test_explicit_dtype": "states have the dtype of the parameters, float32 or wider: there is no mu_dtype"},
    ),
    **borrow(
        source_of("optax._src.float64_test"),
        {
            "ALL_MODULES": [(name, MAKERS[name], kwargs) for name, kwargs in OURS.items()]
            + [(name, getattr(lo, name), kwargs) for name, kwargs in LINKS.items()]
        },
        ["Float64Test"],
    ),
    **borrow(
        source_of("optax._src.sharding_test"),
        {
            "OPTIMIZERS": {name: MAKERS[name](**kwargs) for name, kwargs in OURS.items()},
            "jax": changed(jax, __version__="9"),  # versions are compared as strings there
            "os": types.SimpleNamespace(environ={}),
        },
        ["ShardingTest"],
        {
            "test_microbatch_with_explicit_sharding_replicated": "has no optimizer",
            "test_microbatch_with_explicit_sharding_sharded": "has no optimizer",
            "test_init_with_abstract_input_averaged": "an average starts at the parameters, which are not given here: "
            "ask jax.eval_shape for the state's shapes",
        },
    ),
    **borrow(
        source_of("optax.contrib._common_test"),
        {
            "_MAIN_OPTIMIZERS_UNDER_TEST": tuple(row | {"wrapper_name": None, "wrapper_kwargs": None} for row in ROWS),
            "_ALL_OPTIMIZERS_UNDER_TEST": tuple(
                row | {"wrapper_name": "mechanize", "wrapper_kwargs": {"weight_decay": 0.0}} for row in FROM_ONE
            ),
            "_get_opt_factory": MAKERS.get,
        },
        ["ContribTest"],
    ),
)
