"""Steps write in place: each donated buffer takes the output that replaces it, as the compiled programs show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled_text import aliases, compiled, copies, kernels
from flax import nnx

import lectopt as lo
from lectopt.training.starting import Start, replace_opt_state

ARRAYS = {"a": np.ones((3, 4), np.float32), "c": np.ones(5, np.float32)}
WITH_SCALAR = ARRAYS | {"b": np.float32(1)}
RATE = {"learning_rate": 0.05}


def clipped_adam(learning_rate, max_norm):
    return optax.chain(lo.clip_by_norm(max_norm), lo.adam(learning_rate))


def penalized_nesterov(learning_rate, momentum, coefficient):
    return optax.chain(lo.add_l2(coefficient), lo.nesterov(learning_rate, momentum))


def watched_sgd(learning_rate):
    return optax.chain(lo.watch_norms("gradient"), lo.sgd(learning_rate), lo.watch_norms("update"))


def averaged_nesterov(learning_rate, momentum, decay):
    return lo.average_params(lo.nesterov(learning_rate, momentum), decay)


MAKERS = {
    "scale_by_adagrad": (lo.scale_by_adagrad, {"eps": 1e-7}),
    "scale_by_rmsprop": (lo.scale_by_rmsprop, {"decay": 0.9, "eps": 1e-6}),
    "scale_by_adam": (lo.scale_by_adam, {"b1": 0.9, "b2": 0.99, "eps": 1e-8}),
    "trace_momentum": (lo.trace_momentum, {"momentum": 0.9}),
    "trace_nesterov": (lo.trace_nesterov, {"momentum": 0.9}),
    "clip_by_norm": (lo.clip_by_norm, {"max_norm": 1.0}),
    "add_l2": (lo.add_l2, {"coefficient": 0.1}),
    "masked_l2": (functools.partial(lo.add_l2, mask={"a": True, "b": False, "c": False}), {"coefficient": 0.1}),
    "scale_by_learning_rate": (lo.scale_by_learning_rate, RATE),
    "sgd": (lo.sgd, RATE),
    "momentum": (lo.momentum, RATE | {"momentum": 0.9}),
    "nesterov": (lo.nesterov, RATE | {"momentum": 0.9}),
    "adagrad": (lo.adagrad, RATE | {"eps": 1e-7}),
    "rmsprop": (lo.rmsprop, RATE | {"decay": 0.9, "eps": 1e-6}),
    "rmsprop_nesterov": (lo.rmsprop_nesterov, RATE | {"decay": 0.9, "momentum": 0.9, "eps": 1e-6}),
    "adam": (lo.adam, RATE | {"b1": 0.9, "b2": 0.99, "eps": 1e-8}),
    "clipped_adam": (clipped_adam, RATE | {"max_norm": 1.0}),
    "penalized_nesterov": (penalized_nesterov, RATE | {"momentum": 0.9, "coefficient": 0.1}),
    "watched_sgd": (watched_sgd, RATE),
    "averaged_nesterov": (averaged_nesterov, RATE | {"momentum": 0.9, "decay": 0.9}),
    "adamw": (lo.adamw, RATE | {"eps_root": 1e-8, "weight_decay": 0.1}),
    "masked_adamw": (functools.partial(lo.adamw, mask={"a": True, "b": False, "c": False}), RATE),
    "clip_layers_by_norm": (lo.clip_layers_by_norm, {"max_norm": 1.0}),
    "clip_by_value": (lo.clip_by_value, {"max_value": 1.0}),
    "averaged_sgd": (lambda learning_rate: lo.average_params(lo.sgd(learning_rate)), RATE),
}
KINDS = ("number", "array", "traced", "schedule", "injected")


def schedule_of(name, x):
    if name == "learning_rate":
        return lo.linear_decay(x, 100)
    ramps = name in ("momentum", "decay", "b1", "b2")
    return lo.momentum_ramp(x / 2, x, 100) if ramps else lo.robbins_monro(x, 0.75, 100)


def step_of(optimizer):
    def step(carry, gradients):
        params, state = carry
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


def text_of(optimizer, params):
    return compiled(step_of(optimizer), (params, jax.eval_shape(optimizer.init, params)), params)


def program(name, kind, params):
    """The compiled step, and how many arrays it is given to write into."""
    make, numbers = MAKERS[name]
    arrays = {name: np.float32(x) for name, x in numbers.items()}
    if kind == "traced":  # an argument of its own, which is not donated and comes last

        def step(carry, gradients, arrays):
            return step_of(make(**arrays))(carry, gradients)

        carry = (params, jax.eval_shape(make(**numbers).init, params))
        return compiled(step, carry, params, arrays), len(jax.tree.leaves(carry))
    if kind == "schedule":
        numbers = {name: schedule_of(name, x) for name, x in numbers.items()}
    optimizer = {
        "array": lambda: make(**{name: jnp.asarray(x) for name, x in arrays.items()}),
        "injected": lambda: optax.inject_hyperparams(make)(**numbers),
    }.get(kind, lambda: make(**numbers))()
    carry = (params, jax.eval_shape(optimizer.init, params))
    return text_of(optimizer, params), len(jax.tree.leaves(carry))


def assert_writes_in_place(text, size):
    """Each output takes the buffer of what it replaces, and no donated buffer is left over."""
    assert aliases(text) == {i: i for i in range(size)}


def assert_law(name, kind, params):
    text, size = program(name, kind, params)
    assert_writes_in_place(text, size)
    assert copies(text) == []


@pytest.mark.parametrize(("name", "kind"), [(n, KINDS[i % len(KINDS)]) for i, n in enumerate(MAKERS)])
def test_each_output_takes_the_buffer_of_what_it_replaces(name, kind):
    assert_law(name, kind, WITH_SCALAR)


@pytest.mark.slow
@pytest.mark.parametrize("params", [ARRAYS, WITH_SCALAR], ids=["arrays", "with scalar"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKERS)
def test_each_output_takes_the_buffer_of_what_it_replaces_always(name, kind, params):
    if name.startswith("masked") and params is ARRAYS:
        params = params | {"b": np.ones(2, np.float32)}
    assert_law(name, kind, params)


WRAPPERS = {
    "masked": lambda optimizer: optax.masked(optimizer, {"a": True, "b": False, "c": True}),
    "partition": lambda optimizer: optax.partition(
        {"ours": optimizer, "other": lo.nesterov(0.1)}, {"a": "ours", "b": "other", "c": "ours"}
    ),
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("make", [lo.rmsprop_nesterov, lo.adam])
def test_wrapped(make, wrapper):
    optimizer = wrapper(make(0.1))
    text = text_of(optimizer, WITH_SCALAR)
    assert_writes_in_place(text, len(jax.tree.leaves((WITH_SCALAR, jax.eval_shape(optimizer.init, WITH_SCALAR)))))
    assert copies(text) == []


def test_gradient_accumulation():
    """`optax.MultiSteps` computes what it does not need and selects; what it copies for that, of Optax's own optimizers
    too, are its sums, its counter, and what the optimizer reads more than once. No copy is due to a record."""
    ours, theirs = (text_of(optax.MultiSteps(o, 3), WITH_SCALAR) for o in (lo.adam(0.1), optax.adam(0.1)))
    state = jax.eval_shape(optax.MultiSteps(lo.adam(0.1), 3).init, WITH_SCALAR)
    assert_writes_in_place(ours, len(jax.tree.leaves((WITH_SCALAR, state))))
    assert sorted(copies(ours)) == sorted(copies(theirs))


@pytest.mark.parametrize("make", [lo.nesterov, lo.adam])
def test_nnx_optimizer(make):
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    model.scale = nnx.Param(jnp.float32(1))
    graphdef, state = nnx.split((model, nnx.Optimizer(model, make(0.1), wrt=nnx.Param)))

    def step(state, gradients):
        model, optimizer = nnx.merge(graphdef, state)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer))

    text = compiled(step, state, nnx.state(model, nnx.Param))
    assert_writes_in_place(text, len(jax.tree.leaves(state)))
    assert copies(text) == []


def test_watched_weights_are_copied(cpu_alone):
    """Since they are measured as they were, and nothing says that this comes before they are overwritten."""
    optimizer = optax.chain(lo.sgd(0.1), lo.watch_norms("weight"))
    text = text_of(optimizer, ARRAYS)
    assert_writes_in_place(text, len(jax.tree.leaves((ARRAYS, jax.eval_shape(optimizer.init, ARRAYS)))))
    assert sorted(copies(text)) == ["f32[3,4]", "f32[5]"]


def test_a_look_ahead_is_copied_where_w_decays(cpu_alone):
    """Since w is the difference from it, and it is overwritten in the same step; nothing else is."""
    for inner, copied in ((lo.nesterov(0.1), ["f32[3,4]", "f32[5]"]), (lo.momentum(0.1), [])):
        optimizer = lo.average_params(lo.decay_weights(inner, 0.1))
        text = text_of(optimizer, ARRAYS)
        assert_writes_in_place(text, len(jax.tree.leaves((ARRAYS, jax.eval_shape(optimizer.init, ARRAYS)))))
        assert sorted(copies(text)) == copied


LEAVES = {str(i): np.ones(7 + i, np.float32) for i in range(4)}
CLIPPED = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
COUNTERPARTS = {  # in Optax, and how many scalars a step of ours has to itself: counts
    "sgd": (lo.sgd(0.1), optax.sgd(0.1), 1),
    "momentum": (lo.momentum(0.1), optax.chain(optax.scale_by_learning_rate(0.1), optax.trace(0.9)), 2),
    "nesterov": (lo.nesterov(0.1), optax.chain(optax.scale_by_learning_rate(0.1), optax.trace(0.9, nesterov=True)), 2),
    "adagrad": (lo.adagrad(0.1), optax.adagrad(0.1), 2),
    "rmsprop": (lo.rmsprop(0.1), optax.rmsprop(0.1, decay=0.9, eps=1e-6), 2),
    "rmsprop_nesterov": (
        lo.rmsprop_nesterov(0.1),
        optax.rmsprop(0.1, decay=0.9, eps=1e-6, momentum=0.9, nesterov=True),
        3,
    ),
    "adam": (lo.adam(0.1), optax.adam(0.1), 1),
    "clipped_adam": (clipped_adam(0.1, 1.0), CLIPPED, 2),
    "adamw": (lo.adamw(0.1), optax.adamw(0.1), 2),
}


@pytest.mark.parametrize(("ours", "theirs", "scalars"), COUNTERPARTS.values(), ids=COUNTERPARTS)
def test_no_kernel_runs_over_a_leaf_beyond_those_of_optax(ours, theirs, scalars, cpu_alone):
    assert kernels(text_of(ours, LEAVES)) <= kernels(text_of(theirs, LEAVES)) + scalars


NUMBERS = {"sgd": lo.sgd(0.1), "clip": clipped_adam(0.1, 1.0)}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_constant_is_not_written_again(name):
    """The compiled step gives it back as it came."""
    optimizer = NUMBERS[name]
    carry = (ARRAYS, jax.eval_shape(optimizer.init, ARRAYS))
    jaxpr = jax.make_jaxpr(step_of(optimizer))(carry, ARRAYS).jaxpr
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(carry)]
    kept = {p.split(".")[-1] for p, i, o in zip(paths, jaxpr.invars, jaxpr.outvars, strict=False) if i is o}
    assert kept == {"step_size"} | ({"threshold"} if name == "clip" else set())


def steps_of(optimizer, carry, gradients, step):
    for gradient in gradients:
        carry = step(step_of(optimizer))(carry, gradient)
    return carry


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.9), (0.9, 0.0), (0.0, 0.9)])
def test_a_constant_that_differs_from_the_state_counts(before, after):
    """An optimizer goes on with the state of another one: the next look-ahead is by its own coefficient."""
    gradients = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    first, second = lo.nesterov(0.1, before), lo.nesterov(0.1, after)
    left = steps_of(first, (jnp.ones(3), first.init(jnp.ones(3))), gradients[:3], lambda f: f)
    w, v = np.ones(3), np.zeros(3)
    for gradient, alpha in zip(gradients, [before] * 4 + [after] * 2, strict=True):
        v = alpha * v - 0.1 * gradient
        w = w + v
    for how in (lambda f: f, jax.jit):
        held, state = steps_of(second, left, gradients[3:], how)
        np.testing.assert_allclose(lo.eval_params(state, held), w, rtol=1e-6)
        np.testing.assert_allclose(held, w + after * v, rtol=1e-6)


def test_a_training_that_goes_on_records_its_own_constants():
    make = lambda rate, norm: optax.chain(lo.clip_by_norm(norm), lo.nesterov(rate))  # noqa: E731
    first, second = make(0.1, 1.0), make(0.2, 2.0)
    carry = steps_of(first, (jnp.ones(3), first.init(jnp.ones(3))), np.ones((2, 3), np.float32), lambda f: f)
    clip, (rate, trace) = replace_opt_state(Start(opt_state=carry[1]), second.init(jnp.ones(3)))
    assert (clip.threshold, rate.step_size) == (2.0, np.float32(0.2))
    assert (clip.norm, clip.count, trace.count) == (carry[1][0].norm, 2, 2)
    np.testing.assert_array_equal(trace.lookahead, carry[1][1][1].lookahead)
