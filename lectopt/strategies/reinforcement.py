"""REINFORCE: the controller makes better choices more likely."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.optim.optimizers import adam
from lectopt.strategies.choices import Decisions, Record, as_decisions
from lectopt.strategies.controller import ControllerNetwork
from lectopt.strategies.rounds import Proposal, Score
from lectopt.strategies.running import run_method


def cube(scores: Array) -> Array:
    """Returns the reward of Zoph and Le: the cube of an accuracy."""
    return scores**3


def identity(scores: Array) -> Array:
    """Returns the score itself as the reward."""
    return scores


class Controller(NamedTuple):
    """The settings of the recurrent controller and of how it learns; the defaults suit some hundred children.

    `lo.search.ZOPH_LE` has those of the paper, for tens of thousands of children.

    Args:
        units: number of units of each LSTM layer, at least 1; 35 by default.
        layers: number of LSTM layers, at least 1; 2 by default.
        init_scale: s, above 0: all initial weights are drawn from U(-s, s); 0.08 by default.
        learning_rate: the learning rate of Adam, above 0; 0.04 by default.
        baseline_decay: the decay of the moving average of rewards b, in [0, 1); 0.5 by default.
        normalize: whether advantages :math:`R_k - b` are divided by their root mean square, which makes learning
            independent of the scale of the scores; True by default.
        entropy: coefficient, at least 0, of a bonus for the entropy of the choices, which sustains exploration; 0.3 by
            default.
        reward: a JAX function from scores float[children] to rewards of the same shape, for which higher must remain
            better; by default the scores themselves.

    Example:
        >>> import lectopt as lo
        >>> lo.search.Controller(units=16).layers, lo.search.ZOPH_LE.baseline_decay
        (2, 0.95)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578, sections 3.2 and 4.1;
    Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    Machine Learning 8.
    """

    units: int = 35
    layers: int = 2
    init_scale: float = 0.08
    learning_rate: float = 0.04
    baseline_decay: float = 0.5
    normalize: bool = True
    entropy: float = 0.3
    reward: Callable[[Array], Array] = identity


def checked_controller(controller: Any) -> Controller:
    """Returns the controller itself after checking its fields."""
    if not isinstance(controller, Controller):
        raise TypeError(f"controller must be a lectopt.search.Controller; got {type(controller).__name__}")
    checks.check_count("units", controller.units)
    checks.check_count("layers", controller.layers)
    for name in ("init_scale", "learning_rate"):
        checks.check_number(name, getattr(controller, name), checks.POSITIVE)
    checks.check_number("baseline_decay", controller.baseline_decay, checks.FRACTION)
    checks.check_flag("normalize", controller.normalize)
    checks.check_number("entropy", controller.entropy, checks.NON_NEGATIVE)
    if not callable(controller.reward):
        raise TypeError(f"reward must be a function of the scores; got {type(controller.reward).__name__}")
    return controller


SHORT = Controller()
"""For some hundred children."""

ZOPH_LE = Controller(learning_rate=6e-4, baseline_decay=0.95, normalize=False, entropy=0.0, reward=cube)
"""The paper's setting, for tens of thousands of children."""


class ControllerState(NamedTuple):
    """What the controller has learned."""

    params: Any
    opt_state: optax.OptState
    baseline: Array  # float32[], the moving average of rewards; NaN before any
    worst: Array  # float32[], the lowest finite score so far


class Reinforce(NamedTuple):
    """The controller samples, and learns from the rewards."""

    decisions: Decisions
    children: int
    controller: Controller = SHORT

    def init(self, key: jax.Array) -> ControllerState:
        """Returns a controller with newly drawn weights."""
        params = nnx.as_pure(nnx.state(self._network(key), nnx.Param))
        return ControllerState(params, self._optimizer().init(params), jnp.float32(math.nan), jnp.float32(math.inf))

    def ask(self, state: ControllerState, key: jax.Array) -> Proposal:
        """Samples vectors from the controller."""

        def sample(key: jax.Array) -> tuple[Array, Array]:
            keys = jax.random.split(key, len(self.decisions.options))
            outputs = self._merged(state.params).unroll(
                lambda t, logp: jax.random.categorical(keys[t], logp).astype(jnp.int32)
            )
            return outputs.vector, outputs.log_probabilities

        vectors, log_probabilities = jax.vmap(sample)(jax.random.split(key, self.children))
        matters = self.decisions.matter(vectors)
        probabilities = jnp.exp(log_probabilities)
        notes = {
            "entropy": jnp.mean(jnp.sum(_entropies(log_probabilities) * matters, axis=1)),
            "probabilities": jnp.mean(probabilities, axis=0),
        }
        return Proposal(self.decisions.canonical(vectors), notes)

    def tell(self, state: ControllerState, vectors: Array, scores: Array) -> ControllerState:
        """Takes one step of Adam along the gradient of the expected reward, as estimated from these children."""
        finite = jnp.isfinite(scores)
        worst = jnp.minimum(state.worst, jnp.min(jnp.where(finite, scores, jnp.inf)))
        known = jnp.isfinite(worst)
        # What has no score is as bad as the worst that ever had one; before any, there is nothing to learn.
        rewards = self._rewards(jnp.where(finite, scores, jnp.where(known, worst, 0)))
        baseline = jnp.where(jnp.isnan(state.baseline), jnp.mean(rewards), state.baseline)
        advantages = jnp.where(known, rewards - baseline, 0)
        if self.controller.normalize:
            advantages = advantages / jnp.sqrt(jnp.mean(advantages**2) + 1e-12)
        gradients = jax.grad(self.loss)(state.params, vectors, advantages)
        updates, opt_state = self._optimizer().update(gradients, state.opt_state, state.params)
        decay = self.controller.baseline_decay
        average = jnp.where(known, decay * baseline + (1 - decay) * jnp.mean(rewards), jnp.nan)
        return ControllerState(optax.apply_updates(state.params, updates), opt_state, average, worst)

    def loss(self, params: Any, vectors: Array, advantages: Array) -> Array:
        """Returns a number whose gradient is the negative gradient of the expected reward."""

        def judged(vector: Array) -> tuple[Array, Array]:
            log_probabilities = self._merged(params).unroll(lambda t, _: vector[t]).log_probabilities
            return jnp.take_along_axis(log_probabilities, vector[:, None], axis=1)[:, 0], _entropies(log_probabilities)

        taken, entropies = jax.vmap(judged)(vectors)
        matters = self.decisions.matter(vectors)
        bonus = self.controller.entropy * jnp.sum(entropies * matters, axis=1)
        return -jnp.mean(jnp.sum(taken * matters, axis=1) * advantages + bonus)

    def _rewards(self, scores: Array) -> Array:
        rewards = jnp.asarray(self.controller.reward(scores))
        if rewards.shape != scores.shape:
            raise ValueError(f"reward must return one number for each score, {scores.shape}; got shape {rewards.shape}")
        return rewards

    def _optimizer(self) -> optax.GradientTransformation:
        return adam(self.controller.learning_rate)

    def _network(self, key: jax.Array) -> ControllerNetwork:
        c = self.controller
        return ControllerNetwork(self.decisions, c.units, c.layers, c.init_scale, nnx.Rngs(key))

    def _merged(self, params: Any) -> ControllerNetwork:
        network = nnx.eval_shape(lambda: self._network(jax.random.key(0)))
        return nnx.merge(nnx.graphdef(network), params)


def _entropies(log_probabilities: Array) -> Array:
    """Returns the entropies in nats, over the last axis."""
    return -jnp.sum(jnp.exp(log_probabilities) * jnp.maximum(log_probabilities, -1e9), axis=-1)


def reinforce(
    choices: Any,
    score: Score,
    rounds: int,
    children: int,
    key: Any,
    *,
    controller: Controller = SHORT,
    host: bool = False,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Record:
    r"""Searches vectors of choices with a recurrent controller that learns by REINFORCE.

    In each round an LSTM with parameters :math:`\theta` samples m vectors :math:`a_1, \dots, a_m`, one decision after
    the other, and takes a step of Adam along the estimated gradient of the expected reward

    .. math:: \nabla_\theta J \approx \frac{1}{m} \sum_{k=1}^m \sum_t
        \nabla_\theta \log P_\theta(a_{k,t} \mid a_{k,1}, \dots, a_{k,t-1}) (R_k - b)

    with rewards :math:`R_k`, and b an exponential moving average of the mean rewards of earlier rounds (in the first
    round, its own mean).

    Args:
        choices: what there is to decide: a sequence of ints, the number of options of each decision, at least 1; or a
            `lo.ArchitectureSpace`. A vector of choices holds one option, from 0, for each decision.
        score: a JAX function from int32[children, decisions] to float[children], such as a table or a simulator; higher
            is better, and all scores must be finite. With `host=True`, any Python function of a NumPy array.
        rounds: number of rounds, at least 1.
        children: m, the number of vectors, called children, that are tried in each round, at least 1.
        key: an int or a `jax.random.key`.
        controller: a `lo.search.Controller`: size and learning of the controller; by default for some hundred children.
        host: whether `score` is called from Python, outside any compiled program; False, the default, compiles all
            rounds into one program.
        directory: folder that keeps the state between rounds; it is created if necessary. A search that was interrupted
            in any way continues from there when it is called again with the same arguments, and ends as an
            uninterrupted one would. None keeps nothing on disk.
        progress: whether to show a progress bar on standard error; True by default.

    Returns:
        A `Record` with the fields `choices`, int32[rounds, children, decisions], and `scores`, float32[rounds,
        children]; also `entropy` and `probabilities` of the controller. Without `host` and `directory` this is a pure
        function, which can be jitted, and vmapped over keys. In an interactive session (a notebook, IPython or the
        Python prompt), Ctrl-C returns the rounds so far, with a warning.

    Raises:
        ValueError: if an argument is out of range, `score` returns values of the wrong shape or not finite, or
            `directory` holds another search (which is not detected if only a `score` on the host differs).
        TypeError: if an argument or a score has the wrong type.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. What is in `directory` is kept.

    Example:
        >>> import lectopt as lo
        >>> record = lo.search.reinforce([8] * 6, lambda vectors: vectors.sum(axis=1), 40, 10, key=0)
        >>> float(record.scores[-1].mean()) > float(record.scores[0].mean()) + 10
        True

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578, sections 3.1 and 3.2;
    Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    Machine Learning 8.
    """
    children = checks.check_count("children", children)
    method = Reinforce(as_decisions(choices), children, checked_controller(controller))
    return run_method(method, score, rounds, key, host=host, directory=directory, progress=progress)
