"""The one training loop: steps, epochs, validation and the record of them, as pure functions of a carry.

`train` runs it whole under `jit` and `vmap`, `fit` runs it in chunks.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lectopt import meshes
from lectopt._numerics import tree_norm
from lectopt._types import Array, Numeric
from lectopt.evaluation import batch_shapes, evaluate
from lectopt.models import Params
from lectopt.statistics import Looks, Watch, Watcher, of_optimizer
from lectopt.subsets import Minibatches, Subset, minibatches
from lectopt.task import Batch, ModelState, Task
from lectopt.transforms import eval_params


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is fixed when a loop compiles. Hashable: equal plans share what was compiled."""

    task: Task
    batch_size: int
    steps: int  # in all
    steps_per_epoch: int
    shuffle: bool
    patience: int | None
    augment: Callable[[jax.Array, Batch], Batch] | None
    watch: Watch | None
    inputs: str  # the shapes of a batch of inputs
    mesh: Mesh | None  # that batches are split over

    @property
    def epochs(self) -> int:
        """Passes through the examples, the last one perhaps not whole."""
        return math.ceil(self.steps / self.steps_per_epoch)


class Data(NamedTuple):
    """What the loop only reads."""

    train: Subset
    valid: Subset | None
    weights: Array | None  # float32[examples of `train.arrays`], with mean 1 over the training part
    key: jax.Array


class Learner(NamedTuple):
    """What learning changes."""

    params: Params  # as the optimizer holds them: the look-ahead point under Nesterov momentum
    state: ModelState  # what of the model is not trained
    opt_state: optax.OptState


class Carry(NamedTuple):
    """The loop's state between steps."""

    step: Array  # int32[], steps done
    epoch: Array  # int32[], epochs done
    learner: Learner
    before: Learner  # at the start of the epoch
    best: Learner | None  # at the best validation, under patience
    metrics: dict[str, Array]  # of what is to be returned: `best`, or the last finite epoch
    failures: Array  # int32[], validations since the best one
    running: Array  # bool[], neither diverged nor out of patience
    diverged_at: Array  # int32[], -1 while all is finite
    loss_sum: Array  # float32[], over the examples of this epoch so far
    counted: Array  # float32[], how many these are, or how many of their labels count
    step_records: dict[str, Array]  # float32[epochs, steps_per_epoch]
    epoch_records: dict[str, Array]  # float32[epochs]
    looks: Looks | None  # at the layers, if they are watched
    chance: Array  # float32[], see `History`


class Loop:
    """A plan with its optimizer and data, ready to run."""

    def __init__(self, plan: Plan, optimizer: optax.GradientTransformation, data: Data):
        self._plan = plan
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._data = data

    def start(self, learner: Learner, *, known: bool = False) -> Carry:
        """The carry before the first step; under patience, a start that is `known` has to be beaten."""
        plan = self._plan
        step_names = ["loss", "gradient_norm", *of_optimizer(learner.opt_state)]
        empty = jnp.full((plan.epochs, plan.steps_per_epoch), jnp.nan, jnp.float32)
        metrics = jax.eval_shape(self._validate, learner)
        nothing = {name: jnp.full((), jnp.nan, jnp.float32) for name in ("train_loss", *metrics)}
        return Carry(
            step=jnp.int32(0),
            epoch=jnp.int32(0),
            learner=learner,
            before=learner,
            best=None if plan.patience is None else learner,
            metrics=nothing | self._validate(learner) if known and plan.patience is not None else nothing,
            failures=jnp.int32(0),
            running=jnp.array(True),
            diverged_at=jnp.int32(-1),
            loss_sum=jnp.float32(0),
            counted=jnp.float32(0),
            step_records=dict.fromkeys(step_names, empty),
            epoch_records={name: jnp.full((plan.epochs,), jnp.nan, jnp.float32) for name in nothing},
            looks=None if plan.watch is None else self._watcher(plan.watch, learner).no_looks(plan.steps),
            chance=plan.task.chance(self._data.train),
        )

    def run(self, carry: Carry) -> Carry:
        """The whole training, with loops of fixed length."""
        whole, rest = divmod(self._plan.steps, self._plan.steps_per_epoch)

        def epoch(_: int, carry: Carry) -> Carry:
            return self._end_epoch(self._steps(carry, 0, self._plan.steps_per_epoch))

        carry = jax.lax.fori_loop(0, whole, epoch, carry)
        return self._end_epoch(self._steps(carry, 0, rest)) if rest else carry

    def run_until(self, carry: Carry, stop: Array) -> Carry:
        """The training up to step `stop` or its end; `stop` may be traced and lie within an epoch."""
        plan = self._plan
        stop = jnp.minimum(stop, plan.steps)

        def stretch(carry: Carry) -> Carry:
            first = carry.step - carry.epoch * plan.steps_per_epoch
            last = jnp.minimum(stop - carry.epoch * plan.steps_per_epoch, plan.steps_per_epoch)
            carry = self._steps(carry, first, last)
            ended = (last == plan.steps_per_epoch) | (carry.step == plan.steps)
            return jax.lax.cond(ended, self._end_epoch, lambda c: c, carry)

        return jax.lax.while_loop(lambda c: (c.step < stop) & c.running, stretch, carry)

    def _steps(self, carry: Carry, first: Any, last: Any) -> Carry:
        """Steps `first` to `last` of the present epoch."""
        plan, train = self._plan, self._data.train
        shuffle_key = jax.random.fold_in(self._data.key, 0)
        batches = minibatches(train, plan.batch_size, key=shuffle_key, epoch=carry.epoch, shuffle=plan.shuffle)
        surely_full = math.ceil(train.least / plan.batch_size)
        if surely_full == plan.steps_per_epoch:
            return self._stretch(functools.partial(self._step, batches), carry, first, last)
        # Where parts of different size share a shape, the last batches may hold no example of this part.
        middle = min(last, surely_full) if isinstance(last, int) else jnp.minimum(last, surely_full)
        carry = self._stretch(functools.partial(self._step, batches), carry, first, middle)
        late = max(first, surely_full) if isinstance(first, int) else jnp.maximum(first, surely_full)
        return self._stretch(functools.partial(self._step_unless_empty, batches), carry, late, last)

    def _stretch(self, step: Callable[[bool, Any, Carry], Carry], carry: Carry, first: Any, last: Any) -> Carry:
        """`step(watched, i, carry)` for i from `first` to `last`, watched where a look is due."""
        plain = functools.partial(step, False)
        if self._plan.watch is None:
            return jax.lax.fori_loop(first, last, plain, carry)
        every, begun = self._plan.watch.every, carry.epoch * self._plan.steps_per_epoch

        def cycle(state: tuple[Any, Carry]) -> tuple[Any, Carry]:
            i, carry = state
            due = jnp.minimum(i + -(begun + i) % every, last)
            carry = jax.lax.fori_loop(i, due, plain, carry)
            after = jnp.minimum(due + 1, last)
            # A loop of one step or none: under `cond`, XLA copies all that is carried.
            return after, jax.lax.fori_loop(due, after, functools.partial(step, True), carry)

        return jax.lax.while_loop(lambda state: state[0] < last, cycle, (jnp.int32(first), carry))[1]

    def _step_unless_empty(self, batches: Minibatches, watched: bool, i: Array, carry: Carry) -> Carry:
        stepped = self._step(batches, watched, i, carry)
        skipped = carry._replace(step=stepped.step)
        return _select(batches.weights[i, 0] > 0, stepped, skipped)

    def _step(self, batches: Minibatches, watched: bool, i: Array, carry: Carry) -> Carry:
        plan, (params, state, opt_state) = self._plan, carry.learner
        rows, weights = batches.indices[i], batches.weights[i]
        real = weights > 0  # the examples, whatever they weigh
        if self._data.weights is not None:
            weights = weights * self._data.weights[rows]
        # By epoch and batch, not by step, which counts batches without an example too.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(self._data.key, 1), carry.epoch), i)
        batch = meshes.split(plan.mesh, self._data.train.take(rows))
        if plan.augment is not None:
            batch = plan.augment(jax.random.fold_in(key, 0), batch)
        watch = plan.watch if watched else None
        watcher = None if watch is None else self._watcher(watch, carry.learner)

        def mean_loss(params: Params, nudges: dict[str, Array]) -> tuple[Array, tuple[ModelState, Array, Any]]:
            model_key = jax.random.fold_in(key, 1)
            if watcher is None:
                scores, new = plan.task.scores(params, state, batch, model_key, training=True)
                seen = None
            else:
                scores, new, seen = watcher.scores(params, nudges, state, batch, real, model_key)
            mean, count = scores.mean_loss(weights, real)
            return mean, (new, count, seen)

        nudges = {} if watcher is None else watcher.nudges
        differentiate = jax.value_and_grad(mean_loss, argnums=(0, 1), has_aux=True)
        (loss, (state, count, seen)), (gradients, back) = differentiate(params, nudges)
        gradients = jax.tree.map(jnp.conj, gradients)  # for complex weights, steepest ascent is the conjugate
        extra = {"value": loss, "grad": gradients, "value_fn": lambda p: mean_loss(p, nudges)[0]}  # for line searches
        updates, opt_state = self._optimizer.update(gradients, opt_state, params, **extra)
        looks = carry.looks
        if watcher is not None and looks is not None:
            row = (carry.epoch * plan.steps_per_epoch + i) // looks.every
            looks = looks.add(row, watcher.look(params, gradients, updates, seen, back, real))
        params = optax.apply_updates(params, updates)

        values = {"loss": loss, "gradient_norm": tree_norm(gradients), **of_optimizer(opt_state)}
        records = {n: carry.step_records[n].at[carry.epoch, i].set(_float32(v)) for n, v in values.items()}
        return carry._replace(
            step=carry.step + 1,
            learner=Learner(params, state, opt_state),
            loss_sum=carry.loss_sum + _float32(loss) * count,
            counted=carry.counted + count,
            step_records=records,
            looks=looks,
        )

    def _watcher(self, watch: Watch, learner: Learner) -> Watcher:
        batch = batch_shapes(self._data.train, self._plan.batch_size)
        return Watcher(self._plan.task, watch, learner.params, learner.state, batch)

    def _end_epoch(self, carry: Carry) -> Carry:
        """Validates, records, and freezes what diverged or is out of patience."""
        finite, first_bad = self._examine(carry)
        healthy = carry.running & finite
        diverged_at = jnp.where(carry.running & ~finite, first_bad, carry.diverged_at)
        learner = _select(healthy, carry.learner, carry.before)
        metrics = {"train_loss": carry.loss_sum / carry.counted, **self._validate(learner)}

        better, best, failures = healthy, carry.best, carry.failures
        if self._plan.patience is not None:
            loss, least = metrics["valid_loss"], carry.metrics["valid_loss"]
            better = healthy & ((loss < least) | (jnp.isnan(least) & ~jnp.isnan(loss)))
            best = _select(better, learner, carry.best)
            failures = jnp.where(better, 0, failures + 1)
            healthy = healthy & (failures < self._plan.patience)

        return carry._replace(
            epoch=carry.epoch + 1,
            learner=learner,
            before=learner,
            best=best,
            metrics=_select(better, metrics, carry.metrics),
            failures=failures,
            running=healthy,
            diverged_at=diverged_at,
            loss_sum=jnp.float32(0),
            counted=jnp.float32(0),
            step_records={
                name: record.at[carry.epoch].set(jnp.where(carry.running, record[carry.epoch], jnp.nan))
                for name, record in carry.step_records.items()
            },
            epoch_records={
                name: carry.epoch_records[name].at[carry.epoch].set(jnp.where(carry.running & finite, value, jnp.nan))
                for name, value in metrics.items()
            },
        )

    def _examine(self, carry: Carry) -> tuple[Array, Array]:
        """Whether the epoch was finite, and its first step that was not."""
        plan, size = self._plan, self._data.train.size
        first = carry.epoch * plan.steps_per_epoch
        done = carry.step - first
        batch = jnp.arange(plan.steps_per_epoch)
        met = (batch < done) & (batch * plan.batch_size < size)
        bad = met & ~jnp.isfinite(carry.step_records["loss"][carry.epoch])
        # A last step can leave weights that are not finite although no loss has shown it yet.
        bad_weights = ~_all_finite(carry.learner.params)
        first_bad = first + jnp.where(jnp.any(bad), jnp.argmax(bad), jnp.sum(met) - 1)
        return ~(jnp.any(bad) | bad_weights), first_bad.astype(jnp.int32)

    def _validate(self, learner: Learner) -> dict[str, Array]:
        if self._data.valid is None:
            return {}
        w = eval_params(learner.opt_state, learner.params)
        scores = evaluate(self._plan.task, w, learner.state, self._data.valid, self._plan.mesh)
        return {f"valid_{name}": _float32(value) for name, value in scores.items()}


def _all_finite(params: Params) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(p)) for p in jax.tree.leaves(params)] or [jnp.array(True)]))


def _select(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _float32(value: Numeric) -> Array:
    return jnp.asarray(value, jnp.float32)
