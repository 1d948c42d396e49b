"""What is evaluated where a training holds other parameters: `eval_params`, and others' states that say so."""

import dataclasses
import tempfile
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization

import lectopt as lo

pytestmark = pytest.mark.usefixtures("eager")

PARAMS = {"layers": [{"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, {"kernel": jnp.full((3, 1), 0.5)}]}
MASK = {"layers": [{"kernel": True, "bias": True}, False]}


def in_all_wrappers(make, *arguments):
    everywhere = lambda params: jax.tree.map(lambda _: "all", params)  # noqa: E731
    part = optax.partition({"all": optax.chain(optax.inject_hyperparams(make)(*arguments))}, everywhere)
    return optax.apply_if_finite(optax.MultiSteps(part, 1).gradient_transformation(), 3)


def sam(optimizer, sync_period=2):
    return optax.contrib.sam(optimizer, optax.chain(optax.contrib.normalize(), optax.sgd(0.1)), sync_period)


OPTIMIZERS = {
    "nesterov": lambda: optax.chain(lo.clip_by_norm(1.0), lo.nesterov(0.1)),
    "nesterov in all wrappers": lambda: in_all_wrappers(lo.nesterov, 0.1),
    "nesterov, masked": lambda: optax.masked(lo.nesterov(0.1), MASK),
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "schedule_free, adamw": lambda: optax.contrib.schedule_free_adamw(0.1),
    "schedule_free, masked": lambda: optax.chain(optax.masked(optax.contrib.schedule_free_sgd(0.1), MASK)),
    "schedule_free in all wrappers": lambda: in_all_wrappers(optax.contrib.schedule_free_sgd, 0.1),
    "sam": lambda: sam(optax.sgd(0.1)),
    "averaged": lambda: lo.average_params(lo.nesterov(0.1)),
    "averaged in all wrappers": lambda: in_all_wrappers(lambda rate: lo.average_params(lo.nesterov(rate), 0.5), 0.1),
    "averaged, masked": lambda: optax.masked(lo.average_params(optax.sgd(0.1)), MASK),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def trained(optimizer, params=PARAMS, steps=3):
    """(state, held parameters) after some steps on sum w^2 / 2."""
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(params, state, params)
        params = optax.apply_updates(params, updates)
    return state, params


def through_orbax(state):
    with tempfile.TemporaryDirectory() as directory, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{directory}/state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(f"{directory}/state")


RESTORED = {
    "to_state_dict": serialization.to_state_dict,
    "msgpack": lambda s: serialization.msgpack_restore(serialization.msgpack_serialize(serialization.to_state_dict(s))),
    "orbax": through_orbax,
}


@pytest.mark.slow
@pytest.mark.parametrize("restore", RESTORED.values(), ids=RESTORED)
@pytest.mark.filterwarnings("ignore")  # Orbax says that it was given no shardings
@every_optimizer
def test_a_state_that_was_restored_without_its_classes(make, restore):
    """Exactly what the state itself gives, which is not what is held."""
    state, held = trained(make())
    w = lo.eval_params(state, held)
    assert not np.allclose(w["layers"][0]["kernel"], held["layers"][0]["kernel"], atol=1e-3)
    chex.assert_trees_all_equal(lo.eval_params(restore(state), held), w)


KERNELS = lambda params: jax.tree.map_with_path(lambda path, _: "kernel" in str(path), params)  # noqa: E731
OF_MODULES = {name: make for name, make in OPTIMIZERS.items() if "masked" not in name} | {
    "nesterov, masked": lambda: optax.masked(lo.nesterov(0.1), KERNELS)
}


@pytest.mark.slow
@pytest.mark.parametrize("make", OF_MODULES.values(), ids=OF_MODULES)
def test_the_state_of_an_nnx_optimizer(make):
    """As an object with its model, as its state, and as plain dictionaries: always w."""
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    optimizer = nnx.Optimizer(model, make(), wrt=nnx.Param)
    x = jnp.array([[1.0, 2.0], [3.0, -1.0]])
    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m.layers[0](x) ** 2) + jnp.sum(m(x) ** 3))(model))
    held = nnx.state(model, nnx.Param)
    w = lo.eval_params(optimizer, model)
    assert jax.tree.structure(w) == jax.tree.structure(held)
    assert not np.allclose(w["layers"][0]["kernel"][...], model.layers[0].kernel[...], atol=1e-4)
    state, pure = nnx.state(optimizer), nnx.to_pure_dict
    for given in ((optimizer.opt_state, held), (optimizer, held), (state, held), (pure(state), held)):
        chex.assert_trees_all_equal(lo.eval_params(*given), w)
    chex.assert_trees_all_equal(lo.eval_params(state, pure(held)), pure(w))
    with pytest.raises(ValueError, match=r"Only params has layers/1/mean, layers/1/var.*eval_params\(optimizer, m"):
        lo.eval_params(state, model)


@pytest.mark.parametrize(
    "make", [*OPTIMIZERS.values(), lo.adam, lambda: optax.sgd(0.1)], ids=[*OPTIMIZERS, "adam", "sgd"]
)
def test_swapped_arguments_are_refused(make):
    state = make().init(PARAMS)
    with pytest.raises(TypeError, match=r"got an optimizer's state.*eval_params\(opt_state, params\)"):
        lo.eval_params(PARAMS, state)
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="got an optimizer's state"):
        lo.eval_params(model, nnx.Optimizer(model, lo.sgd(0.1), wrt=nnx.Param))


def test_a_list_of_arrays_is_refused():
    state, held = trained(lo.nesterov(0.1))
    with pytest.raises(ValueError, match="bare list of arrays"):
        lo.eval_params(jax.tree.leaves(state), held)


def test_the_message_names_what_differs():
    state = lo.nesterov(0.1).init({"dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}})
    with pytest.raises(ValueError, match=r"Only opt_state has dense/bias, dense/kernel. Only params has dense/w. Give"):
        lo.eval_params(state, {"dense": {"w": jnp.ones(2)}})
    with pytest.raises(ValueError, match=r"x0, x1, x2, x3, x4 and 3 more"):
        lo.eval_params(state, {"dense": {"kernel": 1.0, "bias": 1.0}} | {f"x{i}": 1.0 for i in range(8)})


def test_no_gradient_is_not_a_mask():
    """What was None at the start is no part of the velocity, and would stay at the look-ahead point."""
    state = lo.nesterov(0.1).init({"a": jnp.ones(2), "b": None})
    with pytest.raises(ValueError, match="Only params has b"):
        lo.eval_params(state, {"a": jnp.ones(2), "b": jnp.ones(2)})


# Others' states -------------------------------------------------------------------------------------------------------
def test_schedule_free_is_evaluated_at_its_average():
    """x from the method's own formulas: z <- z - rate g(y), x the mean of all z, y = (1 - b1) z + b1 x."""
    start = jnp.array([1.0, -2.0])
    optimizer = optax.contrib.schedule_free_sgd(0.1, b1=0.9)
    x = z = y = np.asarray(start, float)
    state, held = optimizer.init(start), start
    for k in range(5):
        updates, state = optimizer.update(held, state, held)
        held = optax.apply_updates(held, updates)
        z = z - 0.1 * y
        x = x + (z - x) / (k + 1)
        y = 0.1 * z + 0.9 * x
        np.testing.assert_allclose(held, y, rtol=1e-5)
        np.testing.assert_allclose(lo.eval_params(state, held), x, rtol=1e-5)


def test_sam_is_evaluated_at_its_outer_parameters():
    """They move in every third step, by the gradient at the adversarial point."""
    start = jnp.array([3.0, -4.0])
    optimizer = sam(optax.sgd(0.5), sync_period=3)
    state, held, outer = optimizer.init(start), start, np.asarray(start, float)
    for k in range(7):
        gradient = np.asarray(held, float)
        updates, state = optimizer.update(held, state, held)
        held = optax.apply_updates(held, updates)
        outer = outer - 0.5 * gradient if k % 3 == 2 else outer
        np.testing.assert_allclose(lo.eval_params(state, held), outer, rtol=1e-6)
        assert np.allclose(held, outer) == (k % 3 == 2)


@pytest.mark.slow
def test_sam_trains_in_fit(eager):
    """One of two steps is to the adversarial point, the other by the gradient there."""
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    y, w, ascent = x[:, :1], np.zeros((2, 1)), optax.sgd(0.1)
    task = lo.Task(
        (lambda key, x: (jnp.zeros((2, 1)), ()), lambda p, s, x, k, t: (x @ p, s)), lambda o, t: (o - t)[:, 0] ** 2
    )
    run = lo.fit(
        task, optax.contrib.sam(optax.sgd(0.2), ascent, 2), (x, y), batch_size=8, steps=4, key=0, progress=False
    )
    slope = lambda w: 2 * x.T @ (x @ w - y) / 8  # noqa: E731
    for _ in range(2):
        w = w - 0.2 * slope(w + 0.1 * slope(w))
    np.testing.assert_allclose(run.params, w, rtol=1e-5)


def test_lookahead_is_evaluated_at_its_slow_parameters():
    optimizer = optax.lookahead(optax.sgd(0.1), 5, 0.5)
    params = optax.LookaheadParams.init_synced({"w": jnp.ones(2)})
    state = optimizer.init(params)
    updates, state = optimizer.update({"w": jnp.ones(2)}, state, params)
    held = optax.apply_updates(params, updates)
    chex.assert_trees_all_equal(lo.eval_params(state, held), {"w": jnp.ones(2)})
    np.testing.assert_allclose(held.fast["w"], 0.9, rtol=1e-6)


def test_two_states_for_the_same_parameters_are_refused():
    for optimizer in (optax.contrib.schedule_free(lo.nesterov(0.1), 0.1), sam(lo.nesterov(0.1))):
        state, held = trained(optimizer)
        with pytest.raises(ValueError, match=r"two states.*layers/0/bias, layers/0/kernel"):
            lo.eval_params(state, held)


class AverageState(NamedTuple):
    count: Any
    mean: Any


def averaging(optimizer):
    """The mean of all parameters that there were."""

    def init(params):
        return optimizer.init(params), AverageState(jnp.zeros(()), params)

    def update(updates, states, params):
        state, average = states
        updates, state = optimizer.update(updates, state, params)
        count = average.count + 1
        new = optax.apply_updates(params, updates)
        return updates, (state, AverageState(count, jax.tree.map(lambda m, p: m + (p - m) / count, average.mean, new)))

    return optax.GradientTransformation(init, update)


def test_a_state_of_ones_own():
    optimizer = optax.masked(averaging(optax.sgd(0.5)), MASK)
    state, held = trained(optimizer)
    chex.assert_trees_all_equal(lo.eval_params(state, held), held)
    lo.register_eval_params(AverageState, lambda state, params: state.mean, like="mean")
    w = lo.eval_params(state, held)
    np.testing.assert_allclose(w["layers"][0]["bias"], np.full(3, (0.5 + 0.25 + 0.125) / 3), rtol=1e-6)
    chex.assert_trees_all_equal(w["layers"][1], held["layers"][1])
    state, held = trained(averaging(optax.sgd(0.5)), jnp.ones(2, jnp.bfloat16))
    assert lo.eval_params(state, held).dtype == held.dtype


class SlowState(NamedTuple):
    slow: Any
    pair: Any


def holding_the_slow(optimizer):
    """An optimizer of `optax.LookaheadParams` as one of the fast parameters, so that they may be trained."""

    def init(params):
        return SlowState(jax.tree.map(jnp.copy, params), optimizer.init(optax.LookaheadParams.init_synced(params)))

    def update(gradients, state, params):
        updates, pair = optimizer.update(gradients, state.pair, optax.LookaheadParams(params, state.slow))
        return updates.fast, SlowState(optax.apply_updates(state.slow, updates.slow), pair)

    return optax.GradientTransformation(init, update)


def test_a_training_under_lookahead_is_evaluated_at_the_slow_parameters():
    """Which move half of the way to the fast ones in every second step, and these to them; Nesterov's inside too."""
    lo.register_eval_params(
        SlowState, lambda state, params: state.slow, like="slow", inner=["pair"], includes_inner=True
    )
    task = lo.Task(
        (lambda key, x: (jnp.zeros(()), ()), lambda w, s, x, k, t: (x * w, s)), lambda o, t: (o - t) ** 2 / 2
    )
    optimizer = holding_the_slow(optax.lookahead(optax.sgd(0.5), 2, 0.5))
    run = lo.train(task, optimizer, (jnp.ones(2), jnp.ones(2)), batch_size=2, steps=3, key=0)
    np.testing.assert_allclose([run.params, run.lookahead_params], [0.375, 0.6875], rtol=1e-6)
    state, held = trained(holding_the_slow(optax.lookahead(lo.nesterov(0.1), 2, 0.5)))
    chex.assert_trees_all_equal(lo.eval_params(state, held), state.slow)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((dict, lambda s, p: p, "mean"), TypeError, "NamedTuple"),
        ((AverageState, "mean", "mean"), TypeError, "rule must be a function"),
        ((AverageState, lambda s, p: p, "velocity"), ValueError, "like must name fields of the state, count, mean"),
    ],
)
def test_what_cannot_be_registered(arguments, error, match):
    state_type, rule, like = arguments
    with pytest.raises(error, match=match):
        lo.register_eval_params(state_type, rule, like=like)
    with pytest.raises(ValueError, match="inner must name fields"):
        lo.register_eval_params(AverageState, lambda s, p: p, like="mean", inner=["state"])
    with pytest.raises(TypeError, match="includes_inner must be True or False"):
        lo.register_eval_params(AverageState, lambda s, p: p, like="mean", includes_inner="count")


@pytest.mark.slow
def test_a_training_is_scored_at_what_the_state_says():
    """fit knows nothing of the optimizer: its validation and what it returns are at x, and it goes on from y."""
    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    examples = (x, x @ np.float32([[1.0], [-2.0]]))
    task = lo.regression(lambda rngs: nnx.Linear(2, 1, rngs=rngs))
    optimizer = optax.contrib.schedule_free_sgd(0.3)
    run = lo.train(task, optimizer, examples, valid=examples, batch_size=6, steps=3, key=0)
    w = optax.contrib.schedule_free_eval_params(run.opt_state, run.lookahead_params)
    chex.assert_trees_all_close(run.params, w, rtol=1e-6)
    loss = np.mean((x @ np.asarray(w["kernel"]) + np.asarray(w["bias"]) - examples[1]) ** 2)
    np.testing.assert_allclose(run.metrics["valid_loss"], loss, rtol=1e-5)
    assert not np.allclose(run.lookahead_params["kernel"], w["kernel"], rtol=1e-3)


@pytest.mark.slow
def test_the_history_shows_the_rate_that_was_used():
    """Also one that was injected, or set from outside between two trainings."""
    examples = (np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    task = lo.regression(lambda rngs: nnx.Linear(2, 1, rngs=rngs))
    optimizer = optax.chain(lo.clip_by_norm(0.5), optax.inject_hyperparams(lo.adam)(learning_rate=0.25))
    first = lo.train(task, optimizer, examples, batch_size=4, steps=1, key=0)
    changed = optax.tree.set(first.opt_state, learning_rate=jnp.float32(0.125))
    again = lo.train(
        task, optimizer, examples, batch_size=4, steps=1, key=0, start=dataclasses.replace(first, opt_state=changed)
    )
    np.testing.assert_array_equal(again.history.steps["learning_rate"], [0.25, 0.125])
    assert set(first.history.steps) == {"loss", "gradient_norm", "learning_rate", "clipped", "clip_threshold"}
    assert first.history.steps["clip_threshold"] == 0.5


FORMS = {  # what is given to train, and what it has to equal
    "MultiSteps": (
        lambda: optax.MultiSteps(lo.nesterov(0.1), 2),
        lambda: optax.MultiSteps(lo.nesterov(0.1), 2).gradient_transformation(),
    ),
    "labels in a dictionary": (
        lambda: optax.partition({"a": lo.nesterov(0.1), "b": lo.sgd(0.3)}, {"layers": {0: "a", 1: "b"}}),
        lambda: optax.partition(
            {"a": lo.nesterov(0.1), "b": lo.sgd(0.3)}, lambda p: nnx.map_state(lambda path, _: "ab"[path[1]], p)
        ),
    ),
    "a mask in a dictionary": (
        lambda: optax.chain(lo.add_l2(0.5, {"layers": {0: True, 1: False}}), lo.sgd(0.3)),
        lambda: optax.chain(lo.add_l2(0.5, lambda p: nnx.map_state(lambda path, _: path[1] == 0, p)), lo.sgd(0.3)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("given", "same"), FORMS.values(), ids=FORMS)
def test_a_training_takes_what_optax_users_have(given, same):
    """Also what a function makes."""
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    module = lambda rngs: nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs))  # noqa: E731
    task = lo.regression(module)

    def trained(optimizer):
        return lo.train(task, optimizer, (x, x[:, :1]), batch_size=4, steps=3, key=0).params

    desired = trained(same())
    chex.assert_trees_all_equal(trained(given()), desired)
    chex.assert_trees_all_equal(trained(given), desired)
