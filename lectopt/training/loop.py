"""The one training loop: steps, epochs, validation and their records, as pure functions of a carry.

`train` runs it whole under `jit` and `vmap`, `fit` runs it in chunks.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lectopt._internal import meshes
from lectopt._internal.tree_norm import tree_norm
from lectopt._internal.types import Array, Numeric
from lectopt.data.batches import Batch, Minibatches, batch_shapes, rows_of, weights_of
from lectopt.optim.step_records import step_records
from lectopt.tasks.model_state import ModelState
from lectopt.tasks.models import Params
from lectopt.training.carry import NO_LOSS, Carry, Data, Learner, Plan, Validations, Window
from lectopt.training.epoch_ends import end_epoch, validate_here
from lectopt.training.layer_statistics import Watcher
from lectopt.training.loss_scale import initial_scale, keep_unless_overflowed, value_and_grad
from lectopt.training.validation import check_judged, comparable, select, validate


class Loop:
    """A plan with its optimizer and data, ready to run."""

    def __init__(self, plan: Plan, optimizer: optax.GradientTransformation, data: Data):
        self._plan = plan
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._data = data

    def start(self, learner: Learner, *, beat_start: bool = False, keep_rows: bool = False) -> Carry:
        """Returns the carry before the first step.

        With `beat_start`, under patience, the best validation has to be better than one of the learner as it is. With
        `keep_rows`, for `run_until`, the carry holds the order of the examples.
        """
        plan, train = self._plan, self._data.train
        scale = initial_scale(plan.task.compute_dtype)
        scale_names = [] if scale is None else ["loss_scale"]
        step_names = ["loss", "gradient_norm", *scale_names, *step_records(learner.opt_state)]
        validated = jax.eval_shape(lambda learner: validate(plan, self._data, learner), learner)
        metrics = {name: jnp.float32(0) for name in ["train_loss", *validated]}
        of_epochs = list(metrics) if plan.validate_every is None else ["train_loss"]
        least, to_beat = jnp.float32(NO_LOSS), False
        if plan.judge is not None:
            check_judged(plan.judge, validated)
            if to_beat := beat_start:
                metrics |= validate(plan, self._data, learner)
                least = comparable(plan.judge, metrics)
        return Carry(
            step=jnp.int32(0),
            epoch=jnp.int32(0),
            learner=learner,
            before=learner,
            best=None if plan.judge is None else learner,
            least=least,
            failures=jnp.int32(0),
            metrics=metrics,
            has_metrics={name: jnp.array(to_beat and name != "train_loss") for name in metrics},
            running=jnp.array(True),
            ended=jnp.int32(0),
            diverged_at=jnp.int32(-1),
            loss_sum=jnp.float32(0),
            counted=jnp.float32(0),
            step_records={name: jnp.zeros((plan.epochs, plan.steps_per_epoch), jnp.float32) for name in step_names},
            epoch_records={name: jnp.zeros((plan.epochs,), jnp.float32) for name in of_epochs},
            layer_records=None if (w := self._watcher(learner)) is None else w.no_records(plan.steps),
            baseline_loss=plan.task.baseline_loss(train) if self._data.window is None else None,
            rows=jnp.zeros((plan.steps_per_epoch, plan.batch_size), jnp.int32) if keep_rows and plan.shuffle else None,
            loss_scale=scale,
            bar=least if plan.judge is not None and plan.judge.min_delta else None,
            validations=None if (v := plan.validate_every) is None else self._no_validations(v, validated),
        )

    def _no_validations(self, every: int, names: Iterable[str]) -> Validations:
        count = math.ceil(self._plan.steps / every)
        return Validations(jnp.zeros(count, bool), {name: jnp.zeros(count, jnp.float32) for name in names})

    def run(self, carry: Carry) -> Carry:
        """Runs the whole training, in loops of fixed length."""
        if self._plan.validate_every is not None:
            part = functools.partial(self._part_of_epoch, self._plan.steps, self._plan.steps)
            return jax.lax.while_loop(lambda c: c.step < self._plan.steps, part, carry)
        whole, rest = divmod(self._plan.steps, self._plan.steps_per_epoch)

        def epoch(_: int, carry: Carry) -> Carry:
            return self.end_epoch(self._steps(carry, 0, self._plan.steps_per_epoch))

        if (limit := self._data.epochs) is not None:
            return jax.lax.while_loop(
                lambda c: (c.epoch < jnp.minimum(limit, whole)) & c.running, functools.partial(epoch, 0), carry
            )
        carry = jax.lax.fori_loop(0, whole, epoch, carry)
        return self.end_epoch(self._steps(carry, 0, rest)) if rest else carry

    def run_until(self, carry: Carry, stop: Array, last: Array) -> Carry:
        """Runs the training up to step `stop`, which may be traced and lie within an epoch.

        With step `last`, at the latest, it ends, and the epoch that it is in.
        """
        stop = jnp.minimum(stop, last)
        part = functools.partial(self._part_of_epoch, stop, last)
        return jax.lax.while_loop(lambda c: (c.step < stop) & c.running, part, carry)

    def _part_of_epoch(self, stop: Any, last: Any, carry: Carry) -> Carry:
        """Runs the training to step `stop`, at most to where the epoch ends or a validation is due."""
        plan, every = self._plan, self._plan.validate_every
        epoch_start = carry.epoch * plan.steps_per_epoch
        first, end = carry.step - epoch_start, jnp.minimum(stop - epoch_start, plan.steps_per_epoch)
        if every is not None:
            end = jnp.minimum(end, (carry.step // every + 1) * every - epoch_start)
        if carry.rows is not None:  # sorting all examples for each part could take longer than the part
            rows = jax.lax.cond(first == 0, lambda: self._rows(carry.epoch), lambda: carry.rows)
            carry = carry._replace(rows=rows)
        carry = self._steps(carry, first, end)
        if every is not None:
            due = (carry.step % every == 0) | (carry.step == last)
            carry = jax.lax.cond(due, self._validate, lambda c: c, carry)
        ended = (end == plan.steps_per_epoch) | (carry.step == last)
        return jax.lax.cond(ended, self.end_epoch, lambda c: c, carry)

    def _steps(self, carry: Carry, first: Any, last: Any) -> Carry:
        """Runs steps `first` to `last` of the current epoch."""
        plan, train = self._plan, self._data.train
        if self._data.window is not None:
            return self._repeat(functools.partial(self._step, self._data.window), carry, first, last)
        rows = self._rows(carry.epoch) if carry.rows is None else carry.rows
        batches = Minibatches(rows, weights_of(train, plan.batch_size))
        surely_full = math.ceil(train.least / plan.batch_size)
        if surely_full == plan.steps_per_epoch:
            return self._repeat(functools.partial(self._step, batches), carry, first, last)
        # Where parts of different size share a shape, the last batches may hold no example of this part.
        middle = min(last, surely_full) if isinstance(last, int) else jnp.minimum(last, surely_full)
        carry = self._repeat(functools.partial(self._step, batches), carry, first, middle)
        late = max(first, surely_full) if isinstance(first, int) else jnp.maximum(first, surely_full)
        return self._repeat(functools.partial(self._step_unless_empty, batches), carry, late, last)

    def _rows(self, epoch: Any) -> Array:
        """Returns the examples of each batch of an epoch."""
        plan, key = self._plan, jax.random.fold_in(self._data.key, 0)
        return rows_of(self._data.train, plan.batch_size, key=key, epoch=epoch, shuffle=plan.shuffle)

    def _repeat(self, step: Callable[[bool, Any, Carry], Carry], carry: Carry, first: Any, last: Any) -> Carry:
        """Repeats `step(watched, i, carry)` for i from `first` to `last`, watched where records are due."""
        plain = functools.partial(step, False)
        if self._plan.watch is None:
            return jax.lax.fori_loop(first, last, plain, carry)
        every, epoch_start = self._plan.watch.every, carry.epoch * self._plan.steps_per_epoch

        def cycle(state: tuple[Any, Carry]) -> tuple[Any, Carry]:
            i, carry = state
            due = jnp.minimum(i + -(epoch_start + i) % every, last)
            carry = jax.lax.fori_loop(i, due, plain, carry)
            after = jnp.minimum(due + 1, last)
            # A loop of one step or none: under `cond`, XLA copies all that is carried.
            return after, jax.lax.fori_loop(due, after, functools.partial(step, True), carry)

        return jax.lax.while_loop(lambda state: state[0] < last, cycle, (jnp.int32(first), carry))[1]

    def _step_unless_empty(self, batches: Minibatches, watched: bool, i: Array, carry: Carry) -> Carry:
        stepped = self._step(batches, watched, i, carry)
        skipped = carry._replace(step=stepped.step)
        return select(batches.weights[i, 0] > 0, stepped, skipped)

    def _step(self, batches: Minibatches | Window, watched: bool, i: Array, carry: Carry) -> Carry:
        plan, (params, state, opt_state) = self._plan, carry.learner
        key, batch, weights, mask = self._batch(batches, carry.epoch, i)
        watcher = self._watcher(carry.learner) if watched else None

        def mean_loss(params: Params, perturbations: dict[str, Array]) -> tuple[Array, tuple[ModelState, Array, Any]]:
            model_key = jax.random.fold_in(key, 1)
            known = {"step": carry.step, "mask": mask}
            if watcher is None:
                scores, new = plan.task.scores(params, state, batch, model_key, training=True, **known)
                statistics = None
            else:
                scores, new, statistics = watcher.scores(params, perturbations, state, batch, model_key, **known)
            mean, count = scores.mean_loss(weights, mask)
            return mean, (new, count, statistics)

        perturbations = {} if watcher is None else watcher.perturbations
        differentiate = value_and_grad(mean_loss, carry.loss_scale)
        (loss, (state, count, statistics)), (gradients, output_gradients) = differentiate(params, perturbations)
        gradients = jax.tree.map(jnp.conj, gradients)  # for complex weights, steepest ascent is the conjugate
        # For line searches.
        extra = {"value": loss, "grad": gradients, "value_fn": lambda p: mean_loss(p, perturbations)[0]}
        updates, opt_state = self._optimizer.update(gradients, opt_state, params, **extra)
        layer_records = carry.layer_records
        if watcher is not None and layer_records is not None:
            row = (carry.epoch * plan.steps_per_epoch + i) // layer_records.every
            record = watcher.record(params, gradients, updates, statistics, output_gradients, mask)
            layer_records = layer_records.store(row, record)
        learner = Learner(optax.apply_updates(params, updates), state, opt_state)
        values = {"loss": loss, "gradient_norm": tree_norm(gradients)}
        learner, scale, values = keep_unless_overflowed(carry.loss_scale, carry.learner, learner, values)
        values |= step_records(learner.opt_state)
        return carry._replace(
            step_records={n: carry.step_records[n].at[carry.epoch, i].set(_float32(v)) for n, v in values.items()},
            step=carry.step + 1,
            learner=learner,
            loss_scale=scale,
            loss_sum=carry.loss_sum + _float32(loss) * count,
            counted=carry.counted + count,
            layer_records=layer_records,
        )

    def _step_key(self, epoch: Array, i: Array) -> jax.Array:
        """Returns the key of a step: by epoch and batch, since steps count batches without an example too."""
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(self._data.key, 1), epoch), i)

    def _batch(self, batches: Minibatches | Window, epoch: Array, i: Array) -> tuple[jax.Array, Batch, Array, Array]:
        """Returns the key of a step, its examples, augmented, their weights, and the mask of what is no padding."""
        if isinstance(batches, Window):
            take, (rows, weights) = batches.take, batches.at(i)
        else:
            take, rows, weights = self._data.train.take, batches.indices[i], batches.weights[i]
        mask = weights > 0  # of the examples, whatever they weigh, without the padding
        if self._data.weights is not None:
            weights = weights * self._data.weights[rows]
        key = self._step_key(epoch, i)
        batch = meshes.shard_rows(self._plan.mesh, take(rows))
        batch = batch if self._plan.augment is None else self._plan.augment(jax.random.fold_in(key, 0), batch)
        return key, batch, weights, mask

    def _watcher(self, learner: Learner) -> Watcher | None:
        if self._plan.watch is None:
            return None
        batch = batch_shapes(self._data.train, self._plan.batch_size)
        return Watcher(self._plan.task, self._plan.watch, learner.params, learner.state, batch)

    def end_early(self, carry: Carry) -> Carry:
        """Ends the training, and the epoch that it is in, where it is."""
        if (every := self._plan.validate_every) is not None:
            carry = jax.lax.cond(carry.step % every == 0, lambda c: c, self._validate, carry)
        return self.end_epoch(carry)

    def end_epoch(self, carry: Carry) -> Carry:
        """Ends the epoch here, where its last step has been done."""
        return end_epoch(self._plan, self._data, carry)

    def _validate(self, carry: Carry) -> Carry:
        return validate_here(self._plan, self._data, carry)


def _float32(value: Numeric) -> Array:
    return jnp.asarray(value, jnp.float32)
