"""A call of each public function and method that is right, from which each argument is made wrong in turn."""

import functools
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

import lectopt as lo
from lectopt.training.keeping import as_keep

X, Y = (array[::10] for array in lo.datasets.iris())
EXAMPLES = X, Y


def net(rngs: nnx.Rngs) -> nnx.Module:
    """Makes a model."""
    return nnx.Linear(4, 3, rngs=rngs)


def layers(rngs: nnx.Rngs) -> nnx.Module:
    """Makes a model of several layers."""
    return nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 3, rngs=rngs))


TASK, OPTIMIZER = lo.classification(net), lo.sgd(0.1)
TRAINING = {"task": TASK, "optimizer": OPTIMIZER, "train": EXAMPLES, "batch_size": 5, "steps": 1, "key": 0}
FOLDS = lo.k_fold(EXAMPLES, 2, key=0)
SETTINGS = {"learning_rate": [0.1, 0.2]}


def swept(setting: dict[str, Any], key: jax.Array) -> dict[str, Any]:
    """Scores a setting."""
    return {"loss": setting["learning_rate"] ** 2}


def scored(setting: dict[str, Any], train: Any, valid: Any, key: jax.Array) -> dict[str, Any]:
    """Scores a setting on a fold."""
    return swept(setting, key)


def trained(setting: dict[str, Any], train: Any, valid: Any, key: jax.Array) -> lo.Run:
    """Trains on a fold."""
    options = {"batch_size": 5, "steps": 1, "key": key}
    return lo.train(TASK, lo.sgd(setting["learning_rate"]), train, valid=valid, **options)


def member(setting: dict[str, Any], key: jax.Array, *, epochs: int, start: Any) -> lo.Run:
    """Trains a member of a population."""
    options = {"batch_size": 5, "epochs": epochs, "key": key, "start": start}
    return lo.train(TASK, lo.sgd(setting["learning_rate"]), EXAMPLES, valid=EXAMPLES, **options)


SEARCH = {"settings": SETTINGS, "minimize": "loss", "key": 0, "progress": False}
SPACE = {"learning_rate": lo.space.uniform(0.0, 1.0), "width": lo.space.choice([1, 2])}
CHOICES = {
    "choices": [2, 2], "score": lambda vectors: vectors.sum(axis=1) * 1.0, "rounds": 2, "children": 2, "key": 0,
    "progress": False,
}  # fmt: skip
RATE = {"learning_rate": 0.1}
OPTIMIZERS = {
    **dict.fromkeys([lo.sgd, lo.scale_by_learning_rate, lo.momentum, lo.nesterov, lo.adagrad, lo.rmsprop], RATE),
    **{key: {} for key in [lo.scale_by_adagrad, lo.scale_by_rmsprop, lo.adam, lo.adamw, lo.scale_by_adam]},
    **{key: {"momentum": 0.1} for key in [lo.trace_momentum, lo.trace_nesterov]},
    **{key: {"max_norm": 1.0} for key in [lo.clip_by_norm, lo.clip_layers_by_norm]},
    lo.rmsprop_nesterov: RATE,
    lo.clip_by_value: {"max_value": 1.0},
    lo.add_l2: {"coefficient": 0.1},
    lo.decay_weights: {"optimizer": OPTIMIZER, "fraction": 0.1},
    lo.average_params: {"optimizer": OPTIMIZER, "decay": 0.9},
    lo.accept_dicts: {"optimizer": OPTIMIZER},
}
STEPS = {"init_value": 0.1, "transition_steps": 10}
SCHEDULES = {
    lo.linear_decay: STEPS, lo.momentum_ramp: STEPS | {"end_value": 0.9}, lo.robbins_monro: {"init_value": 0.1},
    lo.constant: {"value": 0.1}, lo.cosine_decay: {"init_value": 0.1, "decay_steps": 10},
    lo.exponential_decay: STEPS | {"decay_rate": 0.9}, lo.warmup: {"schedule": 0.1, "steps": 3},
    lo.join: {"schedules": [0.1, 0.2], "boundaries": [3]},
}  # fmt: skip
DATA = {
    lo.few_labels: {"examples": EXAMPLES, "per_class": 2, "key": 0},
    lo.from_indices: {"examples": EXAMPLES, "splits": [([0, 1, 2], [3, 4]), ([3, 4, 5], [0, 1])]},
    lo.holdout: {"examples": EXAMPLES, "fraction": 0.3, "key": 0},
    lo.k_fold: {"examples": EXAMPLES, "folds": 3, "key": 0},
    lo.leave_one_group_out: {"examples": EXAMPLES, "groups": np.arange(15) % 3},
    lo.leave_one_out: {"examples": EXAMPLES},
    lo.minibatches: {"examples": EXAMPLES, "batch_size": 4, "key": 0},
    lo.repeated: {"split": lambda key: lo.k_fold(EXAMPLES, 2, key=key), "repeats": 2, "key": 0},
    lo.steps_per_epoch: {"examples": EXAMPLES, "batch_size": 4},
    lo.stratified_k_fold: {"examples": EXAMPLES, "folds": 3, "key": 0},
    lo.stream: {"batches": lambda: iter([EXAMPLES])},
    lo.time_series_split: {"examples": EXAMPLES, "folds": 3},
}


def halving(epochs: int, factor: float = 3, least: int = 1) -> lo.Halving:
    """Makes a named tuple, which is checked where it is used."""
    return lo.Halving(epochs, factor, least).checked()


def keep(last: int = 2, best: int = 0) -> lo.Keep:
    """Makes another one."""
    return as_keep(lo.Keep(last, best), "there", EXAMPLES)


SPACES = {
    lo.space.uniform: {"low": 0.1, "high": 1.0}, lo.space.log_uniform: {"low": 0.1, "high": 1.0},
    lo.space.integers: {"low": 1, "high": 5}, lo.space.choice: {"values": [1, 2]},
    lo.space.when: {"name": "width", "value": 1, "distribution": lo.space.uniform(0.0, 1.0)},
    lo.grid: {"space": SPACE, "points": 2}, lo.sample: {"space": SPACE, "n": 3, "key": 0},
    lo.settings: {"rows": [{"a": 1.0}, {"a": 2.0}]}, halving: {"epochs": 4}, keep: {},
}  # fmt: skip
SEARCHES = {
    lo.sweep: SEARCH | {"trial": swept},
    lo.replicate: {"function": lambda key: {"loss": 0.0}, "seeds": 1, "key": 0, "progress": False},
    lo.cross_validate: SEARCH | {"trial": scored, "folds": FOLDS},
    lo.select: SEARCH | {"trial": trained, "examples": EXAMPLES, "folds": 2, "minimize": "valid_loss"},
    lo.nested_cross_validate: SEARCH
    | {"trial": trained, "examples": EXAMPLES, "outer": 2, "inner": 2, "minimize": "valid_loss"},
    lo.population: SEARCH
    | {"trial": member, "rounds": 2, "epochs_per_round": 1, "minimize": "valid_loss", "exploit": 0.5},
    lo.learning_curve: {"trial": scored, "setting": {"learning_rate": 0.1}, "folds": FOLDS, "sizes": [0.5, 1.0]}
    | {"minimize": "loss", "key": 0, "progress": False},
    lo.validation_curve: {"trial": scored, "setting": {}, "folds": FOLDS, "name": "learning_rate", "values": [0.1, 0.2]}
    | {"minimize": "loss", "key": 0, "progress": False},
    lo.suggest_learning_rate: {"task": TASK, "optimizer": lo.sgd, "train": EXAMPLES, "batch_size": 5, "key": 0}
    | {"steps": 100, "points": 5, "seeds": 1, "progress": False},
    lo.search.evolve: CHOICES | {"population": 2, "tournament": 2},
    lo.search.random_choices: CHOICES,
    lo.search.reinforce: CHOICES,
    lo.search_architecture: {"space": lo.ArchitectureSpace(depth=1, width=[2, 4]), "examples": EXAMPLES, "rounds": 1}
    | {"children": 1, "epochs": 1, "key": 0, "progress": False},
    lo.ArchitectureSpace: {"depth": 1, "width": [2, 4]},
}
TASKS = {
    lo.Task: {"model": net, "loss": optax.softmax_cross_entropy_with_integer_labels},
    lo.classification: {"model": net},
    lo.regression: {"model": net},
    lo.roc_auc: {"outputs": X[:, 0], "targets": Y > 0},
    lo.f1: {"outputs": X[:, 0], "targets": Y > 0},
    lo.r2: {"outputs": X, "targets": X},
    lo.balanced_accuracy: {"outputs": X[:, :3], "targets": Y},
    lo.whole_set: {"function": lambda outputs, targets, weights: 0.0},
}  # fmt: skip
LOOKING = {
    lo.check: {"task": TASK, "examples": lo.datasets.iris(), "progress": False},
    lo.inspect: {"task": TASK, "examples": EXAMPLES},
    lo.rescale: {"task": TASK, "examples": EXAMPLES},
    lo.watch: {},
}
INITIALIZERS = {
    lo.initializers.output_bias: {"targets": Y, "activation": "softmax"}, lo.initializers.relu_bias: {},
    lo.initializers.fan_in_uniform: {}, lo.initializers.glorot_uniform: {}, lo.initializers.sparse: {"nonzeros": 1},
}  # fmt: skip
PRETRAINING = {
    lo.pretrain_layers: {"task": lo.classification(layers), "inputs": X, "optimizer": OPTIMIZER, "batch_size": 5}
    | {"steps": 1, "key": 0, "progress": False},
    lo.pretrain_encoder: {"encoder": net, "inputs": X, "optimizer": OPTIMIZER, "batch_size": 5, "steps": 1, "key": 0}
    | {"progress": False},
    lo.transfer: {"source": net(nnx.Rngs(0)), "target": net(nnx.Rngs(1))},
}  # fmt: skip


@functools.cache
def run() -> lo.Run:
    """Returns a training that is done."""
    return lo.fit(**TRAINING | {"valid": EXAMPLES, "progress": False})


def layer(width: int, kernel_size: int | None = None, activation: str = "relu", norm: str = "none") -> None:
    """Makes a third named tuple, which is checked where it is used."""
    made = lo.search.Layer(width, kernel_size, activation, norm)
    lo.search.Architecture((made,)).check("architecture", 0 if kernel_size is None else 1)


def methods() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Returns calls of methods, and of what takes what others return."""
    folder = Path(tempfile.mkdtemp())
    options = {"minimize": "valid_loss", "key": 0, "progress": False, "directory": folder / "search"}
    results = lo.cross_validate(trained, SETTINGS, FOLDS, **options)
    run().save(folder / "run")
    run().history.save(folder / "history")
    results.save(folder / "results")
    numbers = iter(range(10**6))
    kept = lambda save: lambda path=None: save(folder / f"new{next(numbers)}" if path is NEW else path)  # noqa: E731
    batch_norm, layer_norm = lo.BatchNorm(4, rngs=nnx.Rngs(0)), lo.LayerNorm(4, rngs=nnx.Rngs(0))
    dropout, standardize = lo.Dropout(0.5, rngs=nnx.Rngs(0)), lo.Standardize(4)
    space = lo.ArchitectureSpace(depth=1, width=[2, 4])
    return {
        "Run.predict": (run().predict, {"x": X}),
        "Run.probabilities": (run().probabilities, {"x": X}),
        "Run.classes": (run().classes, {"x": X}),
        "Run.evaluate": (run().evaluate, {"examples": EXAMPLES}),
        "Run.save": (kept(run().save), {"path": NEW}),
        "load": (lo.load, {"path": folder / "run", "task": TASK}),
        "History.save": (kept(run().history.save), {"path": NEW}),
        "History.load": (run().history.load, {"path": folder / "history"}),
        "Results.save": (kept(results.save), {"path": NEW}),
        "Results.load": (lo.Results.load, {"path": folder / "results"}),
        "Results.partial": (lo.Results.partial, {"directory": folder / "search"}),
        "Results.merge": (results.merge, {"other": results}),
        **{f"Results.{n}": (getattr(results, n), {}) for n in ("mean", "var", "std", "sem", "missing", "p_values")},
        "Results.one_standard_error": (results.one_standard_error, {"complexity": "learning_rate"}),
        "Results.difference": (results.difference, {"a": 0}),
        "Results.replay": (results.replay, {"setting": 0}),
        "Results.runs": (results.runs, {"setting": 0}),
        "Results.out_of_fold": (results.out_of_fold, {"setting": 0}),
        "Results.plot_folds": (results.plot_folds, {}),
        "compare": (lo.compare, {"runs": {"a": run(), "b": run()}}),
        "ensemble": (lo.ensemble, {"runs": [run(), run()]}),
        "diagnose": (lo.diagnose, {"run": run()}),
        "eval_params": (lo.eval_params, {"opt_state": run().opt_state, "params": run().params}),
        "BatchNorm": (lo.BatchNorm, {"num_features": 4, "rngs": nnx.Rngs(0)}),
        "BatchNorm.__call__": (batch_norm, {"x": X}),
        "BatchNorm.set_view": (batch_norm.set_view, {}),
        "LayerNorm": (lo.LayerNorm, {"num_features": 4, "rngs": nnx.Rngs(0)}),
        "LayerNorm.__call__": (layer_norm, {"x": X}),
        "Dropout": (lo.Dropout, {"rate": 0.5, "rngs": nnx.Rngs(0)}),
        "Dropout.__call__": (dropout, {"inputs": X}),
        "Standardize": (lo.Standardize, {"num_features": 4}),
        "Standardize.fit": (standardize.fit, {"x": X}),
        "Standardize.partial_fit": (standardize.partial_fit, {"x": X}),
        "Standardize.__call__": (standardize, {"x": X}),
        "ArchitectureSpace.decode": (space.decode, {"vector": space.encode(space.masked(1, 2))}),
        "ArchitectureSpace.masked": (space.masked, {"depth": 1, "width": 2}),
        "ArchitectureSpace.encode": (space.encode, {"architecture": space.masked(1, 2)}),
        "ArchitectureSpace.multiplications": (space.multiplications, {"inputs": [4], "outputs": 3}),
        "Halving.rungs": (lo.Halving(4).rungs, {"settings": 6}),
        "Layer": (layer, {"width": 3}),
    }  # fmt: skip


NEW = object()
"""A path at which there is nothing."""


def calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Returns {name: (function, arguments that are right)}."""
    trainings = {lo.fit: TRAINING | {"progress": False}, lo.train: TRAINING}
    tables = (OPTIMIZERS, SCHEDULES, DATA, SPACES, SEARCHES, TASKS, LOOKING, INITIALIZERS, PRETRAINING, trainings)
    functions = {function.__name__: (function, good) for table in tables for function, good in table.items()}
    return functions | methods()


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the arguments of a function by their names."""
    function = function.__init__ if isinstance(function, type) and issubclass(function, nnx.Module) else function
    found = inspect.signature(function).parameters
    return {n: p for n, p in found.items() if n != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
