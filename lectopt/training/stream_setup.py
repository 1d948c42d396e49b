"""Assembling a training on a stream: as if on its first batch, then as long as it is to be."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lectopt._internal import checks, meshes
from lectopt._internal.jit_cache import cached_jit
from lectopt._internal.types import Array
from lectopt.data.batches import steps_per_epoch
from lectopt.data.memory_maps import is_on_disk, mapped_stream
from lectopt.data.readers import Reader
from lectopt.data.streams import as_stream, is_stream
from lectopt.data.subsets import view
from lectopt.norms.moment_checks import check_learnable
from lectopt.norms.moments import Moments, measure
from lectopt.norms.running_moments import accumulate
from lectopt.tasks.example_checks import target_check
from lectopt.tasks.model_state import empty_moments
from lectopt.tasks.task import Task
from lectopt.training.arguments import TrainingArguments, as_batch_size, step_count
from lectopt.training.carry import Window
from lectopt.training.feeding import ROOM, Feed
from lectopt.training.mapped_targets import learn_weights, start_with_targets, weighted_data
from lectopt.training.setup import earlier_history, prepare, training_key


def is_streamed(train: Any) -> bool:
    """Tells whether the examples are read while training: a stream, or arrays on disk."""
    return is_stream(train) or is_on_disk(train)


def prepare_stream(given: TrainingArguments, mesh: Mesh | None) -> Feed:
    """Checks the arguments of a training on a stream, with its first batch, and assembles them."""
    _refuse(given, mesh)
    weights = learn_weights(given) if given.weights is not None and isinstance(given.task, Task) else None
    reader = _reader(given, weights)
    arrays = reader.first if weights is None else reader.first[:-1]
    first = view(arrays, np.arange(reader.batch_size, dtype=np.int32))
    alone: dict[str, Any] = {"batch_size": reader.batch_size, "shuffle": False, "epochs": 1, "steps": None}
    alone |= {"weights": None, "weight_validation": False}  # which need all targets
    setup = prepare(dataclasses.replace(given, train=first, **alone), mesh)
    setup = setup._replace(data=weighted_data(given, setup.data), start=start_with_targets(given, setup.start))
    if (check := target_check(given.task, arrays)) is not None:
        reader.check = check if weights is None else lambda batch: check(batch[:-1])
    if given.task.standardize and setup.start.inputs is None:
        setup = setup._replace(start=setup.start._replace(inputs=_learn_inputs(given, reader)))
    length = reader.length
    steps = ROOM if length is None and given.steps is None else step_count(given.epochs, given.steps, length or ROOM)
    plan = dataclasses.replace(setup.plan, steps=steps, steps_per_epoch=length or steps)
    window = Window(jax.tree.map(lambda a: a[None], arrays), jnp.ones((1, reader.batch_size)), jnp.int32(0))
    own = None if weights is None else reader.first[-1][None]
    setup = setup._replace(plan=plan, data=setup.data._replace(window=window, weights=own))
    return Feed(setup, reader, None if given.epochs is None else int(given.epochs))


def _learn_inputs(given: TrainingArguments, reader: Reader) -> Moments:
    """Learns the moments of the inputs in a pass of its own, which also finds how long a pass is."""
    if not reader.restarts:
        raise ValueError(
            "standardize learns from a pass before training, and an iterator can be read once. Give a function that "
            "makes one, lectopt.stream(function), or the statistics: start=lectopt.Standardize(...), fitted before"
        )
    first = _reader(given)
    moments, count = empty_moments(first.first[0]), 0
    errors = jnp.zeros((3, *moments.mean.shape), moments.mean.dtype)
    while (batch := first.read()) is not None and (given.steps is None or count < given.steps):
        check_learnable(f"batch {count + 1} of train", batch[0])
        mask = np.arange(reader.batch_size) < len(batch[0])
        moments, errors = cached_jit(_accumulate)(moments, errors, first.pad(batch)[0], mask)
        count += 1
    reader.length = first.length
    return moments


def _accumulate(moments: Moments, errors: Array, x: Array, mask: Array) -> tuple[Moments, Array]:
    part = measure(x, range(x.ndim - 1), mask.reshape(-1, *[1] * (x.ndim - 1)))
    part = jax.tree.map(lambda new, old: new.reshape(-1).astype(old.dtype), part, moments)
    return accumulate(moments, errors, part)


def _refuse(given: TrainingArguments, mesh: Mesh | None) -> None:
    step_count(given.epochs, given.steps, 1)
    if meshes.spans_processes(mesh):
        raise ValueError("train must be arrays in memory where mesh spans several processes")
    if is_on_disk(given.train):
        return
    if given.weights is not None:
        raise ValueError(
            "weights must be None where train is read batch by batch: their mean is 1 over all examples, which are not "
            "known. Let an objective take a third array of each batch, or give arrays in memory"
        )
    if getattr(given.task, "output_bias", None) is not None:
        raise ValueError(
            "output_bias is learned from all targets, which are not known where train is read batch by batch: set it "
            "in the model, with lectopt.initializers.output_bias, or give arrays in memory"
        )


def _reader(given: TrainingArguments, weights: np.ndarray | None = None) -> Reader:
    """Opens the stream, and reads its first batch; with weights, they are the last array of each."""
    if is_on_disk(given.train):
        batch_size = as_batch_size(given.batch_size, len(jax.tree.leaves(given.train)[0]))
        own = training_key(given.key, earlier_history(given.start))
        key = jax.random.fold_in(own, 0) if checks.check_flag("shuffle", given.shuffle) else None
        arrays = given.train if weights is None else (*given.train, weights)
        stream = mapped_stream(arrays, batch_size, key)
        return Reader("train", stream, steps_per_epoch(given.train, batch_size))
    stream = as_stream(given.train)
    reader = Reader("train", stream, stream.steps_per_epoch or stream.length)
    if given.batch_size is not None and given.batch_size != reader.batch_size:
        raise ValueError(
            f"batch_size must be that of the first batch of train, {reader.batch_size}, or None; got {given.batch_size}"
        )
    if given.epochs is not None and given.epochs > 1 and not stream.restarts and stream.steps_per_epoch is None:
        raise ValueError(
            "train must be what can be read several times, for several epochs; an iterator can be read once. Give a "
            "function that makes one: lectopt.stream(function)"
        )
    return reader
