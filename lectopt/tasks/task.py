"""Tasks: a model, its loss and its metrics."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.numerics import widen
from lectopt._internal.types import Array, Numeric
from lectopt.data.batches import Batch
from lectopt.data.subsets import Subset
from lectopt.initializers import biases
from lectopt.norms.standardize import Standardize
from lectopt.tasks import task_checks
from lectopt.tasks.interception import Handler, InterceptedAdapter
from lectopt.tasks.metrics import PerExample, WholeSetMetric
from lectopt.tasks.model_state import ModelState, empty_moments, standardize_inputs
from lectopt.tasks.models import Params, adapt
from lectopt.tasks.output_bias import locate_bias, replace_bias
from lectopt.tasks.precision import RoundedAdapter, as_compute_dtype
from lectopt.tasks.scores import Scores

_PROBABILITIES: dict[str, Callable[[Array], Array]] = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax}
ACTIVATIONS = ("identity", *_PROBABILITIES)
_SAME: Any = (lambda key, x: ({}, {}), lambda params, state, x, key, training: (x, state))
"""A model whose outputs are its inputs."""


class Task:
    """A model, its loss and its metrics: what `fit`, `train` and the searches train.

    A task compares by identity: reuse the same object, and what was compiled for it is reused too.

    **How a model is called.** Modules are called with the inputs x and, if their call takes one, a flag that says
    whether this is training: `train`, `training`, `is_training`, `deterministic`, `use_running_average`, `inference`
    and the like, whatever its default. (A flag `deterministic=None` is left to the layers where some of them are
    frozen, or where a Linen module has it set.) Other arguments without a default are refused; so are inner layers
    whose flag is not passed on, as in a Sequential.

    **Frozen layers.** NNX layers with an attribute `deterministic` or `use_running_average`, such as Dropout and
    BatchNorm, train if it is False or None, and otherwise are in evaluation mode. A layer for which it is True, by the
    constructor or by `layer.eval()`, is frozen: it stays in evaluation mode in training too, so its statistics are kept
    and nothing is dropped. (Scale and bias of a BatchNorm are weights, and are still trained.) `run.model` is in
    evaluation mode, and trains again with the same layers frozen as before; `eval()` of a layer in it freezes that one
    too.

    **Half precision.** With `compute_dtype`, weights are rounded to it, and so are the inputs of each layer, forward
    and backward, in training, evaluation and prediction. The weights themselves, their gradients, the optimizer's
    state, the model's other variables, its outputs and the losses stay float32. Layers that were made with a `dtype` of
    their own compute in that. In bfloat16 nothing else changes. In float16, whose gradients underflow below 6e-8, the
    loss is multiplied by a scale before it is differentiated, and the gradient divided by it: the scale starts at 2^15,
    doubles after 2000 steps, and halves when a gradient overflows; such a step changes nothing, and its "gradient_norm"
    in `run.history.steps`, which holds the "loss_scale" too, is 0. `run.model` holds float32 weights and computes in
    its own precision.

    Args:
        model: the network; one of

            - a function rngs -> nnx.Module, such as a subclass of nnx.Module or a lambda;
            - an existing nnx.Module: training starts from its weights and leaves it unchanged;
            - a Linen module;
            - a pair of functions (init, apply): init(key, x) -> (params, state) and apply(params, state, x, key,
              training) -> (outputs, state).

            An input x is an array, or a tree of arrays such as a dictionary.
        loss: (outputs [batch, ...], targets [batch, ...]) -> float[batch], one number per example; None only with an
            objective.
        metrics: {name: function}, each (outputs [batch, ...], targets [batch, ...]) -> float[batch], or marked by
            `whole_set`; None for none.
        objective: instead of a loss, for what needs the model itself (a variational or denoising autoencoder): (module,
            batch, key) -> (float[batch], {name: float[batch]}), losses and metrics per example. The module is an
            nnx.Module, a bound Linen module, or for functions a function of x; batch is the tuple of arrays. If it has
            parameters of these names, they are passed by name: `training`, whether this is a step of training, for
            modules that take a flag; `step`, int32[], how many steps this training did before this one (those before
            `start` do not count), None in evaluation, whose losses are to be comparable; `mask`, bool[batch], False for
            the padding of a smaller batch. None uses the loss.
        standardize: True to bring the inputs, numbers [n, ..., features], to zero mean and unit variance per feature,
            with the statistics of the training part that a run is given, and of nothing else.
        output_bias: where the output bias is, float[outputs], which is then set from the targets of the training part
            so that constant outputs have the right means: for NNX a function module -> variable, otherwise a path such
            as "Dense_1/bias"; None leaves it as the model initializes it. Needs `activation`.
        activation: the activation that turns outputs into predictions, "identity", "sigmoid" or "softmax", for
            output_bias, `run.probabilities` and `run.classes`; None if these are not needed.
        check: (shapes of the outputs, targets) -> None, called before anything compiles, with the shapes of the targets
            and, where they are known, with the targets; raises ValueError if they do not fit. None checks nothing.
        baseline_loss: (targets [n, ...], weights float32[n]) -> the loss of the best constant outputs, a scalar,
            written in JAX, for `inspect` and `diagnose`. Examples of weight 0 are padding and must not count. None if
            it is not known.
        inputs: how many arrays of an example, the first ones, are inputs of the model: with 2, examples are (x1, x2,
            targets), modules are called with (x1, x2), functions with a tuple of both, and so is `run.predict`.
        counts: targets -> float[batch], how much each example counts in means over examples, such as the number of
            tokens in a padded sequence whose loss is the mean over its tokens: then means are over tokens, in training,
            validation and metrics. None counts all alike. (`classification` does so by its `ignore_label`.)
        in_batch: True if the loss of an example, by an objective, depends on the others in its batch, as with in-batch
            negatives: then examples are scored in batches of the size of training too.
        compute_dtype: the precision that the model computes in, jnp.bfloat16, jnp.float16 or jnp.float32; see "Half
            precision". None leaves it to the model.

    Raises:
        TypeError: if model is of none of these kinds, or another argument of the wrong type.
        ValueError: if not exactly one of loss and objective is given, metrics are given with an objective, output_bias
            without activation, or activation is none of the three.

    Example:
        >>> import jax.numpy as jnp, lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Linear(3, 1, rngs=rngs)
        >>> task = lo.Task(net, lambda outputs, targets: jnp.sum(jnp.abs(outputs - targets), axis=-1))
    """

    def __init__(
        self,
        model: Any,
        loss: PerExample | None = None,
        metrics: Mapping[str, PerExample | WholeSetMetric] | None = None,
        *,
        objective: Callable[[Any, Batch, jax.Array], tuple[Array, dict[str, Array]]] | None = None,
        standardize: bool = False,
        output_bias: Any = None,
        activation: str | None = None,
        check: Callable[[jax.ShapeDtypeStruct, Any], None] | None = None,
        baseline_loss: Callable[[Any, Array], Numeric] | None = None,
        inputs: int = 1,
        counts: Callable[[Any], Array] | None = None,
        in_batch: bool = False,
        compute_dtype: Any = None,
    ):
        if (loss is None) == (objective is None):
            raise ValueError("Task takes exactly one of loss and objective")
        if objective is not None and metrics:
            raise ValueError("metrics go with a loss; an objective returns its own metrics")
        if output_bias is not None and activation is None:
            raise ValueError(f"output_bias needs the activation of the outputs, one of {', '.join(ACTIVATIONS)}")
        if activation is not None:
            checks.check_choice("activation", activation, ACTIVATIONS)
        if checks.check_flag("in_batch", in_batch) and objective is None:
            raise ValueError("in_batch goes with an objective, which sees the whole batch; a loss is per example")
        if counts is not None and objective is not None:
            raise ValueError("counts goes with a loss, for its targets; an objective returns what each example counts")
        by_name = [name for name in ("training", "step", "mask") if task_checks.takes(objective, name)]
        task_checks.check_metrics(metrics)
        task_checks.check_place(output_bias)
        for name, function, arguments in [
            ("loss", loss, "outputs, targets"),
            ("counts", counts, "targets"),
            ("check", check, "outputs, targets"),
            ("baseline_loss", baseline_loss, "targets, weights"),
            *((f"metrics[{name!r}]", f, "outputs, targets") for name, f in (metrics or {}).items()),
        ]:
            if not isinstance(function, WholeSetMetric):
                task_checks.check_function(name, function, arguments)
        task_checks.check_function("objective", objective, "module, batch, key", by_name)
        self.inputs = checks.check_count("inputs", inputs)
        self.compute_dtype = as_compute_dtype(compute_dtype)
        adapter = adapt(model, self.inputs)
        self.adapter = adapter if self.compute_dtype is None else RoundedAdapter(adapter, self.compute_dtype)
        self.has_targets = loss is not None
        self.metrics = dict(metrics or {})
        self._baseline_loss = baseline_loss
        self._loss = loss
        self._objective = objective
        self._by_name = by_name
        self._counts = counts
        self.in_batch = in_batch
        self.standardize = checks.check_flag("standardize", standardize)
        self.output_bias = output_bias
        self.activation = activation
        self.check = check

    def init(self, key: jax.Array, batch: Batch) -> tuple[Params, ModelState]:
        """Draws new parameters and makes the variables that are not trained; nothing is learned from the data yet.

        Args:
            key: a `jax.random.key`.
            batch: a tuple of arrays, or their shapes; the first are the inputs.

        Returns:
            (params, state): a tree of arrays, and a ModelState.
        """
        x = self.inputs_of(batch)
        params, variables = self.adapter.init(key, x)
        return params, ModelState(variables, empty_moments(x) if self.standardize else None)

    def inputs_of(self, batch: Batch) -> Any:
        """Returns the inputs among examples.

        Args:
            batch: a tuple of arrays.

        Returns:
            x: the first of them; a tuple of the first ones if the model has several inputs.
        """
        return batch[0] if self.inputs == 1 else tuple(batch[: self.inputs])

    def arrays_of(self, x: Any) -> tuple[Any, ...]:
        """Returns inputs x as the arrays that they are among examples.

        Args:
            x: what `inputs_of` returned.

        Returns:
            A tuple of as many arrays as the model has inputs.
        """
        return (x,) if self.inputs == 1 else tuple(x)

    def learn_output_bias(self, params: Params, train: Subset) -> Params:
        """Sets the output bias so that constant outputs have the training part's mean targets, if the task has one.

        Args:
            params: the parameters, a tree of arrays.
            train: the training part, a `Subset`.

        Returns:
            The parameters with this bias; `params` themselves without `output_bias`.
        """
        if self.output_bias is None:
            return params
        place, mask = locate_bias(params, self.adapter.path(self.output_bias)), train.mask
        return replace_bias(params, place, self.output_bias_init(train.take(train.indices)[-1], mask))

    def output_bias_init(self, targets: Any, mask: Array) -> Callable[..., Array]:
        """Returns the initializer of the output bias.

        Args:
            targets: the targets of n examples.
            mask: bool[n], False for padding.
        """
        return biases.output_bias(targets, self.activation or "", mask)

    def baseline_loss(self, examples: Subset) -> Array | None:
        """Computes the loss of the best constant outputs for these examples.

        Args:
            examples: a `Subset` of inputs and targets.

        Returns:
            float32[], or None if the task does not know it.
        """
        if self._baseline_loss is None:
            return None
        weights = examples.mask.astype(jnp.float32)
        return jnp.asarray(self._baseline_loss(examples.take(examples.indices)[-1], weights), jnp.float32)

    def counts(self, targets: Any) -> Array | None:
        """Counts the labels of each example that enter means over examples.

        Args:
            targets: the targets of n examples.

        Returns:
            float[n], or None if all examples count alike.

        Raises:
            TypeError: if the function `counts` does not return an array.
        """
        if self._counts is None:
            return None
        if not hasattr(counts := self._counts(targets), "astype"):
            raise checks.ArgumentError(f"counts must return an array; it returned {checks.type_description(counts)}")
        return widen(counts)

    def scores(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        key: jax.Array,
        training: bool,
        *,
        step: Array | None = None,
        mask: Array | None = None,
    ) -> tuple[Scores, ModelState]:
        """Computes the loss and the metrics of each example of a batch.

        Args:
            params: the parameters, a tree of arrays.
            state: the ModelState.
            batch: a tuple of arrays [batch, ...].
            key: a `jax.random.key`, for what the model draws.
            training: whether the model is in training mode.
            step: int32[], how many steps of training were done; None for none, and in evaluation.
            mask: bool[batch], False for padding; None if there is none.

        Returns:
            (scores, state): the Scores of the batch and the ModelState afterwards.

        Raises:
            TypeError: if an objective does not return a pair (losses, metrics).
        """
        x = self.inputs_of(batch)
        if self._objective is not None:
            x = standardize_inputs(x, state)
            objective, batch = self._objective, (*self.arrays_of(x), *batch[self.inputs :])
            if mask is None and "mask" in self._by_name:
                mask = jnp.ones(jax.tree.leaves(batch)[0].shape[0], bool)
            step = jnp.int32(0) if training and step is None else step
            known = {"training": training, "step": step, "mask": mask}
            given = {name: known[name] for name in self._by_name}
            result, variables = self.adapter.call(
                lambda model: objective(model, batch, key, **given),
                params,
                state.variables,
                jax.random.fold_in(key, 0),
                training,
            )
            losses, metrics = checks.check_pair("objective", "(losses, {name: values})", result)
            return Scores(widen(losses), metrics, None), state._replace(variables=variables)
        outputs, state = self.outputs(params, state, x, key, training)
        targets = batch[-1]
        means = {name: m(outputs, targets) for name, m in self.metrics.items() if not isinstance(m, WholeSetMetric)}
        losses = widen(self._loss(outputs, targets))  # type: ignore[misc]
        return Scores(losses, means, outputs, self.counts(targets)), state

    def outputs(
        self, params: Params, state: ModelState, x: Any, key: jax.Array, training: bool
    ) -> tuple[Any, ModelState]:
        """Computes the model's outputs for inputs x.

        Args:
            params: the parameters, a tree of arrays.
            state: the ModelState.
            x: the inputs, an array [batch, ...] or a tree of them.
            key: a `jax.random.key`, for what the model draws.
            training: whether the model is in training mode.

        Returns:
            (outputs, state): the outputs and the ModelState afterwards.

        Raises:
            TypeError: if the model has several inputs, and x is not a tuple of as many.
        """
        if self.inputs > 1 and not (isinstance(x, (tuple, list)) and len(x) == self.inputs):
            raise checks.ArgumentError(
                f"x must be a tuple of the model's {self.inputs} inputs; got {checks.type_description(x)}"
            )
        x = standardize_inputs(x, state)
        outputs, variables = self.adapter.call(
            lambda model: self.adapter.forward(model, x, training), params, state.variables, key, training
        )
        return outputs, state._replace(variables=variables)

    @property
    def knows_classes(self) -> bool:
        """Whether the activation says what the outputs mean for classes."""
        return self.activation in _PROBABILITIES

    def probabilities(self, outputs: Any) -> Array:
        """Converts outputs to probabilities, by the task's activation.

        Args:
            outputs: float[n, ...], the model's outputs.

        Returns:
            Probabilities of the same shape, in float32 or wider.
        """
        return _PROBABILITIES[self.activation or ""](widen(outputs))

    def classes(self, outputs: Any) -> Array:
        """Converts outputs to the most likely labels.

        Args:
            outputs: float[n, ..., K] under softmax, float[n, ...] under a sigmoid.

        Returns:
            int32[n, ...]: the most likely class under softmax, 1 where the probability is above one half under a
            sigmoid.
        """
        return (jnp.argmax(outputs, axis=-1) if self.activation == "softmax" else outputs > 0).astype(jnp.int32)

    def present(self, params: Params, state: ModelState) -> Any:
        """Returns the trained model in the form in which a user gave it.

        Args:
            params: the parameters, a tree of arrays.
            state: the ModelState.

        Returns:
            The trained nnx.Module, which takes raw inputs; (params, variables) for Linen modules and functions.
        """
        model = self.adapter.present(params, state.variables)
        if state.inputs is None or not isinstance(model, nnx.Module):
            return model
        standardize = Standardize(state.inputs.mean.shape[0]).store(state.inputs)
        return nnx.Sequential(standardize, model)

    def intercepted(self, handler: Handler, wanted: Callable[[type], Any] = callable) -> "Task":
        """Returns this task with the calls of its model's layers intercepted.

        Args:
            handler: a function that is called in place of each layer's call; `lectopt.tasks.interception` describes its
                arguments.
            wanted: a function from the class of a layer to whether its calls are intercepted.

        Returns:
            A copy of the task.
        """
        task = copy.copy(self)
        task.adapter = InterceptedAdapter(self.adapter, handler, wanted)
        return task

    def of_outputs(self) -> "Task":
        """Returns this task for outputs that are known: its examples are pairs (outputs, targets).

        Returns:
            A copy of the task, without parameters.
        """
        task = copy.copy(self)
        task.adapter, task.inputs, task.standardize, task.output_bias = adapt(_SAME), 1, False, None
        return task
